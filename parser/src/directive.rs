//! Parser directives: `# name = value` lines at the head of the file (R-DIR).

mod foreign;

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{char, satisfy};
use nom::combinator::{recognize, rest, verify};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::lines::PhysicalLines;
use crate::{
    CheckDirective, Code, Diagnostic, Directives, Escape, RuleSet, Source, Span, Spanned, code,
    suggest,
};

/// The directives that exist.
const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// What the head of a file says, and where the first line after it starts.
///
/// Two readers look at it. The one that finds `escape`, and what is given twice, takes indented lines but no shebang; the one that
/// finds `syntax` and `check` skips a shebang but takes no indented lines (R-DIR-5, R-DIR-6). Each stops for good at the first line
/// that it does not take.
pub(crate) fn read(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut head = Head {
        directives: Directives::default(),
        seen: Vec::new(),
        reads_escape: true,
        reads_syntax: true,
        diagnostics,
    };
    let mut end = 0;
    for (index, line) in PhysicalLines::new(source.text()).enumerate() {
        if index == 0 && line.text.starts_with("#!") {
            head.reads_escape = false;
        } else if !head.line(line.text, line.start) {
            break;
        }
        end = line.start + line.raw.len();
    }
    let mut directives = head.directives;
    if directives.syntax.is_none() {
        directives.syntax = foreign::syntax(source.text());
    }
    (directives, end)
}

/// `space = *( tab | LF | FF | CR | " " )`
fn space(text: &str) -> IResult<&str, &str> {
    take_while(is_space).parse(text)
}

fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// `directive = mark space name space "=" space value`, the value trimmed and not empty (R-DIR-1)
fn directive<'a>(text: &'a str, mark: &str) -> IResult<&'a str, (&'a str, &'a str)> {
    let alphanumeric = take_while(|c: char| c.is_ascii_alphanumeric());
    let name = recognize((satisfy(|c| c.is_ascii_alphabetic()), alphanumeric));
    let value = verify(
        rest.map(|value: &str| value.trim_matches(is_space)),
        |value: &str| !value.is_empty(),
    );
    (
        preceded((tag(mark), space), name),
        preceded((space, char('='), space), value),
    )
        .parse(text)
}

struct Head<'d> {
    directives: Directives,
    seen: Vec<String>,
    /// Whether the reader of `escape` has not stopped.
    reads_escape: bool,
    /// Whether the reader of `syntax` and `check` has not stopped.
    reads_syntax: bool,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Head<'_> {
    /// Takes a line; `false` when it ends the head (R-DIR-2).
    fn line(&mut self, line: &str, start: usize) -> bool {
        let text = line.trim_start();
        let start = start + line.len() - text.len();
        let Ok((_, (name, value))) = directive(text, "#") else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        if !NAMES.contains(&name.as_str()) {
            return false;
        }
        self.reads_syntax &= text.len() == line.len();
        let at = start + nom::Offset::offset(text, value);
        let value = Spanned::new(value, Span::new(at, at + value.len()));
        if !self.seen.contains(&name) {
            self.take(&name, value);
            self.seen.push(name);
        } else if self.reads_escape {
            let message = format!("only one `{name}` directive can be used");
            self.diagnostics.push(Diagnostic::error(
                code::DUPLICATE_DIRECTIVE,
                message,
                Span::new(start, value.span.end),
            ));
        }
        self.reads_escape || self.reads_syntax
    }

    fn take(&mut self, name: &str, value: Spanned<&str>) {
        match name {
            "escape" if self.reads_escape => self.escape(value),
            "check" if self.reads_syntax => self.check(value),
            "syntax" if self.reads_syntax => {
                self.directives.syntax = Some(value.map(str::to_owned));
            }
            _ => {}
        }
    }

    fn escape(&mut self, value: Spanned<&str>) {
        match value.value {
            "\\" => self.directives.escape = Escape::Backslash,
            "`" => self.directives.escape = Escape::Backtick,
            other => {
                let message = format!("`{other}` can't be the escape character");
                let help = "it is either ` or \\";
                self.diagnostics
                    .push(Diagnostic::error(code::INVALID_ESCAPE, message, value.span).help(help));
            }
        }
    }

    fn check(&mut self, value: Spanned<&str>) {
        match check_options(value.value) {
            Ok(check) => self.directives.check = Some(Spanned::new(check, value.span)),
            Err(problem) => self
                .diagnostics
                .push(problem.diagnostic(code::INVALID_CHECK, value.span)),
        }
    }
}

/// What is wrong with a check directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckProblem {
    message: String,
    suggestion: Option<&'static str>,
}

impl CheckProblem {
    fn diagnostic(self, code: Code, span: Span) -> Diagnostic {
        Diagnostic::error(code, self.message, span).did_you_mean(self.suggestion)
    }
}

