//! The patterns of `${v#p}` and `${v/p/r}`: `*`, `?` and escapes, no bracket classes (R-EXP-10).

use std::borrow::Cow;

use crate::pattern::{Ends, Token, Wild, ends, possible_starts};
use crate::word::ExpandError;

/// `pattern = *( "*" | "?" | "\" ( "*" | "?" | "\" | "}" | "/" ) | any )`. The escape is always `\`.
fn tokens(pattern: &str) -> Result<Vec<Token>, ExpandError> {
    let mut tokens = Vec::new();
    let pattern = pattern.strip_prefix('\u{FEFF}').unwrap_or(pattern);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' if tokens.last() == Some(&Token::Many(Wild::NotNewline)) => continue,
            '*' => Token::Many(Wild::NotNewline),
            '?' => Token::One(Wild::NotNewline),
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(escaped),
                _ => {
                    return Err(ExpandError::BadPattern {
                        pattern: pattern.to_owned(),
                    });
                }
            },
            other => Token::Char(other),
        });
    }
    Ok(tokens)
}

/// Takes what matching costs from the steps that are left.
fn spend(steps: &mut usize, tokens: &[Token], value: &str) -> Result<(), ExpandError> {
    let left = steps.checked_sub(tokens.len().saturating_mul(value.len()));
    *steps = left.ok_or(ExpandError::TooLong)?;
    Ok(())
}

fn cut(found: Option<Ends>, longest: bool) -> usize {
    found.map_or(0, |ends| if longest { ends.longest } else { ends.shortest })
}

/// `${v#p}` and `${v##p}` (R-EXP-9).
pub(super) fn trim_prefix<'v>(
    value: &'v str,
    pattern: &str,
    longest: bool,
    steps: &mut usize,
) -> Result<&'v str, ExpandError> {
    let tokens = tokens(pattern)?;
    spend(steps, &tokens, value)?;
    Ok(&value[cut(ends(&tokens, value.chars()), longest)..])
}

/// `${v%p}` and `${v%%p}` (R-EXP-9). The pattern is read after it was turned round, which tells for one that ends in a lone `\`: that
/// escapes what follows it then.
pub(super) fn trim_suffix<'v>(
    value: &'v str,
    pattern: &str,
    longest: bool,
    steps: &mut usize,
) -> Result<&'v str, ExpandError> {
    let tokens = tokens(&turned_round(pattern))?;
    spend(steps, &tokens, value)?;
    Ok(&value[..value.len() - cut(ends(&tokens, value.chars().rev()), longest)])
}

/// A pattern from its end to its start; an escape stays before what it escapes.
fn turned_round(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let escaped = rest[first.len_utf8()..].chars().next();
        let length = match (first, escaped) {
            ('\\', Some(escaped)) => 1 + escaped.len_utf8(),
            _ => first.len_utf8(),
        };
        pieces.push(&rest[..length]);
        rest = &rest[length..];
    }
    pieces.into_iter().rev().collect()
}

/// `${v/p/r}` and `${v//p/r}`: leftmost, longest (R-EXP-9).
pub(super) fn replace(
    value: &str,
    pattern: &str,
    with: &str,
    all: bool,
    steps: &mut usize,
) -> Result<String, ExpandError> {
    let tokens = tokens(pattern)?;
    spend(steps, &tokens, value)?;
    let starts = possible_starts(&tokens, value);
    let mut result = String::with_capacity(value.len());
    // Just after the last match; an empty match there is not another one.
    let mut matched = None;
    let mut at = 0;
    while at <= value.len() {
        let length = match matched {
            Some(_) if !all => None,
            _ if starts[at] => ends(&tokens, value[at..].chars()).map(|ends| ends.longest),
            _ => None,
        };
        if let Some(length) = length.filter(|length| *length > 0 || matched != Some(at)) {
            let found = &value[at..at + length];
            match all {
                true => super::limited(&mut result, &with_groups(with, found))?,
                false => super::limited(&mut result, with)?,
            }
            at += length;
            matched = Some(at);
            if length > 0 {
                continue;
            }
        }
        let Some(next) = value[at..].chars().next() else {
            break;
        };
        super::limited(&mut result, next.encode_utf8(&mut [0; 4]))?;
        at += next.len_utf8();
    }
    Ok(result)
}

/// What `$0` and `$name` stand for where all matches are replaced: the match, and nothing, there being no groups (R-EXP-11). `$$` is
/// one `$`.
fn with_groups<'w>(with: &'w str, found: &str) -> Cow<'w, str> {
    if !with.contains('$') {
        return Cow::Borrowed(with);
    }
    let mut text = String::new();
    let mut rest = with;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = group(rest) {
            text.push_str(if name == "0" { found } else { "" });
            rest = after;
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// `group = name | "{" name "}"`: the name, and what follows.
fn group(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let end = inner.find(|c| !is_part(c)).unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    let after = match inner.len() == text.len() {
        true => after,
        false => after.strip_prefix('}')?,
    };
    (!name.is_empty()).then_some((name, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_matches_are_counted_as_go_does() {
        assert_eq!(replace("abc", "", "-", true, &mut 99).unwrap(), "-a-b-c-");
        assert_eq!(replace("abc", "*", "-", true, &mut 99).unwrap(), "-");
        assert_eq!(replace("abc", "", "-", false, &mut 99).unwrap(), "-abc");
    }

    #[test]
    fn dollars_name_groups_where_all_matches_are_replaced() {
        // R-EXP-11
        let all = |with: &str| replace("ab", "?", with, true, &mut 99).unwrap();
        assert_eq!(all("<$0>"), "<a><b>");
        assert_eq!(all("$1x$name_y-${0}$$"), "-a$-b$");
        assert_eq!(all("$ ${ ${0"), "$ ${ ${0$ ${ ${0");
        assert_eq!(replace("ab", "?", "$0", false, &mut 99).unwrap(), "$0b");
    }

    #[test]
    fn a_lone_escape_at_the_end_of_a_suffix_escapes_what_comes_before_it() {
        // R-EXP-10; only with the backtick as escape can it be there. BuildKit 0.32
        assert_eq!(trim_suffix("xa\\", "\\a\\", false, &mut 99).unwrap(), "x");
        assert!(trim_suffix("x", "\\", false, &mut 99).is_err());
    }

    #[test]
    fn only_some_escapes_are_allowed() {
        // R-EXP-10
        assert!(trim_prefix("x", "\\x", false, &mut 99).is_err());
        assert_eq!(trim_prefix("*x", "\\*", false, &mut 99).unwrap(), "x");
        assert_eq!(trim_suffix("a/b", "\\/b", true, &mut 99).unwrap(), "a");
    }
}
