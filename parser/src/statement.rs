//! From lines to statements: keywords, comments, heredoc bodies, and which parser reads an instruction.

use crate::arguments::first_word;
use crate::exec_form::{ExecForm, exec_form};
use crate::instruction::{self, From, Instruction};
use crate::lines::{LogicalLine, PhysicalLine, PhysicalLines};
use crate::request::Request;
use crate::{Diagnostic, Escape, Heredoc, Spanned, Statement, code, flag, heredoc, suggest};

/// The keywords (R-LEX-13).
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The most heredocs of one instruction: COPY gives each of one name the same body, which must not multiply without end.
const MOST_HEREDOCS: usize = 256;

/// An instruction of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// The start of a stage.
    From(From),
    /// Anything else.
    Instruction(Instruction),
}

/// One instruction of the file: `None` for what it says when it can't be read, which has then been told.
pub(crate) type Read = Statement<Option<Item>>;

/// The statements of a source, one after the other.
pub(crate) struct Statements<'s, 'd> {
    lines: PhysicalLines<'s>,
    escape: Escape,
    /// Lines that start before this are the head of the file: directives, not comments.
    head: usize,
    comments: Vec<Spanned<String>>,
    /// The comments that belong to no instruction, but for those above the next one.
    loose: Vec<Spanned<String>>,
    pub(crate) diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'s, 'd> Statements<'s, 'd> {
    pub(crate) fn new(
        text: &'s str,
        escape: Escape,
        head: usize,
        diagnostics: &'d mut Vec<Diagnostic>,
    ) -> Statements<'s, 'd> {
        Statements {
            lines: PhysicalLines::new(text),
            escape,
            head,
            comments: Vec::new(),
            loose: Vec::new(),
            diagnostics,
        }
    }

    /// A comment belongs to the next instruction unless a bare `#` comes between (R-LEX-15).
    fn comment(&mut self, line: PhysicalLine<'_>) {
        let text = line.text.trim();
        let text = text.strip_prefix('#').unwrap_or(text).trim();
        if text.is_empty() {
            self.loose.append(&mut self.comments);
        } else if line.start >= self.head {
            self.comments
                .push(Spanned::new(text.to_owned(), line.visible_span()));
        }
    }

    /// After the last statement: the comments that belong to none.
    pub(crate) fn loose_comments(mut self) -> Vec<Spanned<String>> {
        self.loose.append(&mut self.comments);
        self.loose
    }

    fn statement(&mut self, first: PhysicalLine<'_>) -> Option<Read> {
        let mut line = LogicalLine::read(first, &mut self.lines, self.escape);
        for comment in line.comments.drain(..) {
            let text = comment.value.trim_start_matches('#').trim().to_owned();
            self.loose.push(Spanned::new(text, comment.span));
        }
        if line.empty_continuation {
            let message = "Empty continuation line";
            self.diagnostics.push(Diagnostic::warning(
                code::NO_EMPTY_CONTINUATION,
                message,
                line.last,
            ));
        }
        let text = line.text.trim();
        let comments = std::mem::take(&mut self.comments);
        if text.is_empty() {
            let message = "a continuation without an instruction";
            self.diagnostics.push(Diagnostic::error(
                code::UNKNOWN_INSTRUCTION,
                message,
                line.span,
            ));
            return None;
        }
        let (heredocs, end) = self.heredocs(&line, text);
        let (written, _) = first_word(text);
        let instruction = parse(&line, text, heredocs, self.escape, self.diagnostics);
        let mut span = line.span;
        span.end = end.unwrap_or(span.end);
        Some(Statement {
            instruction,
            span,
            keyword: line.spanned(written, written.to_owned()),
            text: text.to_owned(),
            comments,
        })
    }

    /// Reads the bodies of the heredocs of a line (R-HD-6), and tells where the last terminator ends.
    fn heredocs(&mut self, line: &LogicalLine, text: &str) -> (Vec<Heredoc>, Option<usize>) {
        let mut end = None;
        let mut heredocs = Vec::new();
        if !may_open_heredocs(line, text, self.escape) {
            return (heredocs, end);
        }
        let mut openings = heredoc::openings(text);
        if let Some((word, _)) = openings.get(MOST_HEREDOCS) {
            let message = format!("more than {MOST_HEREDOCS} heredocs in one instruction");
            self.diagnostics.push(Diagnostic::error(
                code::TOO_MANY_HEREDOCS,
                message,
                line.place(word),
            ));
        }
        openings.truncate(MOST_HEREDOCS);
        for (word, opening) in openings {
            let body = match heredoc::body(&opening, &mut self.lines) {
                Ok((body, terminator)) => {
                    end = Some(terminator);
                    body
                }
                Err(body) => {
                    let message = format!("heredoc `{word}` is never closed");
                    let help = format!("end it with a line that holds only `{}`", opening.name);
                    let diagnostic =
                        Diagnostic::error(code::UNTERMINATED_HEREDOC, message, line.place(word));
                    self.diagnostics.push(diagnostic.help(help));
                    body
                }
            };
            heredocs.push(opening.into_heredoc(line.place(word), body));
        }
        (heredocs, end)
    }
}

impl Iterator for Statements<'_, '_> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        while let Some(line) = self.lines.next() {
            if line.is_comment() {
                self.comment(line);
            } else if !line.is_blank()
                && let Some(statement) = self.statement(line)
            {
                return Some(statement);
            }
        }
        None
    }
}

