//! Whether steps for other platforms can run here, asked before a build begins: nobody wants to be told after an hour.
//!
//! The kernel knows best, so a program of a few bytes that only ends itself is started for each platform. It runs if the processor
//! takes it (386 on amd64) or an emulator is registered with binfmt_misc and works. Of such an emulator one thing more has to be known: unless
//! it was opened when it was registered (flag `F`), the kernel looks for it in the root filesystem of the step.

mod handler;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use kiln_image::{ImagePath, Platform, Tree};
use kiln_planner::{Op, Plan, Vertex, VertexId};

use crate::Services;
use crate::error::{BuildError, Cause};
use crate::preview::KeyState;
use crate::solve::failure;
use handler::Handler;

/// `ENOEXEC`: the kernel doesn't know what to do with such a program.
const EXEC_FORMAT: i32 = 8;
/// `ELOOP`: an emulator that itself needs one.
const LOOP: i32 = 40;
/// How often a program that another thread still has open is tried again.
const TRIES: usize = 100;

/// Fails if a step has to run that can't: one for a platform that this machine neither is nor emulates. `states` is asked which steps
/// are cached, and only when there is such a step.
///
/// # Errors
/// [`Cause::NoEmulator`] with the first such instruction.
pub(crate) fn check(
    plan: &Plan,
    services: &Services<'_>,
    states: impl FnOnce() -> Result<Vec<Option<KeyState>>, BuildError>,
) -> Result<(), BuildError> {
    let host = Platform::host();
    let foreign: Vec<VertexId> = runs(plan)
        .filter(|id| !is_native(&plan.graph[*id].platform, &host))
        .collect();
    let platforms: BTreeSet<&Platform> =
        foreign.iter().map(|id| &plan.graph[*id].platform).collect();
    let mut impossible = BTreeMap::new();
    for platform in platforms {
        match trial(platform, services).map_err(BuildError::new)? {
            Trial::Runs => {}
            Trial::NoEmulator => drop(impossible.insert(platform, None)),
            Trial::Broken(flaw) => drop(impossible.insert(platform, Some(flaw))),
        }
    }
    if impossible.is_empty() {
        return Ok(());
    }
    let states = states()?;
    let is_cached =
        |id: &VertexId| matches!(states.get(id.index()), Some(Some(KeyState::Hit { .. })));
    let mut refused = foreign
        .iter()
        .filter(|id| impossible.contains_key(&plan.graph[**id].platform));
    match refused.find(|id| !is_cached(id)) {
        None => Ok(()),
        Some(id) => {
            let vertex = &plan.graph[*id];
            let flaw = impossible.get(&vertex.platform).cloned().flatten();
            Err(failure(
                vertex,
                no_emulator(&vertex.text, &vertex.platform, flaw),
            ))
        }
    }
}

/// Fails if the emulator for a step is to be in its root filesystem and isn't.
pub(crate) fn check_root(
    vertex: &Vertex,
    root: impl FnOnce() -> Result<Arc<Tree>, Cause>,
) -> Result<(), Cause> {
    let platform = &vertex.platform;
    if is_native(platform, &Platform::host()) {
        return Ok(());
    }
    let program = program::of(&platform.architecture).unwrap_or_default();
    let handlers = handler::all_for(&program, Path::new(handler::DIRECTORY));
    if handlers.iter().any(|handler| handler.is_open) {
        return Ok(());
    }
    let Some(first) = handlers.first() else {
        return Ok(()); // the processor itself, or nobody may look at the list
    };
    let root = root()?;
    let is_there = |handler: &Handler| {
        let found = root.resolve(&ImagePath::root(), handler.interpreter.as_bytes(), true);
        found.is_ok_and(|found| found.exists)
    };
    match handlers.iter().any(is_there) {
        true => Ok(()),
        false => {
            let flaw = format!(
                "the emulator `{}` is registered without the flag F, and is not in the image",
                first.interpreter
            );
            Err(no_emulator(&vertex.text, platform, Some(flaw)))
        }
    }
}

fn no_emulator(text: &str, platform: &Platform, flaw: Option<String>) -> Cause {
    Cause::NoEmulator {
        text: text.to_owned(),
        platform: Box::new(platform.clone()),
        flaw,
    }
}

