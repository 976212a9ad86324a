//! `--cidfile` of `kiln run`: a file with the container's id, for scripts that look for it later.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::exit::Exit;
use crate::failure::Failure;

/// The file, which is removed again if no container comes of it.
#[derive(Debug)]
pub(super) struct CidFile<'a> {
    path: &'a Path,
    stays: bool,
}

impl<'a> CidFile<'a> {
    /// Writes it where nothing is yet: as Docker has it, what is there may be another container's.
    pub(super) fn write(path: &'a Path, id: &str) -> Result<Self, Failure> {
        let mut file = File::create_new(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let message = format!("there is a file `{}` already", path.display());
                Failure::new(Exit::Failed, "container", message)
                    .help("make sure that the other container isn't running, and delete the file")
            }
            _ => Failure::unwritable(path, &error),
        })?;
        let made = Self { path, stays: false };
        let written = file.write_all(id.as_bytes());
        written.map_err(|error| Failure::unwritable(path, &error))?;
        Ok(made)
    }

    /// There has been a container of this id.
    pub(super) fn keep(mut self) {
        self.stays = true;
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.stays {
            let _ = std::fs::remove_file(self.path); // at worst it names a container that never was
        }
    }
}
