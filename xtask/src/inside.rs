//! `cargo xtask inside`: a command in surroundings that a test asks for, without a change to the machine. Needs root.
//!
//! | surroundings | are |
//! |---|---|
//! | `range` | a user whose `/etc/subuid` and `/etc/subgid` give them ids: made-up files, bound over the real ones in a mount namespace |
//! | `given` | root of a user namespace that somebody else made, with ids of its own, as in a pod |

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// The first id outside, and how many.
pub(crate) const FIRST_ID: u32 = 100_000;
const IDS: u32 = 65_536;

/// What to run, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    surroundings: Surroundings,
    /// The user and group in there
    uid: u32,
    gid: u32,
    /// A folder of theirs, for `HOME` and `TMPDIR`
    home: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Surroundings {
    Range,
    Given,
}

/// Becomes the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args.surroundings {
        Surroundings::Range => give_range(args.uid, &args.home)?,
        Surroundings::Given => enter_namespace()?,
    }
    become_user(args.uid, args.gid)?;
    let error = Command::new(&args.command[0])
        .args(&args.command[1..])
        .env("HOME", &args.home)
        .env("TMPDIR", &args.home)
        .exec();
    Err(error).with_context(|| format!("could not execute `{}`", args.command[0].display()))
}

fn give_range(uid: u32, home: &Path) -> Result<()> {
    // Of this process alone: what another one replaces at this moment can't be mounted.
    let ids = home.join(format!("ids.{}", std::process::id()));
    fs::write(&ids, format!("{uid}:{FIRST_ID}:{IDS}\n"))
        .with_context(|| format!("could not write `{}`", ids.display()))?;
    unshare(CloneFlags::CLONE_NEWNS).context("could not make a mount namespace")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount_over("/", None, private)?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        mount_over(file, Some(&ids), MsFlags::MS_BIND)?;
    }
    // The mounts keep what it holds.
    fs::remove_file(&ids).with_context(|| format!("could not remove `{}`", ids.display()))
}

fn mount_over(target: &str, source: Option<&Path>, flags: MsFlags) -> Result<()> {
    mount(source, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("could not mount over `{target}`"))
}

/// Nobody inside of a new namespace can write a map of more than one id, so a helper does it from outside.
fn enter_namespace() -> Result<()> {
    let own = format!("/proc/{}", std::process::id());
    let map = format!("0 {FIRST_ID} {IDS}");
    let mut helper = Command::new("sh")
        .args([
            "-ec",
            "read go; echo \"$1\" > $0/uid_map; echo \"$1\" > $0/gid_map",
        ])
        .args([&own, &map])
        .stdin(Stdio::piped())
        .spawn()
        .context("could not start `sh`")?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .context("could not make a user namespace")?;
    if let Some(mut go) = helper.stdin.take() {
        go.write_all(b"go\n").context("could not wake the helper")?;
    }
    ensure!(
        helper.wait()?.success(),
        "the map of the user namespace could not be written"
    );
    Ok(())
}

fn become_user(uid: u32, gid: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .with_context(|| format!("could not become user {uid}"))
}
