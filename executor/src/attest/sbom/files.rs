//! The files of an image, looked at by name.

use kiln_image::{ImagePath, Kind, NodeRef, Tree};

use super::elf;
use crate::Services;
use crate::error::Cause;
use crate::event::Task;
use crate::rootfs::RootFs;

/// Longer files are no databases of packages, in bytes.
const LONGEST: u64 = 256 << 20;

/// The files of one image.
pub(super) struct Files<'a> {
    root: &'a RootFs,
    pub(super) tree: &'a Tree,
    services: &'a Services<'a>,
    task: &'a Task<'a>,
}

impl<'a> Files<'a> {
    pub(super) fn new(
        root: &'a RootFs,
        tree: &'a Tree,
        services: &'a Services<'a>,
        task: &'a Task<'a>,
    ) -> Self {
        Self {
            root,
            tree,
            services,
            task,
        }
    }

    /// The text of a regular file; `None` if there is none of this name. No link is followed.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, Cause> {
        let path = ImagePath::clean(path.as_bytes());
        match self.tree.lookup(&path) {
            Some(node) => self.text_of(&path, node),
            None => Ok(None),
        }
    }

    /// The text of a node that was found at a path, if that is a file and not absurdly long. Bytes that are no UTF-8 are replaced.
    pub(super) fn text_of(
        &self,
        path: &ImagePath,
        found: NodeRef<'_>,
    ) -> Result<Option<String>, Cause> {
        if !matches!(found.kind, Kind::File { size, .. } if *size <= LONGEST) {
            return Ok(None);
        }
        let layer = self.root.layers[found.layer as usize];
        let layers = &self.services.layers;
        let bytes = layers.read_file(layer, path, &found.node(), self.task)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Sections of a node that was found at a path, if that is a program, by their names.
    pub(super) fn sections<const N: usize>(
        &self,
        path: &ImagePath,
        found: NodeRef<'_>,
        names: [&str; N],
    ) -> Result<[Option<Vec<u8>>; N], Cause> {
        let Kind::File { size, .. } = *found.kind else {
            return Ok([const { None }; N]);
        };
        let layer = self.root.layers[found.layer as usize];
        let node = found.node();
        elf::sections(size, names, |start, length| {
            let layers = &self.services.layers;
            layers.read_part(layer, path, &node, (start, length), self.task)
        })
    }

    /// Whether there is anything at a path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.tree
            .lookup(&ImagePath::clean(path.as_bytes()))
            .is_some()
    }
}
