//! `--filter KEY=VALUE` of the commands that list and remove what is in the cache.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use globset::{Glob, GlobMatcher};
use kiln_cache::{Entry, EntryKind};

use crate::command::images::filter::until;

/// One condition; what is listed fulfils all that are given.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    Kind(EntryKind),
    Id(String),
    InUse(bool),
    Shared(bool),
    Named(bool),
    UnusedFor(Duration),
    UnusedSince(SystemTime),
    Description(GlobMatcher),
}

const KINDS: [EntryKind; 6] = [
    EntryKind::Image,
    EntryKind::Container,
    EntryKind::Step,
    EntryKind::CacheMount,
    EntryKind::Repository,
    EntryKind::Stray,
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
        match key {
            "type" => kind(value).map(Self::Kind),
            "id" => Ok(Self::Id(value.to_ascii_lowercase())),
            "inuse" => flag(value).map(Self::InUse),
            "shared" => flag(value).map(Self::Shared),
            "named" => flag(value).map(Self::Named),
            "until" => kiln_parser::go_duration(value)
                .map(Self::UnusedFor)
                .map_or_else(
                    || until(value).map(|date| Self::UnusedSince(date.into())),
                    Ok,
                ),
            "description" => Glob::new(value)
                .map(|glob| Self::Description(glob.compile_matcher()))
                .map_err(|error| format!("`{value}` is no pattern: {}", error.kind())),
            _ => Err(format!(
                "`{key}` is none of type, id, description, until, inuse, shared, named"
            )),
        }
    }
}

impl Filter {
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        match self {
            Self::Kind(kind) => entry.kind == *kind,
            Self::Id(id) => entry.id.starts_with(id),
            Self::InUse(wanted) => entry.in_use == *wanted,
            Self::Shared(wanted) => (entry.shared > 0) == *wanted,
            Self::Named(wanted) => entry.named == *wanted,
            Self::UnusedFor(span) => {
                let age = SystemTime::now().duration_since(entry.last_used);
                age.unwrap_or_default() >= *span
            }
            Self::UnusedSince(date) => entry.last_used < *date,
            Self::Description(pattern) => pattern.is_match(&entry.description),
        }
    }

    /// Whether all conditions are fulfilled.
    pub(crate) fn all_take(filters: &[Self], entry: &Entry) -> bool {
        filters.iter().all(|filter| filter.takes(entry))
    }
}

/// Under our names and BuildKit's.
fn kind(name: &str) -> Result<EntryKind, String> {
    let ours = KINDS.into_iter().find(|kind| kind.name() == name);
    let theirs = || match name {
        "regular" => Some(EntryKind::Step),
        "exec.cachemount" => Some(EntryKind::CacheMount),
        "source.git.checkout" => Some(EntryKind::Repository),
        _ => None,
    };
    ours.or_else(theirs).ok_or_else(|| {
        let names = KINDS.map(EntryKind::name).join(", ");
        format!("there is no type `{name}`, only {names}")
    })
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_told_wrong() {
        let good = [
            "type=step",
            "type=exec.cachemount",
            "id=ABC",
            "until=24h",
            "inuse=false",
            "shared=1",
            "named=true",
            "description=RUN *",
        ];
        for text in good {
            assert!(text.parse::<Filter>().is_ok(), "{text}");
        }
        for text in [
            "type",
            "type=x",
            "until=yesterday",
            "inuse=maybe",
            "description=[",
            "a=b",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
