//! The cgroups of one step: made before it starts, read when it has ended, then removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::place::{Hierarchies, Places};
use super::resources::{Controller, Resources};
use super::settings::{self, Setting};

/// What our directories begin with; then come kiln's process id and a number.
const PREFIX: &str = "kiln-";
/// How often the kernel is given time to let go of a cgroup whose last process has just gone.
const REMOVALS: u32 = 50;

/// A limit that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("could not limit the step: the kernel refused `{value}` for `{}`", .file.display())]
pub struct CgroupError {
    /// The file of the cgroup.
    pub file: PathBuf,
    /// What was written to it.
    pub value: String,
    /// Why it was refused.
    #[source]
    pub source: io::Error,
}

/// A step's cgroups. Dropping this kills what is still in them and removes them.
#[derive(Debug, Default)]
pub(crate) struct StepCgroup {
    old: Vec<PathBuf>,
    unified: Option<PathBuf>,
    /// Of these, the one that counts memory.
    memory: Option<PathBuf>,
    /// And the one that counts processes.
    pids: Option<PathBuf>,
}

impl StepCgroup {
    /// Makes them and sets the limits. The second value says which limits could not be had, a line each.
    ///
    /// # Errors
    /// A limit that the kernel has but refuses, such as a processor that is not there.
    pub(crate) fn make(
        hierarchies: &Hierarchies,
        resources: &Resources,
        parent: Option<&str>,
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let mut controllers = resources.controllers();
        if parent.is_some() {
            // To be in a cgroup is to be in it for all that may be limited there.
            controllers = vec![
                Controller::Memory,
                Controller::Cpu,
                Controller::Cpuset,
                Controller::Pids,
            ];
        }
        Self::make_in(&hierarchies.places(&controllers, parent), resources)
    }

    fn make_in(places: &Places, resources: &Resources) -> Result<(Self, Vec<String>), CgroupError> {
        let name = own_name();
        let mut made = Self::default();
        let mut missing = places.missing.clone();
        for (directory, controllers) in &places.old {
            let path = directory.join(&name);
            match make_directory(&path) {
                Ok(()) => made.old.push(path.clone()),
                Err(reason) => {
                    missing.extend(controllers.iter().map(|one| (*one, reason.clone())));
                    continue;
                }
            }
            for controller in controllers {
                if *controller == Controller::Cpuset {
                    inherit_cpuset(&path);
                }
                apply(&path, settings::old(resources, *controller))?;
                made.note_counts(&path, *controller);
            }
        }
        if let Some((directory, controllers)) = &places.unified {
            let path = directory.join(&name);
            match make_directory(&path) {
                Ok(()) => {
                    made.unified = Some(path.clone());
                    for controller in controllers {
                        apply(&path, settings::unified(resources, *controller))?;
                        made.note_counts(&path, *controller);
                    }
                }
                Err(reason) => missing.extend(controllers.iter().map(|one| (*one, reason.clone()))),
            }
        }
        let asked = resources.controllers();
        let missing = missing.into_iter().filter(|(one, _)| asked.contains(one));
        let told = missing.map(|(one, reason)| format!("{}: {reason}", one.name()));
        Ok((made, told.collect()))
    }

    fn note_counts(&mut self, path: &Path, controller: Controller) {
        match controller {
            Controller::Memory => self.memory = Some(path.to_owned()),
            Controller::Pids => self.pids = Some(path.to_owned()),
            Controller::Cpu | Controller::Cpuset => {}
        }
    }

    /// The files that a process joins them by.
    pub(crate) fn joins(&self) -> Vec<PathBuf> {
        let all = self.old.iter().chain(&self.unified);
        all.map(|directory| directory.join("cgroup.procs"))
            .collect()
    }

