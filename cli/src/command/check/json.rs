//! Findings as BuildKit's JSON. Clause R-CHK-7.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_parser::{Source, Span};
use serde_json::{Value, json};

use super::Checked;

/// One object, indented. To BuildKit's members it adds `severity`.
pub(super) fn json(checked: &Checked) -> String {
    let warnings: Vec<Value> = checked
        .findings
        .iter()
        .map(|finding| {
            json!({
                "ruleName": finding.rule.id,
                "description": finding.rule.summary,
                "url": finding.rule.url(),
                "detail": finding.diagnostic.message,
                "severity": finding.rule.severity.to_string(),
                "location": location(&checked.source, finding.diagnostic.span),
            })
        })
        .collect();
    let mut object = json!({
        "warnings": warnings,
        "sources": [{
            "filename": checked.source.name(),
            "language": "Dockerfile",
            "data": STANDARD.encode(checked.source.text()),
        }],
    });
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
    Some(json!({ "message": message, "location": location(&checked.source, span) }))
}

/// Lines count from 1 and characters from 0, as BuildKit has them.
fn location(source: &Source, span: Option<Span>) -> Value {
    let position = |offset: usize| {
        let (line, column) = source.line_col(offset);
        json!({ "line": line, "character": column - 1 })
    };
    let ranges: Vec<Value> = span
        .iter()
        .map(|span| json!({ "start": position(span.start), "end": position(span.end) }))
        .collect();
    json!({ "sourceIndex": 0, "ranges": ranges })
}
