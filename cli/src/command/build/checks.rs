//! The checks of a build: BuildKit's rules, before anything runs. Clauses R-CHK-1, R-CHK-8.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_executor::{BuildRequest, ContextSource};
use kiln_parser::{Diagnostic, Source};
use kiln_planner::lint::{self, ContextView, Finding, Subject};
use kiln_planner::{Bases, survey};

use crate::command::check;
use crate::exit::Exit;
use crate::failure::Failure;

/// What was found. With `error=true`, any finding is a failure.
pub(super) fn enforced(
    request: &BuildRequest<'_>,
    source: &Arc<Source>,
    bases: &Bases,
) -> Result<Vec<Finding>, Failure> {
    let rules = check::rules(request.parsed, request.first())?;
    let context = match &request.contexts.main {
        Some(ContextSource::Folder(folder)) => Some(ContextView {
            ignore: &folder.ignore,
            visible: &[],
        }),
        _ => None,
    };
    let mut findings: Vec<Finding> = Vec::new();
    for options in &request.images {
        let survey = survey(request.parsed, options, bases);
        let subject = Subject::new(source, request.parsed, &survey, context);
        for finding in lint::check_for_build(&subject, &rules) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    if rules.error && !findings.is_empty() {
        return Err(refused(source, &findings));
    }
    Ok(findings)
}

fn refused(source: &Arc<Source>, findings: &[Finding]) -> Failure {
    let rules: BTreeSet<_> = findings.iter().map(|finding| finding.rule.id).collect();
    let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
    let diagnostics: Vec<Diagnostic> = findings
        .iter()
        .map(|finding| finding.diagnostic.clone())
        .collect();
    let mut failure = Failure::from_diagnostics(Exit::Check, source, &diagnostics);
    let verdict = Failure::new(
        Exit::Check,
        "check-failed",
        format!("lint violation found for rules: {rules}"),
    )
    .note("the Dockerfile, or the build argument `BUILDKIT_DOCKERFILE_CHECK`, says `error=true`");
    failure.reports.extend(verdict.reports);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_executor::attest::Attest;
    use kiln_executor::images::PullPolicy;
    use kiln_executor::{ContextSources, StepOptions};
    use kiln_planner::PlanOptions;

    fn outcome(directive: &str, build_arg: Option<&str>) -> Result<usize, Exit> {
        let text = format!("{directive}FROM scratch AS Upper\n");
        let source = Arc::new(Source::new("Dockerfile", text));
        let parsed = kiln_parser::parse(&source);
        let mut options = PlanOptions::new(kiln_image::Platform::host());
        let name = "BUILDKIT_DOCKERFILE_CHECK".to_owned();
        options
            .build_args
            .extend(build_arg.map(|value| (name, value.to_owned())));
        let request = BuildRequest {
            source: &source,
            parsed: &parsed,
            images: vec![options],
            contexts: ContextSources::default(),
            pull: PullPolicy::Missing,
            steps: StepOptions::default(),
            inline_cache: false,
            attest: Attest::default(),
            journal: None,
        };
        let findings = enforced(&request, &source, &Bases::new());
        findings
            .map(|found| found.len())
            .map_err(|failure| failure.exit)
    }

    #[test]
    fn the_directive_skips_or_sharpens() {
        // R-CHK-1, R-CHK-3
        let cases = [
            ("", Ok(1)),
            ("# check=skip=StageNameCasing\n", Ok(0)),
            ("# check=skip=all\n", Ok(0)),
            ("# check=skip=stagenamecasing\n", Ok(1)),
            ("# check=skip=Other\n", Ok(1)),
            ("# check=error=true\n", Err(Exit::Check)),
            ("# check=skip=StageNameCasing;error=true\n", Ok(0)),
        ];
        for (directive, expected) in cases {
            assert_eq!(outcome(directive, None), expected, "{directive}");
        }
    }

    #[test]
    fn the_build_argument_replaces_the_directive() {
        // R-CHK-2
        let cases = [
            ("skip=all", Ok(0)),
            ("skip=Other", Ok(1)),
            ("error=true", Err(Exit::Check)),
            ("nonsense", Err(Exit::Usage)),
        ];
        for (value, expected) in cases {
            let directive = "# check=skip=StageNameCasing;error=true\n";
            let actual = outcome(directive, Some(value));
            assert_eq!(actual, expected, "{value}");
        }
    }
}
