//! Which rules run: the directive, the build argument, the comments (R-CHK-2..4).

use kiln_parser::{CheckDirective, Dockerfile, RuleSet, Spanned};

use super::Rule;

/// What holds for the whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckConfig {
    skip: RuleSet,
    experimental: RuleSet,
    /// Whether a warning fails the build (R-CHK-1).
    pub error: bool,
}

impl CheckConfig {
    /// The build argument `BUILDKIT_DOCKERFILE_CHECK` if it is given, else the directive (R-CHK-2).
    ///
    /// # Errors
    /// What is wrong with the build argument; the parser tells what is wrong with the directive.
    pub fn of(dockerfile: &Dockerfile, build_arg: Option<&str>) -> Result<CheckConfig, String> {
        let directive = match build_arg.filter(|value| !value.is_empty()) {
            Some(value) => CheckDirective::parse(value)?,
            None => dockerfile
                .directives
                .check
                .as_ref()
                .map(|check| check.value.clone())
                .unwrap_or_default(),
        };
        Ok(CheckConfig {
            skip: directive.skip,
            experimental: directive.experimental,
            error: directive.error.unwrap_or(false),
        })
    }

    /// Whether a rule runs. Skipping has no effect on experimental rules, which run only when asked for (R-CHK-3).
    #[must_use]
    pub(super) fn runs(&self, rule: &Rule) -> bool {
        if rule.experimental {
            self.experimental.contains(rule.id)
        } else {
            !self.skip.contains(rule.id)
        }
    }

    /// With what the comments of one instruction add (R-CHK-4). A comment that can't be read adds nothing.
    pub(super) fn with_comments(&self, comments: &[Spanned<String>]) -> CheckConfig {
        let mut config = self.clone();
        for check in comments.iter().filter_map(|comment| directive(comment)) {
            config.skip = union(&config.skip, &check.skip);
            config.experimental = union(&config.experimental, &check.experimental);
        }
        config
    }
}

/// `check=…`, of which only the first word counts.
fn directive(comment: &str) -> Option<CheckDirective> {
    let value = comment
        .strip_prefix("check")?
        .trim_start()
        .strip_prefix('=')?;
    CheckDirective::parse(value.split_whitespace().next()?).ok()
}

/// Whether a comment configures checks.
pub(super) fn is_directive(comment: &str) -> bool {
    directive(comment).is_some()
}

fn union(a: &RuleSet, b: &RuleSet) -> RuleSet {
    match (a, b) {
        (RuleSet::Named(a), RuleSet::Named(b)) => {
            RuleSet::Named(a.iter().chain(b).cloned().collect())
        }
        _ => RuleSet::All,
    }
}
