//! A root filesystem where no overlay can be mounted: all layers as plain files in one directory, which the step changes in place.
//!
//! What it changed shows in the objects' change times. A copy is dear, so a step leaves its own to whoever comes next: the step
//! after it finds there what it needs but for layers that were made without a RUN, and they are added.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::BufWriter;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kiln_cache::{LayerStaging, ScratchDir};
use kiln_image::contents::DirContents;
use kiln_image::scan::{Draft, Owners, Stamps, scan_since};
use kiln_image::tar::apply_changeset;
use kiln_image::{Change, Changeset, DiffId, ImagePath, Kind, Node, NodeRef, Tree};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::{dress, write_until};
use crate::Services;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::event::Task;
use crate::locked::locked;
use crate::rootfs::RootFs;
use crate::sandbox::{Footing, Removals, RootSpec, Rung, seccomp};

/// The directory of the root within its own scratch directory, where the sandbox puts aside what a step must not see.
const ROOT: &str = "root";

/// What stands in these directories while a step runs is the sandbox's, so an image's own content is not even copied.
const KERNEL: [&str; 3] = ["dev", "proc", "sys"];

/// As many copies are kept for later steps.
const MOST_KEPT: usize = 4;

/// A root filesystem as plain files.
pub(crate) struct Copy<'s> {
    scratch: ScratchDir,
    layers: Vec<DiffId>,
    before: Stamps,
    names: Names,
    staging: LayerStaging<'s>,
}

/// What becomes of the several names that a layer gives to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// They are names of one file: whoever answers the step's calls makes a copy before it is changed by one of them, as overlayfs does.
    Together,
    /// Each is a file of its own.
    Apart,
}

/// Copies that ended steps left, with the layers that they are made of.
#[derive(Default)]
pub(crate) struct Copies {
    kept: Mutex<Vec<Kept>>,
}

/// A copy that is whole, and as it was when somebody looked.
struct Kept {
    layers: Vec<DiffId>,
    scratch: ScratchDir,
    /// What it had then, if nothing has changed since.
    seen: Option<Stamps>,
}

impl<'s> Copy<'s> {
    pub(super) fn prepare(
        rung: Rung,
        root: &RootFs,
        services: &'s Services<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        let names = Names::possible(rung, services.store.root());
        let (scratch, seen) = match services.copies.take(&root.layers) {
            Some(kept) => {
                let missing = &root.layers[kept.layers.len()..];
                bring_up_to_date(kept.scratch.path(), missing, services, task)?;
                (kept.scratch, kept.seen.filter(|_| missing.is_empty()))
            }
            None => (copied(names, root, services, task)?, None),
        };
        let directory = scratch.path().join(ROOT);
        let metadata = root.tree(&services.layers, task)?.root().metadata.clone();
        dress(&directory, &metadata, services.footing)?;
        let before = match seen {
            Some(seen) => seen.again(&directory),
            None => Stamps::take(&directory),
        };
        let before = before.map_err(Cause::layer("read", "of the step"))?;
        Ok(Self {
            scratch,
            layers: root.layers.clone(),
            before,
            names,
            staging: services.store.layers().stage()?,
        })
    }

    pub(super) fn root_spec(&self) -> RootSpec {
        RootSpec::Directory(self.directory())
    }

