//! A cache in a folder: a layout, in which each tag is one (R-CEXP-4).
//!
//! A folder that is kept from build to build would grow for ever, and what was damaged in it would stay so. So an export looks at
//! the layers it has already, writes those anew that are not what their name says, and then removes what no tag leads to. A layer
//! of the tag's own manifest that has its size and was not written to since the manifest was isn't read: the export that wrote
//! that one has. Who
//! reads the folder meanwhile may lose a layer by that, which is a miss; who writes to it without asking for the lock, as
//! other programs do, has an hour before what it wrote must be in the index.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_image::layout::{
    Blob, IndexEntry, Layout, LayoutContent, LayoutError, REF_NAME, index_json, write_directory,
};
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, Digest, Manifest};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::CacheExported;
use super::export::{Ready, described};
use super::load::in_layout;
use crate::Services;
use crate::error::{Cause, chain};
use crate::layers::digest_of;

/// What nothing refers to stays so long after it was written.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// Into a layout, beside what it has under other tags.
pub(super) fn write(
    ready: &Ready,
    path: &Path,
    tag: &str,
    services: &Services<'_>,
) -> Result<CacheExported, Cause> {
    let failed = |error: LayoutError| {
        Cause::Image(format!(
            "could not write the cache to `{}`: {}",
            path.display(),
            chain(&error)
        ))
    };
    let _alone = alone_in(path)?;
    let earlier = match path.join("index.json").exists() {
        true => Some(Layout::open(path).map_err(failed)?),
        false => None,
    };
    let checked = earlier.as_ref().map(|layout| checked(layout, path, tag));
    let checked = checked.unwrap_or_default();
    let is_missing = |layer: &&Descriptor| {
        let is_there = |it: &Layout| checked.contains(*layer) || has(it, layer);
        !earlier.as_ref().is_some_and(is_there)
    };
    let missing: Vec<&Descriptor> = ready.layers.par_iter().filter(is_missing).collect();
    let mounts = ready.mounts.unsent.iter().map(|(blob, _)| blob);
    let written = missing.iter().copied().chain(mounts);
    let exported = CacheExported {
        layers: ready.layers.len() as u64,
        sent: missing.len() as u64,
        bytes: written.map(Descriptor::size).sum(),
    };
    let mut blobs = Vec::new();
    for layer in missing {
        let digest = digest_of(layer)?;
        blobs.push(Blob {
            digest,
            size: layer.size(),
            is_vouched: true,
            open: Box::new(move || {
                let reader = services.store.cas().open(&digest);
                Ok(Box::new(reader.map_err(io::Error::other)?))
            }),
        });
    }
    for (blob, path) in &ready.mounts.unsent {
        blobs.push(Blob {
            digest: digest_of(blob)?,
            size: blob.size(),
            is_vouched: false,
            open: Box::new(move || Ok(Box::new(File::open(path)?))),
        });
    }
    let documents = [&ready.preimages.1, &ready.config.1, &ready.manifest];
    blobs.extend(documents.map(|bytes| Blob::of_bytes(bytes)));
    let content = LayoutContent {
        index: index_json(&entries(ready, earlier.as_ref(), tag)).map_err(failed)?,
        docker_manifest: None,
        blobs,
        mtime: 0,
    };
    write_directory(&content, path).map_err(failed)?;
    remove_old(path);
    Ok(exported)
}

/// Holds a folder while it is read and written, so that builds which put their caches there at once find each other's tags. Where
/// folders can't be locked it goes without.
fn alone_in(path: &Path) -> Result<File, Cause> {
    fs::create_dir_all(path).map_err(Cause::file("create the directory", path))?;
    let folder = File::open(path).map_err(Cause::file("open", path))?;
    let _ = folder.lock();
    Ok(folder)
}

