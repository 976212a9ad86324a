//! Why a step has no cached result, as data that can be printed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::key::{CacheKey, FileDigest, Preimage, Value};

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// There is no record under the key.
    NoRecord {
        /// The key the same step had the last time, and what is different; `None` if it was never seen.
        closest: Option<Closest>,
    },
    /// Nothing was looked for (`--no-cache`, R-CACHE-22).
    Disabled,
    /// There is a record, but the step's `ttl` has passed.
    Expired {
        /// How old the record is.
        age: Duration,
        /// How old it may be.
        ttl: Duration,
    },
    /// There is a record, but it or its result is damaged or gone.
    Damaged {
        /// What is.
        what: String,
    },
}

/// An earlier key of the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closest {
    /// The earlier key.
    pub key: CacheKey,
    /// What is different now. Empty if nothing is: then the record of the earlier key is gone.
    pub differences: Vec<Difference>,
}

/// One thing in which two preimages differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A field, or one name of a field of pairs.
    Field {
        /// Its name: `cwd`, `env PATH`.
        name: String,
        /// What it was; `None` if it wasn't there.
        before: Option<Value>,
        /// What it is; `None` if it isn't there.
        after: Option<Value>,
    },
    /// The same names with the same values in another order.
    Order {
        /// The field.
        name: String,
    },
    /// A file that was not read before.
    FileAdded {
        /// Its path.
        path: String,
    },
    /// A file that is read no more.
    FileRemoved {
        /// Its path.
        path: String,
    },
    /// A file whose content, mode or other counted property changed.
    FileChanged {
        /// Its path.
        path: String,
    },
    /// A file or directory of which nothing but the mode changed.
    ModeChanged {
        /// Its path.
        path: String,
        /// The mode bits it had.
        before: u32,
        /// Those it has.
        after: u32,
    },
}

impl MissReason {
    /// Whether the earlier result would have been found if mode bits didn't count.
    #[must_use]
    pub fn is_modes_alone(&self) -> bool {
        match self {
            Self::NoRecord {
                closest: Some(closest),
            } => closest.modes().is_some(),
            _ => false,
        }
    }
}

impl Closest {
    /// The first file whose mode changed and how many more there are, if nothing else is different.
    fn modes(&self) -> Option<(&Difference, usize)> {
        let is_mode =
            |difference: &Difference| matches!(difference, Difference::ModeChanged { .. });
        let (first, others) = self.differences.split_first()?;
        self.differences
            .iter()
            .all(is_mode)
            .then_some((first, others.len()))
    }
}

impl Preimage {
    /// What is different from an earlier preimage. Where single files can be named, the selection they are in isn't.
    pub fn differences(&self, earlier: &Preimage) -> Vec<Difference> {
        let files = file_differences(&earlier.files, &self.files);
        let mut differences = Vec::new();
        if self.kind != earlier.kind {
            let text = |kind: &str| Some(Value::Text(kind.to_owned()));
            differences.push(Difference::Field {
                name: "kind".to_owned(),
                before: text(&earlier.kind),
                after: text(&self.kind),
            });
        }
        for (name, before, after) in pair_up(&by_name(earlier), &by_name(self)) {
            match (before, after) {
                (before, after) if before == after => {}
                (Some(Value::Pairs(before)), Some(Value::Pairs(after))) => {
                    pair_differences(name, before, after, &mut differences);
                }
                (Some(Value::Contents(_)), Some(Value::Contents(_))) if !files.is_empty() => {}
                (before, after) => differences.push(Difference::Field {
                    name: name.to_owned(),
                    before: before.cloned(),
                    after: after.cloned(),
                }),
            }
        }
        differences.extend(files);
        differences
    }
}

fn by_name(preimage: &Preimage) -> BTreeMap<&str, &Value> {
    let fields = preimage.fields.iter();
    fields
        .map(|field| (field.name.as_str(), &field.value))
        .collect()
}

/// Every name of either map with what both have for it, in order.
fn pair_up<'a, V>(
    before: &BTreeMap<&'a str, &'a V>,
    after: &BTreeMap<&'a str, &'a V>,
) -> Vec<(&'a str, Option<&'a V>, Option<&'a V>)> {
    let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let paired = names.into_iter();
    paired
        .map(|name| (name, before.get(name).copied(), after.get(name).copied()))
        .collect()
}

