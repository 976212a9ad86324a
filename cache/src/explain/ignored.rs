//! Files that an ignore file takes out of a context, or no longer does. A step sees them gone or new; what somebody did is an edit of
//! the ignore file.

use kiln_parser::{IgnoreFile, Rule};

use super::FileCause;
use super::compare::Side;
use crate::builds::IgnoreRecord;

/// Tells of files that are gone or new by the ignore file that did it, where one did.
pub(super) fn told(now: &Side<'_>, before: &Side<'_>, files: Vec<FileCause>) -> Vec<FileCause> {
    let is_about = |file: &FileCause| matches!(file.change, "added" | "removed" | "renamed");
    if !files.iter().any(is_about) {
        return files;
    }
    let sides = Both {
        now: Rules::of(now),
        before: Rules::of(before),
    };
    files
        .into_iter()
        .filter(|file| !sides.is_by_the_way(file))
        .flat_map(|file| sides.told(file))
        .collect()
}

/// What both builds' ignore files say.
struct Both<'a> {
    now: Rules<'a>,
    before: Rules<'a>,
}

/// The ignore files of the contexts that a step reads.
struct Rules<'a> {
    side: &'a Side<'a>,
    /// By position of the context in the graph.
    files: Vec<(usize, &'a IgnoreRecord, IgnoreFile)>,
}

impl Both<'_> {
    /// A directory that is hidden all the time, and there only while something in it isn't.
    fn is_by_the_way(&self, file: &FileCause) -> bool {
        matches!(file.change, "added" | "removed")
            && self.now.verdict(&file.path).is_some()
            && self.before.verdict(&file.path).is_some()
    }

    fn told(&self, file: FileCause) -> Vec<FileCause> {
        match file.change {
            "removed" => vec![self.hidden(&file.path).unwrap_or(file)],
            "added" => vec![self.shown(&file.path).unwrap_or(file)],
            "renamed" => {
                let before = file.before.as_deref().unwrap_or_default();
                match (self.hidden(before), self.shown(&file.path)) {
                    (None, None) => vec![file],
                    (hidden, shown) => vec![
                        hidden.unwrap_or_else(|| cause(before, "removed", None, None)),
                        shown.unwrap_or_else(|| cause(&file.path, "added", None, None)),
                    ],
                }
            }
            _ => vec![file],
        }
    }

    /// What hides a path now and didn't before.
    fn hidden(&self, path: &str) -> Option<FileCause> {
        let (record, rule) = self.now.verdict(path)?;
        if self.before.verdict(path).is_some() {
            return None;
        }
        Some(cause(path, "ignored", None, Some(line(record, &rule))))
    }

    /// What hid a path before and doesn't now.
    fn shown(&self, path: &str) -> Option<FileCause> {
        let (record, rule) = self.before.verdict(path)?;
        if self.now.verdict(path).is_some() {
            return None;
        }
        Some(cause(path, "unignored", Some(line(record, &rule)), None))
    }
}

impl<'a> Rules<'a> {
    fn of(side: &'a Side<'a>) -> Self {
        let read = side.inputs();
        let files = read.filter_map(|(at, step)| {
            let record = step.ignore.as_ref()?;
            Some((at, record, record.file()?))
        });
        Self {
            side,
            files: files.collect(),
        }
    }

    /// The rule that hides a path, which is called as the step calls it.
    fn verdict(&self, path: &str) -> Option<(&'a IgnoreRecord, Rule)> {
        let mut files = self.files.iter();
        files.find_map(|(at, record, file)| {
            let path = self.side.path_in(*at, path)?;
            let verdict = file.verdict(&path);
            let rule = verdict.ignored.then_some(verdict.rule).flatten()?;
            Some((*record, rule))
        })
    }
}

fn line(record: &IgnoreRecord, rule: &Rule) -> String {
    format!("{} line {} (`{}`)", record.name, rule.line, rule.pattern)
}

fn cause(
    path: &str,
    change: &'static str,
    before: Option<String>,
    after: Option<String>,
) -> FileCause {
    FileCause {
        path: path.to_owned(),
        change,
        before,
        after,
    }
}
