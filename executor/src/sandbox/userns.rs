//! Entering a user namespace: this process becomes root in one of its own (user_namespaces(7)).
//!
//! A process can write no map for more than its own id, nor can anybody inside of the new namespace. So a helper stays behind in
//! the old one, waits until the new one is there, and then writes the maps: as newuidmap and newgidmap, which may by
//! `/etc/subuid` and `/etc/subgid`, or by itself where this process is root with the right to take any id.

use super::Rung;
use super::footing::in_first_user_namespace;
use super::probe::{self, Unavailable};
use super::subid::{self, Range};
use super::trial::apart;
use crate::sys::{self, Context as _, Forked, SingleThreaded};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::thread::CapabilitySet as KernelSet;
use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where the programs that write maps are looked for.
const PROGRAM_DIRECTORIES: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/usr/local/bin",
    "/run/wrappers/bin",
];

/// As many ids as images use: up to `nobody`.
const ENOUGH: u64 = 65_535;

/// What is to be written into the new namespace's maps, and how.
#[derive(Debug)]
enum Plan {
    /// The user's own ids as root; anybody may.
    Own { uid: u32, gid: u32 },
    /// Maps that newuidmap and newgidmap write.
    Programs {
        uids: Vec<[u32; 3]>,
        gids: Vec<[u32; 3]>,
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
    /// The very ids that this process has a right to, each as itself.
    Same { uids: String, gids: String },
}

/// Enters a new user namespace for a rung that makes one. Needs a process with one thread.
pub(super) fn enter(rung: Rung) -> Result<(), Unavailable> {
    let plan = match rung {
        Rung::UsernsRange => range()?,
        _ => own()?,
    };
    let proof = SingleThreaded::prove().ok_or_else(|| {
        Unavailable::new(
            "a process with several threads can't enter a user namespace",
            "this is a bug of kiln: please report it",
        )
    })?;
    let entered = match plan {
        Plan::Own { uid, gid } => enter_alone(uid, gid),
        plan => enter_with_help(&plan, &proof),
    };
    match entered {
        // The one around kiln has all that one in it would have.
        Err(error) if rung == Rung::UsernsSingle && error.call == "unshare" && is_in_one() => {
            Ok(())
        }
        entered => entered.map_err(|error| explain(&error, rung)),
    }
}

/// Whether this process is root in a user namespace that somebody else made, with every right in it.
fn is_in_one() -> bool {
    let needed: Vec<_> = probe::FOR_GIVEN
        .into_iter()
        .chain(probe::FOR_MAPS)
        .collect();
    rustix::process::geteuid().is_root()
        && !in_first_user_namespace()
        && probe::require(&needed, "").is_ok()
}

/// Whether user namespaces can be made at all. This process is in one afterwards.
pub(super) fn possible() -> Result<(), Unavailable> {
    leave().map_err(|error| explain(&error, Rung::UsernsSingle))
}

fn own() -> Result<Plan, Unavailable> {
    match roots_reason(Rung::UsernsSingle) {
        Some(why) => Err(why),
        None => Ok(Plan::Own {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }),
    }
}

fn range() -> Result<Plan, Unavailable> {
    if rustix::process::geteuid().is_root() && roots_reason(Rung::UsernsRange).is_none() {
        has_enough_ids()?;
        let map = |path| Ok(same(&read_map(path)?));
        return Ok(Plan::Same {
            uids: map("/proc/self/uid_map")?,
            gids: map("/proc/self/gid_map")?,
        });
    }
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let name = user_name(uid);
    let program =
        |name| program(name).map_err(|why| roots_reason(Rung::UsernsRange).unwrap_or(why));
    let newuidmap = program("newuidmap")?;
    let newgidmap = program("newgidmap")?;
    let ranges = |file: &str| -> Result<Vec<Range>, Unavailable> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ranges = subid::ranges(&text, name.as_deref(), uid);
        if subid::total(&ranges) >= ENOUGH {
            return Ok(ranges);
        }
        let who = name.clone().unwrap_or_else(|| uid.to_string());
        let has = subid::total(&ranges);
        Err(Unavailable::new(
            format!("`{file}` gives user `{who}` {has} ids, and images need {ENOUGH}"),
            format!(
                "as root: `echo {who}:100000:65536 >> {file}`, with a range that nobody else has"
            ),
        ))
    };
    Ok(Plan::Programs {
        uids: subid::map(uid, &ranges("/etc/subuid")?),
        gids: subid::map(gid, &ranges("/etc/subgid")?),
        newuidmap,
        newgidmap,
    })
}

/// Whether the user namespace that this process is in has as many ids as images use.
pub(super) fn has_enough_ids() -> Result<(), Unavailable> {
    for (path, ids) in [
        ("/proc/self/uid_map", "users"),
        ("/proc/self/gid_map", "groups"),
    ] {
        let has = ids_of(&read_map(path)?);
        if has < ENOUGH {
            return Err(Unavailable::new(
                format!(
                    "the user namespace around kiln has ids for {has} {ids}, and images need {ENOUGH}"
                ),
                "make it with a range of ids, as `unshare --map-auto` and rootless podman do where `/etc/subuid` and `/etc/subgid` give one",
            ));
        }
    }
    Ok(())
}

