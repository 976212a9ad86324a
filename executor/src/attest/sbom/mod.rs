//! What packages are in an image, by what their managers and compilers have written down in it: an SPDX 2.3 document.
//!
//! | found | in |
//! |---|---|
//! | Debian packages | `/var/lib/dpkg/status`, `/var/lib/dpkg/status.d` |
//! | Alpine packages | `/lib/apk/db/installed`, `/usr/lib/apk/db/installed` |
//! | Python packages | `METADATA` of `*.dist-info`, `PKG-INFO` of `*.egg-info`, anywhere |
//! | npm packages | `package.json` of `node_modules/*`, anywhere |
//! | Go modules | sections of programs, that is of files that may be executed, anywhere |
//! | Cargo packages | the same, of programs made with `cargo auditable` |
//!
//! RPM's databases are in formats of their own, for which there is no reader here: that such a database is there is said. What else was
//! built from source or copied in is not found; the document says what was looked for.

mod document;
mod elf;
mod files;
mod packages;
mod release;

use serde_json::Value;

use super::Facts;
use crate::Services;
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::rootfs::RootFs;
use files::Files;

/// The document about an image.
pub(super) fn document(
    facts: &Facts<'_>,
    root: &RootFs,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Value, Cause> {
    let tree = root.tree(&services.layers, task)?;
    let files = Files::new(root, &tree, services, task);
    let release = release::read(&files)?;
    let found = packages::find(&files, &release)?;
    for missed in &found.missed {
        task.log(Stream::Stderr, format!("warning: {missed}\n").as_bytes());
    }
    Ok(document::write(facts, &release, &found))
}
