//! `.dockerignore` (R-IGN): patterns, and the verdict on a path.
//!
//! The pattern language is neither gitignore's nor the shell's; the table of R-IGN-8 is followed to the letter, including its
//! suffix and prefix tests. Fixed patterns are compared as strings; others go through the matcher of [`crate::pattern`].

mod regex;

use crate::go_match::{clean, validate};
use crate::pattern::{self, Token};

/// An ignore file's rules.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
    matchers: Vec<Matcher>,
    exceptions: bool,
}

/// One pattern and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its line, from 1.
    pub line: usize,
    /// As written, outer blanks removed.
    pub pattern: String,
    /// `!pattern`: keeps what it matches.
    pub exception: bool,
}

/// What the rules say about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is left out of the context.
    pub ignored: bool,
    /// The rule that decided; `None` when none matched.
    pub rule: Option<Rule>,
}

/// A pattern that can't be used (R-IGN-4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` with nothing after it.
    #[error("line {line}: `!` without a pattern")]
    EmptyException {
        /// The line, from 1.
        line: usize,
    },
    /// An unterminated `[` or a trailing `\`.
    #[error("line {line}: syntax error in pattern `{pattern}`")]
    BadPattern {
        /// The line, from 1.
        line: usize,
        /// As written.
        pattern: String,
    },
}

impl IgnoreError {
    /// The line the pattern stands on, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        match self {
            IgnoreError::EmptyException { line } | IgnoreError::BadPattern { line, .. } => *line,
        }
    }
}

impl IgnoreFile {
    /// Reads an ignore file (R-IGN-3).
    pub fn parse(text: &str) -> Result<IgnoreFile, IgnoreError> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'));
        IgnoreFile::from_lines(lines.map(|(index, line)| (index + 1, line)), rooted)
    }

    /// Rules from patterns one by one, as `COPY --exclude` gives them: there a leading `/` never
    /// matches (R-COPY-32). Line numbers are positions from 1.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<IgnoreFile, IgnoreError> {
        let lines = patterns.into_iter().enumerate();
        IgnoreFile::from_lines(lines.map(|(index, pattern)| (index + 1, pattern)), clean)
    }

    fn from_lines<'a>(
        lines: impl Iterator<Item = (usize, &'a str)>,
        cleaned: impl Fn(&str) -> String,
    ) -> Result<IgnoreFile, IgnoreError> {
        let mut file = IgnoreFile::default();
        for (line, text) in lines {
            let written = text.trim();
            if written.is_empty() {
                continue;
            }
            let exception = written.starts_with('!');
            let pattern = written.strip_prefix('!').map_or(written, str::trim);
            // `!/` comes to the same as `!`.
            if pattern.is_empty() || (exception && cleaned(pattern) == "/") {
                return Err(IgnoreError::EmptyException { line });
            }
            let bad = || IgnoreError::BadPattern {
                line,
                pattern: written.to_owned(),
            };
            file.matchers
                .push(Matcher::new(&cleaned(pattern)).ok_or_else(bad)?);
            file.exceptions |= exception;
            file.rules.push(Rule {
                line,
                pattern: written.to_owned(),
                exception,
            });
        }
        Ok(file)
    }

    /// What the rules say about a slash-separated path relative to the context root, its parents included (R-IGN-6).
    ///
    /// The context is walked from its root: an exception counts for a directory, and so for what is below it, only if the rules before
    /// it had left the directory out. `d/*.log` and then `!d` keeps no log.
    #[must_use]
    pub fn verdict(&self, path: &str) -> Verdict {
        let decided = self.last_match(path);
        Verdict {
            ignored: self.is_ignored_by(decided),
            rule: decided.map(|index| self.rules[index].clone()),
        }
    }

    /// Whether the rules leave a path out: [`verdict`](IgnoreFile::verdict) without the reason.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.is_ignored_by(self.last_match(path))
    }

    /// Whether there is any `!` rule.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether something below an ignored directory might be kept, so that a walk has to go into it. Errs towards `true`.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let exceptions = self
            .matchers
            .iter()
            .zip(&self.rules)
            .filter(|(_, rule)| rule.exception);
        exceptions
            .into_iter()
            .any(|(matcher, _)| matcher.may_match_below(dir))
    }

    /// The rules in file order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that decides: the last that matches. Without exceptions the search may run backwards.
    fn last_match(&self, path: &str) -> Option<usize> {
        if self.has_exceptions() {
            return self.walk(path);
        }
        self.matchers
            .iter()
            .rposition(|matcher| with_parents(path).any(|path| matcher.matches(path)))
    }

    /// The same as a walk down to the path finds it.
    fn walk(&self, path: &str) -> Option<usize> {
        let mut matched = vec![false; self.rules.len()];
        let mut decided = None;
        let ends = path.match_indices('/').map(|(slash, _)| slash);
        for end in ends.chain([path.len()]) {
            decided = None;
            let mut ignored = false;
            for (index, rule) in self.rules.iter().enumerate() {
                // What would change nothing is not looked at.
                let tell = rule.exception == ignored;
                matched[index] |= tell && self.matchers[index].matches(&path[..end]);
                if matched[index] {
                    ignored = !rule.exception;
                    decided = Some(index);
                }
            }
        }
        decided
    }

    fn is_ignored_by(&self, rule: Option<usize>) -> bool {
        rule.is_some_and(|index| !self.rules[index].exception)
    }
}

