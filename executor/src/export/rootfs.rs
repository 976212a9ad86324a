//! The final root filesystem, as a tar or as files.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use kiln_image::contents::Contents;
use kiln_image::tar::{UnpackOptions, Whiteouts, apply_changeset, write_root_filesystem};
use kiln_image::{Change, Changeset, DiffId, ImagePath, Metadata, Node, Platform, Timestamp, Tree};

use super::stated;
use crate::Services;
use crate::build::Built;
use crate::container::root_of;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::{LayerContents, changed_file, changed_source};
use crate::product::Product;
use crate::rootfs::RootFs;

/// How the files of several platforms are told apart, and those with statements from all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming<'a> {
    /// Whether each platform has a directory of its own.
    pub(super) split: bool,
    /// What the names of files with statements begin with.
    pub(super) attestation_prefix: &'a str,
}

/// Writes the whole tree as one tar, owners kept (R-EXPORT-6).
pub(super) fn write_tar(
    product: &Product,
    naming: Naming<'_>,
    services: &Services<'_>,
    out: &mut dyn Write,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let trees = whole_trees(product, naming, services, task)?;
    write_root_filesystem(&trees.changeset, &trees, out).map_err(|error| {
        match changed_file(&error) {
            Some(path) => trees.unreadable(services, path),
            None => Cause::layer("write", "of the root filesystem")(error),
        }
    })?;
    Ok(())
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
    write_root_filesystem(&changeset, &contents, out).map_err(|error| {
        match changed_file(&error) {
            Some(path) => contents.unreadable(root, services, path),
            None => Cause::layer("write", "of the root filesystem")(error),
        }
    })?;
    Ok(())
}

/// Writes the whole tree below `directory`, over what is there; files belong to the invoking user (R-EXPORT-5). Where platforms
/// share a directory, no two may have a file of one name.
pub(super) fn write_files(
    product: &Product,
    naming: Naming<'_>,
    services: &Services<'_>,
    directory: &Path,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let trees = whole_trees(product, naming, services, task)?;
    std::fs::create_dir_all(directory).map_err(Cause::file("create", directory))?;
    let options = UnpackOptions::unprivileged(Whiteouts::Ignore);
    apply_changeset(&trees.changeset, &trees, directory, &options).map_err(|error| {
        match changed_source(&error) {
            Some(path) => trees.unreadable(services, path),
            None => Cause::layer("write", "of the root filesystem")(error),
        }
    })
}

/// The files of all images.
struct Trees<'b> {
    /// With the directories that images are in.
    changeset: Changeset,
    parts: Vec<Part<'b>>,
}

/// The files of one image.
struct Part<'b> {
    built: &'b Built,
    /// The directory they are in; the root if they have none of their own.
    below: ImagePath,
    contents: MergedContents,
    /// The files with statements about it, by their paths in it.
    said: BTreeMap<ImagePath, Vec<u8>>,
}

fn whole_trees<'b>(
    product: &'b Product,
    naming: Naming<'_>,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Trees<'b>, Cause> {
    let split = naming.split;
    let suffixed = product.images.len() > 1 && !split;
    let mut trees = Trees {
        changeset: Changeset::new(),
        parts: Vec::new(),
    };
    for built in &product.images {
        let (mut changeset, contents) =
            whole_tree(&built.root, built.source_date_epoch, services, task)?;
        let said = stated::files(built, &changeset, naming.attestation_prefix, suffixed);
        for (path, bytes) in &said {
            changeset.insert(path.clone(), stated::file(bytes, built.source_date_epoch));
        }
        let part = Part {
            said,
            built,
            below: match split {
                true => ImagePath::root().child(directory_of(&built.platform).as_bytes()),
                false => ImagePath::root(),
            },
            contents,
        };
        if product.images.len() == 1 && !split {
            trees.changeset = changeset;
        } else {
            trees.add(&part, changeset)?;
        }
        trees.parts.push(part);
    }
    Ok(trees)
}

