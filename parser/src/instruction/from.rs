//! FROM (R-FROM).

use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::all_consuming;
use nom::{IResult, Parser};

use crate::arguments::plain_words;
use crate::flag::{Known, Takes};
use crate::request::Request;
use crate::{Diagnostic, Spanned, Word, code};

/// `FROM [--platform=<platform>] <image> [AS <name>]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The base: an image, an earlier stage, `scratch`. An empty word when the line could not be read.
    pub image: Spanned<Word>,
    /// `--platform`; an empty value is as if absent (R-FROM-3).
    pub platform: Option<Spanned<Word>>,
    /// The stage's name, lower-cased.
    pub name: Option<Spanned<String>>,
    /// The stage's name as written.
    pub name_as_written: Option<String>,
}

const FLAGS: &Known = &[("platform", Takes::Value)];

/// `"FROM" flags image [ "AS" name ]`
///
/// There is always a result, so that what follows belongs to a stage even when the FROM is wrong.
pub(crate) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> From {
    let platform = request
        .flags(FLAGS, diagnostics)
        .value("platform")
        .filter(|platform| !platform.is_empty());
    let platform = platform.map(|platform| request.flag_word(platform));
    let words = plain_words(request.text);
    let image = request.word(words.first().copied().unwrap_or(request.text));
    let mut from = From {
        image,
        platform,
        name: None,
        name_as_written: None,
    };
    match words.as_slice() {
        [_] => {}
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            casing(&request, keyword, diagnostics);
            from.name = stage_name(&request, name, diagnostics);
            from.name_as_written = from.name.as_ref().map(|_| (*name).to_owned());
        }
        [] => diagnostics.push(request.missing("an image")),
        [_, extra @ ..] => diagnostics.push(arguments(&request, extra)),
    }
    if words.is_empty() {
        from.image.span = request.line.place(request.written);
    }
    from
}

/// R-FROM-1
fn arguments(request: &Request<'_>, extra: &[&str]) -> Diagnostic {
    let message = "FROM takes an image, or an image, `AS` and a name";
    let span = extra
        .iter()
        .map(|word| request.line.place(word))
        .reduce(crate::Span::to);
    let diagnostic = Diagnostic::error(code::FROM_ARGUMENTS, message, span);
    match extra {
        [first] if first.eq_ignore_ascii_case("as") => {
            diagnostic.help("give the stage a name after `AS`")
        }
        [first, ..] if first.eq_ignore_ascii_case("as") => {
            diagnostic.note("a stage's name is one word")
        }
        [name] => diagnostic.help(format!("did you mean `AS {name}`?")),
        _ => diagnostic,
    }
}

/// R-FROM-2
fn stage_name(
    request: &Request<'_>,
    written: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<String>> {
    let name = written.to_lowercase();
    if all_consuming(valid_name).parse(name.as_str()).is_err() {
        let message = format!("`{written}` can't be the name of a stage");
        let help = "start it with a letter and use only letters, digits, `-`, `_` and `.`";
        diagnostics.push(
            Diagnostic::error(
                code::INVALID_STAGE_NAME,
                message,
                request.line.place(written),
            )
            .help(help),
        );
        return None;
    }
    if name != written {
        let message = format!("Stage name '{written}' should be lowercase");
        diagnostics.push(Diagnostic::warning(
            code::STAGE_NAME_CASING,
            message,
            request.line.place(written),
        ));
    }
    Some(request.line.spanned(written, name))
}

/// `name = letter *( letter | digit | "-" | "_" | "." )`, lower-cased before
fn valid_name(text: &str) -> IResult<&str, (&str, &str)> {
    let letter = |c: char| c.is_ascii_lowercase();
    let more =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    (take_while1(letter), take_while(more)).parse(text)
}

/// The FromAsCasing check.
fn casing(request: &Request<'_>, keyword: &str, diagnostics: &mut Vec<Diagnostic>) {
    let lower = |word: &str| word.chars().all(char::is_lowercase);
    let upper = |word: &str| word.chars().all(char::is_uppercase);
    let from = request.written;
    if (lower(from) && !lower(keyword)) || (upper(from) && !upper(keyword)) {
        let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
        diagnostics.push(Diagnostic::warning(
            code::FROM_AS_CASING,
            message,
            request.line.place(keyword),
        ));
    }
}
