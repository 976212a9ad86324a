//! Where cgroups can be made: what is mounted, where kiln itself is, and what it may write to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::resources::Controller;

/// The hierarchies of this machine, as far as this process sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hierarchies {
    /// The old kind, by name of a controller.
    old: BTreeMap<String, Hierarchy>,
    /// The unified one.
    unified: Option<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    /// The directory that kiln is in.
    own: PathBuf,
}

/// Directories to make a step's cgroups in, and what can't be had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places {
    /// Of the old hierarchies, with the controllers that are mounted there together.
    pub(super) old: BTreeMap<PathBuf, Vec<Controller>>,
    /// Of the unified one.
    pub(super) unified: Option<(PathBuf, Vec<Controller>)>,
    /// Controllers that can't be used here, each with the reason.
    pub(super) missing: Vec<(Controller, String)>,
}

impl Hierarchies {
    /// Reads what the kernel says of this process.
    pub(crate) fn find() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::read(&mounts, &own))
    }

    /// From the texts of `mountinfo` and `cgroup` (proc(5), cgroups(7)).
    fn read(mounts: &str, own: &str) -> Self {
        let mut found = Self::default();
        for mount in mounts.lines().filter_map(Mount::read) {
            let hierarchy = |own_path: &str| Hierarchy {
                mount_point: mount.point.clone(),
                own: mount.directory(own_path),
            };
            if mount.kind == "cgroup2" {
                found.unified = own_path(own, "").map(hierarchy);
                continue;
            }
            for controller in mount.options.split(',') {
                if let Some(path) = own_path(own, controller) {
                    found.old.insert(controller.to_owned(), hierarchy(path));
                }
            }
        }
        found
    }

    /// Finds a directory for each controller: below `parent` if one is asked for, else below kiln's own.
    pub(super) fn places(&self, controllers: &[Controller], parent: Option<&str>) -> Places {
        let mut places = Places::default();
        let mut unified = Vec::new();
        for controller in controllers {
            match self.old.get(controller.name()) {
                Some(hierarchy) => match hierarchy.directory(parent) {
                    Ok(directory) => places.old.entry(directory).or_default().push(*controller),
                    Err(reason) => places.missing.push((*controller, reason)),
                },
                None => unified.push(*controller),
            }
        }
        match &self.unified {
            Some(hierarchy) if !unified.is_empty() || (parent.is_some() && self.old.is_empty()) => {
                hierarchy.unified_place(unified, parent, &mut places);
            }
            _ => {
                let reason = "no cgroup hierarchy with it is mounted at /sys/fs/cgroup";
                let missing = unified.into_iter().map(|one| (one, reason.to_owned()));
                places.missing.extend(missing);
            }
        }
        places
    }
}

impl Hierarchy {
    /// The directory of an old hierarchy to make cgroups in.
    fn directory(&self, parent: Option<&str>) -> Result<PathBuf, String> {
        match parent {
            None => Ok(self.own.clone()),
            Some(parent) => {
                let directory = self.below(parent);
                fs::create_dir_all(&directory)
                    .map_err(|error| could_not("make", &directory, &error))?;
                Ok(directory)
            }
        }
    }

    /// A path of the hierarchy, which can't lead out of it.
    fn below(&self, path: &str) -> PathBuf {
        let names = Path::new(path).components();
        let names = names.filter(|name| matches!(name, Component::Normal(_)));
        self.mount_point.join(names.collect::<PathBuf>())
    }

    fn unified_place(
        &self,
        controllers: Vec<Controller>,
        parent: Option<&str>,
        places: &mut Places,
    ) {
        let (available, missing): (Vec<_>, Vec<_>) = {
            let known = words(&self.mount_point.join("cgroup.controllers"));
            controllers
                .into_iter()
                .partition(|controller| known.iter().any(|name| name == controller.name()))
        };
        let reason = "the kernel has it not, or a container keeps it away";
        let missing = missing.into_iter().map(|one| (one, reason.to_owned()));
        places.missing.extend(missing);
        let found = match parent {
            Some(parent) => self.prepare_below(parent, &available),
            None => self.nearest(&available),
        };
        match found {
            Ok(directory) => places.unified = Some((directory, available)),
            Err(reason) => {
                let missing = available.into_iter().map(|one| (one, reason.clone()));
                places.missing.extend(missing);
            }
        }
    }

    /// Makes `parent` and hands the controllers down to it, level by level.
    fn prepare_below(&self, parent: &str, controllers: &[Controller]) -> Result<PathBuf, String> {
        let directory = self.below(parent);
        fs::create_dir_all(&directory).map_err(|error| could_not("make", &directory, &error))?;
        let mut levels: Vec<&Path> = directory.ancestors().collect();
        levels.retain(|level| level.starts_with(&self.mount_point));
        for level in levels.into_iter().rev() {
            hand_down(level, controllers)?;
        }
        Ok(directory)
    }

