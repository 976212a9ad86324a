//! What can be built of a Dockerfile: `--call=targets` (R-CLI-7).

use kiln_parser::{Dockerfile, Span, Stage};

use crate::doc_comment::description;

/// A stage as something to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case; without one it can be built only as the last stage (R-STG-1).
    pub name: Option<String>,
    /// Whether it is what is built when nothing is asked for.
    pub is_default: bool,
    /// What the comment above its FROM says of it.
    pub description: Option<String>,
    /// Its base as written.
    pub base: String,
    /// Its `--platform` as written.
    pub platform: Option<String>,
    /// Its FROM.
    pub span: Span,
}

/// The stages in the order of the file. Nothing is evaluated, so a Dockerfile that can't be built has targets too.
#[must_use]
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &Stage)| Target {
        name: stage.name().map(str::to_owned),
        is_default: index == last,
        description: stage
            .name()
            .and_then(|name| description(&stage.comments, name)),
        base: stage.from.image.raw().to_owned(),
        platform: stage
            .from
            .platform
            .as_ref()
            .map(|platform| platform.raw().to_owned()),
        span: stage.span,
    };
    dockerfile.stages.iter().enumerate().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_parser::{Source, parse};

    #[test]
    fn the_last_stage_is_the_default() {
        // R-CLI-7, R-STG-1
        let text = "ARG V=1\n# build compiles it\nFROM --platform=$BUILDPLATFORM go:$V AS build\n#\n# no name\nFROM scratch\n";
        let parsed = parse(&Source::new("Dockerfile", text));
        let targets = targets(&parsed.dockerfile);
        let [build, last] = targets.as_slice() else {
            panic!("two stages: {targets:?}")
        };
        assert_eq!(build.name.as_deref(), Some("build"));
        assert_eq!(build.description.as_deref(), Some("compiles it"));
        assert_eq!(build.base, "go:$V");
        assert_eq!(build.platform.as_deref(), Some("$BUILDPLATFORM"));
        assert!(!build.is_default);
        assert_eq!((last.name.as_ref(), &last.description), (None, &None));
        assert!(last.is_default);
    }
}