fn read_map(path: &str) -> Result<String, Unavailable> {
    fs::read_to_string(path).map_err(|error| {
        Unavailable::new(format!("`{path}` can't be read: {error}"), "mount `/proc`")
    })
}

/// How many ids a map has from the first on without a gap, as images' are.
fn ids_of(map: &str) -> u64 {
    let lines = map.lines().filter_map(|line| {
        let mut fields = line
            .split_whitespace()
            .map(|field| field.parse::<u64>().ok());
        Some((fields.next()??, fields.nth(1)??))
    });
    let mut lines: Vec<(u64, u64)> = lines.collect();
    lines.sort_unstable();
    let joined = |end, (first, count)| if first <= end { first + count } else { end };
    lines.into_iter().fold(0, joined)
}

/// A map that gives each id of this one's inside as itself.
fn same(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (inside, _outside, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some(format!("{inside} {inside} {count}\n"))
    });
    lines.collect()
}

/// The user's name in `/etc/passwd`; `/etc/subuid` may use it or the number.
fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let number = uid.to_string();
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&number))?;
    line.split(':').next().map(str::to_owned)
}

/// Where a program that writes maps is, for people to read.
pub(super) fn found_program(name: &str) -> String {
    let found = find_program(name);
    found.map_or_else(|| "not there".to_owned(), |path| path.display().to_string())
}

/// How many ids a file such as `/etc/subuid` gives the user.
pub(super) fn ids_in(file: &str) -> u64 {
    let uid = rustix::process::geteuid().as_raw();
    let text = fs::read_to_string(file).unwrap_or_default();
    subid::total(&subid::ranges(&text, user_name(uid).as_deref(), uid))
}

fn find_program(name: &str) -> Option<PathBuf> {
    let paths = PROGRAM_DIRECTORIES.map(|directory| Path::new(directory).join(name));
    paths.into_iter().find(|path| path.exists())
}

fn program(name: &str) -> Result<PathBuf, Unavailable> {
    find_program(name).ok_or_else(|| {
        Unavailable::new(
            format!("there is no `{name}`, which gives users ranges of ids"),
            "install it: the package is `uidmap` on Debian and Ubuntu, `shadow-utils` on Fedora, `shadow-uidmap` on Alpine",
        )
    })
}

fn enter_alone(uid: u32, gid: u32) -> sys::Result<()> {
    // A namespace whose maps newuidmap refused to write will do.
    if fs::read_to_string("/proc/self/uid_map").map_or(true, |map| !map.is_empty()) {
        leave()?;
    }
    write("/proc/self/setgroups", "deny")?; // the kernel's condition for the map of groups
    write("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1\n"))
}

fn write(path: &str, text: &str) -> sys::Result<()> {
    fs::write(path, text).call("write", || format!("{path}, {}", text.trim_end()))
}

fn leave() -> sys::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).call("unshare", || "CLONE_NEWUSER".into())
}

/// Lets helpers write the maps once this process is in its namespace. A map can be written once only, so it is all or nothing.
fn enter_with_help(plan: &Plan, proof: &SingleThreaded) -> sys::Result<()> {
    let (mut wait, mut go) = std::io::pipe().call("pipe2", String::new)?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let child = match sys::fork_process(proof)? {
        Forked::Child => {
            drop(go);
            // Without a word, the parent could not enter its namespace and has no need of maps.
            let asked = wait.read_exact(&mut [0]).is_ok();
            let written = asked.then(|| write_maps(plan, own, proof));
            std::process::exit(match written {
                Some(Ok(())) => 0,
                Some(Err(error)) => error.errno,
                None => Errno::PIPE.raw_os_error(),
            })
        }
        Forked::Parent(child) => child,
    };
    drop(wait);
    let left = leave();
    let told = left.and_then(|()| go.write_all(&[1]).call("write", || "pipe".into()));
    drop(go);
    let written = outcome(child, "newuidmap")?;
    told?;
    match written {
        0 => Ok(()),
        errno => Err(sys::Error::new(
            "write",
            "the maps of the user namespace",
            errno,
        )),
    }
}

/// In the helper.
fn write_maps(plan: &Plan, process: i32, proof: &SingleThreaded) -> sys::Result<()> {
    match plan {
        Plan::Own { .. } => Ok(()),
        Plan::Same { uids, gids } => {
            write(&format!("/proc/{process}/uid_map"), uids)?;
            write(&format!("/proc/{process}/gid_map"), gids)
        }
        Plan::Programs {
            uids,
            gids,
            newuidmap,
            newgidmap,
        } => {
            run(newuidmap, process, uids, proof)?;
            run(newgidmap, process, gids, proof)
        }
    }
}