/// The layers of a tag's manifest that are as they were when it was written.
fn checked(layout: &Layout, folder: &Path, tag: &str) -> Vec<Descriptor> {
    let path = |blob: &Descriptor| {
        let digest = digest_of(blob).ok()?;
        Some(folder.join("blobs/sha256").join(digest.hex()))
    };
    let file = |blob: &Descriptor| path(blob)?.symlink_metadata().ok();
    let listed = || {
        let manifest = in_layout(layout, tag, None)?;
        let then = file(&manifest)?.modified().ok()?;
        let Manifest::Image(manifest) = layout.manifest(&manifest).ok()?.1 else {
            return None;
        };
        let mut layers = manifest.layers().clone();
        layers.retain(|layer| {
            file(layer).is_some_and(|file| {
                let is_older = file.modified().is_ok_and(|written| written < then);
                file.is_file() && file.len() == layer.size() && is_older
            })
        });
        Some(layers)
    };
    listed().unwrap_or_default()
}

/// Whether a layout has a layer and it is what it should be.
fn has(layout: &Layout, layer: &Descriptor) -> bool {
    let is_there = digest_of(layer).is_ok_and(|digest| layout.has_blob(&digest));
    is_there
        && layout
            .open_blob(layer)
            .is_ok_and(|mut blob| io::copy(&mut blob, &mut io::sink()).is_ok())
}

/// The cache under its tag, and what else the layout has.
fn entries(ready: &Ready, earlier: Option<&Layout>, tag: &str) -> Vec<IndexEntry> {
    let entry = |descriptor: Descriptor, annotations| IndexEntry {
        descriptor,
        platform: None,
        names: Vec::new(),
        created: None,
        annotations,
    };
    let others = earlier
        .into_iter()
        .flat_map(|layout| layout.index().manifests());
    let mut entries: Vec<IndexEntry> = others
        .map(|found| {
            let annotations = found.annotations().clone().unwrap_or_default();
            entry(found.clone(), annotations.into_iter().collect())
        })
        .filter(|found| found.annotations.get(REF_NAME).map(String::as_str) != Some(tag))
        .collect();
    let own = described(MediaTypes::Oci.manifest(), &ready.manifest);
    let tag = BTreeMap::from([(REF_NAME.to_owned(), tag.to_owned())]);
    entries.push(entry(own, tag));
    entries
}

/// Removes old blobs, and halves of such, that nothing leads to. Where that isn't certain none go, and one that can't be removed
/// stays for the next time.
fn remove_old(path: &Path) {
    let Some(kept) = Layout::open(path).ok().and_then(|layout| kept(&layout)) else {
        return;
    };
    let blobs = fs::read_dir(path.join("blobs/sha256"));
    for blob in blobs.into_iter().flatten().flatten() {
        let name = blob.file_name().to_string_lossy().into_owned();
        let hex = name.strip_suffix(".partial").unwrap_or(&name);
        let is_kept = Digest::from_hex(hex).map_or(true, |digest| kept.contains(&digest));
        if (name != hex || !is_kept) && is_old(&blob) {
            let _ = fs::remove_file(blob.path());
        }
    }
}

fn is_old(file: &fs::DirEntry) -> bool {
    let written = file.metadata().and_then(|metadata| metadata.modified());
    let age = written.map(|written| SystemTime::now().duration_since(written));
    age.is_ok_and(|age| age.is_ok_and(|age| age > GRACE))
}

/// All that the index leads to; `None` if a part of the way can't be read.
fn kept(layout: &Layout) -> Option<HashSet<Digest>> {
    let mut kept = HashSet::new();
    let mut waiting: Vec<Descriptor> = layout.index().manifests().clone();
    while let Some(found) = waiting.pop() {
        if !kept.insert(digest_of(&found).ok()?) || !leads_on(&found) {
            continue;
        }
        match layout.manifest(&found).ok()?.1 {
            Manifest::Index(index) => waiting.extend(index.manifests().iter().cloned()),
            Manifest::Image(image) => {
                waiting.push(image.config().clone());
                waiting.extend(image.layers().iter().cloned());
            }
        }
    }
    Some(kept)
}

fn leads_on(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().to_string();
    ["manifest", "index"]
        .iter()
        .any(|word| media_type.contains(word))
}
