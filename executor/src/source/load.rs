//! Contexts from elsewhere, brought in before there is a plan: the Dockerfile is in them (R-CTX-8).

use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::sync::Arc;

use kiln_image::compress::Algorithm;
use kiln_image::{ImagePath, Kind, tar};
use kiln_planner::{GitSource, HttpSource, HttpUrl};

use super::context::ContextSource;
use super::remote::{Fetched, Fetcher};
use super::spooled::{Spooled, names_in_root, regular_file};
use super::{git, http};
use crate::Services;
use crate::cancel::Cancel;
use crate::error::{BuildError, Cause};
use crate::event::{Event, Reporter, Task};
use crate::rootfs::RootFs;
use crate::secrets::Secrets;

/// The name of a file that is a context by itself, or the only one in it.
pub const LONE_FILE: &str = "context";

/// How much of a stream must be looked at to tell an archive, in bytes: the first member's headers.
const START: u64 = 128 << 10;

/// Brings contexts in.
#[derive(Clone, Copy)]
pub struct Loader<'a> {
    /// Where they are kept.
    pub services: &'a Services<'a>,
    /// Tokens and passwords (R-ADD-9).
    pub secrets: &'a Secrets,
    /// Shows how it goes.
    pub reporter: &'a Reporter<'a>,
    /// Stops it.
    pub cancel: &'a Cancel,
}

/// A context that is a layer of the store.
#[derive(Debug, Clone)]
pub struct FetchedContext {
    shown: String,
    root: Arc<RootFs>,
}

impl Loader<'_> {
    /// Checks a repository out.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn git(&self, source: &GitSource) -> Result<ContextSource, BuildError> {
        let fetched = self.fetch(
            format!("[internal] load git source {source}"),
            |fetcher, task| git::fetch(source, fetcher, task),
        )?;
        let context = FetchedContext::of(&fetched, source.to_string());
        Ok(ContextSource::Fetched(context))
    }

    /// Downloads a file. A tar becomes the context; with anything else it is the only file of the context, called [`LONE_FILE`].
    ///
    /// # Errors
    /// When it can't be had, or is a tar that can't be read.
    pub fn http(&self, url: &HttpUrl) -> Result<ContextSource, BuildError> {
        let context = self.download(url, "[internal] load remote build context".to_owned())?;
        let archive = self.file_of(&context).and_then(|mut file| {
            if !is_archive(&mut file)? {
                return Ok(None);
            }
            file.rewind().map_err(Cause::file("read", &context.shown))?;
            Spooled::read_archive(file, &context.shown, self.services.store).map(Some)
        });
        Ok(match archive.map_err(BuildError::new)? {
            Some(spooled) => ContextSource::Spooled(Arc::new(spooled)),
            None => ContextSource::Fetched(context),
        })
    }

    /// Downloads a text of at most `limit` bytes: a Dockerfile by itself.
    ///
    /// # Errors
    /// When it can't be had, or is too long.
    pub fn text(&self, url: &HttpUrl, limit: u64) -> Result<Vec<u8>, BuildError> {
        let name = format!("[internal] load build definition from {url}");
        let context = self.download(url, name)?;
        let text = context.read(LONE_FILE, limit, self.services)?;
        Ok(text.unwrap_or_default())
    }

    fn download(&self, url: &HttpUrl, name: String) -> Result<FetchedContext, BuildError> {
        let source = HttpSource {
            url: url.clone(),
            checksum: None,
            name: LONE_FILE.to_owned(),
        };
        let fetched = self.fetch(name, |fetcher, task| http::fetch(&source, fetcher, task))?;
        Ok(FetchedContext::of(&fetched, url.to_string()))
    }

    fn fetch(
        &self,
        name: String,
        fetch: impl FnOnce(&Fetcher<'_>, &Task<'_>) -> Result<Fetched, Cause>,
    ) -> Result<Fetched, BuildError> {
        let fetcher = Fetcher {
            services: self.services,
            secrets: self.secrets,
            halt: self.cancel,
        };
        let task = self.reporter.start(name);
        let fetched = fetch(&fetcher, &task);
        task.end_with(fetched).map_err(BuildError::new)
    }

    /// The download itself.
    fn file_of(&self, context: &FetchedContext) -> Result<File, Cause> {
        let silent = |_: Event| {};
        let reporter = Reporter::new(&silent);
        let task = reporter.start(LONE_FILE);
        let directory = self
            .services
            .layers
            .unpacked(context.root.layers[0], &task)?;
        let path = directory.join(LONE_FILE);
        File::open(&path).map_err(Cause::file("read", path))
    }
}

