//! Any ignore file is read or refused without a panic. Its verdicts take time that grows with rules and path, have the rule that made
//! them, and never keep what a walk could not find. Go's patterns never panic either. The first line of the input is the path.

#![no_main]

use kiln_parser::{IgnoreFile, go_match};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (path, file) = text.split_once('\n').unwrap_or(("a/b.c", text));
    let _ = go_match::matches(file, path);
    let cleaned = go_match::clean(path);
    assert_eq!(go_match::clean(&cleaned), cleaned);
    let Ok(rules) = IgnoreFile::parse(file) else {
        return;
    };
    let verdict = rules.verdict(path);
    assert_eq!(verdict.ignored, rules.ignores(path));
    match verdict.rule {
        Some(rule) => assert_eq!(rule.exception, !verdict.ignored),
        None => assert!(!verdict.ignored),
    }
    let mut dir = path;
    while let Some(slash) = dir.rfind('/') {
        dir = &dir[..slash];
        let lost = rules.ignores(dir) && !rules.may_reinclude_below(dir) && !verdict.ignored;
        assert!(!lost, "{dir} hides {path}");
    }
});
