//! The patterns of `${v#p}` and `${v/p/r}`: `*`, `?` and escapes, no bracket classes (R-EXP-10).

use crate::pattern::{Ends, Token, Wild, ends, possible_starts};
use crate::word::ExpandError;

/// The most (pattern × text) steps an expansion may take.
const MOST_STEPS: usize = 1 << 28;

/// `pattern = *( "*" | "?" | "\" ( "*" | "?" | "\" | "}" | "/" ) | any )`. The escape is always `\`.
fn tokens(pattern: &str) -> Result<Vec<Token>, ExpandError> {
    let mut tokens = Vec::new();
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

fn within_budget(tokens: &[Token], value: &str) -> Result<(), ExpandError> {
    let steps = tokens.len().saturating_mul(value.len());
    if steps > MOST_STEPS {
        Err(ExpandError::TooLong)
    } else {
        Ok(())
    }
}

fn cut(found: Option<Ends>, longest: bool) -> usize {
    found.map_or(0, |ends| if longest { ends.longest } else { ends.shortest })
}

/// `${v#p}` and `${v##p}` (R-EXP-9).
pub(super) fn trim_prefix<'v>(
    value: &'v str,
    pattern: &str,
    longest: bool,
) -> Result<&'v str, ExpandError> {
    let tokens = tokens(pattern)?;
    within_budget(&tokens, value)?;
    Ok(&value[cut(ends(&tokens, value.chars()), longest)..])
}

/// `${v%p}` and `${v%%p}` (R-EXP-9).
pub(super) fn trim_suffix<'v>(
    value: &'v str,
    pattern: &str,
    longest: bool,
) -> Result<&'v str, ExpandError> {
    let mut tokens = tokens(pattern)?;
    tokens.reverse();
    within_budget(&tokens, value)?;
    Ok(&value[..value.len() - cut(ends(&tokens, value.chars().rev()), longest)])
}

/// `${v/p/r}` and `${v//p/r}`: leftmost, longest (R-EXP-9).
pub(super) fn replace(
    value: &str,
    pattern: &str,
    with: &str,
    all: bool,
) -> Result<String, ExpandError> {
    let tokens = tokens(pattern)?;
    within_budget(&tokens, value)?;
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
            super::limited(&mut result, with)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_matches_are_counted_as_go_does() {
        assert_eq!(replace("abc", "", "-", true).unwrap(), "-a-b-c-");
        assert_eq!(replace("abc", "*", "-", true).unwrap(), "-");
        assert_eq!(replace("abc", "", "-", false).unwrap(), "-abc");
    }

    #[test]
    fn only_some_escapes_are_allowed() {
        // R-EXP-10
        assert!(trim_prefix("x", "\\x", false).is_err());
        assert_eq!(trim_prefix("*x", "\\*", false).unwrap(), "x");
        assert_eq!(trim_suffix("a/b", "\\/b", true).unwrap(), "a");
    }
}