fn pair_differences(
    field: &str,
    before: &[(String, String)],
    after: &[(String, String)],
    differences: &mut Vec<Difference>,
) {
    let map = |pairs: &'_ [(String, String)]| -> BTreeMap<String, String> {
        pairs.iter().cloned().collect()
    };
    let (before, after) = (map(before), map(after));
    if before == after {
        return differences.push(Difference::Order {
            name: field.to_owned(),
        });
    }
    let view = |map: &'_ BTreeMap<String, String>| -> BTreeMap<String, Value> {
        let texts = map.iter();
        texts
            .map(|(name, value)| (name.clone(), Value::Text(value.clone())))
            .collect()
    };
    let (before, after) = (view(&before), view(&after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    differences.extend(changed.map(|name| Difference::Field {
        name: format!("{field} {name}"),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    }));
}

fn file_differences(before: &[FileDigest], after: &[FileDigest]) -> Vec<Difference> {
    type Known = (kiln_image::Digest, Option<u32>);
    let map = |files: &'_ [FileDigest]| -> BTreeMap<String, Known> {
        let files = files.iter();
        files
            .map(|file| (file.path.clone(), (file.digest, file.mode)))
            .collect()
    };
    let (before, after) = (map(before), map(after));
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let gone = gone.map(|path| Difference::FileRemoved { path: path.clone() });
    let there = after.iter().filter_map(|(path, known)| {
        let path = path.clone();
        match (before.get(&path), known) {
            (None, _) => Some(Difference::FileAdded { path }),
            (Some(earlier), known) if earlier == known => None,
            (Some((earlier, Some(before))), (now, Some(after))) if earlier == now => {
                Some(Difference::ModeChanged {
                    path,
                    before: *before,
                    after: *after,
                })
            }
            (Some(_), _) => Some(Difference::FileChanged { path }),
        }
    });
    there.chain(gone).collect()
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord { closest: None } => f.write_str("not built before"),
            Self::NoRecord {
                closest: Some(closest),
            } => closest.fmt(f),
            Self::Disabled => f.write_str("the cache is switched off for this step"),
            Self::Expired { age, ttl } => write!(
                f,
                "its result is {} old, and its ttl is {}",
                whole(*age),
                whole(*ttl)
            ),
            Self::Damaged { what } => write!(f, "{what}"),
        }
    }
}

/// A duration in its two largest units: `1d 2h`, `3m 20s`, `0s`.
fn whole(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let largest = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = units.iter().skip(largest).take(2);
    let shown = shown.filter(|(count, _)| *count > 0 || seconds == 0);
    let texts: Vec<String> = shown
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    texts.join(" ")
}