    /// The most memory in bytes that was in use at a time, by all of the step together.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        ["memory.peak", "memory.max_usage_in_bytes"]
            .iter()
            .find_map(|name| {
                fs::read_to_string(memory.join(name))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            })
    }

    /// How many of the step's processes the kernel killed for lack of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let Some(memory) = &self.memory else {
            return 0;
        };
        ["memory.events", "memory.oom_control"]
            .iter()
            .filter_map(|name| fs::read_to_string(memory.join(name)).ok())
            .find_map(|text| settings::counted(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// Whether the step was at its limit when it asked for another process.
    pub(crate) fn was_refused_processes(&self) -> bool {
        let events = self.pids.as_ref().map(|pids| pids.join("pids.events"));
        let text = events.and_then(|events| fs::read_to_string(events).ok());
        let count = text.and_then(|text| settings::counted(&text, "max"));
        count.is_some_and(|count| count > 0)
    }
}

impl Drop for StepCgroup {
    fn drop(&mut self) {
        for directory in self.old.iter().chain(&self.unified) {
            remove(directory);
        }
    }
}

fn own_name() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}", std::process::id())
}

fn make_directory(path: &Path) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        sweep(parent);
    }
    fs::create_dir(path).map_err(|error| format!("could not make `{}`: {error}", path.display()))
}

/// Removes what a kiln that was killed has left behind.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        if let Some((pid, _)) = maker
            && pid.parse::<u32>().is_ok()
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = fs::remove_dir(entry.path()); // not ours if it has processes
        }
    }
}

/// A new cpuset has no processors and no memory until it is given some.
fn inherit_cpuset(path: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = path
            .parent()
            .map(|parent| fs::read_to_string(parent.join(file)));
        if let Some(Ok(value)) = above {
            let _ = fs::write(path.join(file), value.trim()); // what can't be joined is told at the join
        }
    }
}

fn apply(path: &Path, settings: Vec<Setting>) -> Result<(), CgroupError> {
    for setting in settings {
        let file = path.join(setting.file);
        match fs::write(&file, &setting.value) {
            Err(error) if setting.optional && is_absent(&error) => {}
            Err(source) => {
                return Err(CgroupError {
                    file,
                    value: setting.value,
                    source,
                });
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Files can't be made in a cgroup, so a file that is not there is refused in either way.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied)
}

/// Kills what is left in a cgroup and removes it. The kernel may take a moment to see that it is empty.
fn remove(directory: &Path) {
    for _ in 0..REMOVALS {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => kill_all(directory),
            _ => return, // done, or beyond us
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_all(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let ids = processes.lines().filter_map(|line| line.parse().ok());
    for id in ids.filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stderr)]
    use super::*;

    #[test]
    fn what_a_dead_kiln_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!("kiln-{}-7", std::process::id());
        let names = ["kiln-4194305-0", &ours, "kiln-x-1", "other"]; // above the largest process id
        for name in names {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        sweep(dir.path());
        let is_there = |name: &&str| dir.path().join(name).exists();
        let left: Vec<_> = names.into_iter().filter(is_there).collect();
        assert_eq!(left, [&ours, "kiln-x-1", "other"]);
    }

    #[test]
    fn sandbox_cgroups_are_made_limited_and_removed() {
        // R-RT-14
        let hierarchies = Hierarchies::find().unwrap();
        let resources = Resources {
            memory: Some(64 << 20),
            pids: Some(50),
            ..Resources::default()
        };
        let (cgroup, missing) = StepCgroup::make(&hierarchies, &resources, None).unwrap();
        if !missing.is_empty() {
            return eprintln!("*** SKIPPED: {missing:?} ***");
        }
        let joins = cgroup.joins();
        assert!(!joins.is_empty());
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        for join in &joins {
            fs::write(join, sleeper.id().to_string()).unwrap();
        }
        assert_eq!(cgroup.killed_for_memory(), 0);
        assert!(cgroup.peak_memory().is_some());
        drop(cgroup);
        assert!(joins.iter().all(|join| !join.exists()), "{joins:?}");
        assert!(!sleeper.wait().unwrap().success());
    }
}
