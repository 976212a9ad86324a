//! MAINTAINER; the parser tells it (R-MAINT-1).

use kiln_parser::Span;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "MaintainerDeprecated",
    severity: Severity::Warning,
    experimental: false,
    summary: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    page: include_str!("maintainer-deprecated.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, keyword)| {
        let statement = subject.instruction_at(keyword.start).map(|(span, _)| span);
        match statement.and_then(|span| Some((span, label(subject, span, keyword)?))) {
            Some((span, label)) => found.edit(span, label),
            None => found,
        }
    })
    .collect()
}

/// The label in its place. LABEL expands what MAINTAINER does not, so an author with such characters is left alone.
fn label(subject: &Subject<'_>, statement: Span, keyword: Span) -> Option<String> {
    let author = subject.text(Span::new(keyword.end, statement.end)).trim();
    if author.is_empty() || author.contains(['$', '"', '\'', '\\', '`', '\n']) {
        return None;
    }
    let name = if subject.text(keyword).chars().all(char::is_lowercase) {
        "label"
    } else {
        "LABEL"
    };
    Some(format!(
        "{name} org.opencontainers.image.authors=\"{author}\""
    ))
}
