//! Directories that a layer has something in but doesn't list, as the layers below have them.
//!
//! An overlay shows a directory as the topmost layer that has it. Where that one says nothing of it, as in the layers of tools that
//! write but the files, it is what the unpacked layer had to be given: 0755, owned by root. What it is to be depends on the
//! layers below, and an unpacked layer serves many images. So a layer of directories alone goes on top of all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kiln_cache::{ScratchDir, Store};
use kiln_image::Changeset;
use kiln_image::contents::NoContents;
use kiln_image::tar::apply_changeset;

use crate::error::Cause;
use crate::locked::locked;
use crate::sandbox::{Footing, Removals};

/// Such layers, each made once, so that steps with the same directories have the same overlay.
#[derive(Default)]
pub(crate) struct Dressings {
    made: Mutex<Vec<(Arc<Changeset>, ScratchDir)>>,
}

impl Dressings {
    /// The layer that makes these directories what they are to be; nothing where there are none.
    pub(super) fn above(
        &self,
        undressed: &Arc<Changeset>,
        store: &Store,
        footing: &Footing,
    ) -> Result<Option<PathBuf>, Cause> {
        if undressed.is_empty() {
            return Ok(None);
        }
        let mut made = locked(&self.made);
        let is_same = |known: &Arc<Changeset>| Arc::ptr_eq(known, undressed) || known == undressed;
        if let Some((_, known)) = made.iter().find(|(known, _)| is_same(known)) {
            return Ok(Some(known.path().to_owned()));
        }
        let scratch = store.scratch_dir()?;
        make(undressed, scratch.path(), footing)?;
        let path = scratch.path().to_owned();
        made.push((undressed.clone(), scratch));
        Ok(Some(path))
    }
}

/// Makes the directories in one that is empty: such a layer, or, where there is no room for one more, what takes a step's changes.
pub(super) fn make(
    undressed: &Changeset,
    directory: &Path,
    footing: &Footing,
) -> Result<(), Cause> {
    let options = footing.unpack_options(Removals::Ignore);
    apply_changeset(undressed, &NoContents, directory, &options)
        .map_err(Cause::layer("make", "of directories"))
}
