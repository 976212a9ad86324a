//! Findings as workflow commands of GitHub Actions, which shows them beside the lines.

use kiln_parser::{Diagnostic, Severity};

use super::Checked;
use crate::render::shown;

/// One line a finding.
pub(super) fn github(checked: &Checked) -> String {
    let findings = checked.findings.iter().map(|finding| &finding.diagnostic);
    findings
        .chain(&checked.errors)
        .map(|found| line(checked, found))
        .collect()
}

fn line(checked: &Checked, found: &Diagnostic) -> String {
    let command = match found.severity {
        Severity::Advice => "notice",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let source = &checked.source;
    let mut properties = format!("file={}", property(source.name()));
    if let Some(span) = found.span {
        let (line, column) = source.line_col(span.start);
        let (last_line, last_column) = source.line_col(span.end);
        properties.push_str(&format!(",line={line},endLine={last_line}"));
        // Columns mean something only within one line.
        if line == last_line {
            properties.push_str(&format!(",col={column},endColumn={last_column}"));
        }
    }
    let title = property(found.code.as_str());
    let message = data(&found.message);
    format!("::{command} {properties},title={title}::{message}\n")
}

/// The text of a command, which must stay on its line.
pub(in crate::command) fn data(text: &str) -> String {
    shown(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// The value of a property, which must not end it.
pub(in crate::command) fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_command() {
        assert_eq!(data("a%\nb: c"), "a%25%0Ab: c");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
