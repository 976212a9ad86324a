//! What somebody did that made a step another one.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::miss::{Difference, FileChange, whole};

/// So many files are named in a line of text.
const NAMED_FILES: usize = 3;
/// Longer texts are cut in a line of text.
const LONGEST_TEXT: usize = 160;

/// One cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// It was never built.
    FirstBuild,
    /// Earlier builds ended before it, or failed at it.
    NotReached,
    /// The instruction is new.
    New {
        /// It.
        text: String,
    },
    /// An instruction before it is gone.
    Removed {
        /// That one.
        text: String,
    },
    /// An instruction stands elsewhere.
    Moved {
        /// It.
        text: String,
    },
    /// The instruction is another one.
    Instruction {
        /// As it was written.
        before: String,
        /// As it is written.
        after: String,
    },
    /// A build argument has another value.
    Argument {
        /// Its name.
        name: String,
        /// Its value then; a digest if the name tells of a secret, `None` if it had none.
        before: Option<String>,
        /// Its value now.
        after: Option<String>,
    },
    /// A variable has another value.
    Variable {
        /// Its name.
        name: String,
        /// Its value then, as with [`Cause::Argument`].
        before: Option<String>,
        /// Its value now.
        after: Option<String>,
    },
    /// The same variables stand in another order.
    VariableOrder,
    /// What an instruction before it or a flag sets for it: the user, the working directory.
    Setting {
        /// What it is called in a Dockerfile or on the command line, if it is there.
        name: String,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// The name of an image stands for another one.
    BaseImage {
        /// The name.
        name: String,
        /// The digest of the image then.
        before: String,
        /// The digest of the image now.
        after: String,
    },
    /// A download or repository is not what it was.
    Source {
        /// Its address, without a login.
        name: String,
        /// The digest of the file, or the commit, that it stood for, where that is known.
        before: Option<String>,
        /// The one that it stands for.
        after: Option<String>,
    },
    /// Files that it reads.
    Files {
        /// What of each; never empty.
        files: Vec<FileCause>,
    },
    /// What a mount shows.
    Mount {
        /// Where it is mounted.
        target: String,
        /// The files, if they are known.
        files: Vec<FileCause>,
    },
    /// It was not to be looked for.
    Disabled {
        /// The flag or comment that says so.
        by: String,
    },
    /// Its result was collected.
    Collected,
    /// Its result is too old.
    Expired {
        /// Its age in seconds.
        age: u64,
        /// What it may be, in seconds.
        ttl: u64,
    },
    /// Its result can't be used.
    Damaged {
        /// What is damaged or gone.
        what: String,
    },
    /// It gave something else than before, though nothing that it depends on changed.
    OutputChanged,
    /// It failed before it was known what it depends on.
    Unread {
        /// How.
        message: String,
    },
}

/// One thing about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileCause {
    /// Its path.
    pub path: String,
    /// `added`, `removed`, `renamed`, `ignored`, `unignored`, `content`, `mode`, `owner`, `target`, `type` or `attributes`.
    pub change: &'static str,
    /// What it was, where that is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl FileCause {
    /// What a difference says of files; nothing if it is about something else.
    pub(super) fn of(difference: &Difference) -> Vec<Self> {
        let one = |path: &str, change, before, after| Self {
            path: path.to_owned(),
            change,
            before,
            after,
        };
        match difference {
            Difference::Field { .. } | Difference::Order { .. } => Vec::new(),
            Difference::FileAdded { path } => vec![one(path, "added", None, None)],
            Difference::FileRemoved { path } => vec![one(path, "removed", None, None)],
            Difference::FileRenamed { before, after } => {
                vec![one(after, "renamed", Some(before.clone()), None)]
            }
            Difference::FileChanged { path, changes } => {
                let of = |change: &FileChange| {
                    let (change, before, after) = in_words(change);
                    one(path, change, before, after)
                };
                changes.iter().map(of).collect()
            }
        }
    }
}

fn in_words(change: &FileChange) -> (&'static str, Option<String>, Option<String>) {
    match change {
        FileChange::Kind { before, after } => {
            ("type", Some(before.to_string()), Some(after.to_string()))
        }
        FileChange::Content => ("content", None, None),
        FileChange::Mode { before, after } => (
            "mode",
            Some(format!("{before:04o}")),
            Some(format!("{after:04o}")),
        ),
        FileChange::Owner { before, after } => (
            "owner",
            Some(format!("{}:{}", before.0, before.1)),
            Some(format!("{}:{}", after.0, after.1)),
        ),
        FileChange::Target { before, after } => {
            ("target", Some(before.clone()), Some(after.clone()))
        }
        FileChange::Other => ("attributes", None, None),
    }
}

impl Cause {
    /// On one line, beside the same step of another machine.
    #[must_use]
    pub fn beside_elsewhere(&self) -> String {
        let there = "on the machine that exported this";
        let (Self::Files { files } | Self::Mount { files, .. }) = self else {
            return format!("{self}, from what it was {there}");
        };
        let named = files.iter().take(NAMED_FILES);
        let mut named: Vec<String> = named.map(FileCause::beside_elsewhere).collect();
        match files.len().saturating_sub(NAMED_FILES) {
            0 => {}
            more => named.push(format!("and {more} more")),
        }
        format!("{there}, {}", named.join("; "))
    }
}

