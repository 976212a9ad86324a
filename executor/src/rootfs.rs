//! A root filesystem between two steps: which layers it is made of, and the tree they give.
//!
//! Most steps of a cached build need only its [`OutputId`]. The tree is put together when somebody asks for it,
//! from the parent's tree where that is there already.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use kiln_cache::OutputId;
use kiln_image::contents::Contents;
use kiln_image::{Change, Changeset, DiffId, ImagePath, Kind, Metadata, Node, NodeRef, Tree};

use crate::error::{Cause, MOST_LAYERS};
use crate::event::Task;
use crate::layers::{LayerContents, Layers};

/// The files of a root filesystem, each from the layer that has it.
pub(crate) struct RootContents {
    tree: Arc<Tree>,
    layers: BTreeMap<u32, Arc<LayerContents>>,
}

/// The output of a vertex: a root filesystem.
#[derive(Debug)]
pub(crate) struct RootFs {
    /// What identifies its content for the keys of the steps that read it.
    pub id: OutputId,
    /// Its layers, bottom first.
    pub layers: Vec<DiffId>,
    parent: Option<Arc<RootFs>>,
    tree: OnceLock<Arc<Tree>>,
    has_devices: OnceLock<bool>,
    unlisted: OnceLock<Option<Arc<Unlisted>>>,
    undressed: OnceLock<Arc<Changeset>>,
}

/// Directories that a layer has something in, but doesn't list.
#[derive(Debug)]
struct Unlisted {
    /// Those of layers below.
    below: Option<Arc<Unlisted>>,
    /// The index of the layer.
    layer: u32,
    paths: Vec<ImagePath>,
}

impl RootFs {
    /// The empty root, or an image's.
    pub(crate) fn base(id: OutputId, layers: Vec<DiffId>) -> Self {
        RootFs {
            id,
            layers,
            parent: None,
            tree: OnceLock::new(),
            has_devices: OnceLock::new(),
            unlisted: OnceLock::new(),
            undressed: OnceLock::new(),
        }
    }

    /// `parent` with one more layer.
    pub(crate) fn with_layer(parent: &Arc<RootFs>, id: OutputId, layer: DiffId) -> Self {
        let mut layers = parent.layers.clone();
        layers.push(layer);
        RootFs {
            id,
            layers,
            parent: Some(parent.clone()),
            tree: OnceLock::new(),
            has_devices: OnceLock::new(),
            unlisted: OnceLock::new(),
            undressed: OnceLock::new(),
        }
    }

