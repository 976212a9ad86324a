//! What went wrong without failing: a mirror that was passed over, what a registry wants its users to know.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::locked::locked;

/// Most warnings that are kept: a registry may think of a new one with each answer.
const MOST: usize = 100;

/// Warnings of a client, each told once.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    all: HashSet<String>,
    waiting: Vec<String>,
}

impl Warnings {
    pub(crate) fn add(&self, text: String) {
        let mut told = self.told();
        if told.all.len() < MOST && told.all.insert(text.clone()) {
            told.waiting.push(text);
        }
    }

    /// Those that nobody took yet.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told().waiting)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        locked(&self.0)
    }
}

/// The text of a `Warning` header as registries may send it to people (distribution specification, "Warnings"): `299 - "text"`.
pub(crate) fn text_of(header: &str) -> Option<String> {
    let quoted = header.trim().strip_prefix("299 - \"")?;
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(text),
            '\\' => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once() {
        let warnings = Warnings::default();
        for text in ["a", "b", "a"] {
            warnings.add(text.to_owned());
        }
        assert_eq!(warnings.take(), ["a", "b"]);
        warnings.add("b".to_owned());
        assert!(warnings.take().is_empty());
    }

    #[test]
    fn warnings_of_registries_are_read() {
        for (header, expected) in [
            ("299 - \"this goes away\"", Some("this goes away")),
            ("299 - \"a \\\"b\\\" c\" ", Some("a \"b\" c")),
            ("299 - \"open", None),
            ("299 x \"other agent\"", None),
            ("110 - \"stale\"", None),
        ] {
            assert_eq!(text_of(header).as_deref(), expected, "{header}");
        }
    }
}
