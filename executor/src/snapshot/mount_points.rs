//! Mount points of every step, in a layer of their own below the image's.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are mounted in every step. Where an image lacks them, they would have to be made in the upper
//! directory, for which overlayfs copies `/etc` there, and all of it taken away again after the step. An empty file below all
//! layers is as good a place, and no change that could get into a layer.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kiln_cache::{ScratchDir, Store};
use kiln_image::{ImagePath, Tree};

/// The directory they are in.
const DIRECTORY: &str = "/etc";

/// What is mounted there.
const FILES: [&str; 2] = ["hosts", "resolv.conf"];

/// The layer, made for the first step that has use for it.
#[derive(Default)]
pub(crate) struct MountPoints {
    made: OnceLock<Option<ScratchDir>>,
}

impl MountPoints {
    /// The layer for a root filesystem with that directory, but not all of the files. Nothing where it can't be made: the step then makes
    /// what it needs by itself.
    pub(super) fn below(&self, tree: &Tree, store: &Store) -> Option<PathBuf> {
        let directory = ImagePath::clean(DIRECTORY.as_bytes());
        tree.directory(&directory)?;
        let lacks = |name: &str| {
            let path = ImagePath::clean(format!("{DIRECTORY}/{name}").as_bytes());
            tree.lookup(&path).is_none()
        };
        if !FILES.into_iter().any(lacks) {
            return None;
        }
        let made = self.made.get_or_init(|| {
            let scratch = store.scratch_dir().ok()?;
            make(scratch.path()).ok()?;
            Some(scratch)
        });
        made.as_ref().map(|scratch| scratch.path().to_owned())
    }
}

fn make(layer: &Path) -> io::Result<()> {
    let directory = layer.join(DIRECTORY.trim_start_matches('/'));
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    for name in FILES {
        let path = directory.join(name);
        File::create_new(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}