    /// The nearest directory, from kiln's own upwards, that hands the controllers down, or can be made to. Usually kiln's own has
    /// processes and can't (cgroups(7), "no internal processes").
    fn nearest(&self, controllers: &[Controller]) -> Result<PathBuf, String> {
        let mut reason = None;
        for directory in self.own.ancestors() {
            if !directory.starts_with(&self.mount_point) {
                break;
            }
            let usable = hand_down(directory, controllers).and_then(|()| may_write(directory));
            match usable {
                Ok(()) => return Ok(directory.to_owned()),
                // What is nearest says most about how kiln was started.
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        Err(reason.unwrap_or_else(|| "kiln's own cgroup can't be seen".to_owned()))
    }
}

/// Makes the children of a directory of the unified hierarchy have the controllers.
fn hand_down(directory: &Path, controllers: &[Controller]) -> Result<(), String> {
    let control = directory.join("cgroup.subtree_control");
    let handed = words(&control);
    for controller in controllers {
        if handed.iter().any(|name| name == controller.name()) {
            continue;
        }
        fs::write(&control, format!("+{}", controller.name()))
            .map_err(|error| could_not("write to", &control, &error))?;
    }
    Ok(())
}

fn may_write(directory: &Path) -> Result<(), String> {
    use rustix::fs::{Access, AtFlags, CWD};
    rustix::fs::accessat(CWD, directory, Access::WRITE_OK, AtFlags::EACCESS)
        .map_err(|error| could_not("write to", directory, &error.into()))
}

fn could_not(act: &str, path: &Path, error: &io::Error) -> String {
    format!("could not {act} `{}`: {error}", path.display())
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A line of `mountinfo`: `36 35 98:0 /root /point rw - cgroup cgroup rw,memory`.
struct Mount<'a> {
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem
            .next()
            .filter(|kind| kind.starts_with("cgroup"))?;
        Some(Self {
            root,
            point: point.into(),
            kind,
            options: filesystem.nth(1).unwrap_or_default(),
        })
    }

    /// Where a cgroup is seen. In a container the mount shows a part of the hierarchy only.
    fn directory(&self, path: &str) -> PathBuf {
        let below = Path::new(path).strip_prefix(self.root);
        self.point.join(below.unwrap_or(Path::new("")))
    }
}

/// kiln's path in the hierarchy of a controller, or in the unified one: `4:memory:/a`, `0::/b`.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = controllers.split(',').any(|name| name == controller);
        is_it.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OLD: &str = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const OWN: &str = "\
4:memory:/docker/1/a
3:cpu,cpuacct:/b
1:name=systemd:/
0::/c
";

    #[test]
    fn hierarchies_are_found_by_mount_and_own_path() {
        let found = Hierarchies::read(OLD, OWN);
        let own = |name: &str| found.old.get(name).map(|one| one.own.to_str().unwrap());
        assert_eq!(own("memory"), Some("/sys/fs/cgroup/memory/a"));
        assert_eq!(own("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/b"));
        assert_eq!(own("pids"), None);
        let unified = found.unified.as_ref().unwrap();
        assert_eq!(unified.own, Path::new("/sys/fs/cgroup/unified/c"));
        let places = found.places(&[Controller::Cpu, Controller::Memory], None);
        assert_eq!(places.old.len(), 2);
        assert_eq!(places.missing, []);
    }

    #[test]
    fn no_path_leads_out_of_a_hierarchy() {
        let hierarchy = Hierarchy {
            mount_point: "/m".into(),
            own: "/m/own".into(),
        };
        for path in ["/a/b", "a/b", "../a/./b", "/../../a/b/.."] {
            assert_eq!(hierarchy.below(path), Path::new("/m/a/b"), "{path}");
        }
    }

    /// A directory that looks like a unified hierarchy: `controllers` at its top, `handed` down by `slice`.
    fn pretended(handed: &str) -> (tempfile::TempDir, Hierarchy) {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("slice/own");
        fs::create_dir_all(&own).unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(dir.path().join("slice/cgroup.subtree_control"), handed).unwrap();
        // A directory with processes refuses: here because it is no file.
        fs::create_dir(own.join("cgroup.subtree_control")).unwrap();
        let hierarchy = Hierarchy {
            mount_point: dir.path().to_owned(),
            own,
        };
        (dir, hierarchy)
    }

    #[test]
    fn the_nearest_directory_that_hands_down_is_taken() {
        let (dir, hierarchy) = pretended("memory pids\n");
        let mut places = Places::default();
        let asked = vec![Controller::Memory, Controller::Cpuset];
        hierarchy.unified_place(asked, None, &mut places);
        let slice = dir.path().join("slice");
        assert_eq!(places.unified, Some((slice, vec![Controller::Memory])));
        assert_eq!(places.missing.len(), 1); // the kernel has no cpuset
    }

    #[test]
    fn a_parent_is_made_and_handed_controllers() {
        let (dir, hierarchy) = pretended("");
        let mut places = Places::default();
        hierarchy.unified_place(vec![Controller::Pids], Some("/ci/jobs"), &mut places);
        let parent = dir.path().join("ci/jobs");
        assert_eq!(places.unified, Some((parent, vec![Controller::Pids])));
        let handed = fs::read_to_string(dir.path().join("ci/cgroup.subtree_control"));
        assert_eq!(handed.unwrap(), "+pids");
    }
}