/// The steps that start programs.
fn runs(plan: &Plan) -> impl Iterator<Item = VertexId> + '_ {
    let all = plan.graph.node_indices();
    all.filter(|id| matches!(plan.graph[*id].op, Op::Exec(_)))
}

fn is_native(platform: &Platform, host: &Platform) -> bool {
    (&platform.os, &platform.architecture) == (&host.os, &host.architecture)
}

/// What came of starting a program of a platform.
#[derive(Debug, PartialEq, Eq)]
enum Trial {
    /// It ran; or that can't be found out, and steps are left to show it themselves.
    Runs,
    NoEmulator,
    /// There is an emulator, and this is wrong with it.
    Broken(String),
}

/// Starts a program of a platform.
fn trial(platform: &Platform, services: &Services<'_>) -> Result<Trial, Cause> {
    if platform.os != "linux" {
        return Ok(Trial::NoEmulator);
    }
    let Some(program) = program::of(&platform.architecture) else {
        return Ok(Trial::NoEmulator);
    };
    let scratch = services.store.scratch_dir()?;
    let path = scratch.path().join("ends-itself");
    let written = fs::write(&path, &program);
    written
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
        .map_err(Cause::file("write", &path))?;
    let handlers = handler::all_for(&program, Path::new(handler::DIRECTORY));
    Ok(judge(start(&path), &handlers))
}

/// An emulator that each root filesystem has one of its own of can't be judged by the machine's.
fn judge(ended: io::Result<Option<ExitStatus>>, handlers: &[Handler]) -> Trial {
    let how = match ended {
        Err(error) if error.raw_os_error() == Some(EXEC_FORMAT) => return Trial::NoEmulator,
        Err(error) if error.raw_os_error() == Some(LOOP) => error.to_string(),
        Ok(Some(status)) if !status.success() => status.to_string(),
        Ok(_) | Err(_) => return Trial::Runs,
    };
    match handlers {
        [first, ..] if handlers.iter().all(|handler| handler.is_open) => Trial::Broken(format!(
            "the emulator `{}` is registered and doesn't work: of a program that does nothing came {how}",
            first.interpreter
        )),
        _ => Trial::Runs,
    }
}

/// Starts a program that was just written. A child of another thread may hold it open for an instant, which is no reason. `None` if it did all
/// the time.
fn start(path: &Path) -> io::Result<Option<ExitStatus>> {
    for _ in 0..TRIES {
        let mut command = Command::new(path);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        match command.stderr(Stdio::null()).status() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            ended => return ended.map(Some),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_machines_own_program_ends_well() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let program = program::of(&Platform::host().architecture).unwrap();
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        start(&path).unwrap();
        let mut status = Command::new(&path).status();
        while matches!(&status, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy) {
            status = Command::new(&path).status();
        }
        assert!(status.unwrap().success());
    }

    #[test]
    fn emulators_are_judged_by_what_they_do() {
        use std::os::unix::process::ExitStatusExt as _;
        let handler = |is_open| Handler {
            interpreter: "/usr/bin/qemu".to_owned(),
            is_open,
        };
        let error = |code| Err(io::Error::from_raw_os_error(code));
        let status = |raw| Ok(Some(ExitStatus::from_raw(raw)));
        let is_broken = |ended, handlers: &[Handler]| {
            let trial = judge(ended, handlers);
            matches!(trial, Trial::Broken(flaw) if flaw.contains("`/usr/bin/qemu` is registered and doesn't work"))
        };
        let open = [handler(true)];
        assert_eq!(judge(error(EXEC_FORMAT), &open), Trial::NoEmulator);
        assert_eq!(judge(status(0), &open), Trial::Runs);
        assert!(is_broken(error(LOOP), &open));
        assert!(is_broken(status(255 << 8), &open));
        assert!(is_broken(status(11), &open));
        // Nobody may execute in that folder, say.
        assert_eq!(judge(error(13), &open), Trial::Runs);
        assert_eq!(judge(status(11), &[handler(false)]), Trial::Runs);
        assert_eq!(judge(status(11), &[]), Trial::Runs);
    }

    #[test]
    fn variants_of_the_machine_are_native() {
        let [host, v3, arm] = ["linux/amd64", "linux/amd64/v3", "linux/arm64"]
            .map(|text| text.parse::<Platform>().unwrap());
        assert!(is_native(&v3, &host) && !is_native(&arm, &host));
    }
}
