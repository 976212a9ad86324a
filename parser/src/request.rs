//! What every instruction's parser is given, and the few questions all of them ask.

use crate::exec_form::{ExecForm, exec_form};
use crate::flag::{Flag, Flags, Known};
use crate::instruction::CommandLine;
use crate::lines::LogicalLine;
use crate::{Diagnostic, Escape, Heredoc, Spanned, Word, code};

/// An instruction's line, taken apart as far as all instructions have in common.
pub(crate) struct Request<'a> {
    pub(crate) line: &'a LogicalLine,
    /// The keyword, upper case.
    pub(crate) keyword: &'static str,
    /// The keyword as written: a slice of the line.
    pub(crate) written: &'a str,
    pub(crate) flags: Vec<Flag>,
    /// The arguments after the flags: a slice of the line, without outer blanks.
    pub(crate) text: &'a str,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) escape: Escape,
}

impl<'a> Request<'a> {
    /// The flags, checked against those the instruction has.
    pub(crate) fn flags(&mut self, known: &Known, diagnostics: &mut Vec<Diagnostic>) -> Flags {
        Flags::check(
            std::mem::take(&mut self.flags),
            known,
            self.keyword,
            diagnostics,
        )
    }

    /// Refuses any flag (R-FLAG-7).
    pub(crate) fn no_flags(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        self.flags(&[], diagnostics);
    }

    /// A slice of the line as a word.
    pub(crate) fn word(&self, part: &str) -> Spanned<Word> {
        self.line.spanned(part, Word::new(part, self.escape))
    }

    /// A flag's value as a word.
    pub(crate) fn flag_word(&self, value: Spanned<String>) -> Spanned<Word> {
        value.map(|text| Word::new(text, self.escape))
    }

    /// The argument text as the instruction's only argument; an error when there is none.
    pub(crate) fn only_word(
        &self,
        what: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Spanned<Word>> {
        if self.text.is_empty() {
            diagnostics.push(self.missing(what));
            return None;
        }
        Some(self.word(self.text))
    }

    /// An error for an instruction without its arguments.
    pub(crate) fn missing(&self, what: &str) -> Diagnostic {
        let message = format!("{} needs {what}", self.keyword);
        Diagnostic::error(
            code::MISSING_ARGUMENT,
            message,
            self.line.place(self.written),
        )
    }

    /// The argument text as a list when it is an exec form; `None` when it isn't, and when it is a wrong one.
    pub(crate) fn strings(&self, text: &'a str, diagnostics: &mut Vec<Diagnostic>) -> Strings<'a> {
        match exec_form(text) {
            ExecForm::Strings(strings) => Strings::List(strings),
            ExecForm::No => Strings::Text,
            ExecForm::NotStrings => {
                let message = format!("the JSON array of {} may hold strings only", self.keyword);
                let help = "put each element in double quotes";
                diagnostics.push(
                    Diagnostic::error(code::EXEC_FORM_NOT_STRINGS, message, self.line.place(text))
                        .help(help),
                );
                Strings::Wrong
            }
        }
    }

    /// A command in either form (R-JSON-2, R-JSON-3).
    pub(crate) fn command(
        &self,
        text: &'a str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<CommandLine> {
        match self.strings(text, diagnostics) {
            Strings::List(strings) => Some(CommandLine::Exec(
                strings.into_iter().map(|(_, value)| value).collect(),
            )),
            Strings::Text => Some(CommandLine::Shell(text.to_owned())),
            Strings::Wrong => None,
        }
    }
}

/// An argument text that might have been an exec form.
pub(crate) enum Strings<'a> {
    /// It is: each string as written, and what it stands for.
    List(Vec<(&'a str, String)>),
    /// It is ordinary text.
    Text,
    /// It is an array of other things; that has been told.
    Wrong,
}
