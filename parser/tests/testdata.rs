//! Runs the cases of `testdata/parse` and `testdata/words`: a folder, or a line, is a test.
//!
//! `KILN_BLESS=1 cargo test -p kiln-parser --test testdata` rewrites the expectations; what it changes is reviewed in the diff.

// Tests read the cases themselves; the rule is for the library.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod tree;

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_parser::dump::dump;
use kiln_parser::print::print;
use kiln_parser::{Diagnostic, Escape, IgnoreFile, Parsed, Severity, Source, Word, parse};
use tree::placeless;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(folder)
}

fn blessing() -> bool {
    std::env::var_os("KILN_BLESS").is_some()
}

/// Every folder below `folder`, by name.
fn cases(folder: &str) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(testdata(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "{folder} has no cases");
    cases
}

fn source_of(case: &Path) -> Source {
    let bytes = fs::read(case.join("Dockerfile"))
        .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    Source::from_bytes("Dockerfile", &bytes)
}

/// Compares, or rewrites; returns what differs.
fn compare(expected: &Path, actual: &str) -> Option<String> {
    if blessing() {
        fs::write(expected, actual).unwrap();
        return None;
    }
    let text = fs::read_to_string(expected).unwrap_or_default();
    (text != actual).then(|| {
        format!(
            "{}\n--- expected\n{text}--- actual\n{actual}",
            expected.display()
        )
    })
}

/// Fails on files that no test reads.
fn only_files(case: &Path, known: &[&str]) -> Option<String> {
    let names = fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stray: Vec<_> = names
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    (!stray.is_empty()).then(|| format!("{}: nobody reads {stray:?}", case.display()))
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} cases failed\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Diagnostics as plain lines: `error[code] line:column message`, then its notes and help.
fn plain(source: &Source, diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let severity = if diagnostic.severity == Severity::Error {
            "error"
        } else {
            "warning"
        };
        let place = diagnostic.span.map_or("-".to_owned(), |span| {
            let (start, end) = (source.line_col(span.start), source.line_col(span.end));
            let end = if start.0 == end.0 {
                end.1.to_string()
            } else {
                format!("{}:{}", end.0, end.1)
            };
            format!("{}:{}-{end}", start.0, start.1)
        });
        writeln!(
            text,
            "{severity}[{}] {place} {}",
            diagnostic.code, diagnostic.message
        )
        .unwrap();
        for note in &diagnostic.notes {
            writeln!(text, "note: {note}").unwrap();
        }
        for help in &diagnostic.help {
            writeln!(text, "help: {help}").unwrap();
        }
    }
    text
}

/// Prints a tree and reads it again; returns what is not the same.
fn print_differs(parsed: &Parsed, source: &Source) -> Option<String> {
    let printed = Source::new("printed", print(&parsed.dockerfile));
    let again = parse(&printed);
    let (before, after) = (placeless(parsed, source), placeless(&again, &printed));
    (before != after).then(|| {
        format!(
            "{}\n--- became\n{}\n--- tree\n{before}\n--- became\n{after}\n{:?}",
            source.text(),
            printed.text(),
            again.diagnostics
        )
    })
}

#[test]
fn good_files_give_the_expected_tree() {
    let mut failures = Vec::new();
    for case in cases("parse/ok") {
        let source = source_of(&case);
        let parsed = parse(&source);
        if parsed.has_errors() {
            failures.push(format!(
                "{}\n{}",
                case.display(),
                plain(&source, &parsed.diagnostics)
            ));
            continue;
        }
        failures.extend(print_differs(&parsed, &source));
        let mut actual = dump(&parsed, &source);
        actual.push_str(&plain(&source, &parsed.diagnostics));
        failures.extend(compare(&case.join("expected.ast"), &actual));
        failures.extend(only_files(&case, &["Dockerfile", "expected.ast"]));
    }
    report(&failures);
}

#[test]
fn wrong_files_give_the_expected_diagnostics() {
    let mut failures = Vec::new();
    for case in cases("parse/err") {
        let source = source_of(&case);
        let parsed = parse(&source);
        if !parsed.has_errors() {
            failures.push(format!("{}: no error", case.display()));
        }
        failures.extend(compare(
            &case.join("expected.stderr"),
            &plain(&source, &parsed.diagnostics),
        ));
        failures.extend(only_files(&case, &["Dockerfile", "expected.stderr"]));
    }
    report(&failures);
}

/// The signs that stand for characters one can't see, or that would end a line.
const SIGNS: [(char, &str); 6] = [
    ('␣', " "),
    ('⇥', "\t"),
    ('␍', "\r"),
    ('⏎', "\n"),
    ('⍽', "\u{a0}"),
    ('⌖', "\u{feff}"),
];

/// Puts the characters in the place of their signs.
fn seen(text: &str) -> String {
    SIGNS
        .iter()
        .fold(text.to_owned(), |text, (sign, character)| {
            text.replace(*sign, character)
        })
}