/// `check = option *2( ";" option )`, `option = ( "skip" | "experimental" ) "=" rules | "error" "=" bool` (R-DIR-9)
fn check_options(text: &str) -> Result<CheckDirective, CheckProblem> {
    let problem = |message: String| CheckProblem {
        message,
        suggestion: None,
    };
    let mut check = CheckDirective::default();
    for (index, option) in text.split(';').enumerate() {
        if index == 3 {
            return Err(problem(
                "a check directive has at most three parts".to_owned(),
            ));
        }
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| problem(format!("check option `{option}` has no value")))?;
        match key.trim() {
            "skip" => check.skip = rules(value),
            "experimental" => check.experimental = rules(value),
            "error" => {
                let error = boolean(value.trim());
                check.error = Some(
                    error.ok_or_else(|| problem(format!("`{value}` is neither true nor false")))?,
                );
            }
            other => {
                let suggestion = suggest(other, ["skip", "error", "experimental"]);
                return Err(CheckProblem {
                    message: format!("unknown check option `{other}`"),
                    suggestion,
                });
            }
        }
    }
    Ok(check)
}

fn rules(value: &str) -> RuleSet {
    if value.trim() == "all" {
        return RuleSet::All;
    }
    RuleSet::Named(
        value
            .split(',')
            .map(|rule| rule.trim().to_owned())
            .filter(|rule| !rule.is_empty())
            .collect(),
    )
}

/// The words that Go takes for a truth value.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl CheckDirective {
    /// Reads the value of a check directive from elsewhere: the build argument `BUILDKIT_DOCKERFILE_CHECK` (R-CHK-2), or the comment of
    /// an instruction (R-CHK-4). The error is a message.
    pub fn parse(text: &str) -> Result<CheckDirective, String> {
        check_options(text).map_err(|problem| problem.message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(text: &str) -> (Directives, Vec<&'static str>) {
        let mut diagnostics = Vec::new();
        let (directives, _) = read(&Source::new("Dockerfile", text), &mut diagnostics);
        (
            directives,
            diagnostics
                .into_iter()
                .map(|diagnostic| diagnostic.code.as_str())
                .collect(),
        )
    }

    #[test]
    fn recognition_stops_for_good() {
        // R-DIR-2 and the table of section 1.2
        assert_eq!(head("#escape=`\nFROM a").0.escape, Escape::Backtick);
        assert_eq!(
            head("\u{FEFF}# ESCAPE = `  \r\nFROM a").0.escape,
            Escape::Backtick
        ); // R-LEX-2
        for none in [
            "\n# escape=`",
            "# foo=bar\n# escape=`",
            "# a comment\n#escape=`",
            "# escape=\n# escape=`",
            "FROM a\n# escape=`",
        ] {
            assert_eq!(head(none).0.escape, Escape::Backslash, "{none}");
        }
    }

    #[test]
    fn a_shebang_hides_the_escape_directive_alone() {
        // R-DIR-6
        let (directives, errors) =
            head("#!/usr/bin/env x\n# syntax=docker/dockerfile:1 more\n# escape=`\nFROM a");
        assert_eq!(directives.syntax.unwrap().value, "docker/dockerfile:1 more");
        assert_eq!((directives.escape, errors.len()), (Escape::Backslash, 0));
    }

    #[test]
    fn wrong_directives_are_told() {
        assert_eq!(head("#escape=`\n#escape=\\").1, ["duplicate-directive"]); // R-DIR-3
        assert_eq!(head("#escape=x").1, ["invalid-escape"]); // R-DIR-4
        assert_eq!(head("#escape=` x").1, ["invalid-escape"]);
        assert_eq!(head("#check=foo=1").1, ["invalid-check"]); // R-DIR-9
    }

    #[test]
    fn indented_directives_hide_the_syntax() {
        // R-DIR-5
        let (directives, errors) = head("  # syntax=a\n# check=foo\n\t#escape=`\nFROM a");
        assert_eq!((directives.syntax, directives.check), (None, None));
        assert_eq!((directives.escape, errors.len()), (Escape::Backtick, 0));
    }

    #[test]
    fn the_syntax_may_stand_in_a_file_of_another_kind() {
        // R-DIR-7
        let syntax = |text: &str| head(text).0.syntax.map(|syntax| syntax.value);
        assert_eq!(syntax("// syntax=a/b:1 x\n{}").as_deref(), Some("a/b:1 x"));
        assert_eq!(
            syntax("#!/usr/bin/x\n//check=x\n//SYNTAX = a\n").as_deref(),
            Some("a")
        );
        assert_eq!(
            syntax(" {\"a\": [{\"syntax\": 1}], \"syntax\": \"a\\u0062\"}").as_deref(),
            Some("ab")
        );
        assert_eq!(syntax("\u{FEFF}{\"syntax\":\"a\"}").as_deref(), Some("a"));
        for none in [
            " // syntax=a",
            "// x\n// syntax=a",
            "{\"syntax\": 1}",
            "{\"syntax\": \"a\"} FROM x",
            "[\"syntax\"]",
            "FROM a\n// syntax=a",
        ] {
            assert_eq!(syntax(none), None, "{none}");
        }
    }

    #[test]
    fn check_options_are_read() {
        let check = head("# check=skip=all;error=true;experimental=A, B\nFROM a")
            .0
            .check
            .unwrap()
            .value;
        assert_eq!((check.skip, check.error), (RuleSet::All, Some(true)));
        assert!(check.experimental.contains("B"));
    }
}