/// A path and each directory above it, the path first.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        path.rfind('/').map(|slash| &path[..slash])
    })
}

/// A pattern cleaned, and taken relative to the context root (R-IGN-3).
fn rooted(pattern: &str) -> String {
    let cleaned = clean(pattern);
    match cleaned.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative.to_owned(),
        _ => cleaned,
    }
}

/// A pattern made ready (R-IGN-8).
#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    Prefix(String),
    /// Ends with the text; or, when the text begins with `/`, is the rest of it.
    Suffix(String),
    /// The fixed text before the first wildcard, the rest, and the fixed text that the rest ends in:
    /// most paths are told apart by the two texts alone.
    Wildcards {
        prefix: String,
        tokens: Vec<Token>,
        ending: String,
    },
}

impl Matcher {
    /// `None` when the pattern is malformed (R-IGN-4).
    fn new(pattern: &str) -> Option<Matcher> {
        validate(pattern).ok()?;
        let fixed = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if fixed(pattern) {
            return Some(Matcher::Exact(pattern.to_owned()));
        }
        if let Some(suffix) = pattern.strip_prefix("**").filter(|suffix| fixed(suffix)) {
            return Some(Matcher::Suffix(suffix.to_owned()));
        }
        if let Some(prefix) = pattern.strip_suffix("**").filter(|prefix| fixed(prefix)) {
            return Some(Matcher::Prefix(prefix.to_owned()));
        }
        let literal = pattern
            .find(['*', '?', '[', ']', '\\', '^'])
            .unwrap_or(pattern.len());
        let tokens = regex::tokens(&pattern[literal..], literal == 0)?;
        let (prefix, ending) = (pattern[..literal].to_owned(), ending(&tokens));
        Some(Matcher::Wildcards {
            prefix,
            tokens,
            ending,
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(text) => path.starts_with(text),
            Matcher::Suffix(text) => path.ends_with(text) || text.strip_prefix('/') == Some(path),
            Matcher::Wildcards {
                prefix,
                tokens,
                ending,
            } => path
                .strip_prefix(prefix.as_str())
                .filter(|rest| rest.ends_with(ending.as_str()))
                .is_some_and(|rest| pattern::matches(tokens, rest)),
        }
    }

    /// Whether some path below a directory, the directory itself or one above it may match.
    fn may_match_below(&self, dir: &str) -> bool {
        match self {
            Matcher::Suffix(_) => true,
            Matcher::Exact(text) => is_below(text, dir) || is_below(dir, text) || text == dir,
            Matcher::Prefix(prefix) | Matcher::Wildcards { prefix, .. } => {
                let below = format!("{dir}/");
                below.starts_with(prefix.as_str()) || prefix.starts_with(&below)
            }
        }
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The characters at the end that stand for themselves.
fn ending(tokens: &[Token]) -> String {
    let fixed = tokens.iter().rev().map_while(|token| match token {
        Token::Char(character) => Some(*character),
        _ => None,
    });
    let reversed: Vec<char> = fixed.collect();
    reversed.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: [&str; 12] = [
        "a.txt",
        "b.md",
        "d/a.txt",
        "d/b.md",
        "d/e/a.txt",
        "d/e/f/g.txt",
        "foo",
        "foobar",
        "k/foo",
        "x.log",
        ".git/c",
        ".dockerignore",
    ];

    fn removed(file: &str) -> Vec<&'static str> {
        let rules = IgnoreFile::parse(&file.replace(';', "\n")).unwrap();
        CONTEXT
            .into_iter()
            .filter(|path| rules.verdict(path).ignored)
            .collect()
    }

    #[test]
    fn the_vectors_of_section_4() {
        let below_d = ["d/a.txt", "d/b.md", "d/e/a.txt", "d/e/f/g.txt"];
        assert_eq!(removed("*.txt"), ["a.txt"]);
        assert_eq!(
            removed("**/*.txt"),
            ["a.txt", "d/a.txt", "d/e/a.txt", "d/e/f/g.txt"]
        );
        for pattern in ["d", "d/", "/d", "./d", "d/*", "d/**"] {
            assert_eq!(removed(pattern), below_d, "{pattern}"); // R-IGN-10
        }
        assert_eq!(removed("*/a.txt"), ["d/a.txt"]);
        assert_eq!(removed("foo*"), ["foo", "foobar"]);
        assert_eq!(removed("**/foo"), ["foo", "k/foo"]);
        assert_eq!(removed("**foo"), ["foo", "k/foo"]);
        assert_eq!(removed("[a-b].*"), ["a.txt", "b.md"]);
        assert_eq!(removed("[!a].txt"), ["a.txt"]);
        assert_eq!(removed("[^a].txt"), [""; 0]);
        assert_eq!(
            removed("d/**/*.txt"),
            ["d/a.txt", "d/e/a.txt", "d/e/f/g.txt"]
        );
        assert_eq!(removed("**/e/**"), ["d/e/a.txt", "d/e/f/g.txt"]);
        assert_eq!(removed("d/../a.txt"), ["a.txt"]);
        assert_eq!(removed(".*"), [".git/c", ".dockerignore"]);
        assert_eq!(removed("*;!d/e/a.txt").len(), CONTEXT.len() - 1);
        assert_eq!(removed("d;!d/e"), ["d/a.txt", "d/b.md"]);
        assert_eq!(removed("d/e;!d/**/g.txt"), ["d/e/a.txt"]);
        assert_eq!(removed("!a.txt;*.txt"), ["a.txt"]);
        assert_eq!(removed("*.txt;!a.txt"), [""; 0]);
        for pattern in ["/", ".", "..", "../a.txt"] {
            assert_eq!(removed(pattern), [""; 0], "{pattern}"); // R-IGN-4
        }
    }

    #[test]
    fn lines_are_read_as_r_ign_3_says() {
        assert_eq!(removed("\u{FEFF}a.txt"), ["a.txt"]);
        assert_eq!(removed("#a.txt; a.txt \r"), ["a.txt"]);
        assert_eq!(removed(" #x;a.txt # not a comment"), [""; 0]);
        assert_eq!(removed("*.txt;! /a.txt"), [""; 0]);
        assert_eq!(
            IgnoreFile::parse("a\n !\n").unwrap_err(),
            IgnoreError::EmptyException { line: 2 }
        );
        for bad in ["[a", "a\\", "x[b-a]"] {
            assert!(
                matches!(
                    IgnoreFile::parse(bad),
                    Err(IgnoreError::BadPattern { line: 1, .. })
                ),
                "{bad}"
            );
        }
    }

    #[track_caller]
    fn alone(pattern: &str, path: &str, expected: bool) {
        assert_eq!(
            Matcher::new(&rooted(pattern)).unwrap().matches(path),
            expected,
            "{pattern} on {path}"
        );
    }

    #[test]
    fn the_consequences_of_the_table() {
        // R-IGN-9
        alone("**foo", "afoo", true);
        alone("**fo?", "afoo", false);
        alone("**fo?", "x/foo", true);
        alone("d/**", "d", false);
        alone("d/**", "d/x/y", true);
        alone("a**b", "ab", true);
        alone("a**b", "ax/b", true);
        alone("a**b", "axb", false);
        alone("**", "x/y", true);
        alone("**/**/x", "a/b/x", true);
        alone("a.c", "abc", false);
        alone("{a,b}", "a", false);
        alone("{a,b}", "{a,b}", true);
        alone("a\\*", "a*", true);
        alone("A", "a", false); // R-IGN-5
        alone("d?/**", "dx/y", true);
        alone("d?/**", "dx", false);
    }

    #[test]
    fn exclude_patterns_are_not_rooted() {
        // R-COPY-32
        let rules = |pattern| IgnoreFile::from_patterns([pattern]).unwrap();
        assert!(rules("./a.txt").ignores("a.txt"));
        assert!(rules("#a").ignores("#a"));
        assert!(!rules("/a.txt").ignores("a.txt"));
        assert!(IgnoreFile::from_patterns(["a", "["]).is_err());
    }

    #[test]
    fn the_deciding_rule_is_told() {
        let rules = IgnoreFile::parse("# head\nd\n!d/e\nd/e/f\n").unwrap();
        let rule = rules.verdict("d/e/f/g.txt").rule.unwrap();
        assert_eq!(
            (rule.line, rule.pattern.as_str(), rule.exception),
            (4, "d/e/f", false)
        );
        assert!(rules.verdict("a.txt").rule.is_none());
        assert!(rules.has_exceptions());
    }

    #[test]
    fn walks_go_where_something_may_be_kept() {
        let rules = IgnoreFile::parse("*\n!d/e/*.txt\n!k\n").unwrap();
        for (dir, expected) in [
            ("d", true),
            ("d/e", true),
            ("d/x", false),
            ("k", true),
            ("k/deep", true),
            ("x", false),
            ("d/e/f", true),
        ] {
            assert_eq!(rules.may_reinclude_below(dir), expected, "{dir}");
        }
        assert!(
            IgnoreFile::parse("*\n!**/x")
                .unwrap()
                .may_reinclude_below("anything")
        );
    }

    /// R-IGN-8 read once more, as plainly as can be: for patterns without brackets.
    fn plainly(pattern: &str, path: &str) -> bool {
        let special = |text: &str| text.contains(['*', '?', '\\']);
        match pattern.strip_prefix("**") {
            Some(rest) if !special(rest) => {
                return path.ends_with(rest) || rest.strip_prefix('/') == Some(path);
            }
            _ => {}
        }
        match pattern.strip_suffix("**") {
            Some(start) if !special(start) => path.starts_with(start),
            _ => {
                let (pattern, path): (Vec<char>, Vec<char>) =
                    (pattern.chars().collect(), path.chars().collect());
                try_all(&pattern, &path)
            }
        }
    }

    fn try_all(pattern: &[char], path: &[char]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ['*', '*'] => true,
            ['*', '*', '/', rest @ ..] | ['*', '*', rest @ ..] => {
                let ends = (0..path.len()).filter(|at| path[*at] == '/');
                try_all(rest, path) || { ends }.any(|at| try_all(rest, &path[at + 1..]))
            }
            ['*', rest @ ..] => {
                let longest = path.iter().take_while(|c| **c != '/').count();
                (0..=longest).any(|length| try_all(rest, &path[length..]))
            }
            ['?', rest @ ..] => path
                .split_first()
                .is_some_and(|(first, path)| *first != '/' && try_all(rest, path)),
            ['\\', first, rest @ ..] | [first, rest @ ..] => {
                path.first() == Some(first) && try_all(rest, &path[1..])
            }
        }
    }

    /// Whether a path is ignored, and by which lines it or a directory above it was matched: a line is only asked where it would change
    /// what the lines before it say (R-IGN-6).
    fn plain_verdict(lines: &[(bool, String)], path: &str) -> (bool, Vec<bool>) {
        let mut matched = match path.rsplit_once('/') {
            Some((parent, _)) => plain_verdict(lines, parent).1,
            None => vec![false; lines.len()],
        };
        let mut ignored = false;
        for ((exception, pattern), matched) in lines.iter().zip(&mut matched) {
            *matched |= *exception == ignored && plainly(pattern, path);
            if *matched {
                ignored = !exception;
            }
        }
        (ignored, matched)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_reading(
            lines in prop::collection::vec((any::<bool>(), "(\\*\\*/?|[ab.*?]|\\\\[ab*?]){1,6}(/[ab*?]{1,3}){0,2}"), 0..5),
            path in "[ab.*]{1,3}(/[ab.]{1,2}){0,3}",
        ) {
            // R-IGN-3: what is not clean is another pattern once it is.
            let lines: Vec<(bool, String)> = lines
                .into_iter()
                .map(|(exception, pattern)| (exception, rooted(&pattern)))
                .collect();
            let file: String = lines
                .iter()
                .map(|(exception, pattern)| format!("{}{pattern}\n", if *exception { "!" } else { "" }))
                .collect();
            let rules = IgnoreFile::parse(&file).unwrap();
            prop_assert_eq!(rules.ignores(&path), plain_verdict(&lines, &path).0, "{}", file);
        }

        #[test]
        fn any_file_has_verdicts(file in "\\PC{0,30}(\n\\PC{0,20}){0,3}", path in "\\PC{0,20}") {
            if let Ok(rules) = IgnoreFile::parse(&file) {
                prop_assert_eq!(rules.verdict(&path).ignored, rules.ignores(&path));
                let _ = rules.may_reinclude_below(&path);
            }
        }

        #[test]
        fn never_panics_and_never_misses(patterns in "([!*?a/\\[\\]^.\\\\-]{0,6}\n){0,4}", path in "[a.]{1,2}(/[a.]{1,2}){0,3}") {
            if let Ok(rules) = IgnoreFile::parse(&patterns) {
                let kept = !rules.verdict(&path).ignored;
                for parent in with_parents(&path).skip(1) {
                    // R-IGN-7: what is kept below an ignored directory can be found by a walk.
                    let hidden = rules.verdict(parent).ignored && !rules.may_reinclude_below(parent);
                    prop_assert!(!(kept && hidden), "{} hides {}", parent, path);
                }
            }
        }
    }
}
