//! Two layers beside each other, file by file: what one build made of a step, and what another did.

use std::collections::BTreeSet;
use std::fmt;

use kiln_image::{Change, Changeset, DiffId, ImagePath, Kind, Node, Timestamp};

use crate::Services;
use crate::error::BuildError;
use crate::event::Reporter;

/// One thing in which a path of two layers differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDifference {
    /// The path, with a slash in front.
    pub path: String,
    /// What differs.
    pub what: Attribute,
}

/// What of a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Only the first layer has something there.
    Gone,
    /// Only the second layer has something there.
    New,
    /// One makes it, the other removes it; or it is something else.
    Type,
    /// The content of a regular file, or where a link leads.
    Content,
    /// The mode bits.
    Mode(u32, u32),
    /// Owner and group.
    Owner((u32, u32), (u32, u32)),
    /// Extended attributes.
    Attributes,
    /// The time of the last change.
    Time(Timestamp, Timestamp),
}

impl FileDifference {
    /// Whether it is only about when something was written.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self.what, Attribute::Time(..))
    }
}

/// In what two layers of the store differ, in the order of paths; `None` if one of them is not there any more.
///
/// # Errors
/// If the store can't be read.
pub fn compare_layers(
    before: DiffId,
    after: DiffId,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Option<Vec<FileDifference>>, BuildError> {
    let layers = services.store.layers();
    if !layers.is_whole(&before) || !layers.is_whole(&after) {
        return Ok(None);
    }
    let task = reporter.start("comparing layers");
    let changeset = |layer| services.layers.changeset(layer, &task);
    let both = changeset(before).and_then(|one| Ok((one, changeset(after)?)));
    let (before, after) = task.end_with(both).map_err(BuildError::new)?;
    Ok(Some(differences(&before, &after)))
}

fn differences(before: &Changeset, after: &Changeset) -> Vec<FileDifference> {
    let paths: BTreeSet<&ImagePath> = before
        .iter()
        .chain(after.iter())
        .map(|(at, _)| at)
        .collect();
    let mut found = Vec::new();
    for path in paths {
        let named = |what| FileDifference {
            path: format!("/{path}"),
            what,
        };
        match (before.get(path), after.get(path)) {
            (Some(_), None) => found.push(named(Attribute::Gone)),
            (None, Some(_)) => found.push(named(Attribute::New)),
            (Some(one), Some(two)) => {
                found.extend(of_change(one, two).into_iter().map(named));
            }
            (None, None) => {}
        }
    }
    found
}

fn of_change(before: &Change, after: &Change) -> Vec<Attribute> {
    match (before, after) {
        (Change::Put(one), Change::Put(two)) | (Change::Opaque(one), Change::Opaque(two)) => {
            of_node(one, two)
        }
        (Change::Remove, Change::Remove) => Vec::new(),
        _ => vec![Attribute::Type],
    }
}

fn of_node(before: &Node, after: &Node) -> Vec<Attribute> {
    let mut found = Vec::new();
    if before.kind != after.kind {
        let is_content = matches!(
            (&before.kind, &after.kind),
            (Kind::File { .. }, Kind::File { .. }) | (Kind::Symlink { .. }, Kind::Symlink { .. })
        );
        found.push(match is_content {
            true => Attribute::Content,
            false => Attribute::Type,
        });
    }
    let (one, two) = (&before.metadata, &after.metadata);
    if one.mode != two.mode {
        found.push(Attribute::Mode(one.mode, two.mode));
    }
    if (one.uid, one.gid) != (two.uid, two.gid) {
        found.push(Attribute::Owner((one.uid, one.gid), (two.uid, two.gid)));
    }
    if one.xattrs != two.xattrs {
        found.push(Attribute::Attributes);
    }
    // A layer tar has whole seconds.
    if one.mtime.secs != two.mtime.secs {
        found.push(Attribute::Time(one.mtime, two.mtime));
    }
    found
}

impl fmt::Display for FileDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            Attribute::Gone => write!(f, "`{path}` is not in the new one"),
            Attribute::New => write!(f, "`{path}` is only in the new one"),
            Attribute::Type => write!(f, "`{path}` is something else"),
            Attribute::Content => write!(f, "`{path}`: content"),
            Attribute::Mode(one, two) => write!(f, "`{path}`: mode {one:04o} and {two:04o}"),
            Attribute::Owner(one, two) => {
                write!(
                    f,
                    "`{path}`: owner {}:{} and {}:{}",
                    one.0, one.1, two.0, two.1
                )
            }
            Attribute::Attributes => write!(f, "`{path}`: extended attributes"),
            Attribute::Time(one, two) => {
                write!(f, "`{path}`: mtime {} and {}", date(*one), date(*two))
            }
        }
    }
}

fn date(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.secs) {
        Ok(date) => date.to_string(),
        Err(_) => time.secs.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::Metadata;

    use super::*;

    fn file(content: &str, mode: u32, secs: i64) -> Node {
        let mut node = Node::file(content.as_bytes());
        node.metadata = Metadata::with_mode(mode);
        node.metadata.mtime = Timestamp::from_secs(secs);
        node
    }

    fn layer(files: &[(&str, Change)]) -> Changeset {
        let mut layer = Changeset::new();
        for (path, change) in files {
            layer.insert(ImagePath::clean(path.as_bytes()), change.clone());
        }
        layer
    }

    #[test]
    fn each_attribute_is_told() {
        let before = layer(&[
            ("a", Change::Put(file("1", 0o644, 0))),
            ("b", Change::Put(file("1", 0o644, 0))),
            ("c", Change::Remove),
            ("d", Change::Put(file("1", 0o644, 0))),
        ]);
        let after = layer(&[
            ("a", Change::Put(file("2", 0o600, 9))),
            ("b", Change::Put(file("1", 0o644, 0))),
            ("c", Change::Put(file("1", 0o644, 0))),
            ("e", Change::Put(file("1", 0o644, 0))),
        ]);
        let told: Vec<String> = differences(&before, &after)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "`/a`: content",
                "`/a`: mode 0644 and 0600",
                "`/a`: mtime 1970-01-01T00:00:00Z and 1970-01-01T00:00:09Z",
                "`/c` is something else",
                "`/d` is not in the new one",
                "`/e` is only in the new one",
            ]
        );
    }
}
