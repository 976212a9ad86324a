//! Any word is expanded, or an error says why not, without a panic and within the limits of size and time, with either escape
//! character, as a text, as words, and as the body of a heredoc. What has no `$`, quote or escape stands for itself.

#![no_main]

use kiln_parser::{Escape, Heredoc, Span, Word};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let vars: Vec<(String, String)> = [
        ("V", "hello.world.txt"),
        ("E", ""),
        ("P", "/usr/local/bin"),
        ("N", "a b  c"),
        ("S", "a*b"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for escape in [Escape::Backslash, Escape::Backtick] {
        let word = Word::new(text, escape);
        let expanded = word.expand(&vars);
        let _ = word.expand_words(&vars);
        if !text.contains(['$', '"', '\'', escape.char()]) {
            assert_eq!(expanded.map(|expanded| expanded.text).as_deref(), Ok(text));
        }
    }
    let heredoc = Heredoc {
        name: "E".to_owned(),
        expand: true,
        chomp: true,
        fd: None,
        body: text.to_owned(),
        span: Span::default(),
    };
    let _ = heredoc.expand_body(&vars);
});