    pub(super) fn commit(
        mut self,
        owners: &Owners,
        services: &Services<'_>,
        step: &str,
        tree: &Tree,
        halt: &Cancel,
    ) -> Result<(DiffId, Arc<Changeset>), Cause> {
        let directory = self.directory();
        let contents = DirContents::open(&directory).map_err(Cause::file("open", &directory))?;
        let (mut draft, mut seen) =
            scan_since(&directory, &self.before, owners).map_err(Cause::layer("read", step))?;
        draft.retain(|path, _| !is_kernels(path));
        let linked = linked(&draft, &directory)?;
        let draft = draft
            .normalise(tree, &contents)
            .map_err(Cause::layer("read", step))?;
        let unchanged = unchanged(draft.dropped(), tree);
        let out = BufWriter::new(self.staging.create_tar()?);
        let (changeset, summary) = write_until(halt, draft, &contents, out, step)?;
        self.staging
            .commit(&summary.diff_id, &changeset, summary.size)?;
        let strangers = match self.names {
            Names::Together => strangers(linked, &changeset, tree),
            Names::Apart => linked.into_iter().map(|(path, _)| path).collect(),
        };
        let is_as_seen = strangers.is_empty();
        if !is_as_seen {
            let apart = apart(strangers, &changeset, tree);
            put(&apart, &directory, services.footing)?;
        }
        put(&unchanged, &directory, services.footing)?;
        let paths = unchanged.iter().map(|(path, _)| path);
        seen.renew(&directory, paths)
            .map_err(Cause::layer("read", step))?;
        self.layers.push(summary.diff_id);
        services.copies.keep(Kept {
            layers: self.layers,
            scratch: self.scratch,
            seen: is_as_seen.then_some(seen),
        });
        let changeset = services.layers.remember(summary.diff_id, changeset);
        Ok((summary.diff_id, changeset))
    }

    /// Leaves the copy to whoever comes next as it was before the step. One that this takes too much for goes.
    pub(super) fn rewind(
        self,
        root: &RootFs,
        services: &Services<'_>,
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let directory = self.directory();
        let (draft, _) = scan_since(&directory, &self.before, &services.footing.owners())
            .map_err(Cause::layer("read", "of the step"))?;
        let tree = root.tree(&services.layers, task)?;
        let Some(undoing) = undoing(&draft, &tree, self.names) else {
            return Ok(());
        };
        let mut directories = draft.iter().filter_map(|(path, change)| {
            let is_directory = change.node().is_some_and(Node::is_directory);
            is_directory.then(|| directory.join(OsStr::from_bytes(path.as_bytes())))
        });
        if directories.any(|found| has_attributes(&found)) {
            return Ok(()); // they are not taken from a directory that stays
        }
        let contents = root.contents(&ImagePath::root(), &services.layers, task)?;
        let options = services.footing.unpack_options(Removals::Delete);
        apply_changeset(&undoing, &contents, &directory, &options)
            .map_err(Cause::layer("copy", "of the image"))?;
        services.copies.keep(Kept {
            layers: self.layers,
            scratch: self.scratch,
            seen: None,
        });
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join(ROOT)
    }
}

impl Names {
    /// What there can be in a directory.
    fn possible(rung: Rung, directory: &Path) -> Self {
        let is_dated = || {
            let flags = AtFlags::empty();
            let found = rustix::fs::statx(CWD, directory, flags, StatxFlags::BTIME);
            found.is_ok_and(|found| found.stx_mask & StatxFlags::BTIME.bits() != 0)
        };
        match !rung.has_namespaces() && seccomp::SUPPORTED && is_dated() {
            true => Self::Together,
            false => Self::Apart,
        }
    }
}

impl Copies {
    fn keep(&self, copy: Kept) {
        let mut kept = locked(&self.kept);
        if kept.len() == MOST_KEPT {
            kept.remove(0);
        }
        kept.push(copy);
    }

    /// The copy that has most of `layers` and nothing else.
    fn take(&self, layers: &[DiffId]) -> Option<Kept> {
        let mut kept = locked(&self.kept);
        let (index, _) = kept
            .iter()
            .enumerate()
            .filter(|(_, copy)| layers.starts_with(&copy.layers))
            .max_by_key(|(_, copy)| copy.layers.len())?;
        Some(kept.remove(index))
    }
}