/// `linux_arm_v7`
fn directory_of(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

impl Trees<'_> {
    /// Adds the files of one more image to those that are there.
    fn add(&mut self, part: &Part<'_>, changeset: Changeset) -> Result<(), Cause> {
        if !part.below.is_root() {
            let mut metadata = Metadata::directory();
            let date = part.built.source_date_epoch.map(Timestamp::from_secs);
            metadata.mtime = date.unwrap_or(metadata.mtime);
            self.changeset
                .put(part.below.clone(), Node::directory(metadata));
        }
        let index = self.parts.len() as u64;
        for (path, change) in &changeset {
            let place = part.below.join(path);
            let is_directory =
                |change: &Change| change.node().is_some_and(|node| node.kind.is_directory());
            match self.changeset.get(&place) {
                Some(there) if is_directory(there) && is_directory(change) => continue,
                Some(_) => return Err(self.collision(part, &place)),
                None => {}
            }
            let mut change = change.clone();
            if let Change::Put(Node {
                link: Some(link), ..
            }) = &mut change
            {
                *link = link.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            }
            self.changeset.insert(place, change);
        }
        Ok(())
    }

    fn collision(&self, part: &Part<'_>, path: &ImagePath) -> Cause {
        let first = self
            .part(path)
            .map_or(&part.built.platform, |(part, _)| &part.built.platform);
        let second = &part.built.platform;
        Cause::Export(format!(
            "cannot overwrite {path} from {first} with {second} when split option is disabled"
        ))
    }

    /// The image that has a file, and what it is called there.
    fn part(&self, path: &ImagePath) -> Option<(&Part<'_>, ImagePath)> {
        self.parts.iter().find_map(|part| {
            let inside = path.strip_prefix(&part.below)?;
            let is_there =
                part.said.contains_key(&inside) || part.contents.layers.contains_key(&inside);
            is_there.then_some((part, inside))
        })
    }

    /// Why a file's content is not what its layer put there.
    fn unreadable(&self, services: &Services<'_>, path: &ImagePath) -> Cause {
        let (part, inside) = self.part(path).expect("every file is of one of the images");
        part.contents
            .unreadable(&part.built.root, services, &inside)
    }
}

impl Contents for Trees<'_> {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        let (part, inside) = self.part(path).ok_or(io::ErrorKind::NotFound)?;
        match part.said.get(&inside) {
            Some(bytes) => Ok(Box::new(&bytes[..])),
            None => part.contents.open(&inside, node),
        }
    }
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
        changeset = changeset.not_after(Timestamp::from_secs(epoch)); // R-SDE-2
    }
    Ok((changeset, contents))
}

/// What `root` is over the lowest of its layers, as one layer with the contents of its files.
pub(crate) fn changes_over(
    base: &[DiffId],
    root: &RootFs,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(Changeset, impl Contents), Cause> {
    let (whole, contents) = whole_tree(root, None, services, task)?;
    let below = root_of(base).tree(&services.layers, task)?;
    let tree = root.tree(&services.layers, task)?;
    let mut changes = Changeset::new();
    for difference in below.differences(&tree, true) {
        let path = difference.path;
        let change = match difference.new {
            Some(_) => whole.get(&path).cloned(),
            // What is below something that is gone, or no directory any more, goes with it.
            None => path
                .parent()
                .is_some_and(|parent| tree.directory(&parent).is_some())
                .then_some(Change::Remove),
        };
        if let Some(change) = change {
            for parent in path.ancestors().filter(|parent| !parent.is_root()) {
                if let Some(directory) = whole.get(&parent) {
                    changes.insert(parent, directory.clone());
                }
            }
            changes.insert(path, change);
        }
    }
    Ok((changes, contents))
}

/// Hard links hold within a layer only, and two layers may use the same number for theirs.
fn single_links(changeset: Changeset, tree: &Tree) -> Changeset {
    let layer = |path: &ImagePath| tree.lookup(path).map_or(0, |found| u64::from(found.layer));
    changeset
        .iter()
        .map(|(path, change)| {
            let mut change = change.clone();
            if let Change::Put(Node {
                link: Some(link), ..
            }) = &mut change
            {
                *link = link.wrapping_mul(31).wrapping_add(layer(path) << 48);
            }
            (path.clone(), change)
        })
        .collect()
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
