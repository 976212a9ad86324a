//! Findings as SARIF 2.1.0, the exchange format of code scanners.

use kiln_parser::{Severity, Source, Span};
use kiln_planner::lint::{self, Rule};
use serde_json::{Value, json};

use super::Checked;

/// One log with one run.
pub(super) fn sarif(checked: &Checked) -> String {
    let rules: Vec<Value> = lint::rules().iter().map(|rule| rule_object(rule)).collect();
    let findings = checked.findings.iter().map(|finding| &finding.diagnostic);
    let results: Vec<Value> = findings
        .chain(&checked.errors)
        .map(|found| {
            json!({
                "ruleId": found.code.as_str(),
                "level": level(found.severity),
                "message": { "text": found.message },
                "locations": [location(&checked.source, found.span)],
            })
        })
        .collect();
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
    let mut place = json!({ "artifactLocation": { "uri": source.name() } });
    if let Some(span) = span {
        let (line, column) = source.line_col(span.start);
        let (last_line, last_column) = source.line_col(span.end);
        place["region"] = json!({
            "startLine": line,
            "startColumn": column,
            "endLine": last_line,
            "endColumn": last_column,
        });
    }
    json!({ "physicalLocation": place })
}
