//! Whether steps for other platforms can run here, asked before a build begins: nobody wants to be told after an hour.
//!
//! The kernel knows best, so a program of a few bytes that only ends itself is started for each platform. It runs if the processor
//! takes it (386 on amd64) or an emulator is registered with binfmt_misc. Of such an emulator one thing more has to be known: unless
//! it was opened when it was registered (flag `F`), the kernel looks for it in the root filesystem of the step.

mod handler;
mod program;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
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
    let mut impossible = BTreeSet::new();
    for platform in platforms {
        if !can_run(platform, services).map_err(BuildError::new)? {
            impossible.insert(platform);
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
        .filter(|id| impossible.contains(&plan.graph[**id].platform));
    match refused.find(|id| !is_cached(id)) {
        None => Ok(()),
        Some(id) => {
            let vertex = &plan.graph[*id];
            Err(failure(
                vertex,
                no_emulator(&vertex.text, &vertex.platform, None),
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
            let missing = Some(first.interpreter.clone());
            Err(no_emulator(&vertex.text, platform, missing))
        }
    }
}

fn no_emulator(text: &str, platform: &Platform, missing: Option<String>) -> Cause {
    Cause::NoEmulator {
        text: text.to_owned(),
        platform: Box::new(platform.clone()),
        missing,
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

/// Whether the kernel starts programs of a platform. If it can't be found out, they are left to show it themselves.
fn can_run(platform: &Platform, services: &Services<'_>) -> Result<bool, Cause> {
    if platform.os != "linux" {
        return Ok(false);
    }
    let Some(program) = program::of(&platform.architecture) else {
        return Ok(false);
    };
    let scratch = services.store.scratch_dir()?;
    let path = scratch.path().join("ends-itself");
    let written = fs::write(&path, program);
    written
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
        .map_err(Cause::file("write", &path))?;
    let started = start(&path);
    Ok(started.err().and_then(|error| error.raw_os_error()) != Some(EXEC_FORMAT))
}

/// Starts a program that was just written. A child of another thread may hold it open for an instant, which is no reason.
fn start(path: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        let mut command = Command::new(path);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        match command.stderr(Stdio::null()).status() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::yield_now();
            }
            ended => return ended.map(drop),
        }
    }
    Ok(())
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
    fn variants_of_the_machine_are_native() {
        let [host, v3, arm] = ["linux/amd64", "linux/amd64/v3", "linux/arm64"]
            .map(|text| text.parse::<Platform>().unwrap());
        assert!(is_native(&v3, &host) && !is_native(&arm, &host));
    }
}
