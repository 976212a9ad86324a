//! Downloads (R-ADD-6..9, R-CACHE-17).
//!
//! A download is a tree with one file, and is found again by its content: what the address gave before is asked for with
//! `If-None-Match` or `If-Modified-Since`, and one whose digest is given is not asked for at all.

use std::cell::Cell;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::fmt::strtime;
use kiln_cache::{CacheKey, Preimage, Seen, key};
use kiln_image::contents::DirContents;
use kiln_image::tar::write_layer;
use kiln_image::{Changeset, Digest, DigestWriter, ImagePath, Kind, Metadata, Node, Timestamp};
use kiln_planner::HttpSource;
use kiln_registry::{Answered, Authorization, Body, Download, Validators};

use super::remote::{Fetched, Fetcher};
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::event::Task;
use crate::lock::Say;

/// The mode of a downloaded file (R-ADD-6).
const MODE: u32 = 0o600;
/// How often progress is told, in bytes.
const TELL_EVERY: u64 = 1 << 20;
/// A file that changed less than this many seconds before it was sent may change again within the same second.
const SETTLED_AFTER: i64 = 2;

/// Brings a download into the store: a tree with the one file `source.name`.
pub(crate) fn fetch(
    source: &HttpSource,
    fetcher: &Fetcher<'_>,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let hold = &fetcher.services.hold;
    let said = hold.download(source)?;
    let fetched = match &said {
        Say::Is(digest) => fetch_any(&of_digest(source, *digest), fetcher, task)?,
        Say::Ask | Say::Note => fetch_any(source, fetcher, task)?,
    };
    let digest = match &said {
        Say::Is(digest) => Some(*digest),
        Say::Ask | Say::Note => source
            .checksum
            .or_else(|| content(source, &fetched, fetcher)),
    };
    if let Some(digest) = digest {
        hold.saw_download(source, digest);
        if said != Say::Ask {
            hold.note_download(source, digest);
        }
    }
    Ok(fetched)
}

/// The digest of what was fetched, by what the address is known to have given.
fn content(source: &HttpSource, fetched: &Fetched, fetcher: &Fetcher<'_>) -> Option<Digest> {
    let seen = fetcher.services.store.remotes().seen(&source.url.address);
    let is_it = |seen: &Seen| {
        let modified = http_date(seen.last_modified.as_deref());
        let found = fetcher.look_up(&preimage(source, seen.content, modified));
        found.is_some_and(|found| found.layer == fetched.layer)
    };
    seen.into_iter().find(is_it).map(|seen| seen.content)
}

/// The same download, which must have this digest.
fn of_digest(source: &HttpSource, digest: Digest) -> HttpSource {
    HttpSource {
        checksum: Some(digest),
        ..source.clone()
    }
}

fn fetch_any(
    source: &HttpSource,
    fetcher: &Fetcher<'_>,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    if let Some(pinned) = pinned(source, fetcher) {
        return Ok(pinned);
    }
    let _alone = fetcher.hold(&lock_of(source))?;
    if let Some(pinned) = pinned(source, fetcher) {
        return Ok(pinned);
    }
    let known = known(source, fetcher);
    let validators: Vec<Validators> = known.iter().map(|known| validators(&known.seen)).collect();
    let authorization = authorization(source, fetcher)?;
    let download = Download {
        address: &source.url.address,
        authorization: authorization.as_deref().map(Authorization),
        known: &validators,
    };
    let fetched = match fetcher.services.registry.download(download)? {
        Answered::Unchanged(index) => {
            let known = &known[index];
            check(source, known.seen.content)?;
            remember(source, &known.seen, fetcher)?;
            known.fetched.clone()
        }
        Answered::Body(body) => save(source, *body, fetcher, task)?,
    };
    Ok(fetched)
}

