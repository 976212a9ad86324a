//! Any bytes are read without a panic, in time that grows as they do. Every place lies inside the text, on borders of characters. A tree
//! without errors, printed and read again, is printed the same and has no errors.

#![no_main]

use kiln_parser::print::print;
use kiln_parser::{Parsed, Source, Span, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let source = Source::from_bytes("Dockerfile", bytes);
    let parsed = parse(&source);
    for span in places(&parsed) {
        assert!(source.text().get(span.range()).is_some(), "{span:?}");
    }
    let _ = kiln_parser::dump::dump(&parsed, &source);
    let printed = print(&parsed.dockerfile);
    if !parsed.has_errors() {
        let again = parse(&Source::new("printed", printed.clone()));
        assert!(!again.has_errors(), "{printed}\n{:?}", again.diagnostics);
        assert_eq!(print(&again.dockerfile), printed);
    }
});

fn places(parsed: &Parsed) -> impl Iterator<Item = Span> + '_ {
    let stages = parsed.dockerfile.stages.iter();
    let statements = stages.flat_map(|stage| {
        let statements = stage.statements.iter();
        let inner = statements.flat_map(|statement| [statement.span, statement.keyword.span]);
        [stage.span, stage.from.image.span].into_iter().chain(inner)
    });
    let told = parsed.diagnostics.iter().filter_map(|told| told.span);
    statements.chain(told)
}
