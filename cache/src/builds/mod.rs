//! The history of builds: what was built, what each step came to, what it printed.
//!
//! ```text
//! builds/<number>-<recipe>-<id>.build    a build that has ended, as JSON with a digest in front
//! builds/<number>-<recipe>-<id>.log      what was printed; while it is written to, it is locked
//! ```
//!
//! Numbers count up, so names sort by age and the last builds of a recipe are found by a look at the names. A build
//! of which everything was cached is one small file, renamed into place at its end. A log is begun when a step prints, or when the
//! build takes long enough that somebody may want to know about it should kiln be killed; its first line says what was to be
//! built. A log without a `.build` is of a build that is running, if it is locked, or was killed.
//!
//! Nothing here is synced, and what is damaged was never there. At most [`MOST_BUILDS`] builds are kept, of at most
//! [`MOST_BYTES`] in all; the oldest go first, when one is written and when the store is collected.

mod log;
mod record;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_image::Digest;

use crate::framed;
use crate::tmp::create_dir;
use crate::{Store, StoreError};

pub use log::{BuildLog, LogEntry, LogReader, MOST_LOGGED};
pub use record::{
    ArgumentRecord, BuildHeader, BuildId, BuildOutcome, BuildRecord, GraphRecord, IgnoreRecord,
    Invocation, Miss, RecipeId, ShownRecord, SourceRecord, StageRecord, StepEnd, StepRecord,
    StepState, WorkRecord,
};

/// So many builds are kept.
pub const MOST_BUILDS: usize = 200;
/// So many bytes they may take together.
pub const MOST_BYTES: u64 = 512 << 20;

/// Letters of a build's or recipe's name.
const NAME_LENGTH: usize = 12;
const NUMBER_LENGTH: usize = 10;

/// The builds of a store.
#[derive(Debug, Clone, Copy)]
pub struct Builds<'s> {
    store: &'s Store,
}

/// A build that the store has something of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildEntry {
    number: u64,
    recipe: String,
    id: String,
    has_record: bool,
    has_log: bool,
}

/// What is known of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownBuild {
    /// It has ended.
    Ended(Box<BuildRecord>),
    /// It is running.
    Running(BuildHeader),
    /// Its kiln was killed.
    Killed(BuildHeader),
}

