//! What cache mounts have in them, as blobs of a cache: `cache-mounts=true` of `--cache-to`.
//!
//! Those of all steps that the targets need go, cached or not: what a step of this build has used from here; what no step used from
//! the cache that the build has read, where somebody used it later. One that a step of another build has meanwhile is left out, and so
//! is one that can't be read as it is or has the value of a secret in it: it is told, and fails nothing.
//!
//! The tar is a layer's: a pure function of what is there, times in whole seconds, without device nodes and sockets. So a mount that
//! did not change is not sent again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use kiln_cache::transfer::{MOUNT_TYPE, MountDirectory};
use kiln_cache::{SavedMount, ScratchDir};
use kiln_image::compress::{self, Compression};
use kiln_image::contents::DirContents;
use kiln_image::scan::scan_owned;
use kiln_image::tar::write_draft;
use kiln_image::{Change, Descriptor, DigestWriter, ImagePath, Kind, Metadata};

use super::CacheExport;
use super::export::{descriptor, holds};
use super::import::FoundMount;
use super::mounts::fetch;
use crate::Services;
use crate::cancel::Cancel;
use crate::error::{Cause, chain};
use crate::event::{Reporter, Stream, Task};
use crate::op::cache_mount::{self, Unheld};
use crate::secrets::{Secrets, Values};

/// Why a mount is left out that a step has, or has had while it was read: what is half written is no use to anybody.
const IN_USE: &str = "a step of another build is using it";

/// Cache mounts ready to be put somewhere.
#[derive(Default)]
pub(super) struct SavedMounts {
    pub saved: Vec<SavedMount>,
    /// Their blobs.
    pub blobs: Vec<Descriptor>,
    /// Those of them that are not there yet, in files.
    pub unsent: Vec<(Descriptor, PathBuf)>,
    /// Where the files are.
    scratch: Option<ScratchDir>,
}

/// What mounts are saved with.
struct Saving<'a> {
    export: &'a CacheExport,
    secrets: Values,
    services: &'a Services<'a>,
    task: &'a Task<'a>,
    scratch: PathBuf,
}

impl SavedMounts {
    /// Those of the build's steps.
    pub(super) fn collect(
        export: &CacheExport,
        secrets: &Secrets,
        services: &Services<'_>,
        reporter: &Reporter<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        let scratch = services.store.scratch_dir()?;
        let saving = Saving {
            export,
            secrets: secrets.values(),
            services,
            task,
            scratch: scratch.path().to_owned(),
        };
        let mut all = Self::default();
        for id in services.mounts.ids() {
            let found = services.imports.mounts_of(id, reporter, &Cancel::default());
            let there = found.iter().map(|found| found.saved.variant.clone());
            let here = cache_mount::variants(services.store, id);
            let variants: BTreeSet<String> = there.chain(here.iter().cloned()).collect();
            for variant in variants {
                let found = found.iter().find(|found| found.saved.variant == variant);
                let is_here = here.contains(&variant);
                if let Err(reason) = all.add(id, &variant, is_here, found, &saving) {
                    let told = format!("warning: cache mount {id} is left out: {reason}\n");
                    task.log(Stream::Stderr, told.as_bytes());
                }
            }
        }
        all.scratch = Some(scratch);
        Ok(all)
    }

    fn add(
        &mut self,
        id: &str,
        variant: &str,
        is_here: bool,
        found: Option<&FoundMount>,
        saving: &Saving<'_>,
    ) -> Result<(), String> {
        let name = cache_mount::name_of(id, variant);
        let path = saving.scratch.join(name.replace('/', "-"));
        let told = |cause: Cause| chain(&cause);
        let here = match is_here {
            true => cache_mount::unheld(saving.services.store, &name).map_err(told)?,
            false => None,
        };
        let is_later = |here: &Unheld| {
            let later = |found: &FoundMount| here.last_used() >= found.saved.used;
            saving.services.mounts.was_used(&name) || found.is_none_or(later)
        };
        let (saved, blob) = match (here.filter(is_later), found) {
            (Some(here), _) => saving.pack(id, variant, &here, &path)?,
            (None, Some(found)) => (found.saved.clone(), found.blob.clone()),
            (None, None) => return Err(IN_USE.to_owned()),
        };
        if !holds(&saving.export.target, &saved.blob, saving.services) {
            if !path.exists() {
                let found = found.ok_or("it is nowhere")?;
                fetch(found, &path, saving.task)?;
            }
            self.unsent.push((blob.clone(), path));
        }
        self.saved.push(saved);
        self.blobs.push(blob);
        Ok(())
    }
}

impl Saving<'_> {
    /// Writes a directory's tar, compressed, to a file.
    fn pack(
        &self,
        id: &str,
        variant: &str,
        here: &Unheld,
        to: &Path,
    ) -> Result<(SavedMount, Descriptor), String> {
        let footing = self.services.footing;
        let draft = scan_owned(here.path(), &footing.owners()).map_err(|error| chain(&error))?;
        let directory = draft.get(&ImagePath::root()).and_then(Change::node);
        let directory = directory.map(|node| of_metadata(&node.metadata));
        let mut draft = draft;
        draft.retain(|_, change| is_kept(change));
        let contents = DirContents::open(here.path()).map_err(|error| chain(&error))?;
        let out = DigestWriter::new(BufWriter::new(
            File::create(to).map_err(|error| chain(&error))?,
        ));
        let packed = compressed(self.export.compression, out, |out| {
            let mut searched = self.secrets.searched(out);
            let written = write_draft(draft, &contents, &mut searched);
            let (_, summary) = written.map_err(|error| chain(&error))?;
            match searched.has_found() {
                true => Err("it has the value of a secret in it".to_owned()),
                false if !here.is_untouched() => Err(IN_USE.to_owned()),
                false => Ok(summary.size),
            }
        });
        let (size, out) = packed.inspect_err(|_| {
            let _ = std::fs::remove_file(to); // goes with the scratch directory otherwise
        })?;
        let (mut file, digest, length) = out.finish();
        file.flush().map_err(|error| chain(&error))?;
        let saved = SavedMount {
            id: id.to_owned(),
            variant: variant.to_owned(),
            blob: digest,
            size,
            used: here.last_used(),
            directory: directory.unwrap_or_default(),
        };
        Ok((saved, descriptor(MOUNT_TYPE, length, &digest)))
    }
}

fn of_metadata(metadata: &Metadata) -> MountDirectory {
    MountDirectory {
        mode: metadata.mode & 0o7777,
        uid: metadata.uid,
        gid: metadata.gid,
    }
}

/// Files, directories and links go.
fn is_kept(change: &Change) -> bool {
    let node = change.node();
    node.is_some_and(|node| {
        matches!(
            node.kind,
            Kind::Directory | Kind::File { .. } | Kind::Symlink { .. }
        )
    })
}

/// Passes what `write` writes on to `out`, compressed.
fn compressed<W: Write>(
    compression: Compression,
    out: W,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, String>,
) -> Result<(u64, W), String> {
    let failed = |error: io::Error| chain(&error);
    let mut encoder = compress::encoder(compression, out).map_err(failed)?;
    let size = write(&mut encoder)?;
    Ok((size, encoder.finish().map_err(failed)?))
}
