//! The two files a step sees instead of the image's own: `/etc/hosts` and `/etc/resolv.conf` (R-RT-12).
//!
//! Both are bound read-only over the root filesystem, so neither ever reaches a layer. The steps of a build mostly have the same, which
//! is written once.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kiln_cache::{ScratchDir, Store};

/// Where the host keeps its resolver's configuration.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// `/etc/hosts` of a step called `hostname`, or by several names with spaces between them, with a line for each of `extra`, (name, address), at the end.
pub(crate) fn hosts(hostname: &str, extra: &[(String, String)]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        writeln!(text, "{address}\t{name}").expect("writing to a string never fails");
    }
    text
}

/// `/etc/resolv.conf` of a step in the host's network: the host's own, loopback servers included, because
/// there they are reachable. A host without one gives an empty file.
pub(crate) fn resolv_conf() -> io::Result<Vec<u8>> {
    match fs::read(Path::new(HOST_RESOLV_CONF)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// Files that several steps see, by what is in them.
#[derive(Default)]
pub(crate) struct SharedFiles {
    written: Mutex<Option<Written>>,
}

struct Written {
    scratch: ScratchDir,
    files: HashMap<Vec<u8>, PathBuf>,
}

impl SharedFiles {
    /// A file with these contents, which nobody may change; `None` where none can be made.
    pub(crate) fn path(&self, contents: &[u8], store: &Store) -> Option<PathBuf> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_none() {
            let scratch = store.passing_dir().ok()?;
            let files = HashMap::new();
            *written = Some(Written { scratch, files });
        }
        let written = written.as_mut()?;
        if let Some(path) = written.files.get(contents) {
            return Some(path.clone());
        }
        let path = written.scratch.path().join(written.files.len().to_string());
        fs::write(&path, contents).ok()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).ok()?;
        written.files.insert(contents.to_owned(), path.clone());
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_the_sandbox_and_the_extra_hosts() {
        // R-RT-12
        let extra = [("db".to_owned(), "10.0.0.2".to_owned())];
        assert_eq!(
            hosts("buildkitsandbox", &extra),
            "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.2\tdb\n"
        );
    }
}
