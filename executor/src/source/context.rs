//! The contexts of a build: the build context and the named ones (R-CTX-1), each read when a step needs it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use kiln_cache::{FileTime, Store};
use kiln_image::contents::Opened;
use kiln_image::{Digest, ImagePath, Node, Tree};
use kiln_planner::ContextName;

use super::folder::{ContextOptions, Folder};
use super::load::FetchedContext;
use super::modes::ContextModes;
use super::spooled::Spooled;
use crate::error::Cause;
use crate::images::LayoutImage;
use crate::rootfs::RootFs;

/// What messages call the context that has no name.
pub(crate) const BUILD_CONTEXT: &str = "the build context";

/// Where the files of a context are.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// In a directory of this machine.
    Folder(ContextOptions),
    /// In a tree that was read as a whole.
    Spooled(Arc<Spooled>),
    /// In a layer of the store.
    Fetched(FetchedContext),
}

/// The contexts of a build.
#[derive(Debug, Clone, Default)]
pub struct ContextSources {
    /// The build context; `None` for a build without one.
    pub main: Option<ContextSource>,
    /// The named contexts that have files.
    pub named: BTreeMap<ContextName, ContextSource>,
    /// The named contexts that are images of layouts.
    pub layouts: BTreeMap<ContextName, LayoutImage>,
}

/// The contexts of a build being used.
pub(crate) struct Contexts(BTreeMap<Option<ContextName>, InUse>);

enum InUse {
    /// Read file by file.
    Files(Context),
    /// A root filesystem as any stage has it.
    Root(Arc<RootFs>),
}

/// A context being used.
pub(crate) struct Context {
    /// What messages call it.
    called: String,
    files: Files,
}

enum Files {
    Folder(Box<Folder>),
    Spooled(Arc<Spooled>),
}

impl ContextSources {
    /// Sets the modes that files of folders have, the build context's and those of named contexts.
    pub fn set_modes(&mut self, modes: ContextModes) {
        for source in self.main.iter_mut().chain(self.named.values_mut()) {
            if let ContextSource::Folder(folder) = source {
                folder.modes = modes;
            }
        }
    }
}

impl ContextSource {
    /// How the user calls it.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self {
            ContextSource::Folder(folder) => &folder.shown,
            ContextSource::Spooled(spooled) => spooled.shown(),
            ContextSource::Fetched(fetched) => fetched.shown(),
        }
    }
}

impl Contexts {
    pub(crate) fn new(sources: &ContextSources, store: &Store) -> Self {
        let main = sources.main.iter().map(|source| (None, source));
        let named = sources.named.iter();
        let named = named.map(|(name, source)| (Some(name.clone()), source));
        let used = |(name, source): (Option<ContextName>, &ContextSource)| {
            let called = match &name {
                None => BUILD_CONTEXT.to_owned(),
                Some(name) => format!("the context `{name}`"),
            };
            let files = match source {
                ContextSource::Folder(folder) => {
                    Files::Folder(Box::new(Folder::new(folder.clone(), store)))
                }
                ContextSource::Spooled(spooled) => Files::Spooled(spooled.clone()),
                ContextSource::Fetched(fetched) => {
                    return (name, InUse::Root(fetched.root().clone()));
                }
            };
            (name, InUse::Files(Context { called, files }))
        };
        Contexts(main.chain(named).map(used).collect())
    }

    /// The context with this name; the build context has none.
    pub(crate) fn find(&self, name: Option<&ContextName>) -> Option<&Context> {
        match self.0.get(&name.cloned())? {
            InUse::Files(context) => Some(context),
            InUse::Root(_) => None,
        }
    }

    /// Gets a context ready: `None` if it is to be read file by file, its root filesystem if it has one.
    pub(crate) fn open(&self, name: Option<&ContextName>) -> Result<Option<Arc<RootFs>>, Cause> {
        match self.0.get(&name.cloned()) {
            Some(InUse::Files(context)) => context.read().map(|()| None),
            Some(InUse::Root(root)) => Ok(Some(root.clone())),
            None => Err(Cause::Unsupported(match name {
                None => "there is no build context".to_owned(),
                Some(name) => format!("there is no context `{name}`"),
            })),
        }
    }

    /// Remembers digests for the next build.
    pub(crate) fn save(&self) -> Result<(), Cause> {
        self.0.values().try_for_each(|context| match context {
            InUse::Files(context) => context.save(),
            InUse::Root(_) => Ok(()),
        })
    }
}

impl Context {
    /// What messages call it: `the build context`.
    pub(crate) fn called(&self) -> &str {
        &self.called
    }

    /// Whether its files belong to nobody and are taken as root's (R-COPY-15). The members of an archive keep the owners they
    /// have there.
    pub(crate) fn is_ownerless(&self) -> bool {
        matches!(self.files, Files::Folder(_))
    }

    /// Lists it, once.
    pub(crate) fn read(&self) -> Result<(), Cause> {
        match &self.files {
            Files::Folder(folder) => folder.read(),
            Files::Spooled(_) => Ok(()),
        }
    }

    /// The tree with the digests of the files at `paths`.
    pub(crate) fn tree_with(&self, paths: &[ImagePath]) -> Result<Arc<Tree>, Cause> {
        match &self.files {
            Files::Folder(folder) => folder.tree_with(paths),
            Files::Spooled(spooled) => Ok(spooled.tree().clone()),
        }
    }

    /// Opens a file.
    pub(crate) fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        match &self.files {
            Files::Folder(folder) => Ok(folder.open(path, node)?),
            Files::Spooled(spooled) => spooled.open(path),
        }
    }

    /// Whether the digests of all files are known without reading any.
    pub(crate) fn is_remembered(&self) -> bool {
        match &self.files {
            Files::Folder(folder) => folder.is_remembered(),
            Files::Spooled(_) => true,
        }
    }

    /// Opens a file for somebody who goes by the digest that is known of it, see [`Folder::open_vouched`].
    pub(crate) fn open_vouched(&self, path: &ImagePath, node: &Node) -> io::Result<Opened<'_>> {
        match &self.files {
            Files::Folder(folder) => folder.open_vouched(path, node),
            Files::Spooled(spooled) => Ok(Opened {
                content: spooled.open(path)?,
                is_vouched: false,
            }),
        }
    }

    /// Now, for [`Context::learn`]; `None` where all digests are known.
    pub(crate) fn moment(&self) -> Result<Option<FileTime>, Cause> {
        match &self.files {
            Files::Folder(folder) => folder.moment().map(Some),
            Files::Spooled(_) => Ok(None),
        }
    }

    /// Takes digests of files that were read after the moment `began`.
    pub(crate) fn learn(&self, digests: &[(ImagePath, Digest)], began: FileTime) {
        if let Files::Folder(folder) = &self.files {
            folder.learn(digests, began);
        }
    }

    /// What is known about a path that was not found: facts, and what else it could be.
    pub(crate) fn explain_missing(&self, path: &str) -> (Vec<String>, Vec<String>) {
        match &self.files {
            Files::Folder(folder) => folder.explain_missing(path),
            Files::Spooled(spooled) => spooled.explain_missing(path),
        }
    }

    fn save(&self) -> Result<(), Cause> {
        match &self.files {
            Files::Folder(folder) => folder.save(),
            Files::Spooled(_) => Ok(()),
        }
    }
}
