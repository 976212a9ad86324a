//! Warnings and what the `# check=` directive says about them. Clauses R-CHK-1, R-CHK-3.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_parser::{Diagnostic, Dockerfile, Severity, Source};

use crate::exit::Exit;
use crate::failure::Failure;

/// The warnings that the Dockerfile does not ask to skip.
pub(super) fn counted<'d>(
    dockerfile: &'d Dockerfile,
    diagnostics: &'d [Diagnostic],
) -> impl Iterator<Item = &'d Diagnostic> {
    let skip = dockerfile
        .directives
        .check
        .as_ref()
        .map(|check| &check.skip);
    diagnostics.iter().filter(move |found| {
        found.severity == Severity::Warning
            && !skip.is_some_and(|skip| skip.contains(found.code.as_str()))
    })
}

/// With `# check=error=true`, a warning is a failure.
pub(super) fn enforce(
    dockerfile: &Dockerfile,
    source: &Arc<Source>,
    diagnostics: &[Diagnostic],
) -> Result<(), Failure> {
    let strict = dockerfile
        .directives
        .check
        .as_ref()
        .is_some_and(|check| check.error == Some(true));
    let found: Vec<_> = counted(dockerfile, diagnostics).cloned().collect();
    if !strict || found.is_empty() {
        return Ok(());
    }
    let rules: BTreeSet<_> = found.iter().map(|warning| warning.code.as_str()).collect();
    let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
    let mut failure = Failure::from_diagnostics(Exit::Check, source, &found);
    let verdict = Failure::new(
        Exit::Check,
        "check-failed",
        format!("lint violation found for rules: {rules}"),
    )
    .note("the Dockerfile says `# check=error=true`");
    failure.reports.extend(verdict.reports);
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(directive: &str) -> (usize, Option<Exit>) {
        let text = format!("{directive}FROM scratch AS Upper\n");
        let source = Arc::new(Source::new("Dockerfile", text));
        let parsed = kiln_parser::parse(&source);
        let count = counted(&parsed.dockerfile, &parsed.diagnostics).count();
        let failure = enforce(&parsed.dockerfile, &source, &parsed.diagnostics).err();
        (count, failure.map(|failure| failure.exit))
    }

    #[test]
    fn the_directive_skips_or_sharpens() {
        // R-CHK-1, R-CHK-3
        let cases = [
            ("", (1, None)),
            ("# check=skip=StageNameCasing\n", (0, None)),
            ("# check=skip=all\n", (0, None)),
            ("# check=skip=Other\n", (1, None)),
            ("# check=error=true\n", (1, Some(Exit::Check))),
            ("# check=skip=StageNameCasing;error=true\n", (0, None)),
        ];
        for (directive, expected) in cases {
            assert_eq!(outcome(directive), expected, "{directive}");
        }
    }
}
