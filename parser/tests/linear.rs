//! Reading takes linear time and memory, shown without a clock: twice the input allocates at most about twice as many bytes, in about
//! twice as many pieces, whatever a hostile author makes of it.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

use allocation_counter::measure;
use kiln_parser::{Escape, IgnoreFile, Source, Word, parse};

/// How often the smaller of two inputs repeats what makes it long.
const TIMES: usize = 2_000;

/// Growth of a doubled input that counts as linear: vectors double when they are full, and one of the two sizes may have just done it.
const MOST: f64 = 2.6;

/// Bytes and pieces that a piece of work allocates.
fn cost(work: impl Fn()) -> (f64, f64) {
    let info = measure(work);
    (info.bytes_total as f64, info.count_total as f64)
}

fn check(name: &str, work: impl Fn(usize)) {
    let (small, large) = (cost(|| work(TIMES)), cost(|| work(2 * TIMES)));
    let constant = 20_000.0;
    assert!(
        large.0 < MOST * small.0 + constant && large.1 < MOST * small.1 + 100.0,
        "{name}: from {small:?} to {large:?} bytes and pieces"
    );
}

fn check_text(name: &str, text: impl Fn(usize) -> String) {
    check(name, |times| {
        let _ = parse(&Source::new("Dockerfile", text(times)));
    });
}

#[test]
fn files_of_any_shape() {
    check_text("stages", |n| "FROM a\n".repeat(n));
    check_text("commands", |n| {
        format!("FROM a\n{}", "RUN echo x\n".repeat(n))
    });
    check_text("comments", |n| format!("{}FROM a\n", "# x\n".repeat(n)));
    check_text("continuations", |n| {
        format!("FROM a\nRUN {}", "x \\\n".repeat(n))
    });
    check_text("comments in a continuation", |n| {
        format!("FROM a\nRUN {}", "\\\n# c\n\n".repeat(n))
    });
    check_text("pairs", |n| format!("FROM a\nENV {}", "A=$B ".repeat(n)));
    check_text("labels", |n| {
        format!("FROM a\nLABEL {}", "a=\"b c\" ".repeat(n))
    });
    check_text("flags", |n| {
        format!("FROM a\nRUN {}x", "--mount=type=a ".repeat(n))
    });
    check_text("fields of a mount", |n| {
        format!("FROM a\nRUN --mount={} x", "id=a,".repeat(n))
    });
    check_text("triggers in triggers", |n| {
        format!("FROM a\n{} RUN x", "ONBUILD ".repeat(n))
    });
    check_text("strings", |n| {
        format!("FROM a\nCMD [{}\"z\"]", "\"a\",".repeat(n))
    });
    check_text("arrays in arrays", |n| {
        format!("FROM a\nRUN {}", "[".repeat(n))
    });
    check_text("heredocs without an end", |n| {
        format!("FROM a\nCOPY {} /x", "<<E ".repeat(n))
    });
    check_text("a heredoc", |n| {
        format!("FROM a\nRUN <<E\n{}E\n", "line\n".repeat(n))
    });
    check_text("many heredocs", |n| {
        format!("FROM a\n{}", "COPY <<E /x\nhi\nE\n".repeat(n))
    });
    check_text("errors", |n| format!("FROM a\n{}", "NOPE x\n".repeat(n)));
    check_text("quotes", |n| format!("FROM a\nUSER {}", "\"a'".repeat(n)));
}

#[test]
fn words_of_any_shape() {
    let expand = |name: &str, text: fn(usize) -> String| {
        check(name, |times| {
            let vars = vec![("A".to_owned(), "value".to_owned())];
            let word = Word::new(text(times), Escape::Backslash);
            let _ = word.expand(&vars);
            let _ = word.expand_words(&vars);
        });
    };
    expand("references", |n| "$A${A} ".repeat(n));
    expand("defaults", |n| "${B:-x}${A:+y}".repeat(n));
    expand("patterns", |n| "${A%l*}${A/a/b}".repeat(n));
    expand("quotes", |n| "\"a$A\"'b'".repeat(n));
    expand("nested braces", |n| "${A:-".repeat(n));
    expand("names", |n| (0..n).map(|i| format!("$N{i}")).collect());
}

#[test]
fn ignore_files_of_any_shape() {
    check("rules", |times| {
        let rules = IgnoreFile::parse(&"a/**/b*.[ch]\n!keep\n".repeat(times)).unwrap();
        assert!(!rules.ignores("x/y"));
    });
    check("a long pattern", |times| {
        let rules = IgnoreFile::parse(&"*a?".repeat(times)).unwrap();
        assert!(!rules.ignores("x/y"));
    });
    check("a deep path", |times| {
        let rules = IgnoreFile::parse("**/x\n!y\n").unwrap();
        assert!(!rules.ignores(&"d/".repeat(times)));
    });
}