/// What is in the store already and still what the address gives, without downloading anything.
pub(crate) fn find(source: &HttpSource, fetcher: &Fetcher<'_>) -> Result<Option<Fetched>, Cause> {
    let held = match fetcher.services.hold.download(source)? {
        Say::Is(digest) => Some(of_digest(source, digest)),
        _ => None,
    };
    let source = held.as_ref().unwrap_or(source);
    if let Some(pinned) = pinned(source, fetcher) {
        return Ok(Some(pinned));
    }
    let mut known = known(source, fetcher);
    let validators: Vec<Validators> = known.iter().map(|known| validators(&known.seen)).collect();
    let authorization = authorization(source, fetcher)?;
    let current = fetcher.services.registry.still_current(Download {
        address: &source.url.address,
        authorization: authorization.as_deref().map(Authorization),
        known: &validators,
    })?;
    match current {
        Some(index) if source.checksum.is_none() => Ok(Some(known.swap_remove(index).fetched)),
        _ => Ok(None),
    }
}

/// What has the digest that is asked for needs nobody's word that it is current.
fn pinned(source: &HttpSource, fetcher: &Fetcher<'_>) -> Option<Fetched> {
    let checksum = source.checksum?;
    let preimage = key::download(checksum, &source.name, None);
    fetcher.look_up(&preimage)
}

/// Something that came from the address before and is still in the store.
struct Known {
    seen: Seen,
    fetched: Fetched,
}

fn known(source: &HttpSource, fetcher: &Fetcher<'_>) -> Vec<Known> {
    let seen = fetcher.services.store.remotes().seen(&source.url.address);
    let stored = |seen: Seen| {
        let modified = http_date(seen.last_modified.as_deref());
        let preimage = preimage(source, seen.content, modified);
        let fetched = fetcher.look_up(&preimage)?;
        let can_ask = seen.etag.is_some() || seen.is_settled;
        can_ask.then_some(Known { seen, fetched })
    };
    seen.into_iter().filter_map(stored).collect()
}

fn validators(seen: &Seen) -> Validators {
    let settled = seen.last_modified.clone().filter(|_| seen.is_settled);
    Validators {
        etag: seen.etag.clone(),
        last_modified: settled,
    }
}

/// What a download is recorded under.
fn preimage(source: &HttpSource, content: Digest, modified: Option<i64>) -> Preimage {
    // One without a date is as old as one from 1970 (R-ADD-6).
    key::download(content, &source.name, Some(modified.unwrap_or(0)))
}

fn lock_of(source: &HttpSource) -> CacheKey {
    CacheKey(Digest::of(source.url.address.as_bytes()))
}

/// Downloads it, and puts it into the store unless it turns out to be there.
fn save(
    source: &HttpSource,
    body: Body<'_>,
    fetcher: &Fetcher<'_>,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let started = Instant::now();
    let mut seen = Seen {
        etag: body.validators().etag.clone(),
        last_modified: body.validators().last_modified.clone(),
        is_settled: false,
        content: Digest::of(b""),
    };
    let modified = http_date(seen.last_modified.as_deref());
    seen.is_settled = is_settled(modified, body.date());
    let staging = fetcher.services.store.layers().stage()?;
    let fs = staging.create_fs()?;
    let path = fs.join(&source.name);
    let (content, size) = write(body, &path, source, fetcher.halt, task)?;
    check(source, content)?;
    seen.content = content;
    let preimage = preimage(source, content, modified);
    let fetched = match fetcher.look_up(&preimage) {
        Some(fetched) => fetched,
        None => {
            let changeset = changeset(source, content, size, modified);
            let contents = DirContents::open(&fs).map_err(Cause::file("open", &fs))?;
            let tar = write_layer(&changeset, &contents, io::sink())
                .map_err(Cause::layer("write", "of a download"))?;
            dress(&path, modified).map_err(Cause::file("set the mode and time of", &path))?;
            fetcher.keep(staging, (changeset, &tar), &preimage, started)?
        }
    };
    remember(source, &seen, fetcher)?;
    Ok(fetched)
}

/// Remembers what the address gave, and that there is a download of this digest.
fn remember(source: &HttpSource, seen: &Seen, fetcher: &Fetcher<'_>) -> Result<(), Cause> {
    let store = fetcher.services.store;
    let modified = http_date(seen.last_modified.as_deref());
    let recorded = preimage(source, seen.content, modified).key();
    let pinned = key::download(seen.content, &source.name, None).key();
    store.actions().alias(&pinned, &recorded)?;
    Ok(store.remotes().note_seen(&source.url.address, seen)?)
}