    /// All layers applied. A layer's index in the tree is its index in [`RootFs::layers`].
    pub(crate) fn tree(&self, layers: &Layers<'_>, task: &Task<'_>) -> Result<Arc<Tree>, Cause> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree.clone());
        }
        let (mut tree, done) = match &self.parent {
            Some(parent) => (
                Tree::clone(&*parent.tree(layers, task)?),
                parent.layers.len(),
            ),
            None => (Tree::new(), 0),
        };
        layers.learn_all(&self.layers[done..], task)?;
        for (index, layer) in self.layers.iter().enumerate().skip(done) {
            let index = u32::try_from(index).expect("an image has few layers");
            tree.apply(index, &*layers.changeset(*layer, task)?);
        }
        Ok(self.tree.get_or_init(|| Arc::new(tree)).clone())
    }

    /// Whether a layer has a device node. Over those in `/dev` others are mounted.
    pub(crate) fn has_devices(&self, layers: &Layers<'_>, task: &Task<'_>) -> Result<bool, Cause> {
        if let Some(known) = self.has_devices.get() {
            return Ok(*known);
        }
        let (below, done) = match &self.parent {
            Some(parent) => (parent.has_devices(layers, task)?, parent.layers.len()),
            None => (false, 0),
        };
        let mut found = below;
        for layer in &self.layers[done..] {
            found = found || layers.changeset(*layer, task)?.iter().any(is_device);
        }
        Ok(*self.has_devices.get_or_init(|| found))
    }

    /// Directories whose topmost layer in an overlay doesn't say what they are, with those that they are in, as they are to
    /// be. Nothing, as a rule: most tools list the directories of what they put into a layer.
    pub(crate) fn undressed(
        &self,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<Arc<Changeset>, Cause> {
        if let Some(known) = self.undressed.get() {
            return Ok(known.clone());
        }
        let undressed = match self.undressed_below(layers, task)? {
            Some(same) => same,
            None => {
                let (tree, unlisted) = (self.tree(layers, task)?, self.unlisted(layers, task)?);
                Arc::new(undressed(&tree, unlisted.as_deref()))
            }
        };
        Ok(self.undressed.get_or_init(|| undressed).clone())
    }

    /// The same of the parent, unless the layers on top of it change something about it.
    fn undressed_below(
        &self,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<Option<Arc<Changeset>>, Cause> {
        let Some(parent) = &self.parent else {
            return Ok(None);
        };
        let identity = |unlisted: Option<Arc<Unlisted>>| unlisted.as_ref().map(Arc::as_ptr);
        if identity(self.unlisted(layers, task)?) != identity(parent.unlisted(layers, task)?) {
            return Ok(None);
        }
        let undressed = parent.undressed(layers, task)?;
        if undressed.is_empty() {
            return Ok(Some(undressed));
        }
        for layer in &self.layers[parent.layers.len()..] {
            let changeset = layers.changeset(*layer, task)?;
            let mut paths = changeset.iter().map(|(path, _)| path);
            if paths.any(|path| path.is_root() || undressed.get(path).is_some()) {
                return Ok(None);
            }
        }
        Ok(Some(undressed))
    }

    fn unlisted(
        &self,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<Option<Arc<Unlisted>>, Cause> {
        if let Some(known) = self.unlisted.get() {
            return Ok(known.clone());
        }
        let (mut all, done) = match &self.parent {
            Some(parent) => (parent.unlisted(layers, task)?, parent.layers.len()),
            None => (None, 0),
        };
        for (index, layer) in self.layers.iter().enumerate().skip(done) {
            let paths = layers.changeset(*layer, task)?.unlisted();
            if !paths.is_empty() {
                let layer = u32::try_from(index).expect("an image has few layers");
                let below = all;
                all = Some(Arc::new(Unlisted {
                    below,
                    layer,
                    paths,
                }));
            }
        }
        Ok(self.unlisted.get_or_init(|| all).clone())
    }

    /// The layers unpacked, bottom first, for an overlay. Overlayfs refuses a directory that is there twice, and of
    /// equal layers the topmost alone gives the same tree: it puts and removes all that the lower ones do. What is below
    /// a layer that hides everything is left out (R-LAY-4).
    pub(crate) fn lowers(
        &self,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<Vec<PathBuf>, Cause> {
        let mut seen = HashSet::new();
        let different: Vec<DiffId> = self
            .layers
            .iter()
            .rev()
            .copied()
            .filter(|layer| seen.insert(*layer))
            .collect();
        if different.len() > MOST_LAYERS {
            return Err(Cause::TooManyLayers {
                count: different.len(),
            });
        }
        layers.unpack_all(&different, task)?;
        let mut lowers = Vec::with_capacity(different.len());
        for layer in different {
            let unpacked = layers.unpacked(layer, task)?;
            let is_last = layers.hides_all_below(layer, &unpacked);
            lowers.push(unpacked);
            if is_last {
                break;
            }
        }
        lowers.reverse();
        Ok(lowers)
    }

    /// The content of all files below `path`.
    pub(crate) fn contents(
        &self,
        path: &ImagePath,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<RootContents, Cause> {
        let tree = self.tree(layers, task)?;
        let mut opened = BTreeMap::new();
        for (_, node) in tree.walk(path) {
            if !matches!(node.kind, Kind::File { .. }) || opened.contains_key(&node.layer) {
                continue;
            }
            let contents = layers.contents(self.layers[node.layer as usize], task)?;
            opened.insert(node.layer, contents);
        }
        Ok(RootContents {
            tree,
            layers: opened,
        })
    }

    /// Reads files of the tree, where the user and group files are asked for by name.
    pub(crate) fn reader<'r>(
        &'r self,
        layers: &'r Layers<'_>,
        task: &'r Task<'_>,
    ) -> impl Fn(&ImagePath, NodeRef<'_>) -> io::Result<Vec<u8>> + 'r {
        move |path, node| {
            let layer = self.layers[node.layer as usize];
            layers
                .read_file(layer, path, &node.node(), task)
                .map_err(io::Error::other)
        }
    }
}

impl Contents for RootContents {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        let found = self.tree.lookup(path).ok_or(io::ErrorKind::NotFound)?;
        self.layers[&found.layer].open(path, node)
    }
}

/// An object of a tree by itself. Hard links hold within a layer only, and two layers may use the same number for theirs.
pub(crate) fn unshared(found: NodeRef<'_>) -> Node {
    let mut node = found.node();
    if let Some(link) = &mut node.link {
        *link = link
            .wrapping_mul(31)
            .wrapping_add(u64::from(found.layer) << 48);
    }
    node
}

/// Of these directories and those below them, the ones that no layer above describes, with those that they are in.
fn undressed(tree: &Tree, unlisted: Option<&Unlisted>) -> Changeset {
    let undescribed = Metadata::directory();
    let mut undressed = Changeset::new();
    let all = std::iter::successors(unlisted, |unlisted| unlisted.below.as_deref());
    for Unlisted { layer, paths, .. } in all {
        for path in paths {
            let found = tree.directory(path);
            if found.is_none_or(|found| found.layer > *layer || found.metadata == undescribed) {
                continue;
            }
            for path in path.ancestors().chain([path.clone()]) {
                if let Some(found) = tree.directory(&path) {
                    let node = Node::directory(found.metadata.clone());
                    undressed.insert(path, Change::Put(node));
                }
            }
        }
    }
    undressed
}

/// Whether a change puts a device node anywhere but in `/dev`.
fn is_device((path, change): (&ImagePath, &Change)) -> bool {
    let kind = change.node().map(|node| &node.kind);
    let is_device = matches!(
        kind,
        Some(Kind::CharDevice { .. } | Kind::BlockDevice { .. })
    );
    is_device && path.components().next() != Some(b"dev".as_slice())
}
