//! COPY (R-COPY).

use std::collections::HashMap;

use crate::arguments::plain_words;
use crate::flag::{Known, Takes};
use crate::heredoc::opening;
use crate::request::{Request, Strings};
use crate::{Diagnostic, Heredoc, Spanned, Word, code};

/// `COPY [flags] <source>… <dest>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage, a named context or an image; never expanded (R-COPY-3).
    pub from: Option<Spanned<String>>,
    /// `--chown`
    pub chown: Option<Spanned<Word>>,
    /// `--chmod`
    pub chmod: Option<Spanned<Word>>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude` patterns, never expanded (R-COPY-32).
    pub exclude: Vec<Spanned<String>>,
    /// What to copy, in written order; the engine copies paths before inline files (R-HD-17).
    pub sources: Vec<Spanned<CopySource>>,
    /// Where to.
    pub dest: Spanned<Word>,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern, or for ADD a URL.
    Path(Word),
    /// An inline file (R-HD-14). Heredocs of one name all have the last one's body (R-HD-16).
    Heredoc(Heredoc),
}

const FLAGS: &Known = &[
    ("from", Takes::Value),
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
    ("exclude", Takes::List),
];

/// `"COPY" flags 1*source dest`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Copy> {
    let flags = request.flags(FLAGS, diagnostics);
    let from = flags.value("from").filter(|from| !from.is_empty());
    if let Some(from) = from.as_ref().filter(|from| from.contains('$')) {
        diagnostics.push(variable_in_from("--from", from));
    }
    let (sources, dest) = sources_and_dest(&request, diagnostics)?;
    let word = |name: &str| flags.value(name).map(|value| request.flag_word(value));
    Some(Copy {
        from,
        chown: word("chown"),
        chmod: word("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.list("exclude"),
        sources,
        dest,
    })
}

/// The error for a variable where a stage has to be named (R-COPY-3, R-MNT-3).
pub(super) fn variable_in_from(option: &str, from: &Spanned<String>) -> Diagnostic {
    let message = format!("variables are not expanded in `{option}`: `{}`", from.value);
    let help = "name a stage instead, and use the variable in that stage's FROM";
    Diagnostic::error(code::VARIABLE_IN_FROM, message, from.span).help(help)
}

/// `1*source dest`, as words or as a JSON array (R-JSON-1). The last one is the destination (R-COPY-1).
pub(super) fn sources_and_dest(
    request: &Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Vec<Spanned<CopySource>>, Spanned<Word>)> {
    let path =
        |(part, text): (&str, String)| request.line.spanned(part, Word::new(text, request.escape));
    let (mut words, exec) = match request.strings(request.text, diagnostics) {
        Strings::List(strings) => (strings.into_iter().map(path).collect(), true),
        Strings::Text => (
            plain_words(request.text)
                .into_iter()
                .map(|part| request.word(part))
                .collect::<Vec<_>>(),
            false,
        ),
        Strings::Wrong => return None,
    };
    let dest = words.pop().filter(|_| !words.is_empty());
    let Some(dest) = dest else {
        diagnostics.push(missing_destination(request));
        return None;
    };
    if exec {
        return Some((
            words
                .into_iter()
                .map(|word| word.map(CopySource::Path))
                .collect(),
            dest,
        ));
    }
    if opening(dest.raw()).is_some() {
        let message = format!("a heredoc can't be the destination of {}", request.keyword);
        diagnostics.push(Diagnostic::error(
            code::HEREDOC_DESTINATION,
            message,
            dest.span,
        ));
        return None;
    }
    Some((with_heredocs(words, &request.heredocs), dest))
}

fn missing_destination(request: &Request<'_>) -> Diagnostic {
    let message = format!(
        "{} needs at least a source and a destination",
        request.keyword
    );
    let part = if request.text.is_empty() {
        request.written
    } else {
        request.text
    };
    Diagnostic::error(code::MISSING_DESTINATION, message, request.line.place(part))
}

/// Puts heredocs in the place of the words that open them; of several with one name the last body counts (R-HD-16).
fn with_heredocs(words: Vec<Spanned<Word>>, heredocs: &[Heredoc]) -> Vec<Spanned<CopySource>> {
    let bodies: HashMap<&str, &str> = heredocs
        .iter()
        .map(|heredoc| (heredoc.name.as_str(), heredoc.body.as_str()))
        .collect();
    let source = |word: Spanned<Word>| {
        let Some(opening) = opening(word.raw()) else {
            return word.map(CopySource::Path);
        };
        let body = bodies
            .get(opening.name.as_str())
            .copied()
            .unwrap_or_default()
            .to_owned();
        let span = word.span;
        Spanned::new(CopySource::Heredoc(opening.into_heredoc(span, body)), span)
    };
    words.into_iter().map(source).collect()
}
