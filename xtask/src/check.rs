//! Formatting and lints; snapshots.

use std::process::ExitCode;

use anyhow::Result;

use crate::process::run as shown_run;
use crate::workspace::cargo;

/// What `.ci/run` checks before it tests.
pub(crate) fn run() -> Result<ExitCode> {
    shown_run(cargo().args(["fmt", "--all", "--check"]))?;
    shown_run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the tests with `KILN_BLESS=1`: those that compare with a file below `testdata` rewrite it instead.
pub(crate) fn bless() -> Result<ExitCode> {
    shown_run(
        cargo()
            .args(["test", "--workspace", "--quiet", "--no-fail-fast"])
            .env("KILN_BLESS", "1"),
    )?;
    shown_run(std::process::Command::new("git").args(["status", "--short", "testdata"]))?;
    Ok(ExitCode::SUCCESS)
}
