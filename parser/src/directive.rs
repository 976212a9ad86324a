//! Parser directives: `# name = value` lines at the head of the file (R-DIR).

use nom::bytes::complete::take_while;
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
pub(crate) fn read(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut head = Head {
        directives: Directives::default(),
        seen: Vec::new(),
        past_shebang: false,
        diagnostics,
    };
    let mut end = 0;
    for (index, line) in PhysicalLines::new(source.text()).enumerate() {
        // Only the escape directive minds a shebang line (R-DIR-6).
        if index == 0 && line.text.starts_with("#!") {
            head.past_shebang = true;
        } else if !head.line(line.text, line.start) {
            break;
        }
        end = line.start + line.raw.len();
    }
    (head.directives, end)
}

/// `directive = *space "#" *space name *space "=" *space value`, the value trimmed and not empty (R-DIR-1)
fn directive(text: &str) -> IResult<&str, (&str, &str)> {
    let space =
        |text| take_while::<_, &str, nom::error::Error<&str>>(char::is_whitespace).parse(text);
    let alphanumeric = take_while(|c: char| c.is_ascii_alphanumeric());
    let name = recognize((satisfy(|c| c.is_ascii_alphabetic()), alphanumeric));
    let value = verify(rest.map(str::trim), |value: &str| !value.is_empty());
    let head = (space, char('#'), space);
    (
        preceded(head, name),
        preceded((space, char('='), space), value),
    )
        .parse(text)
}

struct Head<'d> {
    directives: Directives,
    seen: Vec<String>,
    past_shebang: bool,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Head<'_> {
    /// Takes a line; `false` when it ends the head (R-DIR-2).
    fn line(&mut self, text: &str, start: usize) -> bool {
        let Ok((_, (name, value))) = directive(text) else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        if !NAMES.contains(&name.as_str()) {
            return false;
        }
        let at = start + nom::Offset::offset(text, value);
        let value = Spanned::new(value, Span::new(at, at + value.len()));
        if self.seen.contains(&name) {
            let message = format!("only one `{name}` directive can be used");
            let visible = Span::new(start + text.len() - text.trim_start().len(), value.span.end);
            self.diagnostics.push(Diagnostic::error(
                code::DUPLICATE_DIRECTIVE,
                message,
                visible,
            ));
            return true;
        }
        match name.as_str() {
            "escape" if self.past_shebang => return true,
            "escape" => self.escape(value),
            "check" => self.check(value),
            _ => self.directives.syntax = Some(value.map(str::to_owned)),
        }
        self.seen.push(name);
        true
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
