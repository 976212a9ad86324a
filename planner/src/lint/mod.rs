//! Build checks (R-CHK): what is not wrong in a Dockerfile, but likely not meant.
//!
//! There are two groups of [`Rule`]s. BuildKit's have its names and fire when it does. Those of kiln have ids that begin with `K-` and
//! encode what practitioners teach; they are conservative, and where a shell script can't be read with certainty they are silent.
//! Some of BuildKit's rules are found by the parser or by the evaluation, which see what is needed anyway; their rules here collect
//! what was told and know how to mend it.
//!
//! One file a rule in `rule/`, beside its page of documentation; `rule/mod.rs` lists them.

mod config;
mod finding;
mod fix;
mod rule;
mod secret_files;
mod shell;
mod subject;

pub use config::CheckConfig;
pub use finding::{Edit, Finding};
pub use fix::{fix, fix_all};
pub use rule::{Rule, find, names_a_secret, rules};
pub use subject::{ContextView, Subject};

/// Runs every rule that is not switched off, in the order of the file.
#[must_use]
pub fn check(subject: &Subject<'_>, config: &CheckConfig) -> Vec<Finding> {
    run(subject, config, &|_| true)
}

/// As [`check`], with BuildKit's rules alone: those that may fail a build (R-CHK-1).
#[must_use]
pub fn check_for_build(subject: &Subject<'_>, config: &CheckConfig) -> Vec<Finding> {
    run(subject, config, &Rule::is_buildkit)
}

fn run(
    subject: &Subject<'_>,
    config: &CheckConfig,
    wanted: &dyn Fn(&Rule) -> bool,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for rule in rules().iter().copied().filter(|rule| wanted(rule)) {
        for found in (rule.check)(subject) {
            let instruction = found
                .span
                .and_then(|span| subject.instruction_at(span.start));
            let comments = instruction.map_or(&[][..], |(_, comments)| comments);
            if config.with_comments(comments).runs(rule) {
                findings.push(found.by(rule, instruction.map(|(span, _)| span)));
            }
        }
    }
    findings.sort_by_key(Finding::order);
    findings.dedup();
    findings
}
