//! Planning takes linear time and memory, shown without a clock: twice the Dockerfile allocates at most about twice as many bytes, in
//! about twice as many pieces.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use allocation_counter::measure;
use kiln_parser::{Source, parse};
use kiln_planner::{Bases, plan};
use support::options;

/// How often the smaller of two files repeats what makes it long.
const TIMES: usize = 500;

/// Growth of a doubled file that counts as linear: vectors double when they are full, and one of the two sizes may have just done it.
const MOST: f64 = 2.6;

fn cost(text: &str) -> (f64, f64) {
    let parsed = parse(&Source::new("Dockerfile", text));
    let info = measure(|| {
        let _ = plan(&parsed, &options(), &Bases::new());
    });
    (info.bytes_total as f64, info.count_total as f64)
}

fn check(name: &str, text: impl Fn(usize) -> String) {
    let (small, large) = (cost(&text(TIMES)), cost(&text(2 * TIMES)));
    assert!(
        large.0 < MOST * small.0 + 50_000.0 && large.1 < MOST * small.1 + 500.0,
        "{name}: from {small:?} to {large:?} bytes and pieces"
    );
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn files_of_any_shape() {
    check("commands", |n| {
        format!("FROM scratch\n{}", "RUN x\n".repeat(n))
    });
    check("copies", |n| {
        format!("FROM scratch\n{}", "COPY a b c/\n".repeat(n))
    });
    check("directories", |n| {
        format!("FROM scratch\n{}", "WORKDIR /a\n".repeat(n))
    });
    check("variables", |n| {
        format!(
            "FROM scratch\n{}",
            lines(n, |i| format!("ENV N{i}=$N{}\n", i.wrapping_sub(1)))
        )
    });
    // R-RT-1: each RUN has the variables from before it, and none has a copy of its own.
    check("variables and commands", |n| {
        format!(
            "FROM scratch\n{}",
            lines(n, |i| format!("ENV N{i}=a\nRUN x\n"))
        )
    });
    check("labels", |n| {
        format!(
            "FROM scratch\n{}",
            lines(n, |i| format!("LABEL l{i}=$PATH\n"))
        )
    });
    check("ports", |n| {
        format!("FROM scratch\nEXPOSE {}\n", lines(n, |i| format!("{i} ")))
    });
    check("stages one on another", |n| {
        format!(
            "FROM scratch AS s0\n{}",
            lines(n, |i| format!("FROM s{i} AS s{}\nRUN x\n", i + 1))
        )
    });
    check("stages that read the one before", |n| {
        let stage = |i| format!("FROM scratch AS s{}\nCOPY --from=s{i} a b\n", i + 1);
        format!("FROM scratch AS s0\nRUN x\n{}", lines(n, stage))
    });
    check("mounts", |n| {
        format!(
            "FROM scratch\n{}",
            "RUN --mount=type=cache,target=/c --mount=target=/x y\n".repeat(n)
        )
    });
}
