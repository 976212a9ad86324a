//! A tree as text to compare with: where things stand does not matter.

use kiln_parser::dump::dump;
use kiln_parser::{Parsed, Source};

/// The tree without its places.
pub(crate) fn placeless(parsed: &Parsed, source: &Source) -> String {
    let dump = dump(parsed, source);
    let lines = dump.lines().map(|line| {
        let text = line.trim_start();
        let words: Vec<&str> = text.split(' ').filter(|word| !is_place(word)).collect();
        let words = words.join(" ");
        let words = words.strip_suffix(" at").unwrap_or(&words);
        format!("{}{words}\n", &line[..line.len() - text.len()])
    });
    lines.collect()
}

/// `2:5-2:9`
fn is_place(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.contains(':')
        && word.contains('-')
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || c == ':' || c == '-')
}
