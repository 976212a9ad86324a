//! Containers that ended and are kept: looked at, exported, found by name.

use std::io::Write;

use kiln_cache::{ContainerRecord, OutputId};
use kiln_image::{Change, DiffId, Digest, ImagePath, Tree};

use super::Subject;
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::Task;
use crate::export::write_root;
use crate::images::StoredImage;
use crate::rootfs::RootFs;

/// What became of a path, in Docker's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// `A`: it is new.
    Added,
    /// `C`: it is another, or what is in it is.
    Changed,
    /// `D`: it is gone.
    Deleted,
}

/// Directories that the sandbox makes for what it mounts, where an image lacks them.
const MOUNTED: [&[u8]; 3] = [b"dev", b"proc", b"sys"];

/// A new id: 64 hexadecimal digits.
pub fn new_id(of: impl std::fmt::Display) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seed = format!("{of} {} {now}", std::process::id());
    Digest::of(seed.as_bytes()).hex()
}

/// The container that `text` names: a name, an id, or the beginning of one.
pub fn find(services: &Services<'_>, text: &str) -> Result<ContainerRecord, BuildError> {
    let missing = |message: String| BuildError::new(Cause::Image(message));
    let all = services.store.containers().list();
    let all = all.map_err(BuildError::new)?;
    if let Some(named) = all.iter().find(|one| one.name == text) {
        return Ok(named.clone());
    }
    let begins = |one: &&ContainerRecord| !text.is_empty() && one.id.starts_with(text);
    let mut found = all.iter().filter(begins);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => Err(missing(format!(
            "several containers have an id that begins with `{text}`"
        ))),
        (None, _) => Err(missing(format!("there is no container `{text}`"))),
    }
}

/// What a container changed, each path with its parents, in the order of paths.
pub fn differences(
    services: &Services<'_>,
    container: &ContainerRecord,
    task: &Task<'_>,
) -> Result<Vec<(Difference, ImagePath)>, BuildError> {
    let look = || -> Result<_, Cause> {
        let Some(layer) = container.changes else {
            return Ok(Vec::new());
        };
        let tree = root_of(&container.layers).tree(&services.layers, task)?;
        let changeset = services.layers.changeset(layer, task)?;
        let own_tree = Tree::of(&changeset);
        let is_mount_point = |path: &ImagePath| {
            let empty = own_tree
                .directory(path)
                .is_some_and(|it| it.entries.is_empty());
            MOUNTED.contains(&path.as_bytes()) && empty && tree.lookup(path).is_none()
        };
        let named = changeset
            .iter()
            .filter(|(path, _)| !path.is_root() && !is_mount_point(path));
        let told = named.map(|(path, change)| {
            let difference = match change {
                Change::Remove => Difference::Deleted,
                _ if tree.lookup(path).is_some() => Difference::Changed,
                _ => Difference::Added,
            };
            (difference, path.clone())
        });
        Ok(told.collect())
    };
    look().map_err(BuildError::new)
}

/// Writes the root filesystem of a container as a tar.
pub fn export(
    services: &Services<'_>,
    container: &ContainerRecord,
    out: &mut dyn Write,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let root = root_of(&container.all_layers());
    write_root(&root, None, services, out, task).map_err(BuildError::new)
}

/// Writes the root filesystem of an image as a tar.
pub fn export_image(
    services: &Services<'_>,
    image: &StoredImage,
    out: &mut dyn Write,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let root = root_of(image.config.diff_ids());
    write_root(&root, None, services, out, task).map_err(BuildError::new)
}

/// Brings all layers into the store.
pub fn fetch(
    services: &Services<'_>,
    subject: &Subject,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let fetched = services.layers.fetch_all(subject.config.diff_ids(), task);
    fetched.map_err(BuildError::new)?;
    services.store.sync().map_err(BuildError::new)
}

/// The first of these files that is there.
pub fn find_program(
    services: &Services<'_>,
    subject: &Subject,
    wanted: &[String],
    task: &Task<'_>,
) -> Result<Option<String>, BuildError> {
    let root = root_of(subject.config.diff_ids());
    let tree = root.tree(&services.layers, task).map_err(BuildError::new)?;
    let is_there = |path: &&String| {
        let found = tree.resolve(&ImagePath::root(), path.as_bytes(), true);
        found.is_ok_and(|found| found.exists)
    };
    Ok(wanted.iter().find(is_there).cloned())
}

pub(crate) fn root_of(layers: &[DiffId]) -> RootFs {
    RootFs::base(OutputId::image(layers), layers.to_vec())
}
