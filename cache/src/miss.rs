//! Why a step has no cached result, as data that can be printed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use kiln_image::ImagePath;

use crate::file_digest::{FileDigest, FileFacts, FileKind, ShortDigest};
use crate::key::{CacheKey, Preimage, Value};

/// Of more renamed directories than these the files are told one by one.
const MOST_RENAMED: usize = 16;

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
    /// A file that is called otherwise and is the same in all else.
    FileRenamed {
        /// Its path then.
        before: String,
        /// Its path now.
        after: String,
    },
    /// A file or directory that is not what it was.
    FileChanged {
        /// Its path.
        path: String,
        /// In what; never empty.
        changes: Vec<FileChange>,
    },
}

/// What of a file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// It is something else.
    Kind {
        /// What it was.
        before: FileKind,
        /// What it is.
        after: FileKind,
    },
    /// The content of a regular file.
    Content,
    /// The mode bits.
    Mode {
        /// Those it had.
        before: u32,
        /// Those it has.
        after: u32,
    },
    /// Owner and group, as numbers.
    Owner {
        /// Whose it was.
        before: (u32, u32),
        /// Whose it is.
        after: (u32, u32),
    },
    /// Where a symbolic link leads.
    Target {
        /// Where it led.
        before: String,
        /// Where it leads.
        after: String,
    },
    /// Extended attributes, or the numbers of a device.
    Other,
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
    /// In how many things it differs; files count as one.
    #[must_use]
    pub fn distance(&self) -> usize {
        distance(&self.differences)
    }

    /// The first file whose mode changed and how many more there are, if nothing else is different.
    fn modes(&self) -> Option<(&Difference, usize)> {
        let is_mode = |difference: &Difference| {
            matches!(difference, Difference::FileChanged { changes, .. }
                if matches!(changes[..], [FileChange::Mode { .. }]))
        };
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

/// How far one step is from another: the number of things in which they differ. Files count as one, however many changed.
pub(crate) fn distance(differences: &[Difference]) -> usize {
    let is_field = |difference: &&Difference| {
        matches!(
            difference,
            Difference::Field { .. } | Difference::Order { .. }
        )
    };
    let fields = differences.iter().filter(is_field).count();
    fields + usize::from(fields < differences.len())
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

/// Changed and new ones in the order of their paths, then those that are gone.
fn file_differences(before: &[FileDigest], after: &[FileDigest]) -> Vec<Difference> {
    let map = |files: &'_ [FileDigest]| -> BTreeMap<String, FileFacts> {
        let files = files.iter();
        files
            .map(|file| (file.path.clone(), file.facts.clone()))
            .collect()
    };
    let ways = ways(before, after);
    let (mut before, after) = (map(before), map(after));
    let mut differences = Vec::new();
    for (old, new) in renamed_directories(&before, &after) {
        before = before
            .into_iter()
            .map(|(path, facts)| match below(&path, &old) {
                Some(rest) => (format!("{new}{rest}"), facts),
                None => (path, facts),
            })
            .collect();
        differences.push(Difference::FileRenamed {
            before: old,
            after: new,
        });
    }
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    let mut gone: BTreeMap<&String, &FileFacts> = gone.collect();
    take_the_place(&mut gone, &after, &mut differences);
    let mut movable = movable(&gone);
    for (path, facts) in &after {
        match before.get(path) {
            Some(earlier) if earlier.all == facts.all => {}
            Some(earlier) => differences.push(Difference::FileChanged {
                path: path.clone(),
                changes: changes(earlier, facts),
            }),
            None => differences.push(match movable.get_mut(&facts.all).and_then(Vec::pop) {
                Some(before) => {
                    gone.remove(&before);
                    Difference::FileRenamed {
                        before,
                        after: path.clone(),
                    }
                }
                None => Difference::FileAdded { path: path.clone() },
            }),
        }
    }
    let gone = gone.into_keys();
    differences.extend(gone.map(|path| Difference::FileRemoved { path: path.clone() }));
    if !ways.is_empty() {
        differences.retain(|difference| !ways.iter().any(|way| way.explains(difference)));
    }
    differences
}

/// A link that leads elsewhere than before.
struct Way {
    link: String,
    before: String,
    after: String,
}

impl Way {
    /// Whether a file is only there, or gone, because the link leads elsewhere.
    fn explains(&self, difference: &Difference) -> bool {
        let is_before = |path: &str| below(path, &self.before).is_some();
        let is_after = |path: &str| below(path, &self.after).is_some();
        match difference {
            Difference::FileAdded { path } => is_after(path) && *path != self.link,
            Difference::FileRemoved { path } => is_before(path) && *path != self.link,
            Difference::FileRenamed { before, after } => is_before(before) && is_after(after),
            Difference::Field { .. }
            | Difference::Order { .. }
            | Difference::FileChanged { .. } => false,
        }
    }
}

/// The links on the way to what is read that lead elsewhere, or are no links on one of the sides.
fn ways(before: &[FileDigest], after: &[FileDigest]) -> Vec<Way> {
    let links = |files: &'_ [FileDigest]| -> BTreeMap<String, String> {
        let files = files.iter().filter(|file| file.is_way);
        let target = |file: &FileDigest| Some((file.path.clone(), led_to(file)?));
        files.filter_map(target).collect()
    };
    let (before, after) = (links(before), links(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let ways = names.into_iter().map(|link| Way {
        link: link.clone(),
        before: before.get(link).unwrap_or(link).clone(),
        after: after.get(link).unwrap_or(link).clone(),
    });
    ways.filter(|way| way.before != way.after).collect()
}

/// The path that a link leads to, as paths of its tree are written.
fn led_to(link: &FileDigest) -> Option<String> {
    let target = link.facts.target.as_deref()?;
    let sign = if link.path.starts_with('/') { "/" } else { "" };
    let inside = link.path.trim_start_matches('/');
    let above = inside.rsplit_once('/').map_or("", |(above, _)| above);
    let path = match target.starts_with('/') {
        true => ImagePath::clean(target.as_bytes()),
        false => ImagePath::clean(format!("{above}/{target}").as_bytes()),
    };
    Some(format!("{sign}{path}"))
}

/// What a path has behind that of a directory that it is in or is: nothing, or what begins with a slash.
fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A directory that is gone and one that is new, where something that is the same is at the same place in both: the outermost
/// such, each once.
fn renamed_directories(
    before: &BTreeMap<String, FileFacts>,
    after: &BTreeMap<String, FileFacts>,
) -> Vec<(String, String)> {
    let of_one_side = |side: &'_ BTreeMap<String, FileFacts>,
                       other: &BTreeMap<String, FileFacts>| {
        let only = side.iter().filter(|(path, _)| !other.contains_key(*path));
        let only = only.map(|(path, facts)| (path.clone(), facts.clone()));
        only.collect::<BTreeMap<_, _>>()
    };
    let (gone, new) = (of_one_side(before, after), of_one_side(after, before));
    let is_directory = |side: &BTreeMap<String, FileFacts>, path: &str| {
        let facts = side.get(path);
        facts.is_some_and(|facts| facts.kind == FileKind::Directory)
    };
    let mut movable = movable(&gone.iter().collect());
    let mut renamed: Vec<(String, String)> = Vec::new();
    for (path, facts) in &new {
        let is_known = |(old, new): &(String, String)| {
            let rest = below(path, new).map(|rest| format!("{old}{rest}"));
            rest.is_some_and(|path| gone.contains_key(&path))
        };
        if renamed.len() == MOST_RENAMED || renamed.iter().any(is_known) {
            continue;
        }
        let Some(earlier) = movable.get_mut(&facts.all).and_then(Vec::pop) else {
            continue;
        };
        let mut outermost = None;
        let (mut old, mut now) = (earlier.as_str(), path.as_str());
        while let (Some((old_above, old_name)), Some((now_above, now_name))) =
            (old.rsplit_once('/'), now.rsplit_once('/'))
            && old_name == now_name
            && is_directory(&gone, old_above)
            && is_directory(&new, now_above)
        {
            outermost = Some((old_above.to_owned(), now_above.to_owned()));
            (old, now) = (old_above, now_above);
        }
        let is_taken = |(old, now): &(String, String)| {
            let mut taken = renamed.iter();
            taken.any(|(earlier, later)| {
                below(old, earlier).or(below(earlier, old)).is_some()
                    || below(now, later).or(below(later, now)).is_some()
            })
        };
        renamed.extend(outermost.filter(|pair| !is_taken(pair)));
    }
    renamed
}

/// Takes out of what is gone the files that directories have the place of.
fn take_the_place(
    gone: &mut BTreeMap<&String, &FileFacts>,
    after: &BTreeMap<String, FileFacts>,
    differences: &mut Vec<Difference>,
) {
    gone.retain(|path, facts| {
        let inside = format!("{path}/");
        let mut inside = after
            .range(inside.clone()..)
            .take_while(|(path, _)| path.starts_with(&inside));
        let is_replaced = facts.kind != FileKind::Directory && inside.next().is_some();
        if is_replaced {
            differences.push(Difference::FileChanged {
                path: (*path).clone(),
                changes: vec![FileChange::Kind {
                    before: facts.kind,
                    after: FileKind::Directory,
                }],
            });
        }
        !is_replaced
    });
}

/// Regular files by what counts of them; an empty one could be any other. The first path is the last of each list.
fn movable(gone: &BTreeMap<&String, &FileFacts>) -> HashMap<ShortDigest, Vec<String>> {
    let empty = (&kiln_image::Digest::of(b"")).into();
    let mut movable: HashMap<ShortDigest, Vec<String>> = HashMap::new();
    for (path, facts) in gone.iter().rev() {
        if facts.kind == FileKind::File && facts.content != Some(empty) {
            movable.entry(facts.all).or_default().push((*path).clone());
        }
    }
    movable
}

fn changes(before: &FileFacts, after: &FileFacts) -> Vec<FileChange> {
    let mut changes = Vec::new();
    if before.kind != after.kind {
        changes.push(FileChange::Kind {
            before: before.kind,
            after: after.kind,
        });
    } else if before.content != after.content {
        changes.push(FileChange::Content);
    }
    if let (Some(before), Some(after)) = (&before.target, &after.target)
        && before != after
    {
        changes.push(FileChange::Target {
            before: before.clone(),
            after: after.clone(),
        });
    }
    if before.mode != after.mode && before.kind == after.kind {
        changes.push(FileChange::Mode {
            before: before.mode,
            after: after.mode,
        });
    }
    if before.owner != after.owner {
        changes.push(FileChange::Owner {
            before: before.owner.unwrap_or_default(),
            after: after.owner.unwrap_or_default(),
        });
    }
    if changes.is_empty() {
        changes.push(FileChange::Other);
    }
    changes
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
pub(crate) fn whole(duration: Duration) -> String {
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
            Self::FileRenamed { before, after } => {
                write!(f, "`{before}` is called `{after}` now")
            }
            Self::FileChanged { path, changes } => match &changes[..] {
                [FileChange::Content] => write!(f, "`{path}` changed"),
                [FileChange::Mode { before, after }] => {
                    write!(f, "`{path}` from {before:04o} to {after:04o}")
                }
                changes => {
                    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                    write!(f, "`{path}`: {}", changes.join(", "))
                }
            },
        }
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { before, after } => write!(f, "was {before} and is {after}"),
            Self::Content => f.write_str("content changed"),
            Self::Mode { before, after } => {
                write!(f, "mode changed from {before:04o} to {after:04o}")
            }
            Self::Owner { before, after } => write!(
                f,
                "owner changed from {}:{} to {}:{}",
                before.0, before.1, after.0, after.1
            ),
            Self::Target { before, after } => {
                write!(f, "leads to `{after}` and led to `{before}`")
            }
            Self::Other => f.write_str("extended attributes changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::{Change, Digest, ImagePath, Node, Tree};

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

    /// A copy of files: path, mode, content.
    fn copy(files: &[(&str, u32, &str)]) -> Preimage {
        let file = |(path, mode, content): &(&str, u32, &str)| {
            let mut node = Node::file(content.as_bytes());
            node.metadata.mode = *mode;
            file_digest(path, node)
        };
        let source = vec![(b"src".to_vec(), Digest::of(format!("{files:?}").as_bytes()))];
        Preimage::new("copy")
            .field("source 1", Value::Contents(source))
            .with_files(files.iter().map(file).collect())
    }

    fn file_digest(path: &str, node: Node) -> FileDigest {
        let place = ImagePath::clean(b"f");
        let mut tree = Tree::new();
        tree.apply(
            0,
            &[(place.clone(), Change::Put(node))].into_iter().collect(),
        );
        FileDigest::of(path.to_owned(), tree.lookup(&place).expect("put there"))
    }

    #[test]
    fn files_are_named_instead_of_their_selection() {
        let before = copy(&[("a", 0o644, "1"), ("b", 0o644, "2"), ("d", 0o644, "4")]);
        let after = copy(&[("a", 0o644, "2"), ("c", 0o644, "3"), ("e", 0o644, "4")]);
        assert_eq!(
            shown(&before, &after),
            [
                "`a` changed",
                "`c` is new",
                "`d` is called `e` now",
                "`b` is gone"
            ]
        );
    }

    #[test]
    fn what_of_a_file_changed_is_told() {
        // R-CACHE-11
        let one = |node: Node| copy(&[]).with_files(vec![file_digest("f", node)]);
        let mut owned = Node::file(b"1");
        owned.metadata.uid = 5;
        owned.metadata.mode = 0o600;
        let cases = [
            (
                Node::file(b"1"),
                owned,
                "`f`: mode changed from 0644 to 0600, owner changed from 0:0 to 5:0",
            ),
            (
                Node::symlink("a"),
                Node::symlink("b"),
                "`f`: leads to `b` and led to `a`",
            ),
            (
                Node::file(b"1"),
                Node::symlink("b"),
                "`f`: was a file and is a symbolic link",
            ),
        ];
        for (before, after, expected) in cases {
            assert_eq!(shown(&one(before), &one(after)), [expected]);
        }
    }

    #[test]
    fn modes_are_told_from_contents() {
        let reason = |before: &Preimage, after: &Preimage| MissReason::NoRecord {
            closest: Some(Closest {
                key: before.key(),
                differences: after.differences(before),
            }),
        };
        let before = copy(&[("a", 0o644, "1"), ("b", 0o755, "1"), ("c", 0o600, "1")]);
        let after = copy(&[("a", 0o664, "1"), ("b", 0o775, "1"), ("c", 0o660, "1")]);
        let modes = reason(&before, &after);
        assert!(modes.is_modes_alone());
        assert_eq!(
            modes.to_string(),
            "only mode bits changed: `a` from 0644 to 0664 (and 2 more)"
        );
        let both = copy(&[("a", 0o644, "2"), ("b", 0o775, "1"), ("c", 0o600, "1")]);
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