/// Whether a stream is an archive that becomes a context (R-CTX-8).
fn is_archive(stream: &mut dyn Read) -> Result<bool, Cause> {
    let mut start = Vec::new();
    stream
        .take(START)
        .read_to_end(&mut start)
        .map_err(Cause::file("read", LONE_FILE))?;
    Ok(starts_archive(&start))
}

/// Whether what begins like this is a tar, or anything compressed (R-CLI-2).
#[must_use]
pub fn starts_archive(start: &[u8]) -> bool {
    Algorithm::detect(start) != Algorithm::None || tar::is_archive(Cursor::new(start))
}

impl FetchedContext {
    fn of(fetched: &Fetched, shown: String) -> Self {
        FetchedContext {
            shown,
            root: fetched.root(),
        }
    }

    /// What the user calls it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Its files.
    pub(crate) fn root(&self) -> &Arc<RootFs> {
        &self.root
    }

    /// The content of a file, links followed within the context; `None` if there is no such file.
    ///
    /// # Errors
    /// When it is larger than `limit` bytes, or the store fails.
    pub fn read(
        &self,
        path: &str,
        limit: u64,
        services: &Services<'_>,
    ) -> Result<Option<Vec<u8>>, BuildError> {
        let silent = |_: Event| {};
        let reporter = Reporter::new(&silent);
        let task = reporter.start(LONE_FILE);
        let tree = self.root.tree(&services.layers, &task);
        let tree = tree.map_err(BuildError::new)?;
        let Some((found, node)) = regular_file(&tree, path) else {
            return Ok(None);
        };
        if matches!(node.kind, Kind::File { size, .. } if size > limit) {
            let error = io::Error::from(io::ErrorKind::FileTooLarge);
            return Err(BuildError::new(Cause::file("read", path)(error)));
        }
        let layer = self.root.layers[0];
        let bytes = services.layers.read_file(layer, &found, &node, &task);
        bytes.map(Some).map_err(BuildError::new)
    }

    /// When what is newest in it was changed, in seconds since 1970: in a repository whose files are as old as their commit,
    /// when that was made.
    ///
    /// # Errors
    /// When the store fails.
    pub fn newest(&self, services: &Services<'_>) -> Result<Option<i64>, BuildError> {
        let silent = |_: Event| {};
        let reporter = Reporter::new(&silent);
        let task = reporter.start(LONE_FILE);
        let tree = self.root.tree(&services.layers, &task);
        let tree = tree.map_err(BuildError::new)?;
        let files = tree.walk(&ImagePath::root());
        Ok(files.map(|(_, node)| node.metadata.mtime.secs).max())
    }

    /// The names in its root.
    ///
    /// # Errors
    /// When the store fails.
    pub fn names(&self, services: &Services<'_>) -> Result<Vec<String>, BuildError> {
        let silent = |_: Event| {};
        let reporter = Reporter::new(&silent);
        let task = reporter.start(LONE_FILE);
        let tree = self.root.tree(&services.layers, &task);
        Ok(names_in_root(&*tree.map_err(BuildError::new)?).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_text() {
        // R-CLI-2
        let mut tar = [0; 512];
        tar[0] = b'f';
        tar[148..156].fill(b' ');
        let sum: u32 = tar.iter().map(|&byte| u32::from(byte)).sum();
        tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let compressed = [
            &b"\x1f\x8b\x08"[..],
            b"BZh91AY&SY",
            b"\xfd7zXZ\0",
            b"\x28\xb5\x2f\xfd",
        ];
        assert!(starts_archive(&tar));
        assert!(compressed.into_iter().all(starts_archive));
        assert!(!starts_archive(b"FROM scratch"));
        assert!(!starts_archive(b""));
    }
}
