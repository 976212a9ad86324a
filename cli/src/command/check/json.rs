//! Findings as BuildKit's JSON. Clause R-CHK-7.
//!
//! What is BuildKit's is as BuildKit has it: locations are whole lines. kiln adds `severity`, and `span` with the exact place. For
//! `kiln build --check` the findings of kiln's own rules stand apart, in `kiln`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_parser::{Source, Span};
use kiln_planner::lint::Finding;
use serde_json::{Value, json};

use super::Checked;
use crate::location;

/// One object, indented, with all findings as warnings.
pub(super) fn json(checked: &Checked) -> String {
    let findings = checked.findings.iter();
    object(
        checked,
        findings.map(|it| warning(&checked.source, it)).collect(),
        None,
    )
}

/// One object, indented, with the findings of kiln's own rules apart.
pub(super) fn buildkit(checked: &Checked) -> String {
    let (theirs, own) = checked.by_origin();
    let all = |findings: Vec<&Finding>| -> Value {
        let findings = findings.into_iter();
        findings.map(|it| warning(&checked.source, it)).collect()
    };
    object(checked, all(theirs), Some(all(own)))
}

fn warning(source: &Source, finding: &Finding) -> Value {
    let mut warning = json!({
        "ruleName": finding.rule.id,
        "description": finding.rule.summary,
        "detail": finding.diagnostic.message,
        "severity": finding.rule.severity.to_string(),
    });
    let url = finding.rule.url();
    if !url.is_empty() {
        warning["url"] = url.into();
    }
    if let Some(statement) = finding.statement {
        warning["location"] = location::lines_in_full(source, statement);
    }
    if let Some(span) = finding.diagnostic.span {
        warning["span"] = exact(source, span);
    }
    warning
}

fn object(checked: &Checked, warnings: Value, own: Option<Value>) -> String {
    let mut object = json!({
        "warnings": warnings,
        "sources": [{
            "filename": checked.source.name(),
            "language": "Dockerfile",
            "data": STANDARD.encode(checked.source.text()),
        }],
    });
    if let Some(own) = own {
        object["kiln"] = own;
    }
    if let Some(error) = build_error(checked) {
        object["buildError"] = error;
    }
    format!("{object:#}\n")
}

/// The first error.
fn build_error(checked: &Checked) -> Option<Value> {
    let from_dockerfile = checked
        .errors
        .first()
        .map(|error| (error.message.clone(), error.span));
    let from_bases = || {
        let error = checked.unresolved.first()?;
        Some((error.cause.to_string(), error.span))
    };
    let (message, span) = from_dockerfile.or_else(from_bases)?;
    let span = span.unwrap_or_default();
    let location = location::lines_in_full(&checked.source, span);
    Some(json!({ "message": message, "location": location }))
}

/// Lines count from 1 and characters from 0, as in BuildKit's locations.
fn exact(source: &Source, span: Span) -> Value {
    let position = |offset: usize| {
        let (line, column) = source.line_col(offset);
        json!({ "line": line, "character": column - 1 })
    };
    json!({ "start": position(span.start), "end": position(span.end) })
}
