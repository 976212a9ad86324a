//! Wildcards of ignore files, by way of a regular expression (R-IGN-8).
//!
//! A pattern is defined by the expression that it is translated to, one character after the other and without regard to brackets. So
//! `[*]` becomes `[[^/]*]`: any of `[`, `^` and `/`, any number of times, and a `]`. Only what the translation can give is read here.

use crate::pattern::{Class, Token, Wild};

/// The tokens of a pattern's wildcards. `head` tells whether nothing stands before them. `None` for a class that no regular expression
/// accepts.
pub(super) fn tokens(pattern: &str, head: bool) -> Option<Vec<Token>> {
    read(&translate(pattern), head)
}

/// The rows of R-IGN-8.
fn translate(pattern: &str) -> String {
    let mut regex = String::with_capacity(2 * pattern.len());
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            rest = after.strip_prefix('/').unwrap_or(after);
            regex.push_str(if rest.is_empty() { ".*" } else { DIRS });
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => regex.extend(['\\', first]),
            '\\' => {
                regex.push('\\');
                let mut after = rest.chars();
                regex.extend(after.next());
                rest = after.as_str();
            }
            other => regex.push(other),
        }
    }
    regex
}

/// Any directories, or none.
const DIRS: &str = "(.*/)?";

/// `regex = *( dirs | ".*" | class [ "*" ] | "\" any | "^" | any )`
fn read(regex: &str, mut head: bool) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = regex;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(DIRS) {
            tokens.extend([Token::MaybeDirs, Token::DirsEnd]);
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix(".*") {
            tokens.push(Token::Many(Wild::NotNewline));
            rest = after;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '[' => tokens.push(class(&mut rest)?),
            '\\' => tokens.push(Token::Char(take(&mut rest)?)),
            // The start of the path is here only if all before is empty.
            '^' if head && tokens.iter().all(may_be_empty) => tokens.clear(),
            '^' => tokens.push(Token::Class(Class::default())),
            other => tokens.push(Token::Char(other)),
        }
        head &= tokens.iter().all(may_be_empty);
    }
    Some(tokens)
}

fn may_be_empty(token: &Token) -> bool {
    match token {
        Token::Many(_) | Token::Repeat(_) | Token::MaybeDirs | Token::DirsEnd => true,
        Token::Char(_) | Token::One(_) | Token::Class(_) => false,
    }
}

fn take(rest: &mut &str) -> Option<char> {
    let character = rest.chars().next()?;
    *rest = &rest[character.len_utf8()..];
    Some(character)
}

fn take_if(rest: &mut &str, expected: &str) -> bool {
    let after = rest.strip_prefix(expected);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

/// `class = "[" [ "^" ] 1*( posix | range ) "]"` after its `[`, with the `*` that may follow. It may match a `/`; `!` is an ordinary
/// member, and so is a `]` that comes first.
fn class(rest: &mut &str) -> Option<Token> {
    let mut class = Class {
        negated: take_if(rest, "^"),
        ..Class::default()
    };
    while class.ranges.is_empty() || !take_if(rest, "]") {
        match posix(rest)? {
            Some(ranges) => class.ranges.extend(ranges),
            None => class.ranges.push(range(rest)?),
        }
    }
    let not_slash = class.negated && class.ranges == [('/', '/')];
    Some(match (take_if(rest, "*"), not_slash) {
        (true, true) => Token::Many(Wild::NotSlash),
        (false, true) => Token::One(Wild::NotSlash),
        (true, false) => Token::Repeat(class),
        (false, false) => Token::Class(class),
    })
}

/// `range = member [ "-" member ]`
fn range(rest: &mut &str) -> Option<(char, char)> {
    let low = member(rest)?;
    if !rest.starts_with('-') || rest.starts_with("-]") {
        return Some((low, low));
    }
    take(rest)?;
    let high = member(rest)?;
    (low <= high).then_some((low, high))
}

/// `member = "\" any | any`
fn member(rest: &mut &str) -> Option<char> {
    take_if(rest, "\\");
    take(rest)
}

/// `posix = "[:" [ "^" ] name ":]"`. `None` for a name that does not exist.
#[allow(clippy::option_option)]
fn posix(rest: &mut &str) -> Option<Option<Vec<(char, char)>>> {
    let inner = rest.strip_prefix("[:");
    let Some((name, after)) = inner.and_then(|inner| inner.split_once(":]")) else {
        return Some(None);
    };
    *rest = after;
    let ranges = match name.strip_prefix('^') {
        Some(name) => others(named(name)?),
        None => named(name)?.to_vec(),
    };
    Some(Some(ranges))
}

/// The classes of POSIX: ASCII only.
fn named(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

/// All characters that are in none of the ranges, which are ASCII.
fn others(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let is_in = |c: &char| ranges.iter().any(|(low, high)| (*low..=*high).contains(c));
    let ascii = ('\0'..='\x7f').filter(|c| !is_in(c)).map(|c| (c, c));
    ascii.chain([('\u{80}', char::MAX)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::matches;

    #[track_caller]
    fn on(pattern: &str, path: &str, expected: bool) {
        let tokens = tokens(pattern, true).expect("the pattern is right");
        assert_eq!(matches(&tokens, path), expected, "{pattern} on {path}");
    }

    #[test]
    fn the_table_is_followed_to_the_letter() {
        // R-IGN-8
        for (pattern, regex) in [
            ("a*b?", "a[^/]*b[^/]"),
            ("**/a", "(.*/)?a"),
            ("**a", "(.*/)?a"),
            ("*a/**", "[^/]*a/.*"),
            (".+()|{}$", "\\.\\+\\(\\)\\|\\{\\}\\$"),
            ("\\*\\a", "\\*\\a"),
            ("[!a-b]", "[!a-b]"),
            ("[*]", "[[^/]*]"),
        ] {
            assert_eq!(translate(pattern), regex);
        }
    }

    #[test]
    fn brackets_hold_what_the_translation_puts_there() {
        // R-IGN-8
        on("[*]", "]", true);
        on("[*]", "/^[]", true);
        on("[*]", "*", false);
        on("[?]", "/]", true);
        on("[?]", "?", false);
        on("[a**b]", "*", true);
        on("[a**b]", "?", true);
        on("[.]", ".", true);
        on("[.]", "\\", false);
        on("[a\\]]", "]", true);
        on("[+-9]", "5", true);
        on("[a]*", "axx", true);
        on("[?[]x]", "/]", true);
    }

    #[test]
    fn posix_classes_have_their_meaning() {
        // R-IGN-8: passed through as a regex class
        on("[[:alpha:]]", "b", true);
        on("[[:alpha:]]", ":", false);
        on("[[:alpha:]_]x", "_x", true);
        on("[[:^digit:]]", "é", true);
        on("[[:^digit:]]", "4", false);
        on("[^[:space:]]", " ", false);
        on("[[:alpha]", ":", true);
        assert!(tokens("[[:nope:]]", true).is_none());
    }

    #[test]
    fn a_caret_is_the_start_of_the_path() {
        // R-IGN-8: "other: itself"
        on("^a*", "ab", true);
        on("^a*", "^ab", false);
        on("**/^a?", "ab", true);
        on("**/^a?", "x/ab", false);
        on("a^*", "a^b", false);
        on("\\^a*", "^ab", true);
    }

    #[test]
    fn classes_that_mean_nothing_are_refused() {
        for pattern in ["[b-a]", "[a-*]", "[?[]"] {
            assert!(tokens(pattern, true).is_none(), "{pattern}");
        }
    }
}
