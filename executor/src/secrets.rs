//! Secrets that a build was given. They are read when a step asks for one, and their values are in nothing that can be
//! printed: not in a key, an event, an error, or this type's `Debug` (R-CACHE-6).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Cause;

/// Largest secret in bytes, as in BuildKit.
const LARGEST: u64 = 500 * 1024;

/// Where a secret's value is.
#[derive(Clone)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// Here.
    Value(Vec<u8>),
}

/// Secrets by id.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, SecretSource>>);

impl Secrets {
    /// The value of a secret; `None` if it was not given.
    pub(crate) fn read(&self, id: &str) -> Result<Option<Vec<u8>>, Cause> {
        match self.0.get(id) {
            None => Ok(None),
            Some(SecretSource::Value(value)) => Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => File::open(path)
                .and_then(|file| limited(&file))
                .map(Some)
                .map_err(Cause::file("read the secret in", path)),
        }
    }
}

fn limited(file: &File) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut value)?;
    match value.len() as u64 > LARGEST {
        true => Err(io::Error::other("a secret has at most 500 KiB")),
        false => Ok(value),
    }
}

impl FromIterator<(String, SecretSource)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretSource)>>(all: I) -> Self {
        Secrets(Arc::new(all.into_iter().collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
