//! What stands in the way of each rung on this machine, found out by trying: a step is set up in full, for a program that is not
//! there. That it could not be executed means that everything before it worked.
//!
//! Each rung is tried in a process of its own, as a user namespace that was entered can't be left again.

use super::probe::{self, Unavailable};
use super::trial::apart;
use super::{Footing, Launcher, RootSpec, Rung, SandboxError, SandboxSpec, Stdio, Way, userns};
use crate::sys::{self, Context as _, SingleThreaded};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Everything there is to know about sandboxes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The rung that steps get, or why none can.
    pub chosen: Result<Rung, Unavailable>,
    /// All rungs, the best first.
    pub rungs: Vec<Tried>,
    /// What rungs are made of, by name.
    pub facts: Vec<(&'static str, String)>,
}

/// What became of a rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub rung: Rung,
    /// Why it can't be used, if so.
    pub verdict: Result<(), Unavailable>,
}

/// No program has this name.
const NO_PROGRAM: &str = "/.kiln-doctor";

/// Tries all rungs for steps whose changes are kept in `store`, which need not be there yet, and the choice between them, or the rung
/// that is `asked` for. Needs a process with one thread.
pub fn survey(store: &Path, asked: Option<Rung>) -> sys::Result<Survey> {
    let proof = SingleThreaded::prove()
        .ok_or_else(|| sys::Error::new("fork", "several threads", nix::libc::EINVAL))?;
    let place = nearest(store);
    let mut rungs = Vec::new();
    for rung in Rung::ALL {
        let tried = || attempt(&Footing::settle(Some(rung), store)?, &place).map(drop);
        let verdict = apart(&proof, tried)?;
        rungs.push(Tried { rung, verdict });
    }
    if !rustix::process::geteuid().is_root()
        && let Err(why) = apart(&proof, userns::possible)?
    {
        tell_what_stops_all(&mut rungs, &why);
    }
    let chosen = apart(&proof, || {
        let footing = Footing::settle(asked, store)?;
        footing.check(store)?;
        attempt(&footing, &place)
    })?;
    Ok(Survey {
        chosen,
        rungs,
        facts: facts(&place),
    })
}

/// The directory itself, or the nearest above that is there.
fn nearest(store: &Path) -> PathBuf {
    let there = store.ancestors().find(|path| path.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// Without user namespaces it is of no use that something else than these is there.
fn tell_what_stops_all(rungs: &mut [Tried], why: &Unavailable) {
    let makes_one = |rung| matches!(rung, Rung::UsernsRange | Rung::UsernsSingle);
    for tried in rungs.iter_mut().filter(|tried| makes_one(tried.rung)) {
        tried.verdict = Err(why.clone());
    }
}

/// Sets a step up in the way that kiln has then.
fn attempt(footing: &Footing, place: &Path) -> Result<Rung, Unavailable> {
    let way = footing.way(place)?;
    let rung = way.rung;
    let dir = tempfile::Builder::new()
        .prefix("kiln-doctor-")
        .tempdir_in(place)
        .map_err(|error| {
            Unavailable::new(
                format!("`{}` can't be written: {error}", place.display()),
                "choose another place for the store with `--root`",
            )
        })?;
    match set_up(way, dir.path()) {
        Err(SandboxError::ProgramNotFound { .. }) => Ok(rung),
        Err(SandboxError::Setup { stage, cause }) => Err(probe::explain_stage(&stage, &cause)),
        Err(error) => Err(Unavailable::new(error.to_string(), "see its cause")),
        Ok(()) => Ok(rung),
    }
}

fn set_up(way: Way, dir: &Path) -> Result<(), SandboxError> {
    let path = |name: &str| {
        let path = dir.join(name);
        let _ = fs::create_dir(&path); // a missing one is told by the mount
        path
    };
    let root = match way.overlay {
        true => RootSpec::Overlay {
            lowers: vec![path("lower")],
            upper: path("upper"),
            work: path("work"),
        },
        false => RootSpec::Directory(path("root")),
    };
    let mut spec = SandboxSpec::new(root, [NO_PROGRAM]);
    spec.rung = way.rung;
    let stdio = || -> io::Result<Stdio> {
        let null = || File::options().write(true).open("/dev/null");
        Stdio::output(null()?.into(), null()?.into())
    };
    let stdio = stdio().call("open", || "/dev/null".into());
    let launcher = Launcher::new();
    launcher
        .spawn(&spec, stdio.map_err(SandboxError::Launcher)?)
        .map(drop)
}

/// What is here of what rungs are made of.
fn facts(place: &Path) -> Vec<(&'static str, String)> {
    let uname = rustix::system::uname();
    let text = |path: &str| {
        let read = fs::read_to_string(path);
        read.map_or_else(|_| "not there".to_owned(), |text| text.trim().to_owned())
    };
    let status = text("/proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
    };
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let namespace = match super::footing::in_first_user_namespace() {
        true => "the machine's first",
        false => "one of its own",
    };
    vec![
        ("container around kiln", container().to_owned()),
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("user", format!("{} (group {})", uid.as_raw(), gid.as_raw())),
        ("user namespace", namespace.to_owned()),
        ("effective capabilities", field("CapEff:")),
        ("no_new_privs", field("NoNewPrivs:")),
        ("seccomp filters around kiln", field("Seccomp_filters:")),
        (
            "user.max_user_namespaces",
            text("/proc/sys/user/max_user_namespaces"),
        ),
        (
            "kernel.unprivileged_userns_clone",
            text("/proc/sys/kernel/unprivileged_userns_clone"),
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        ),
        ("newuidmap", userns::found_program("newuidmap")),
        ("newgidmap", userns::found_program("newgidmap")),
        (
            "ids in /etc/subuid",
            userns::ids_in("/etc/subuid").to_string(),
        ),
        (
            "ids in /etc/subgid",
            userns::ids_in("/etc/subgid").to_string(),
        ),
        ("control groups", control_groups().to_owned()),
        ("the store's filesystem", filesystem(place)),
    ]
}

/// The boundary of the sandbox `chroot`, which root can leave otherwise (chroot(2)).
fn container() -> &'static str {
    match super::surroundings::is_contained() {
        true => "yes",
        false => {
            "none seen; so a step in the sandbox `chroot` that runs as root can reach all of this machine"
        }
    }
}

fn control_groups() -> &'static str {
    match fs::metadata("/sys/fs/cgroup/cgroup.controllers") {
        Ok(_) => "version 2",
        Err(_) => "version 1, or none",
    }
}

fn filesystem(place: &Path) -> String {
    const NAMES: [(rustix::fs::FsWord, &str); 6] = [
        (0xEF53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794C_7630, "overlay"),
        (0x6969, "nfs"),
    ];
    let Ok(found) = rustix::fs::statfs(place) else {
        return "unknown".to_owned();
    };
    let kind = found.f_type;
    let known = NAMES.iter().find(|(magic, _)| *magic == kind);
    match known {
        Some((_, "overlay")) => "overlay, so steps get copies; a volume spares them".to_owned(),
        Some((_, name)) => (*name).to_owned(),
        None => format!("{kind:#x}"),
    }
}