impl fmt::Display for Closest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return f.write_str("its earlier result is no longer in the cache");
        }
        if let Some((first, others)) = self.modes() {
            write!(f, "only mode bits changed: {first}")?;
            return match others {
                0 => Ok(()),
                1 => f.write_str(" (and one more)"),
                others => write!(f, " (and {others} more)"),
            };
        }
        for (at, difference) in self.differences.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field {
                name,
                before: None,
                after: Some(after),
            } => {
                write!(f, "{name} is new: {after}")
            }
            Self::Field {
                name,
                before: Some(before),
                after: None,
            } => {
                write!(f, "{name} is gone: {before}")
            }
            Self::Field {
                name,
                before: Some(before),
                after: Some(after),
            } => {
                write!(f, "{name} changed from {before} to {after}")
            }
            Self::Field {
                name,
                before: None,
                after: None,
            } => write!(f, "{name} changed"),
            Self::Order { name } => write!(f, "{name} is in another order"),
            Self::FileAdded { path } => write!(f, "`{path}` is new"),
            Self::FileRemoved { path } => write!(f, "`{path}` is gone"),
            Self::FileChanged { path } => write!(f, "`{path}` changed"),
            Self::ModeChanged {
                path,
                before,
                after,
            } => write!(f, "`{path}` from {before:04o} to {after:04o}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::Digest;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Value {
        let pairs = pairs.iter();
        Value::Pairs(
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    fn shown(before: &Preimage, after: &Preimage) -> Vec<String> {
        let differences = after.differences(before);
        differences.iter().map(ToString::to_string).collect()
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn variables_are_named_one_by_one() {
        let before = Preimage::new("exec").field("env", pairs(&[("A", "1"), ("B", "2")]));
        let after = Preimage::new("exec").field("env", pairs(&[("A", "3"), ("C", "2")]));
        assert_eq!(
            shown(&before, &after),
            [
                r#"env A changed from "1" to "3""#,
                r#"env B is gone: "2""#,
                r#"env C is new: "2""#
            ]
        );
        let turned = Preimage::new("exec").field("env", pairs(&[("B", "2"), ("A", "1")]));
        assert_eq!(shown(&before, &turned), ["env is in another order"]);
        assert!(shown(&before, &before).is_empty());
    }

    #[test]
    fn files_are_named_instead_of_their_selection() {
        let copy = |files: &[(&str, &str)]| {
            let file = |(path, content): &(&str, &str)| FileDigest {
                path: (*path).to_owned(),
                digest: Digest::of(content.as_bytes()),
                mode: None,
            };
            let files: Vec<FileDigest> = files.iter().map(file).collect();
            let all: String = files.iter().map(|file| file.digest.hex()).collect();
            let source = vec![(b"src".to_vec(), Digest::of(all.as_bytes()))];
            Preimage::new("copy")
                .field("source 1", Value::Contents(source))
                .with_files(files)
        };
        let before = copy(&[("a", "1"), ("b", "1")]);
        let after = copy(&[("a", "2"), ("c", "1")]);
        assert_eq!(
            shown(&before, &after),
            ["`a` changed", "`c` is new", "`b` is gone"]
        );
    }

    #[test]
    fn modes_are_told_from_contents() {
        let copy = |files: &[(&str, &str, u32)]| {
            let file = |(path, content, mode): &(&str, &str, u32)| FileDigest {
                path: (*path).to_owned(),
                digest: Digest::of(content.as_bytes()),
                mode: Some(*mode),
            };
            let source = vec![(b"src".to_vec(), Digest::of(format!("{files:?}").as_bytes()))];
            Preimage::new("copy")
                .field("source 1", Value::Contents(source))
                .with_files(files.iter().map(file).collect())
        };
        let reason = |before: &Preimage, after: &Preimage| MissReason::NoRecord {
            closest: Some(Closest {
                key: before.key(),
                differences: after.differences(before),
            }),
        };
        let before = copy(&[("a", "1", 0o644), ("b", "1", 0o755), ("c", "1", 0o600)]);
        let after = copy(&[("a", "1", 0o664), ("b", "1", 0o775), ("c", "1", 0o660)]);
        let modes = reason(&before, &after);
        assert!(modes.is_modes_alone());
        assert_eq!(
            modes.to_string(),
            "only mode bits changed: `a` from 0644 to 0664 (and 2 more)"
        );
        let both = copy(&[("a", "2", 0o664), ("b", "1", 0o775), ("c", "1", 0o600)]);
        let mixed = reason(&before, &both);
        assert!(!mixed.is_modes_alone());
        assert_eq!(mixed.to_string(), "`a` changed; `b` from 0755 to 0775");
        assert!(!reason(&before, &before).is_modes_alone());
    }

    #[test]
    fn a_reason_is_one_line() {
        let before = Preimage::new("exec")
            .field("cwd", text("/a"))
            .field("user", text("x"));
        let after = Preimage::new("exec").field("cwd", text("/b"));
        let closest = |differences| MissReason::NoRecord {
            closest: Some(Closest {
                key: before.key(),
                differences,
            }),
        };
        assert_eq!(
            closest(after.differences(&before)).to_string(),
            r#"cwd changed from "/a" to "/b"; user is gone: "x""#
        );
        assert_eq!(
            closest(Vec::new()).to_string(),
            "its earlier result is no longer in the cache"
        );
        assert_eq!(
            MissReason::NoRecord { closest: None }.to_string(),
            "not built before"
        );
        let expired = MissReason::Expired {
            age: Duration::from_secs(90_000),
            ttl: Duration::from_secs(86_400),
        };
        assert_eq!(
            expired.to_string(),
            "its result is 1d 1h old, and its ttl is 1d"
        );
        assert_eq!(whole(Duration::from_millis(20)), "0s");
    }
}