impl FileCause {
    fn beside_elsewhere(&self) -> String {
        let path = line(&self.path);
        match (self.change, &self.before, &self.after) {
            ("added", ..) => format!("there was no `{path}`"),
            ("removed", ..) => format!("there was `{path}`, which is not here"),
            ("renamed", Some(before), _) => format!("`{path}` was called `{}`", line(before)),
            ("target", Some(before), Some(after)) => {
                let (before, after) = (line(before), line(after));
                format!("link `{path}` led to `{before}`, and here to `{after}`")
            }
            (change, Some(before), Some(after)) => {
                format!("`{path}` had {change} {before}, and here {after}")
            }
            (change, ..) => format!("`{path}` had other {change}"),
        }
    }
}

/// On one line, the cause first.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstBuild => f.write_str("not built before"),
            Self::NotReached => {
                f.write_str("not finished before: earlier builds failed here or above")
            }
            Self::New { text } => write!(f, "new instruction `{}`", line(text)),
            Self::Removed { text } => write!(f, "`{}` above it was removed", line(text)),
            Self::Moved { text } => write!(f, "`{}` was moved", line(text)),
            Self::Instruction { before, after } if before == after => {
                f.write_str("its here-document changed")
            }
            Self::Instruction { before, after } => write!(
                f,
                "instruction changed from `{}` to `{}`",
                line(before),
                line(after)
            ),
            Self::Argument {
                name,
                before,
                after,
            } => write_change(f, "build argument", name, before, after),
            Self::Variable {
                name,
                before,
                after,
            } => write_change(f, "variable", name, before, after),
            Self::VariableOrder => f.write_str("variables are set in another order"),
            Self::Setting {
                name,
                before,
                after,
            } => write!(f, "{name} changed from {} to {}", set(before), set(after)),
            Self::BaseImage {
                name,
                before,
                after,
            } => write!(
                f,
                "image `{name}` changed from {} to {}",
                short(before),
                short(after)
            ),
            Self::Source {
                name,
                before: Some(before),
                after: Some(after),
            } if before != after => write!(
                f,
                "`{}` changed from {} to {}",
                line(name),
                short(before),
                short(after)
            ),
            Self::Source { name, .. } => write!(f, "`{}` is not what it was", line(name)),
            Self::Files { files } => write_files(f, files),
            Self::Mount { target, files } if files.is_empty() => {
                write!(f, "what is mounted at `{target}` changed")
            }
            Self::Mount { target, files } => {
                write!(f, "mount `{target}`: ")?;
                write_files(f, files)
            }
            Self::Disabled { by } => write!(f, "no result was looked for: `{by}`"),
            Self::Collected => f.write_str("its earlier result was removed from the cache"),
            Self::Expired { age, ttl } => write!(
                f,
                "its result is {} old, and its ttl is {}",
                whole(Duration::from_secs(*age)),
                whole(Duration::from_secs(*ttl))
            ),
            Self::Damaged { what } => f.write_str(what),
            Self::OutputChanged => f.write_str(
                "it gave something else than before, though nothing it depends on changed",
            ),
            Self::Unread { message } => f.write_str(&line(message)),
        }
    }
}

impl fmt::Display for FileCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            change,
            before,
            after,
        } = self;
        let path = line(path);
        match (*change, before, after) {
            ("added", ..) => write!(f, "`{path}` was added"),
            ("removed", ..) => write!(f, "`{path}` was removed"),
            ("renamed", Some(before), _) => {
                write!(f, "`{}` was renamed to `{path}`", line(before))
            }
            ("ignored", _, Some(by)) => write!(f, "`{path}` is now ignored by {}", line(by)),
            ("unignored", Some(by), _) => {
                write!(
                    f,
                    "`{path}` is no longer ignored, as it was by {}",
                    line(by)
                )
            }
            ("target", Some(before), Some(after)) => write!(
                f,
                "link `{path}` changed from `{}` to `{}`",
                line(before),
                line(after)
            ),
            (change, Some(before), Some(after)) => {
                write!(f, "{change} of `{path}` changed from {before} to {after}")
            }
            (change, ..) => write!(f, "{change} of `{path}` changed"),
        }
    }
}

fn write_change(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    name: &str,
    before: &Option<String>,
    after: &Option<String>,
) -> fmt::Result {
    match (before, after) {
        (None, Some(after)) => write!(f, "{what} `{name}` is new: {:?}", line(after)),
        (Some(before), None) => write!(f, "{what} `{name}` is gone: {:?}", line(before)),
        (Some(before), Some(after)) => write!(
            f,
            "{what} `{name}` changed from {:?} to {:?}",
            line(before),
            line(after)
        ),
        (None, None) => write!(f, "{what} `{name}` changed"),
    }
}

fn write_files(f: &mut fmt::Formatter<'_>, files: &[FileCause]) -> fmt::Result {
    for (at, file) in files.iter().take(NAMED_FILES).enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        write!(f, "{separator}{file}")?;
    }
    match files.len().saturating_sub(NAMED_FILES) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

/// What is set, which may be nothing.
fn set(value: &str) -> String {
    match value {
        "" => "nothing".to_owned(),
        value => format!("`{}`", line(value)),
    }
}

/// As much of a digest as people compare.
fn short(digest: &str) -> &str {
    let length = match digest.starts_with("sha256:") {
        true => "sha256:".len() + 12,
        false => 12,
    };
    digest.get(..length).unwrap_or(digest)
}

/// A text on one line, not too long and without what moves a cursor.
fn line(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() > LONGEST_TEXT {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\t' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_debug()),
            c => shown.push(c),
        }
    }
    shown
}
