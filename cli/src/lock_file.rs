//! Where the lock of a Dockerfile is: beside it, as `Dockerfile.lock`, unless a flag says otherwise.

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_executor::lock::Lock;

use crate::command::explain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recipe::Recipe;

/// Where a recipe's lock file is.
///
/// # Errors
/// If the Dockerfile is no file of this machine, and `chosen` is nothing.
pub(crate) fn path(recipe: &Recipe, chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(chosen) = chosen {
        return Ok(chosen.to_owned());
    }
    let dockerfile = match &recipe.file {
        Some(file) => file.clone(),
        None => explain::default_dockerfile(&recipe.context),
    };
    if !dockerfile.is_file() {
        let message = "the Dockerfile is no file of this machine, so there is no lock beside it";
        return Err(Failure::usage(message).help("name the lock file with `--lock-file`"));
    }
    let mut path = dockerfile.into_os_string();
    path.push(".lock");
    Ok(path.into())
}

/// The lock at a path; `None` if there is no file.
///
/// # Errors
/// If it can't be read, or is no lock.
pub(crate) fn read(path: &Path) -> Result<Option<Lock>, Failure> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::unreadable(path, &error)),
    };
    Lock::from_json(&text).map(Some).map_err(|error| {
        let message = format!("could not use `{}`: {error}", path.display());
        Failure::new(Exit::Usage, "bad-lock-file", message)
    })
}

/// Writes it, whole or not at all; nothing if it is there already.
pub(crate) fn write(path: &Path, lock: &Lock) -> Result<(), Failure> {
    let text = lock.to_json();
    if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let written = || {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|error: std::io::Error| Failure::unwritable(path, &error))
}

/// What a build with `--locked` says where there is no file.
pub(crate) fn missing(path: &Path) -> Failure {
    let message = format!("there is no lock file `{}`", path.display());
    Failure::new(Exit::Usage, "no-lock-file", message).help("`kiln lock` makes it")
}
