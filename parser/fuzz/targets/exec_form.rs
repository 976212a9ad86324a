//! Any text after CMD and COPY is an exec form, an error, or a shell form, without a panic. What is an array of strings is the same
//! array once printed and read again.

#![no_main]

use kiln_parser::print::print;
use kiln_parser::{Source, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if text.contains(['\n', '\r']) {
        return;
    }
    for keyword in ["CMD", "VOLUME", "SHELL", "HEALTHCHECK CMD"] {
        let source = Source::new("Dockerfile", format!("FROM a\n{keyword} [{text}]\n"));
        let parsed = parse(&source);
        if parsed.has_errors() {
            continue;
        }
        let printed = print(&parsed.dockerfile);
        let again = parse(&Source::new("printed", printed.clone()));
        assert!(!again.has_errors(), "{printed}");
        assert_eq!(print(&again.dockerfile), printed);
    }
});
