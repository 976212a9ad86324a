//! The contents of a copy's files: from the context, from layers, from archives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use kiln_image::contents::{Contents, Opened};
use kiln_image::tar::WriteError;
use kiln_image::{ImagePath, Node};

use super::{From, Sources, Trees};
use crate::error::Cause;
use crate::event::Task;
use crate::layers::{LayerContents, Layers, changed_file};
use crate::op::archive::Unpacked;
use crate::op::file::Origin;

/// The contents of a copy's files, each from where it is now.
pub(super) struct SourceContents<'a> {
    origins: &'a BTreeMap<ImagePath, Origin>,
    sources: &'a Sources<'a>,
    trees: &'a Trees,
    archives: &'a Unpacked,
    /// Layers of the roots that are read from, by input and index.
    layers: HashMap<(usize, u32), Arc<LayerContents>>,
}

impl<'a> SourceContents<'a> {
    /// Gets ready to read: layers that files come from are brought here first.
    pub(super) fn of(
        origins: &'a BTreeMap<ImagePath, Origin>,
        sources: &'a Sources<'a>,
        trees: &'a Trees,
        archives: &'a Unpacked,
        layers: &Layers<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        let mut needed = BTreeSet::new();
        for origin in origins.values() {
            if let Origin::Input { input, path } = origin
                && let From::Root(_) = &sources.0[input]
                && let Some(found) = trees[input].0.lookup(path)
            {
                needed.insert((*input, found.layer));
            }
        }
        let mut found = HashMap::new();
        for (input, layer) in needed {
            if let From::Root(root) = &sources.0[&input] {
                let contents = layers.contents(root.layers[layer as usize], task)?;
                found.insert((input, layer), contents);
            }
        }
        Ok(SourceContents {
            origins,
            sources,
            trees,
            archives,
            layers: found,
        })
    }
}

impl SourceContents<'_> {
    /// A file that is not what its tree says was changed in the context, or damaged in the store.
    pub(super) fn write_error(&self, error: WriteError, layers: &Layers<'_>) -> Cause {
        let Some(Origin::Input { input, path }) =
            changed_file(&error).and_then(|path| self.origins.get(path))
        else {
            return Cause::layer("write", "of the copy")(error);
        };
        match (&self.sources.0[input], self.trees[input].0.lookup(path)) {
            (From::Root(root), Some(found)) => {
                layers.unreadable(root.layers[found.layer as usize], path)
            }
            _ => Cause::ContextChanged {
                path: path.to_string(),
            },
        }
    }
}

impl Contents for SourceContents<'_> {
    fn open_vouched(&self, path: &ImagePath, node: &Node) -> io::Result<Opened<'_>> {
        if let Some(Origin::Input { input, path }) = self.origins.get(path)
            && let From::Context(context) = &self.sources.0[input]
        {
            return context.open_vouched(path, node);
        }
        Ok(Opened {
            content: self.open(path, node)?,
            is_vouched: false,
        })
    }

    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        match self.origins.get(path) {
            Some(Origin::Inline(bytes)) => Ok(Box::new(Cursor::new(bytes))),
            Some(Origin::Input { input, path }) => match &self.sources.0[input] {
                From::Context(context) => Ok(context.open(path, node)?),
                From::Root(_) => {
                    let found = self.trees[input]
                        .0
                        .lookup(path)
                        .ok_or(io::ErrorKind::NotFound)?;
                    self.layers[&(*input, found.layer)].open(path, node)
                }
            },
            Some(Origin::Archive {
                input,
                archive,
                content,
            }) => self.archives.open(*input, archive, *content, node),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
