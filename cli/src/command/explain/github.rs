//! Reasons as workflow commands of GitHub Actions, which shows them beside the lines.

use super::Picture;
use crate::command::check::github::{data, property};

/// One line a step that was done.
pub(super) fn of(picture: &Picture) -> String {
    let file = property(picture.file());
    let line = |step: &super::picture::Step| {
        let line = step
            .line
            .map_or_else(String::new, |line| format!(",line={line}"));
        let title = property(&format!("Rebuilt: {}", step.name));
        format!(
            "::notice file={file}{line},title={title}::{}\n",
            data(&step.message)
        )
    };
    picture.rebuilt().map(line).collect()
}
