//! What a rule found.

use kiln_parser::{Code, Diagnostic, Span};

use super::Rule;

/// A finding of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: &'static Rule,
    /// What to tell.
    pub diagnostic: Diagnostic,
    /// The instruction that it is about, whose lines BuildKit names; the diagnostic's own span may be a word of it.
    pub statement: Option<Span>,
    /// What mends it; empty when that is not mechanical.
    pub edits: Vec<Edit>,
}

/// Other text in the place of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What to replace.
    pub span: Span,
    /// What to put there.
    pub text: String,
}

/// What a rule's function gives: a [`Finding`] that doesn't know its rule yet.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) span: Option<Span>,
    message: String,
    help: Vec<String>,
    edits: Vec<Edit>,
}

impl Found {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Found {
        Found {
            span: Some(span),
            message: message.into(),
            help: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// What the parser or the evaluation told already.
    pub(super) fn told(diagnostic: &Diagnostic) -> Found {
        Found {
            span: diagnostic.span,
            message: diagnostic.message.clone(),
            help: diagnostic
                .notes
                .iter()
                .chain(&diagnostic.help)
                .cloned()
                .collect(),
            edits: Vec::new(),
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Found {
        self.help.push(help.into());
        self
    }

    pub(super) fn edit(mut self, span: Span, text: impl Into<String>) -> Found {
        self.edits.push(Edit {
            span,
            text: text.into(),
        });
        self
    }

    pub(super) fn by(self, rule: &'static Rule, statement: Option<Span>) -> Finding {
        Finding {
            rule,
            statement: statement.filter(|_| !rule.is_about_a_line()).or(self.span),
            diagnostic: Diagnostic {
                severity: rule.severity,
                code: Code(rule.id),
                message: self.message,
                span: self.span,
                label: None,
                notes: Vec::new(),
                help: self.help,
            },
            edits: self.edits,
        }
    }
}

impl Finding {
    /// By place, then by rule.
    pub(super) fn order(&self) -> (usize, &'static str) {
        let start = self.diagnostic.span.map_or(0, |span| span.start);
        (start, self.rule.id)
    }
}