/// Streams the body into a file; the digest of the content and its size.
fn write(
    body: Body<'_>,
    path: &Path,
    source: &HttpSource,
    halt: &Cancel,
    task: &Task<'_>,
) -> Result<(Digest, u64), Cause> {
    let file = File::create_new(path).map_err(Cause::file("create", path))?;
    let mut out = Stoppable {
        inner: DigestWriter::new(BufWriter::with_capacity(256 << 10, file)),
        halt,
    };
    let next = Cell::new(0);
    let tell = |done: u64, total: Option<u64>| {
        if done >= next.get() || total == Some(done) {
            task.progress(&source.name, done, total);
            next.set(done + TELL_EVERY);
        }
    };
    let copied = body.copy_to(&mut out, &tell);
    if halt.requested() {
        return Err(Cause::Canceled);
    }
    copied?;
    let (mut buffered, content, size) = out.inner.finish();
    buffered.flush().map_err(Cause::file("write", path))?;
    Ok((content, size))
}

/// A writer that takes nothing more once the build is stopped.
struct Stoppable<'a, W> {
    inner: W,
    halt: &'a Cancel,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.halt.requested() {
            true => Err(io::Error::other("stopped")),
            false => self.inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// R-ADD-8
fn check(source: &HttpSource, found: Digest) -> Result<(), Cause> {
    match source.checksum {
        Some(expected) if expected != found => Err(Cause::DigestMismatch {
            url: source.url.to_string(),
            found,
            expected,
        }),
        _ => Ok(()),
    }
}

/// R-ADD-6
fn changeset(source: &HttpSource, content: Digest, size: u64, modified: Option<i64>) -> Changeset {
    let mut metadata = Metadata::with_mode(MODE);
    metadata.mtime = Timestamp::from_secs(modified.unwrap_or(0));
    let kind = Kind::File {
        size,
        digest: content,
    };
    let mut changeset = Changeset::new();
    changeset.put(
        ImagePath::root().child(source.name.as_bytes()),
        Node::new(metadata, kind),
    );
    changeset
}

/// Gives the file on disk what its changeset says.
fn dress(path: &Path, modified: Option<i64>) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    let seconds = modified.unwrap_or(0);
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(offset),
        false => SystemTime::UNIX_EPOCH.checked_add(offset),
    };
    file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Who to be at the server: by secrets for its host, the token first, else as the address says (R-ADD-9).
fn authorization(source: &HttpSource, fetcher: &Fetcher<'_>) -> Result<Option<String>, Cause> {
    let host = source.url.host.trim_matches(['[', ']']);
    if let Some(token) = fetcher.secret(&format!("HTTP_AUTH_TOKEN_{host}"))? {
        return Ok(Some(format!("Bearer {token}")));
    }
    if let Some(header) = fetcher.secret(&format!("HTTP_AUTH_HEADER_{host}"))? {
        return Ok(Some(header));
    }
    Ok(source.url.login.as_ref().map(|login| {
        let password = login.password.as_deref().unwrap_or_default();
        let both = format!("{}:{password}", login.user);
        format!("Basic {}", BASE64.encode(both))
    }))
}

/// Whether a time is old enough by the server's own clock, or ours, to tell the next change by.
fn is_settled(modified: Option<i64>, date: Option<&str>) -> bool {
    let now = http_date(date).unwrap_or_else(|| jiff::Timestamp::now().as_second());
    modified.is_some_and(|modified| now - modified >= SETTLED_AFTER)
}

/// A date in one of the three forms that HTTP has, in seconds since 1970. The day of the week says nothing new.
fn http_date(header: Option<&str>) -> Option<i64> {
    let text = header?.trim();
    let parsed = match text.split_once(", ") {
        Some((_, rest)) => strtime::parse("%d %b %Y %H:%M:%S GMT", rest)
            .or_else(|_| strtime::parse("%d-%b-%y %H:%M:%S GMT", rest)),
        None => {
            let (_, rest) = text.split_once(' ')?;
            strtime::parse("%b %e %H:%M:%S %Y", rest.trim_start())
        }
    };
    let time = parsed.ok()?.to_datetime().ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests;