impl<'s> Builds<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// A name that no other build has.
    #[must_use]
    pub fn new_id() -> BuildId {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seed = format!(
            "{:?} {} {} {:?}",
            now,
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed),
            fs::read_link("/proc/self/ns/pid").ok(),
        );
        BuildId(Digest::of(seed.as_bytes()).hex()[..NAME_LENGTH].to_owned())
    }

    /// All builds, the oldest first.
    pub fn list(&self) -> Result<Vec<BuildEntry>, StoreError> {
        let directory = self.store.builds_dir();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io("list", &directory))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut found: Vec<BuildEntry> = names
            .filter_map(|name| BuildEntry::parse(name.to_str()?))
            .collect();
        found.sort_unstable();
        found.dedup_by(|later, earlier| {
            let is_same = (later.number, &later.id) == (earlier.number, &earlier.id);
            if is_same {
                earlier.has_record |= later.has_record;
                earlier.has_log |= later.has_log;
            }
            is_same
        });
        Ok(found)
    }

    /// The last builds of a recipe that have ended, the newest first; at most `most` of them.
    pub fn last(&self, recipe: &RecipeId, most: usize) -> Vec<BuildRecord> {
        let all = self.list().unwrap_or_default();
        let of_recipe = all.iter().rev().filter(|entry| entry.recipe == recipe.0);
        let records = of_recipe.filter_map(|entry| self.record(entry));
        records.take(most).collect()
    }

    /// The builds of a recipe that ended before another one was begun, the newest first; at most `most` of them.
    pub fn before(&self, entry: &BuildEntry, most: usize) -> Vec<BuildRecord> {
        let all = self.list().unwrap_or_default();
        let earlier = all.iter().rev().filter(|other| {
            other.recipe == entry.recipe && (other.number, &other.id) < (entry.number, &entry.id)
        });
        let records = earlier.filter_map(|entry| self.record(entry));
        records.take(most).collect()
    }

    /// What is known of a build; `None` if that is damaged.
    pub fn read(&self, entry: &BuildEntry) -> Option<KnownBuild> {
        if let Some(record) = self.record(entry) {
            return Some(KnownBuild::Ended(Box::new(record)));
        }
        let file = File::open(self.path(entry, "log")).ok()?;
        let is_held = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
        let mut first = String::new();
        BufReader::new(file).read_line(&mut first).ok()?;
        let LogEntry::Begun(header) = serde_json::from_str(&first).ok()? else {
            return None;
        };
        Some(match is_held {
            true => KnownBuild::Running(header),
            false => KnownBuild::Killed(header),
        })
    }

    /// What was printed; `None` if nothing was.
    pub fn log(&self, entry: &BuildEntry) -> Result<Option<LogReader>, StoreError> {
        let path = self.path(entry, "log");
        match File::open(&path) {
            Ok(file) => Ok(Some(LogReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// Begins the log of a build.
    pub fn begin(&self, header: &BuildHeader) -> Result<BuildLog, StoreError> {
        let entry = self.next(header, &self.list()?);
        BuildLog::create(self.path(&entry, "log"), entry, header)
    }

    /// Keeps a build that has ended, and lets old ones go.
    pub fn put(&self, record: &BuildRecord, log: Option<&BuildLog>) -> Result<(), StoreError> {
        let mut all = self.list()?;
        let entry = match log {
            Some(log) => log.entry().clone(),
            None => self.next(&record.header, &all),
        };
        let json = serde_json::to_vec(record).map_err(|source| StoreError::Serialise {
            what: "a build",
            source: Box::new(source),
        })?;
        framed::write(self.store, &self.path(&entry, "build"), &json)?;
        if log.is_none() {
            all.push(entry);
        }
        self.prune_of(&all, log.is_some())
    }

    /// Forgets a build. One that is running stays.
    pub fn remove(&self, entry: &BuildEntry) -> Result<(), StoreError> {
        if self.is_running(entry) {
            return Ok(());
        }
        for extension in ["log", "build"] {
            let path = self.path(entry, extension);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a build is going on.
    #[must_use]
    pub fn is_running(&self, entry: &BuildEntry) -> bool {
        let log = File::open(self.path(entry, "log"));
        !entry.has_record
            && log
                .is_ok_and(|log| matches!(log.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// What the files of a build take, in bytes.
    #[must_use]
    pub fn size(&self, entry: &BuildEntry) -> u64 {
        let sizes = ["log", "build"].map(|extension| {
            let metadata = fs::metadata(self.path(entry, extension));
            metadata.map_or(0, |metadata| metadata.len())
        });
        sizes.iter().sum()
    }

    /// Lets the oldest builds go until no more are kept than may be; sizes are looked at if asked for.
    pub(crate) fn prune(&self, by_size: bool) -> Result<(), StoreError> {
        self.prune_of(&self.list()?, by_size)
    }

    /// The same where it is known which there are, the oldest first.
    fn prune_of(&self, all: &[BuildEntry], by_size: bool) -> Result<(), StoreError> {
        let mut surplus = all.len().saturating_sub(MOST_BUILDS);
        if by_size {
            let mut bytes = 0;
            let kept = all.iter().rev().take_while(|entry| {
                bytes += self.size(entry);
                bytes <= MOST_BYTES
            });
            // The newest stays, whatever it takes.
            let kept = kept.count().max(1);
            surplus = surplus.max(all.len().saturating_sub(kept));
        }
        all[..surplus]
            .iter()
            .try_for_each(|entry| self.remove(entry))
    }

    /// One more after those that there are.
    fn next(&self, header: &BuildHeader, all: &[BuildEntry]) -> BuildEntry {
        // Whoever wants to forget it all removes the directory. If it can't be made, the writing tells.
        let directory = self.store.builds_dir();
        if !directory.exists() {
            let _ = create_dir(&directory);
        }
        let newest = all.last().map_or(0, |entry| entry.number);
        BuildEntry {
            number: newest.saturating_add(1), // a file may be called anything
            recipe: header.recipe.0.clone(),
            id: header.id.0.clone(),
            has_record: false,
            has_log: false,
        }
    }

    fn record(&self, entry: &BuildEntry) -> Option<BuildRecord> {
        let json = framed::read(&self.path(entry, "build")).whole()?;
        serde_json::from_slice(&json).ok()
    }

    fn path(&self, entry: &BuildEntry, extension: &str) -> PathBuf {
        let BuildEntry {
            number, recipe, id, ..
        } = entry;
        let name = format!("{number:0NUMBER_LENGTH$}-{recipe}-{id}.{extension}");
        self.store.builds_dir().join(name)
    }
}

impl BuildEntry {
    /// The name of the build.
    #[must_use]
    pub fn id(&self) -> BuildId {
        BuildId(self.id.clone())
    }

    /// Whether its end is known.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_record
    }

    /// Whether it is a build of this recipe.
    #[must_use]
    pub fn is_of(&self, recipe: &RecipeId) -> bool {
        self.recipe == recipe.0
    }

    /// From the name of a file.
    fn parse(name: &str) -> Option<Self> {
        let extension = Path::new(name).extension()?.to_str()?;
        let mut parts = name.strip_suffix(extension)?.strip_suffix('.')?.split('-');
        let (number, recipe, id) = (parts.next()?, parts.next()?, parts.next()?);
        let is_name = |text: &str| {
            text.len() == NAME_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        (parts.next().is_none() && is_name(recipe) && is_name(id)).then_some(())?;
        Some(Self {
            number: number.parse().ok()?,
            recipe: recipe.to_owned(),
            id: id.to_owned(),
            has_record: extension == "build",
            has_log: extension == "log",
        })
        .filter(|entry| entry.has_record || entry.has_log)
    }
}

#[cfg(test)]
mod tests;