/// A fresh copy of all layers.
fn copied(
    names: Names,
    root: &RootFs,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<ScratchDir, Cause> {
    // What has to be fetched is unpacked on the way, and then known, too.
    let stored = services.store.layers();
    let mut absent = root.layers.clone();
    absent.retain(|layer| !stored.contains(layer));
    services.layers.unpack_all(&absent, task)?;
    let tree = root.tree(&services.layers, task)?;
    let contents = root.contents(&ImagePath::root(), &services.layers, task)?;
    let mut groups = HashMap::new();
    let put = tree
        .walk(&ImagePath::root())
        .filter(|(path, _)| !path.is_root() && !is_kernels(path))
        .map(|(path, found)| {
            let node = match names {
                Names::Together => numbered(found, &mut groups),
                Names::Apart => single(found.node()),
            };
            (path, Change::Put(node))
        });
    let changeset: Changeset = put.collect();
    let scratch = services.store.scratch_dir()?;
    let directory = scratch.path().join(ROOT);
    std::fs::create_dir(&directory).map_err(Cause::file("create", &directory))?;
    let options = services.footing.unpack_options(Removals::Ignore);
    apply_changeset(&changeset, &contents, &directory, &options)
        .map_err(Cause::layer("copy", "of the image"))?;
    Ok(scratch)
}

/// An object with the number that its file has among all layers. What is no file has one name: nobody makes a copy of it before it is changed.
fn numbered(found: NodeRef<'_>, groups: &mut HashMap<(u32, u64), u64>) -> Node {
    let mut node = found.node();
    node.link = link_of_file(found.kind, found.link).map(|link| {
        let next = groups.len() as u64;
        *groups.entry((found.layer, link)).or_insert(next)
    });
    node
}

fn link_of_file(kind: &Kind, link: Option<u64>) -> Option<u64> {
    link.filter(|_| matches!(kind, Kind::File { .. }))
}

/// Adds layers to a copy that has all those before them.
fn bring_up_to_date(
    scratch: &Path,
    layers: &[DiffId],
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let directory = scratch.join(ROOT);
    let options = services.footing.unpack_options(Removals::Delete);
    for layer in layers {
        let unpacked = services.layers.unpacked(*layer, task)?;
        let contents = DirContents::open(&unpacked).map_err(Cause::file("open", &unpacked))?;
        let changeset = services.layers.changeset(*layer, task)?;
        let wanted: Changeset = changeset
            .iter()
            .filter(|(path, _)| !path.is_root() && !is_kernels(path))
            .map(|(path, change)| (path.clone(), change.clone()))
            .collect();
        apply_changeset(&wanted, &contents, &directory, &options)
            .map_err(Cause::layer("copy", "of the step before"))?;
    }
    Ok(())
}

/// What a step has touched that has several names, with the numbers of the files. One that it has but linked to shows here, though no layer
/// has it for that.
fn linked(draft: &Draft, directory: &Path) -> Result<Vec<(ImagePath, u64)>, Cause> {
    let mut linked = Vec::new();
    for (path, change) in draft.iter() {
        if change.node().is_none_or(Node::is_directory) {
            continue;
        }
        let file = directory.join(OsStr::from_bytes(path.as_bytes()));
        let found = file.symlink_metadata();
        let found = found.map_err(Cause::file("stat", &file))?;
        if found.nlink() > 1 {
            linked.push((path.clone(), found.ino()));
        }
    }
    Ok(linked)
}

/// Names of objects whose names are not those that one layer gives to one file. A change of a file shows by all its names.
fn strangers(
    linked: Vec<(ImagePath, u64)>,
    changeset: &Changeset,
    before: &Tree,
) -> Vec<ImagePath> {
    let mut files: HashMap<u64, Vec<ImagePath>> = HashMap::new();
    for (path, inode) in linked {
        files.entry(inode).or_default().push(path);
    }
    let group = |path: &ImagePath| match changeset.get(path) {
        Some(change) => {
            let node = change.node()?;
            Some((None, link_of_file(&node.kind, node.link)?))
        }
        None => {
            let found = before.lookup(path)?;
            Some((Some(found.layer), link_of_file(found.kind, found.link)?))
        }
    };
    let mut strangers = Vec::new();
    for paths in files.into_values() {
        let first = group(&paths[0]);
        if first.is_none() || paths.iter().any(|path| group(path) != first) {
            strangers.extend(paths);
        }
    }
    strangers
}

/// The same objects with one name each, and the directories that they are in, as they are after a step.
fn apart(linked: Vec<ImagePath>, changeset: &Changeset, before: &Tree) -> Changeset {
    let node = |path: &ImagePath| {
        let changed = changeset.get(path).and_then(Change::node);
        let found = || before.lookup(path).map(|found| found.node());
        changed.cloned().or_else(found)
    };
    let parents: Vec<_> = linked.iter().filter_map(ImagePath::parent).collect();
    let all = parents.into_iter().filter(|path| !path.is_root());
    all.chain(linked)
        .filter_map(|path| {
            let node = single(node(&path)?);
            Some((path, Change::Put(node)))
        })
        .collect()
}

/// Directories in which something came and went again, which no layer has for that, as they were: the next step finds them with their times.
fn unchanged(dropped: &[ImagePath], before: &Tree) -> Changeset {
    let unchanged = dropped.iter().filter_map(|path| {
        let node = before.lookup(path)?.node();
        let is_below_root = node.is_directory() && !path.is_root();
        is_below_root.then(|| (path.clone(), Change::Put(node)))
    });
    unchanged.collect()
}

/// Puts objects into a copy. Those that a step gave several names to become objects of their own: links do not span layers, and in a later step a
/// change by one name is no change of the others (R-LAY-10).
fn put(objects: &Changeset, directory: &Path, footing: &Footing) -> Result<(), Cause> {
    if objects.is_empty() {
        return Ok(());
    }
    let contents = DirContents::open(directory).map_err(Cause::file("open", directory))?;
    let options = footing.unpack_options(Removals::Ignore);
    apply_changeset(objects, &contents, directory, &options)
        .map_err(Cause::layer("copy", "of the step before"))
}

/// What makes `before` again of what a step has made of it. `None` where that would take a file's other names as well.
fn undoing(draft: &Draft, before: &Tree, names: Names) -> Option<Changeset> {
    let is_kept_directory = |path: &ImagePath| {
        let found = before.lookup(path);
        found.is_some_and(|found| matches!(found.kind, Kind::Directory))
    };
    let mut undoing = Changeset::new();
    for (path, change) in draft.iter() {
        if path.is_root() || is_kernels(path) {
            continue;
        }
        let parent = path.parent().filter(|parent| !parent.is_root());
        let Some(found) = before.lookup(path) else {
            // What is in something new goes with that.
            if parent.as_ref().is_none_or(is_kept_directory) {
                undoing.insert(path.clone(), Change::Remove);
            }
            continue;
        };
        let is_directory = change.node().is_some_and(Node::is_directory);
        let is_there = is_directory && matches!(found.kind, Kind::Directory);
        // A directory has its times from what is put into it.
        let above = parent.and_then(|parent| Some((parent.clone(), before.lookup(&parent)?)));
        let all = if is_there { 1 } else { usize::MAX };
        for (path, found) in above.into_iter().chain(before.walk(path).take(all)) {
            if names == Names::Together && link_of_file(found.kind, found.link).is_some() {
                return None;
            }
            undoing.insert(path, Change::Put(single(found.node())));
        }
    }
    Some(undoing)
}

/// Whether an object has attributes other than the label that all have where any has.
fn has_attributes(object: &Path) -> bool {
    let mut names = [0; 1024];
    match rustix::fs::llistxattr(object, &mut names) {
        Ok(length) => {
            let mut names = names[..length].split(|byte| *byte == 0);
            names.any(|name| !matches!(name, b"" | b"security.selinux"))
        }
        Err(errno) => errno != Errno::NOTSUP,
    }
}

/// An object without its other names.
fn single(node: Node) -> Node {
    Node { link: None, ..node }
}

fn is_kernels(path: &ImagePath) -> bool {
    let mut names = path.components();
    let top = names.next();
    names.next().is_some() && KERNEL.iter().any(|name| top == Some(name.as_bytes()))
}
