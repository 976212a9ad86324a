//! A fleet of CI runners that share a cache in one registry, and no server of ours: each runner is a store of its own, commits
//! are built by the runners in turn. What is told is how many steps were cached and what went over the wire, with and without
//! the shared cache, as the fleet grows.
//!
//! The project has three components that change at different paces: dependencies seldom, libraries now and then, the
//! application in every commit. A runner that sits idle for a while has an old store; with the cache it needn't have one at all.

mod proxy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::proxy::Proxy;
use crate::process::run as shown_run;
use crate::registry::Registry;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask fleet` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of runners to try, with commas between them
    #[arg(long, default_value = "1,2,4,8,16", value_delimiter = ',')]
    runners: Vec<usize>,
    /// Commits that are built
    #[arg(long, default_value_t = 32)]
    commits: usize,
    /// A kiln that is built already, instead of a release build of this checkout
    #[arg(long, value_name = "PROGRAM")]
    kiln: Option<PathBuf>,
}

/// A component: its file, its size in bytes, and that every so many commits it changes.
const COMPONENTS: [(&str, usize, usize); 3] = [
    ("dependencies", 8 << 20, 16),
    ("libraries", 2 << 20, 4),
    ("application", 256 << 10, 1),
];

const DOCKERFILE: &str = "\
FROM scratch AS dependencies
COPY dependencies /vendor/
WORKDIR /vendor/ready
FROM dependencies AS libraries
COPY libraries /lib/
WORKDIR /lib/ready
FROM scratch
COPY --from=libraries /vendor/dependencies /opt/
COPY --from=libraries /lib/libraries /opt/
COPY application /opt/
";
/// Steps of it that can be cached.
const STEPS: usize = 7;

/// What a fleet did.
#[derive(Debug, Default)]
struct Sum {
    cached: usize,
    steps: usize,
    sent: u64,
    received: u64,
    longest: Duration,
    total: Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("fleet");
    let kiln = match &args.kiln {
        Some(kiln) => kiln.clone(),
        None => {
            shown_run(cargo().args(["build", "--release", "--package", "kiln"]))?;
            workspace.target.join("release/kiln")
        }
    };
    println!("{} commits of a project of {STEPS} steps\n", args.commits);
    println!("runners  cache   cached  sent      received  a build  longest");
    for runners in &args.runners {
        for shared in [false, true] {
            let sum = fleet(&kiln, &folder, *runners, args.commits, shared)?;
            print_row(*runners, shared, args.commits, &sum);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_row(runners: usize, shared: bool, commits: usize, sum: &Sum) {
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    println!(
        "{runners:7}  {:6}  {:5.1}%  {:8}  {:8}  {:6.3}s  {:6.3}s",
        if shared { "shared" } else { "own" },
        100.0 * sum.cached as f64 / sum.steps as f64,
        mb(sum.sent),
        mb(sum.received),
        sum.total.as_secs_f64() / commits as f64,
        sum.longest.as_secs_f64(),
    );
}

/// Builds all commits, each by the next runner.
fn fleet(kiln: &Path, folder: &Path, runners: usize, commits: usize, shared: bool) -> Result<Sum> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("could not empty `{}`", folder.display()))?;
    }
    let registry = Registry::start(&folder.join("registry"))?;
    let proxy = Proxy::before(&registry.host)?;
    let context = folder.join("context");
    fs::create_dir_all(&context)?;
    fs::write(context.join("Dockerfile"), DOCKERFILE)?;
    let mut sum = Sum::default();
    for commit in 0..commits {
        write_commit(&context, commit)?;
        let store = folder.join(format!("store-{}", commit % runners));
        let cache = shared.then(|| format!("{}/project:cache", proxy.host));
        let began = Instant::now();
        sum.cached += build(kiln, &store, &context, cache.as_deref())?;
        let took = began.elapsed();
        sum.steps += STEPS;
        sum.total += took;
        sum.longest = sum.longest.max(took);
    }
    (sum.sent, sum.received) = proxy.moved();
    Ok(sum)
}

/// Writes the files as they are at a commit: bytes that can't be compressed away.
fn write_commit(context: &Path, commit: usize) -> Result<()> {
    for (at, (name, size, pace)) in COMPONENTS.into_iter().enumerate() {
        if !commit.is_multiple_of(pace) {
            continue;
        }
        let mut state = (commit as u64 + 1) << 8 | (at as u64 + 1);
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        let path = context.join(name);
        fs::write(&path, bytes).with_context(|| format!("could not write `{}`", path.display()))?;
    }
    Ok(())
}

/// Builds once; gives the number of cached steps.
fn build(kiln: &Path, store: &Path, context: &Path, cache: Option<&str>) -> Result<usize> {
    let mut command = Command::new(kiln);
    command
        .env("KILN_ROOT", store)
        .args(["build", "--progress=plain"]);
    if let Some(cache) = cache {
        command.args(["--cache-from", cache]);
        command.args(["--cache-to", &format!("type=registry,ref={cache},mode=max")]);
    }
    let output = command
        .arg(context)
        .output()
        .context("could not start kiln")?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("a build of the fleet failed: {told}");
    }
    Ok(told
        .lines()
        .filter(|line| line.ends_with(" CACHED"))
        .count())
}