/// Runs the cases of `parse/<name>.txt`: `=== title`, a Dockerfile, `---`, what `actual` is to say of it.
fn small_files(name: &str, actual: impl Fn(&Source) -> String) {
    let path = testdata("parse").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (head, cases) = text.split_once("\n=== ").unwrap();
    let (mut failures, mut blessed) = (Vec::new(), format!("{head}\n"));
    let mut titles = std::collections::HashSet::new();
    for case in cases.split("\n=== ") {
        let (title, rest) = case.split_once('\n').unwrap();
        let (file, expected) = rest
            .rsplit_once("---\n")
            .or_else(|| rest.rsplit_once("---"))
            .unwrap_or_else(|| panic!("{title}: no `---`"));
        assert!(titles.insert(title), "{title}: twice");
        let actual = actual(&Source::new("Dockerfile", seen(file)));
        let (actual, expected) = (actual.trim_end(), expected.trim_end());
        if actual != expected {
            failures.push(format!(
                "{name}: {title}\n--- expected\n{expected}\n--- actual\n{actual}"
            ));
        }
        writeln!(blessed, "=== {title}\n{file}---\n{actual}\n").unwrap();
    }
    if blessing() {
        fs::write(path, format!("{}\n", blessed.trim_end())).unwrap();
    } else {
        report(&failures);
    }
}

#[test]
fn odd_but_right_files_are_read() {
    small_files("accept.txt", |source| {
        let parsed = parse(source);
        let tree = if parsed.has_errors() {
            String::new()
        } else {
            assert_eq!(print_differs(&parsed, source), None);
            placeless(&parsed, source)
        };
        tree + &plain(source, &parsed.diagnostics)
    });
}

#[test]
fn wrong_files_are_refused() {
    small_files("reject.txt", |source| {
        let mut errors = parse(source).diagnostics;
        errors.retain(Diagnostic::is_error);
        plain(source, &errors)
    });
}

/// Takes a cell of `words/*.txt` apart: blanks are written as in the specification, `␣` and `⇥`.
fn cell(text: &str) -> String {
    seen(text.trim())
}

/// `NAME=value` lines at the head set variables, `escape` lines the escape character; other lines are `input | expected`, or
/// `words: input | a | b`.
#[test]
fn words_expand_as_the_table_says() {
    let text = fs::read_to_string(testdata("words/expand.txt")).unwrap();
    let mut vars: HashMap<String, String> = HashMap::new();
    let mut escape = Escape::Backslash;
    let mut failures = Vec::new();
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(setting) = line.strip_prefix("let ") {
            let (name, value) = setting.split_once('=').unwrap();
            vars.insert(name.to_owned(), cell(value));
            continue;
        }
        if let Some(character) = line.strip_prefix("escape ") {
            escape = if character == "`" {
                Escape::Backtick
            } else {
                Escape::Backslash
            };
            continue;
        }
        count += 1;
        let (input, expected) = line
            .split_once(" |")
            .unwrap_or_else(|| panic!("line {}: no ` |`", index + 1));
        let (actual, expected) = match input.strip_prefix("words: ") {
            Some(input) => {
                let words = Word::new(cell(input), escape).expand_words(&vars);
                let expected: Vec<String> = expected
                    .split(" | ")
                    .map(cell)
                    .filter(|word| !word.is_empty())
                    .collect();
                (format!("{words:?}"), format!("Ok({expected:?})"))
            }
            None => match Word::new(cell(input), escape).expand(&vars) {
                Ok(expanded) => (expanded.text, cell(expected)),
                Err(error) => (format!("error: {error}"), cell(expected)),
            },
        };
        if actual != expected {
            failures.push(format!(
                "words/expand.txt:{}: `{input}` gives `{actual}`, not `{expected}`",
                index + 1
            ));
        }
    }
    assert!(count > 50, "the table of section 2 is in the file");
    report(&failures);
}

/// The context of `ignore/verdicts.txt`.
const CONTEXT: &str = "a.txt b.md d/a.txt d/b.md d/e/a.txt d/e/f/g.txt foo foobar k/foo x.log .git/c .dockerignore [x] ^y !z";

#[test]
fn ignore_files_remove_what_the_table_says() {
    let text = fs::read_to_string(testdata("ignore/verdicts.txt")).unwrap();
    let mut failures = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // A comment has no ` | `.
        let Some((file, expected)) = line.rsplit_once(" | ") else {
            continue;
        };
        let removed = match IgnoreFile::parse(&seen(file).replace(';', "\n")) {
            Err(_) => "error".to_owned(),
            Ok(rules) => {
                let removed: Vec<&str> = CONTEXT
                    .split(' ')
                    .filter(|path| rules.ignores(path))
                    .collect();
                if removed.is_empty() {
                    "none".to_owned()
                } else {
                    removed.join(" ")
                }
            }
        };
        if removed != expected {
            failures.push(format!(
                "ignore/verdicts.txt:{}: `{file}` removes {removed}, not {expected}",
                index + 1
            ));
        }
    }
    report(&failures);
}
