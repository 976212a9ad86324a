//! Findings for people. Clause R-CHK-6.

use kiln_planner::lint::Finding;

use super::{Checked, verdict};
use crate::failure::Report;
use crate::render;

/// The verdict, then each finding with its lines.
pub(super) fn text(checked: &Checked, color: bool) -> String {
    let mut text = String::new();
    if checked.errors.is_empty() || checked.warnings() > 0 {
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

/// The page of a rule: BuildKit's, and the one that kiln carries.
fn where_to_read(finding: &Finding) -> String {
    let fixable = if finding.edits.is_empty() {
        ""
    } else {
        "; `--fix` mends it"
    };
    let page = format!("`kiln check --explain {}`", finding.rule.id);
    match finding.rule.url() {
        url if url.is_empty() => format!("see {page}{fixable}"),
        url => format!("see {url} or {page}{fixable}"),
    }
}
