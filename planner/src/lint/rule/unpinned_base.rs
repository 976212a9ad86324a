//! A base image without a tag, or with `latest`.

use kiln_image::Reference;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-unpinned-base",
    severity: Severity::Advice,
    experimental: false,
    summary: "Base images should have a version",
    page: include_str!("unpinned-base.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let stages = subject.parsed.dockerfile.stages.iter().enumerate();
    stages
        .filter_map(|(index, stage)| {
            let image = &stage.from.image;
            let name = image.raw();
            let is_stage = subject.parsed.dockerfile.stages[..index]
                .iter()
                .any(|earlier| {
                    earlier
                        .name()
                        .is_some_and(|earlier| earlier.eq_ignore_ascii_case(name))
                });
            let is_image = name != "scratch" && name.parse::<Reference>().is_ok();
            if is_stage || !is_image || !is_unpinned(name) {
                return None;
            }
            let message = format!("`{name}` is another image every time it is published");
            let help = "name a version, `image:1.2`, or a digest";
            Some(Found::new(image.span, message).help(help))
        })
        .collect()
}

fn is_unpinned(name: &str) -> bool {
    if name.is_empty() || name.contains('@') {
        return false;
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}
