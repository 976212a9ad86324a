//! Findings as SARIF 2.1.0, the exchange format of code scanners.

use kiln_parser::{Diagnostic, Severity, Source, Span};
use kiln_planner::lint::{self, Finding, Rule};
use serde_json::{Value, json};

use super::Checked;

/// One log with one run.
pub(super) fn sarif(checked: &Checked) -> String {
    let rules: Vec<Value> = lint::rules().iter().map(|rule| rule_object(rule)).collect();
    let mut results: Vec<Value> = checked
        .findings
        .iter()
        .map(|finding| with_rule(&checked.source, finding))
        .collect();
    let errors = checked.errors.iter();
    results.extend(errors.map(|error| result(&checked.source, error)));
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kiln",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

/// What was found, with the number of its rule in the list and what mends it.
fn with_rule(source: &Source, finding: &Finding) -> Value {
    let mut result = result(source, &finding.diagnostic);
    let index = lint::rules().iter().position(|rule| *rule == finding.rule);
    if let Some(index) = index {
        result["ruleIndex"] = index.into();
    }
    if !finding.edits.is_empty() {
        let replacements = finding.edits.iter().map(|edit| {
            json!({
                "deletedRegion": region(source, edit.span),
                "insertedContent": { "text": edit.text },
            })
        });
        result["fixes"] = json!([{
            "artifactChanges": [{
                "artifactLocation": { "uri": uri(source.name()) },
                "replacements": replacements.collect::<Vec<_>>(),
            }],
        }]);
    }
    result
}

fn result(source: &Source, found: &Diagnostic) -> Value {
    json!({
        "ruleId": found.code.as_str(),
        "level": level(found.severity),
        "message": { "text": found.message },
        "locations": [location(source, found.span)],
    })
}

fn rule_object(rule: &Rule) -> Value {
    let mut object = json!({
        "id": rule.id,
        "shortDescription": { "text": rule.summary },
        "help": { "text": rule.page, "markdown": rule.page },
        "defaultConfiguration": { "level": level(rule.severity) },
    });
    let url = rule.url();
    if !url.is_empty() {
        object["helpUri"] = url.into();
    }
    object
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Advice => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn location(source: &Source, span: Option<Span>) -> Value {
    let mut place = json!({ "artifactLocation": { "uri": uri(source.name()) } });
    if let Some(span) = span {
        place["region"] = region(source, span);
    }
    json!({ "physicalLocation": place })
}

fn region(source: &Source, span: Span) -> Value {
    let (line, column) = source.line_col(span.start);
    let (last_line, last_column) = source.line_col(span.end);
    json!({
        "startLine": line,
        "startColumn": column,
        "endLine": last_line,
        "endColumn": last_column,
    })
}

/// A path as a reference relative to where it was given (RFC 3986).
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            letter if letter.is_ascii_alphanumeric() => uri.push(char::from(letter)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_are_references() {
        assert_eq!(uri("a/Docker file#1é"), "a/Docker%20file%231%C3%A9");
    }
}
