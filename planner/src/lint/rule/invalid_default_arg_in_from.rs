//! A FROM that has no valid image while nobody gives a build argument.

use kiln_image::Reference;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "InvalidDefaultArgInFrom",
    severity: Severity::Warning,
    experimental: false,
    summary: "Default value for global ARG results in an empty or invalid base image name",
    page: include_str!("invalid-default-arg-in-from.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let stages = subject.parsed.dockerfile.stages.iter();
    let surveyed = stages.zip(&subject.survey.stages);
    surveyed
        .filter(|(stage, _)| stage.from.image.raw().contains('$'))
        .filter_map(|(stage, surveyed)| {
            let name = surveyed.default_base.as_ref()?;
            if name.parse::<Reference>().is_ok() {
                return None;
            }
            let image = &stage.from.image;
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                image.raw()
            );
            Some(Found::new(image.span, message))
        })
        .collect()
}
