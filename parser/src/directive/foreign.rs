//! The frontend named in a file that is not written in the Dockerfile language (R-DIR-7): `// syntax=` lines, or a JSON object.

use crate::directive::{NAMES, directive};
use crate::exec_form::object;
use crate::lines::{PhysicalLine, PhysicalLines};
use crate::{Span, Spanned};

/// The frontend asked for in one of the two ways.
pub(super) fn syntax(text: &str) -> Option<Spanned<String>> {
    let lines = || PhysicalLines::new(text);
    let shebang = lines()
        .next()
        .is_some_and(|line| line.text.starts_with("#!"));
    let body = || lines().skip(usize::from(shebang));
    if body().next()?.text.starts_with("//") {
        return in_comments(body());
    }
    let start = body().next()?.start;
    let (_, value) = object(&text[start..])?
        .into_iter()
        .rev()
        .find(|(name, _)| name == "syntax")?;
    let (written, value) = value?;
    let at = start + nom::Offset::offset(&text[start..], written);
    Some(Spanned::new(value, Span::new(at, at + written.len())))
}

/// `// syntax = value`, possibly after other directives of that kind.
fn in_comments<'a>(lines: impl Iterator<Item = PhysicalLine<'a>>) -> Option<Spanned<String>> {
    for line in lines {
        let (_, (name, value)) = directive(line.text, "//").ok()?;
        let name = name.to_ascii_lowercase();
        if name == "syntax" {
            let at = line.start + nom::Offset::offset(line.text, value);
            let span = Span::new(at, at + value.len());
            return Some(Spanned::new(value.to_owned(), span));
        }
        if !NAMES.contains(&name.as_str()) {
            return None;
        }
    }
    None
}
