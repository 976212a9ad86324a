//! What a command that could not do its work hands back: everything to show, and the exit code that goes with it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use kiln_cache::StoreError;
use kiln_executor::BuildError;
use kiln_parser::{Diagnostic, Severity, Source, Span};

use crate::exit::Exit;

/// A command's failure: one report or, for a Dockerfile with several mistakes, several.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) reports: Vec<Report>,
}

/// One message to the user: what is wrong, where, why, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) severity: Severity,
    /// In the brackets after `error`.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// The lines to show, if it belongs to some.
    pub(crate) place: Option<Place>,
    /// What led to it, outermost first.
    pub(crate) causes: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) help: Vec<String>,
}

/// A part of a file, with a word on it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Span,
    pub(crate) label: Option<String>,
}

impl Failure {
    /// One report with nothing but a code and a message.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            reports: vec![Report::error(Some(code), message)],
        }
    }

    /// The command line asks for something that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            reports: vec![Report::error(None, message)],
        }
    }

    /// The machine cannot do what is asked.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Environment,
            reports: vec![Report::error(None, message)],
        }
    }

    /// A file of the user's that kiln cannot read. That it isn't there, or is no file, is a mistake of who named it.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let message = format!("could not read `{}`: {}", path.display(), reason(error));
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                Self::usage(message)
            }
            _ => Self::environment(message),
        }
    }

    /// A file of the user's that kiln cannot write.
    pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> Self {
        Self::environment(format!(
            "could not write `{}`: {}",
            path.display(),
            reason(error)
        ))
    }

    /// Stopped by a signal: there is nothing to explain.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Self {
            exit: Exit::Signal(signal),
            reports: Vec::new(),
        }
    }

    /// An error with its causes below it.
    pub(crate) fn from_error(
        exit: Exit,
        code: Option<&str>,
        error: &(dyn Error + 'static),
    ) -> Self {
        if is_broken_pipe(error) {
            return Self {
                exit: Exit::Done,
                reports: Vec::new(),
            };
        }
        let mut report = Report::error(code, error.to_string());
        report.causes = causes(error);
        Self {
            exit,
            reports: vec![report],
        }
    }

    /// What the store could not do, with its own advice.
    pub(crate) fn from_store(error: &StoreError) -> Self {
        let failure = Self::from_error(Exit::Environment, Some("store"), error);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }

    /// A build, or another work of the engine, that failed; `source` is what its place refers to.
    pub(crate) fn from_build_error(source: Option<&Arc<Source>>, error: &BuildError) -> Self {
        if is_broken_pipe(error) {
            return Self {
                exit: Exit::Done,
                reports: Vec::new(),
            };
        }
        let nowhere = Arc::new(Source::new("", ""));
        let mut diagnostic = error.diagnostic();
        diagnostic.span = diagnostic.span.filter(|_| source.is_some());
        let mut report = Report::from_diagnostic(source.unwrap_or(&nowhere), &diagnostic);
        report.causes = causes(&*error.cause);
        Self {
            exit: error.kind().into(),
            reports: vec![report],
        }
    }

    /// As [`Failure::from_build_error`], for work that no Dockerfile asked for.
    pub(crate) fn from_engine(error: BuildError) -> Self {
        Self::from_build_error(None, &error)
    }

    /// All that is wrong in a Dockerfile.
    pub(crate) fn from_diagnostics(
        exit: Exit,
        source: &Arc<Source>,
        diagnostics: &[Diagnostic],
    ) -> Self {
        let reports = diagnostics
            .iter()
            .map(|diagnostic| Report::from_diagnostic(source, diagnostic))
            .collect();
        Self { exit, reports }
    }

    /// Adds a fact to the last report.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        if let Some(report) = self.reports.last_mut() {
            report.notes.push(text.into());
        }
        self
    }

    /// Adds something to do to the last report.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        if let Some(report) = self.reports.last_mut() {
            report.help.push(text.into());
        }
        self
    }

    /// Shows these lines with the last report.
    pub(crate) fn at(mut self, source: &Arc<Source>, span: Span, label: Option<String>) -> Self {
        if let Some(report) = self.reports.last_mut() {
            report.place = Some(Place {
                source: Arc::clone(source),
                span,
                label,
            });
        }
        self
    }
}

impl Report {
    pub(crate) fn error(code: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.map(str::to_owned),
            message: message.into(),
            place: None,
            causes: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    pub(crate) fn from_diagnostic(source: &Arc<Source>, diagnostic: &Diagnostic) -> Self {
        let place = |span| Place {
            source: Arc::clone(source),
            span,
            label: diagnostic.label.clone(),
        };
        Self {
            severity: diagnostic.severity,
            code: Some(diagnostic.code.as_str().to_owned()),
            message: diagnostic.message.clone(),
            place: diagnostic.span.map(place),
            causes: Vec::new(),
            notes: diagnostic.notes.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.span == other.span
            && self.label == other.label
            && self.source.name() == other.source.name()
    }
}

impl Eq for Place {}

/// Only reading and writing our own standard streams lets an `io::Error` through unwrapped; a reader that went away
/// (`kiln images | head -1`) is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self {
                exit: Exit::Done,
                reports: Vec::new(),
            },
            _ => Self::environment(format!("could not write the result to stdout: {error}")),
        }
    }
}

/// What the system said, in the middle of a sentence.
fn reason(error: &std::io::Error) -> String {
    without_number(&error.to_string()).to_lowercase()
}

/// `No such file or directory (os error 2)` says it twice.
fn without_number(text: &str) -> &str {
    text.split_once(" (os error ")
        .map_or(text, |(words, _)| words)
}

/// The chain below an error. Many errors repeat their source in their own text; those are left out.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut shown = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !shown.contains(&text) {
            causes.push(without_number(&text).to_owned());
            shown = text;
        }
        next = cause.source();
    }
    causes
}

/// Whether what lies at the bottom is a closed pipe on our own output.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("middle: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn causes_are_listed_once() {
        let error = Outer(Middle(std::io::Error::other("disk on fire")));
        let failure = Failure::from_error(Exit::Failed, None, &error);
        assert_eq!(failure.reports[0].message, "outer");
        assert_eq!(failure.reports[0].causes, ["middle: disk on fire"]);
    }

    #[test]
    fn a_broken_pipe_is_silent() {
        let error = Outer(Middle(std::io::ErrorKind::BrokenPipe.into()));
        let failure = Failure::from_error(Exit::Failed, None, &error);
        assert_eq!((failure.exit, failure.reports.len()), (Exit::Done, 0));
    }
}
