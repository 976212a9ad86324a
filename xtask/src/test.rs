//! Every tier of tests, one after another, and one count at the end.
//!
//! | tier | which tests | how |
//! |---|---|---|
//! | plain | all but `sandbox_*` and `network_*` | anywhere, as whoever runs this |
//! | doc | examples in the documentation | likewise |
//! | sandbox as root | `sandbox_*` | must all run: `KILN_TEST_SANDBOX=required` |
//! | sandbox as a user | `sandbox_*` | as `nobody`, or as whoever runs this; those that can't run say why |
//! | … with a range of ids | `sandbox_*` | as `nobody` with a made-up `/etc/subuid`, see [`crate::inside`] |
//! | … as root of a user namespace | `sandbox_*` | in one with ids of its own, see [`crate::inside`] |
//! | network | `network_*`, ignored elsewhere | a docker-registry on loopback, named in `KILN_TEST_REGISTRY` |

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::package;
use crate::process::{Root, shown, succeeds};
use crate::registry::Registry;
use crate::stranger::{Kind, Stranger};
use crate::tally::{Runner, Tally, status};
use crate::workspace::{Workspace, cargo, host_triple};

/// What properties are tried with is the same each time, so that a run says something about a change. `cargo test` tries others.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261121");

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this tier; may be repeated
    #[arg(long = "tier", value_enum)]
    tiers: Vec<TierName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TierName {
    Plain,
    Sandbox,
    Network,
}

/// One run of a test runner.
struct Tier {
    name: &'static str,
    tests: Which,
    env: Vec<(&'static str, String)>,
    /// The program, with its arguments, that starts each test binary.
    wrapper: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Plain,
    Sandbox,
    Network,
}

/// Installs what is missing, runs the tiers, reports.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let root = Root::find();
    let mut tally = Tally::default();
    if let Err(error) = package::ensure(package::FOR_TESTS, root) {
        println!("note: not everything that tests use is here: {error:#}");
    }
    let wanted = |tier| args.tiers.is_empty() || args.tiers.contains(&tier);
    if wanted(TierName::Plain) {
        run_tier(&plain(), &mut tally)?;
        doc_tests(&mut tally)?;
    }
    if wanted(TierName::Sandbox) {
        sandbox_as_root(root, &mut tally)?;
        sandbox_as_others(root, &workspace, &mut tally)?;
    }
    if wanted(TierName::Network) {
        network(root, &workspace, &mut tally)?;
    }
    println!("\n{}", tally.report());
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plain() -> Tier {
    Tier {
        name: "plain",
        tests: Which::Plain,
        env: Vec::new(),
        wrapper: None,
    }
}

/// Nextest doesn't know the examples in the documentation.
fn doc_tests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    watch("doc", Runner::Libtest, &mut command, tally)
}

fn sandbox_as_root(root: Root, tally: &mut Tally) -> Result<()> {
    let name = "sandbox as root";
    let Some(wrapper) = root_wrapper(root) else {
        tally.skip(
            name,
            "this is not root, and sudo asks for a password or is not there",
        );
        return Ok(());
    };
    let env = vec![
        ("KILN_TEST_SANDBOX", "required".to_owned()),
        ("CI", "true".to_owned()),
    ];
    run_tier(
        &Tier {
            name,
            tests: Which::Sandbox,
            env,
            wrapper,
        },
        tally,
    )
}

/// What makes test binaries run as root; `None` if nothing does.
fn root_wrapper(root: Root) -> Option<Option<String>> {
    match root {
        Root::Already => Some(None),
        Root::BySudo => Some(Some("sudo -n -E".to_owned())),
        Root::No => None,
    }
}

fn sandbox_as_others(root: Root, workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let others = [
        ("sandbox as a user", Kind::User, None),
        (
            "sandbox as a user with a range of ids",
            Kind::UserWithRange,
            Some("userns-range"),
        ),
        (
            "sandbox as root of a user namespace",
            Kind::RootOfNamespace,
            Some("userns-given"),
        ),
    ];
    for (name, kind, rung) in others {
        // One that is impossible here is no failure.
        let mut env = vec![("CI", "false".to_owned())];
        env.extend(rung.map(|rung| ("KILN_SANDBOX", rung.to_owned())));
        let tier = |wrapper| Tier {
            name,
            tests: Which::Sandbox,
            env,
            wrapper,
        };
        match (root, kind) {
            (Root::Already, _) => match Stranger::prepare(kind, workspace) {
                Ok(stranger) => run_tier(&tier(Some(stranger.wrapper())), tally)?,
                Err(error) => tally.skip(name, &format!("{error:#}")),
            },
            (_, Kind::User) => run_tier(&tier(None), tally)?,
            _ => tally.skip(name, "this is not root"),
        }
    }
    Ok(())
}

