//! What `kiln images --filter` takes, under Docker's names.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use kiln_executor::Services;
use kiln_executor::images::StoredImage;
use kiln_image::Reference;
use kiln_parser::go_match;

use super::repository;
use crate::failure::Failure;
use crate::label::Label;
use crate::quantity::Span;
use crate::stored;

/// One condition as it was typed.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// `dangling=BOOL`: without a name, or with one.
    Dangling(bool),
    /// `label=KEY` or `label=KEY=VALUE`.
    Label(Label),
    /// `before=IMAGE`: made before it.
    Before(String),
    /// `since=IMAGE`: made after it.
    Since(String),
    /// `until=TIME`: made before a moment, or so long ago.
    Until(Timestamp),
    /// `reference=PATTERN`; of several, one is enough.
    Reference(Pattern),
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
        match key {
            "dangling" => match value {
                "true" | "1" => Ok(Self::Dangling(true)),
                "false" | "0" => Ok(Self::Dangling(false)),
                _ => Err(format!("`{value}` is neither true nor false")),
            },
            "label" => Ok(Self::Label(value.into())),
            "before" => Ok(Self::Before(value.to_owned())),
            "since" => Ok(Self::Since(value.to_owned())),
            "until" => until(value).map(Self::Until),
            "reference" => value.parse().map(Self::Reference),
            _ => Err(format!(
                "there is no filter `{key}`, only dangling, label, before, since, until, reference"
            )),
        }
    }
}

/// As Docker reads it: a time span before now, seconds since 1970, or a date.
pub(crate) fn until(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        let moment = Timestamp::now().checked_sub(span.0);
        return moment.map_err(|_| format!("`{text}` is too long ago"));
    }
    let seconds = text.parse().ok();
    let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let date = || {
        Some(
            text.parse::<civil::DateTime>()
                .ok()?
                .to_zoned(TimeZone::UTC)
                .ok()?
                .timestamp(),
        )
    };
    at.or_else(|| text.parse().ok())
        .or_else(date)
        .ok_or_else(|| format!("`{text}` is neither a time span, such as `24h`, nor a date"))
}

/// A pattern, as Go's `path.Match` and so Docker reads it, that a whole familiar name must match, with its tag or without.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(go_match::Pattern);

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A name spelled out in full is the same name.
        let familiar = text
            .strip_prefix("docker.io/library/")
            .or_else(|| text.strip_prefix("docker.io/"));
        go_match::Pattern::new(familiar.unwrap_or(text))
            .map(Self)
            .map_err(|error| format!("`{text}` is no pattern: {error}"))
    }
}

impl Pattern {
    fn takes(&self, name: Option<&Reference>) -> bool {
        name.is_some_and(|name| {
            self.0.matches(&name.familiar()) || self.0.matches(&repository(name))
        })
    }
}

/// All conditions, with the moments of the images they name.
#[derive(Debug)]
pub(super) struct Filters<'f> {
    given: &'f [Filter],
    patterns: Vec<&'f Pattern>,
    /// Later than this.
    after: Option<Timestamp>,
    /// Earlier than this.
    before: Option<Timestamp>,
}

impl<'f> Filters<'f> {
    /// Looks up the images that are named.
    pub(super) fn new(
        given: &'f [Filter],
        name: Option<&'f Pattern>,
        services: &Services<'_>,
    ) -> Result<Self, Failure> {
        let mut filters = Self {
            given,
            patterns: name.into_iter().collect(),
            after: None,
            before: None,
        };
        for filter in given {
            match filter {
                Filter::Before(image) => {
                    let made = made(&stored::find(services, image)?);
                    filters.before = Some(filters.before.map_or(made, |known| known.min(made)));
                }
                Filter::Since(image) => {
                    let made = made(&stored::find(services, image)?);
                    filters.after = Some(filters.after.map_or(made, |known| known.max(made)));
                }
                Filter::Reference(pattern) => filters.patterns.push(pattern),
                Filter::Until(moment) => {
                    let known = filters.before.map_or(*moment, |known| known.min(*moment));
                    filters.before = Some(known);
                }
                Filter::Dangling(_) | Filter::Label(..) => {}
            }
        }
        Ok(filters)
    }

    pub(super) fn takes(&self, image: &StoredImage) -> bool {
        let name = image.reference.as_ref();
        let named = self.patterns.is_empty() || self.patterns.iter().any(|one| one.takes(name));
        let made = made(image);
        named
            && self.after.is_none_or(|after| made > after)
            && self.before.is_none_or(|before| made < before)
            && self.given.iter().all(|filter| fulfils(filter, image))
    }
}

fn fulfils(filter: &Filter, image: &StoredImage) -> bool {
    match filter {
        Filter::Dangling(wanted) => image.reference.is_none() == *wanted,
        Filter::Label(label) => label.is_among(&image.config.config.labels),
        Filter::Before(_) | Filter::Since(_) | Filter::Until(_) | Filter::Reference(_) => true,
    }
}

/// When an image was made, as it says itself.
fn made(image: &StoredImage) -> Timestamp {
    stored::moment(image.config.created.as_deref()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_is_over_names() {
        let name: Reference = "127.0.0.1:5000/team/app:1.2".parse().unwrap();
        let cases = [
            ("127.0.0.1:5000/team/app", true),
            ("127.0.0.1:5000/team/app:1.2", true),
            ("127.0.0.1:5000/team/app:1.3", false),
            ("*/team/app", true),
            ("*/*/a*:1.?", true),
            ("*/app", false),
            ("app", false),
        ];
        for (pattern, expected) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.takes(Some(&name)), expected, "{pattern:?}");
        }
        let alpine: Reference = "alpine".parse().unwrap();
        let full: Pattern = "docker.io/library/alpine".parse().unwrap();
        assert!(full.takes(Some(&alpine)));
        assert!(!full.takes(None));
        assert!("[".parse::<Pattern>().is_err());
    }

    #[test]
    fn filters_are_read_or_told_wrong() {
        let good = [
            "dangling=true",
            "dangling=0",
            "label=a",
            "label=a=b=c",
            "before=x",
            "since=x",
            "until=24h",
            "until=1700000000",
            "until=2024-01-02",
            "until=2024-01-02T03:04:05Z",
            "reference=a*",
        ];
        for text in good {
            assert!(text.parse::<Filter>().is_ok(), "{text}");
        }
        for text in [
            "dangling",
            "dangling=maybe",
            "name=x",
            "until=soon",
            "reference=[",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
