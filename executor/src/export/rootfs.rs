//! The final root filesystem, as a tar or as files.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use kiln_image::contents::Contents;
use kiln_image::tar::{UnpackOptions, Whiteouts, apply_changeset, write_layer};
use kiln_image::{Change, Changeset, DiffId, ImagePath, Node, Timestamp, Tree};

use crate::Services;
use crate::build::Built;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::{LayerContents, changed_file, changed_source};
use crate::rootfs::RootFs;

/// Writes the whole tree as one tar, owners kept (R-EXPORT-6).
pub(super) fn write_tar(
    built: &Built,
    services: &Services<'_>,
    out: &mut dyn Write,
    task: &Task<'_>,
) -> Result<(), Cause> {
    write_root(&built.root, built.source_date_epoch, services, out, task)
}

/// Writes a root filesystem as one tar, no file in it newer than `epoch`.
pub(crate) fn write_root(
    root: &RootFs,
    epoch: Option<i64>,
    services: &Services<'_>,
    out: &mut dyn Write,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let (changeset, contents) = whole_tree(root, epoch, services, task)?;
    write_layer(&changeset, &contents, out).map_err(|error| match changed_file(&error) {
        Some(path) => contents.unreadable(root, services, path),
        None => Cause::layer("write", "of the root filesystem")(error),
    })?;
    Ok(())
}

/// Writes the whole tree below `directory`, over what is there; files belong to the invoking user (R-EXPORT-5).
pub(super) fn write_files(
    built: &Built,
    services: &Services<'_>,
    directory: &Path,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let (changeset, contents) = whole_tree(&built.root, built.source_date_epoch, services, task)?;
    std::fs::create_dir_all(directory).map_err(Cause::file("create", directory))?;
    let options = UnpackOptions::unprivileged(Whiteouts::Ignore);
    apply_changeset(&changeset, &contents, directory, &options).map_err(
        |error| match changed_source(&error) {
            Some(path) => contents.unreadable(&built.root, services, path),
            None => Cause::layer("write", "of the root filesystem")(error),
        },
    )
}

fn whole_tree(
    root: &RootFs,
    epoch: Option<i64>,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(Changeset, MergedContents), Cause> {
    let contents = |layer: &DiffId| services.layers.contents(*layer, task);
    let contents = root.layers.iter().map(contents).collect::<Result<_, _>>()?;
    let tree = root.tree(&services.layers, task)?;
    let contents = MergedContents {
        layers: layers_of(&tree),
        contents,
    };
    let mut changeset = single_links(tree.to_changeset(), &tree);
    if let Some(epoch) = epoch {
        changeset = not_after(&changeset, Timestamp::from_secs(epoch));
    }
    Ok((changeset, contents))
}

/// Hard links hold within a layer only, and two layers may use the same number for theirs.
fn single_links(changeset: Changeset, tree: &Tree) -> Changeset {
    let layer = |path: &ImagePath| tree.lookup(path).map_or(0, |found| u64::from(found.layer));
    changeset
        .iter()
        .map(|(path, change)| {
            let mut change = change.clone();
            if let Change::Put(Node {
                kind:
                    kiln_image::Kind::File {
                        link: Some(link), ..
                    },
                ..
            }) = &mut change
            {
                *link = link.wrapping_mul(31).wrapping_add(layer(path) << 48);
            }
            (path.clone(), change)
        })
        .collect()
}

/// No file newer than the fixed date (R-SDE-2).
fn not_after(changeset: &Changeset, latest: Timestamp) -> Changeset {
    let clamped = |(path, change): (&ImagePath, &Change)| {
        let mut change = change.clone();
        if let Change::Put(node) = &mut change {
            node.metadata.mtime = node.metadata.mtime.min(latest);
        }
        (path.clone(), change)
    };
    changeset.iter().map(clamped).collect()
}

fn layers_of(tree: &Tree) -> HashMap<ImagePath, usize> {
    tree.walk(&ImagePath::root())
        .map(|(path, node)| (path, node.layer as usize))
        .collect()
}

/// Each file from the layer that put it there.
struct MergedContents {
    layers: HashMap<ImagePath, usize>,
    contents: Vec<Arc<LayerContents>>,
}

impl MergedContents {
    /// Why the file's content is not what its layer put there.
    fn unreadable(&self, root: &RootFs, services: &Services<'_>, path: &ImagePath) -> Cause {
        let index = self.layers.get(path).copied();
        let layer = index.and_then(|index| root.layers.get(index));
        let layer = layer.expect("every file of the tree is of one of its layers");
        services.layers.unreadable(*layer, path)
    }
}

impl Contents for MergedContents {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        let layer = self.layers.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.contents[*layer].open(path, node)
    }
}