/// Whether heredocs mean anything in a line: in ADD, COPY and RUN, also under ONBUILD, when not in exec form (R-HD-1).
fn may_open_heredocs(line: &LogicalLine, text: &str, escape: Escape) -> bool {
    let (written, rest) = first_word(text);
    let rest = rest.unwrap_or(&text[text.len()..]);
    match keyword(written) {
        Some("ADD" | "COPY" | "RUN") if text.contains("<<") => {
            let (_, arguments) = flag::split(line, rest, escape);
            !matches!(exec_form(arguments), ExecForm::Strings(_))
        }
        Some("ONBUILD") if !matches!(keyword(first_word(rest).0), Some("ONBUILD")) => {
            may_open_heredocs(line, rest, escape)
        }
        _ => false,
    }
}

/// A keyword as we write it, whatever its case (R-LEX-11).
fn keyword(word: &str) -> Option<&'static str> {
    KEYWORDS
        .into_iter()
        .find(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Reads an instruction: a slice of the line that starts with its keyword.
pub(crate) fn parse(
    line: &LogicalLine,
    text: &str,
    heredocs: Vec<Heredoc>,
    escape: Escape,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Item> {
    let (written, rest) = first_word(text);
    let Some(keyword) = keyword(written) else {
        diagnostics.push(unknown(line, written));
        return None;
    };
    let (flags, text) = flag::split(line, rest.unwrap_or(&text[text.len()..]), escape);
    let request = Request {
        line,
        keyword,
        written,
        flags,
        text,
        heredocs,
        escape,
    };
    if keyword == "FROM" {
        return Some(Item::From(instruction::from::parse(request, diagnostics)));
    }
    instruction::parse(request, diagnostics).map(Item::Instruction)
}

fn unknown(line: &LogicalLine, written: &str) -> Diagnostic {
    let near = suggest(&written.to_ascii_uppercase(), KEYWORDS);
    let lower = written.chars().any(char::is_lowercase) && !written.chars().any(char::is_uppercase);
    let near = near.map(|keyword| {
        if lower {
            keyword.to_ascii_lowercase()
        } else {
            keyword.to_owned()
        }
    });
    let message = format!("unknown instruction `{written}`");
    let diagnostic = Diagnostic::error(code::UNKNOWN_INSTRUCTION, message, line.place(written));
    if written.starts_with("//") {
        return diagnostic.help("comments start with `#`");
    }
    diagnostic.did_you_mean(near)
}
