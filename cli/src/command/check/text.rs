//! Findings for people. Clause R-CHK-6.

use kiln_planner::lint::Finding;

use super::Checked;
use crate::failure::Report;
use crate::render;

/// The verdict, then each finding with its lines.
pub(super) fn text(checked: &Checked, color: bool) -> String {
    let mut text = String::new();
    if checked.errors.is_empty() || !checked.findings.is_empty() {
        text.push_str(&verdict(checked.warnings()));
    }
    for finding in &checked.findings {
        let mut report = Report::from_diagnostic(&checked.source, &finding.diagnostic);
        report.notes.push(where_to_read(finding));
        text.push('\n');
        text.push_str(&render::reports(&[report], color));
    }
    text
}

fn verdict(warnings: usize) -> String {
    match warnings {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        several => format!("Check complete, {several} warnings have been found!\n"),
    }
}

fn where_to_read(finding: &Finding) -> String {
    let fixable = if finding.edits.is_empty() {
        ""
    } else {
        "; `--fix` mends it"
    };
    format!("see `kiln check --explain {}`{fixable}", finding.rule.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts() {
        // R-CHK-6
        assert_eq!(verdict(0), "Check complete, no warnings found.\n");
        assert_eq!(verdict(1), "Check complete, 1 warning has been found!\n");
        assert_eq!(verdict(2), "Check complete, 2 warnings have been found!\n");
    }
}