fn network(root: Root, workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let registry = match Registry::start(&workspace.target.join("test-registry")) {
        Ok(registry) => registry,
        Err(error) => {
            tally.skip("network", &format!("{error:#}"));
            return Ok(());
        }
    };
    let mut env = vec![("KILN_TEST_REGISTRY", registry.host.clone())];
    env.push((
        "KILN_TEST_CACHE",
        workspace.target.join("test-cache").display().to_string(),
    ));
    let wrapper = match root_wrapper(root) {
        Some(wrapper) => {
            env.push(("KILN_TEST_SANDBOX", "required".to_owned()));
            wrapper
        }
        None => None,
    };
    run_tier(
        &Tier {
            name: "network",
            tests: Which::Network,
            env,
            wrapper,
        },
        tally,
    )
}

fn run_tier(tier: &Tier, tally: &mut Tally) -> Result<()> {
    let (runner, mut command) = if succeeds(cargo().args(["nextest", "--version"])) {
        (Runner::Nextest, nextest(tier.tests))
    } else {
        (Runner::Libtest, libtest(tier.tests))
    };
    command.envs(tier.env.iter().map(|(name, value)| (name, value)));
    if std::env::var_os(SEED.0).is_none() {
        command.env(SEED.0, SEED.1);
    }
    if let Some(wrapper) = &tier.wrapper {
        let variable = format!(
            "CARGO_TARGET_{}_RUNNER",
            host_triple()?.to_uppercase().replace(['-', '.'], "_")
        );
        command.env(variable, wrapper);
    }
    watch(tier.name, runner, &mut command, tally)
}

fn nextest(tests: Which) -> Command {
    let mut command = cargo();
    command.args([
        "nextest",
        "run",
        "--workspace",
        "--no-fail-fast",
        "--no-tests=pass",
        "--success-output=immediate",
    ]);
    match tests {
        Which::Plain => command.args(["-E", "not test(/(^|::)(sandbox|network)_/)"]),
        Which::Sandbox => command.args(["-E", "test(/(^|::)sandbox_/)"]),
        Which::Network => command.args(["--run-ignored=only", "-E", "test(/(^|::)network_/)"]),
    };
    command
}

fn libtest(tests: Which) -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--tests", "--no-fail-fast", "--"]);
    match tests {
        Which::Plain => command.args(["--skip", "sandbox_", "--skip", "network_"]),
        Which::Sandbox => command.arg("sandbox_"),
        Which::Network => command.args(["network_", "--ignored"]),
    };
    command.arg("--show-output");
    command
}

/// Runs a test runner, passes on what it prints, and counts.
fn watch(name: &str, runner: Runner, command: &mut Command, tally: &mut Tally) -> Result<()> {
    println!("\n== {name}\n$ {}", shown(command));
    let failed_before = tally.failed;
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    let (sender, lines) = channel();
    let readers = [
        process.stdout.take().map(|out| forward(out, &sender)),
        process.stderr.take().map(|err| forward(err, &sender)),
    ];
    drop(sender);
    let mut chatter = Chatter::default();
    for line in lines {
        if runner == Runner::Libtest || chatter.shows(&line) {
            println!("{line}");
        }
        tally.note(name, runner, &line);
    }
    for reader in readers.into_iter().flatten() {
        reader
            .join()
            .ok()
            .context("a reader of test output failed")?;
    }
    let status = process.wait()?;
    if !status.success() && tally.failed == failed_before {
        tally.broken(&format!("{name}: `{}` ended with {status}", shown(command)));
    }
    Ok(())
}

/// Leaves out what tests that passed printed. Nextest prints it because skips are told there; the report tells them again.
#[derive(Default)]
struct Chatter {
    hidden: bool,
}

impl Chatter {
    fn shows(&mut self, line: &str) -> bool {
        let text = line.trim();
        if let Some(status) = status(text) {
            self.hidden = status.well;
            return true;
        }
        if text.starts_with("Summary [") || text.starts_with("────") {
            self.hidden = false;
        }
        !self.hidden
    }
}

fn forward(stream: impl Read + Send + 'static, lines: &Sender<String>) -> thread::JoinHandle<()> {
    let lines = lines.clone();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}
