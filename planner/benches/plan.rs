//! How long it takes from a Dockerfile's text to its plan: a small one, and one of the size of the largest that people keep.
//!
//! Each is parsed and planned again and again for a while; the best time counts, since all else is the machine's doing. The aim is
//! about a millisecond for the second. Run it with `cargo bench -p kiln-planner --bench plan`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use kiln_image::Platform;
use kiln_parser::{Source, parse};
use kiln_planner::{Bases, PlanOptions, plan};

/// How long each measurement goes on.
const WHILE: Duration = Duration::from_millis(500);

fn main() {
    measure("small", &stages(1));
    measure("large", &stages(12));
}

/// Stages that each copy from the one before, with long RUNs, variables and metadata: 82 lines and 26 steps a stage.
fn stages(count: usize) -> String {
    let mut text = "ARG VERSION=1.2.3\n".to_owned();
    for stage in 0..count {
        writeln!(text, "FROM scratch AS stage{stage}").unwrap();
        text.push_str(
            "ARG VERSION\nENV LANG=C.UTF-8 HOME=\"/home/user\" PATH=\"/opt/bin:${PATH}\"\n",
        );
        text.push_str(
            "LABEL org.opencontainers.image.version=\"${VERSION:-none}\"\nWORKDIR /srv/app\n",
        );
        if let Some(before) = stage.checked_sub(1) {
            writeln!(text, "COPY --from=stage{before} /out /in").unwrap();
        }
        for step in 0..12 {
            writeln!(
                text,
                "COPY --chown=1000:1000 part{step}/*.c /src/part{step}/"
            )
            .unwrap();
            writeln!(text, "RUN make -C /src/part{step} \\").unwrap();
            for package in 0..4 {
                writeln!(text, "    package-{package} \\").unwrap();
            }
            text.push_str("    install\n");
        }
        text.push_str("EXPOSE 8080\nUSER app\nCMD [\"serve\", \"--port\", \"8080\"]\n");
    }
    text
}

fn measure(name: &str, text: &str) {
    let options = PlanOptions::new(Platform::host());
    let best = best(|| {
        let source = Source::new("Dockerfile", black_box(text));
        let parsed = parse(&source);
        black_box(plan(&parsed, &options, &Bases::new()).unwrap());
    });
    let lines = text.lines().count();
    println!(
        "{name:8} {lines:6} lines  {:9.1} µs",
        best.as_secs_f64() * 1e6
    );
}

fn best(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < WHILE {
        let one = Instant::now();
        work();
        best = best.min(one.elapsed());
    }
    best
}
