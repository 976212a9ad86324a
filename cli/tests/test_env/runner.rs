//! A build of three steps in two stages, as several machines do it that share a cache.

use super::{Outcome, TestEnv};

pub const FILES: [(&str, &str); 3] = [
    (
        "Dockerfile",
        "FROM scratch AS tools\nCOPY tool /\nFROM scratch\nCOPY --from=tools /tool /bin/\nCOPY app /\n",
    ),
    ("tool", "a tool"),
    ("app", "an app"),
];

/// A machine of its own with the same checkout.
pub fn runner() -> TestEnv {
    TestEnv::with_files(&FILES)
}

pub fn built(env: &TestEnv, flags: &[&str]) -> Outcome {
    env.kiln(&[&["build", "--progress=plain", "-t", "x"], flags, &["."]].concat())
}

pub fn build(env: &TestEnv, flags: &[&str]) -> Outcome {
    built(env, flags).succeeds()
}

/// How many steps were not done again.
pub fn cached(outcome: &Outcome) -> usize {
    outcome.stderr.matches(" CACHED\n").count()
}