fn run(program: &Path, process: i32, map: &[[u32; 3]], proof: &SingleThreaded) -> sys::Result<()> {
    let name = program.display().to_string();
    let numbers = map.iter().flatten().map(u32::to_string);
    let arguments = [name.clone(), process.to_string()]
        .into_iter()
        .chain(numbers);
    let arguments: Vec<CString> = arguments
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    match sys::fork_process(proof)? {
        Forked::Child => {
            let _ = nix::unistd::execv(&arguments[0], &arguments);
            std::process::exit(127)
        }
        Forked::Parent(child) => match outcome(child, "newuidmap")? {
            0 => Ok(()),
            _ => Err(sys::Error::new("execve", name, nix::libc::EPERM)),
        },
    }
}

fn outcome(child: Pid, name: &str) -> sys::Result<i32> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(..)) => return Ok(nix::libc::EINTR),
            Err(nix::Error::EINTR) | Ok(_) => {}
            Err(errno) => return Err(errno).call("waitpid", || name.into()),
        }
    }
}

/// Why root, of all users, can't do without help.
fn roots_reason(rung: Rung) -> Option<Unavailable> {
    let needed = match rung {
        Rung::UsernsRange => &probe::FOR_MAPS[..],
        _ => &[(KernelSet::SETFCAP, "SETFCAP")],
    };
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let held = probe::require(needed, "taking its ids into a user namespace needs");
    held.err().map(|why| {
        let tried = SingleThreaded::prove().and_then(|proof| apart(&proof, possible).ok());
        match tried {
            Some(Err(forbidden)) => forbidden,
            _ => Unavailable {
                remedy: format!(
                    "{}; or run kiln as a user (`--user 1000`), for whom there is the sandbox `userns-single`",
                    why.remedy
                ),
                ..why
            },
        }
    })
}

fn explain(error: &sys::Error, rung: Rung) -> Unavailable {
    let symbol = error.symbol();
    if error.call != "unshare" {
        return match rung {
            Rung::UsernsRange => Unavailable::new(
                format!("newuidmap and newgidmap could not map the user's range of ids: {symbol}"),
                "see that both are setuid root (or have `cap_setuid` and `cap_setgid`), and that no_new_privs is not set, as by \
                 `allowPrivilegeEscalation: false`",
            ),
            _ => Unavailable::new(
                format!("a user namespace without an id is of no use: {error}"),
                match are_restricted_by_apparmor() {
                    true => UNLOCK_APPARMOR,
                    false => {
                        "run kiln outside of the user namespace that it is in, or make that with ids, as `unshare --map-root-user` does"
                    }
                },
            ),
        };
    }
    match symbol.as_str() {
        "ENOSPC" => Unavailable::new(
            "no more user namespaces are allowed here (`user.max_user_namespaces`)",
            "as root: `sysctl -w user.max_user_namespaces=28633`",
        ),
        "EPERM" if is_zero("/proc/sys/kernel/unprivileged_userns_clone") => Unavailable::new(
            "user namespaces of users are switched off (`kernel.unprivileged_userns_clone`)",
            "as root: `sysctl -w kernel.unprivileged_userns_clone=1`",
        ),
        "EPERM" => Unavailable::new(
            format!(
                "user namespaces are forbidden here, as by the seccomp profile of a container: {error}"
            ),
            match rustix::process::geteuid().is_root() {
                true => UNCONFINED.to_owned(),
                false => format!(
                    "{UNCONFINED}; or run kiln as its root, for whom there is the sandbox `chroot`"
                ),
            },
        ),
        "EINVAL" | "ENOSYS" => Unavailable::new(
            format!("the kernel has no user namespaces: {error}"),
            "use a kernel with CONFIG_USER_NS",
        ),
        _ => Unavailable::new(
            format!("no user namespace could be made: {error}"),
            UNLOCK_APPARMOR,
        ),
    }
}

const UNCONFINED: &str = "start the container with `--security-opt seccomp=unconfined`, or in Kubernetes with `securityContext: {seccompProfile: {type: Unconfined}}`";

pub(super) const UNLOCK_APPARMOR: &str = "as root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give kiln an AppArmor profile with `userns,`";

/// Whether AppArmor takes all rights in user namespaces away that programs without a profile make.
pub(super) fn are_restricted_by_apparmor() -> bool {
    fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|text| text.trim() == "1")
}

fn is_zero(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::{ids_of, same};

    #[test]
    fn ids_are_counted_up_to_the_first_gap() {
        assert_eq!(ids_of("         0          0 4294967295\n"), 4_294_967_295);
        assert_eq!(ids_of("1 100000 65536\n0 1000 1\n"), 65_537);
        assert_eq!(ids_of("0 1000 1\n65534 65534 1\n"), 1);
        assert_eq!(ids_of(""), 0);
    }

    #[test]
    fn the_same_ids_are_mapped_to_themselves() {
        assert_eq!(
            same("         0     100000      65536\n     70000 5 2\n"),
            "0 0 65536\n70000 70000 2\n"
        );
    }
}
