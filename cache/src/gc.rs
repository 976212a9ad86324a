//! Collection: removing what nobody needs, as far as limits ask for it.
//!
//! [`decide`] looks at an [`Inventory`] and says of every entry whether it stays, and why. It is a pure function, so a
//! dry run shows exactly what a collection would do. Images with a name always stay, and so does what a running step
//! has. Pieces that nothing refers to always go, then images without a name, then the least recently used, until the limits
//! are kept; of entries used in the same minute the one that was made last, for it stands on the others.
//!
//! It goes on beside running builds, and never takes what one of them has looked up: each process notes what it relies on
//! ([`crate::lease`]). Builds that want to note something wait while a collection decides and renames what goes into `tmp/`; the
//! files are removed after that. A cache mount goes only if nobody holds it.
//!
//! There are no reference counts on the disk that could be wrong: who holds what is found out each time.
//!
//! **Clocks.** What was used in the future counts as used now, and is noted so: a clock that was wrong for a while
//! doesn't keep things for ever.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::builds::KnownBuild;
use crate::inventory::{Before, Detail, Entry, EntryKind, Inventory, Own, Part, PartName};
use crate::locks::StoreLock;
use crate::mounts::hold_alone;
use crate::records::touch;
use crate::tmp::{self, TmpPath};
use crate::{CacheKey, Store, StoreError};

/// Entries used within so many seconds of each other count as used at once.
const AT_ONCE: u64 = 60;

/// So long a collection waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// How much may stay. Without any limit nothing does that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// What was used within this time stays, whatever the other limits are.
    pub keep_duration: Option<Duration>,
    /// The cache never gets smaller than so many bytes for the sake of the other limits; if it is the only limit on
    /// space, it gets as small.
    pub keep_storage: Option<u64>,
    /// The cache is to take no more than so many bytes.
    pub max_used: Option<u64>,
    /// So many bytes are to be free on the store's file system.
    pub min_free: Option<u64>,
}

/// What a collection is to do.
pub struct Policy<'a> {
    /// Which entries may go at all.
    pub takes: &'a dyn Fn(&Entry) -> bool,
    /// How much of them may stay.
    pub limits: Limits,
    /// What only makes builds faster or explains them goes if it was not written since; `None` leaves it.
    pub memory_since: Option<SystemTime>,
}

/// What becomes of an entry, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An image with a name stays.
    Named,
    /// A running step, build or container has it.
    InUse,
    /// It is not among those that may go.
    NotAsked,
    /// It was used this long ago, which is within the time to keep.
    Recent(Duration),
    /// There is room for it.
    Fits,
    /// Goes: nothing refers to it.
    Unreferenced,
    /// Goes: no limit keeps it.
    Asked,
    /// Goes: it was last used this long ago, longer than what is kept.
    Old(Duration),
    /// Goes: more was used than may be.
    TooMuch {
        /// Bytes that were used when its turn came.
        used: u64,
        /// Bytes that may be.
        limit: u64,
    },
}

/// A verdict on each entry of an inventory, in its order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was found.
    pub inventory: Inventory,
    /// What becomes of each entry.
    pub verdicts: Vec<Verdict>,
    /// What goes, in numbers.
    pub freed: Freed,
}

/// What a collection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Images without a name.
    pub images: u64,
    /// Containers.
    pub containers: u64,
    /// Cache records.
    pub records: u64,
    /// Cache mounts.
    pub mounts: u64,
    /// Layers, whatever forms they had.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Space all of them took on the disk, in bytes.
    pub bytes: u64,
}

impl Verdict {
    /// Whether the entry goes.
    pub fn removes(self) -> bool {
        matches!(
            self,
            Self::Unreferenced | Self::Asked | Self::Old(_) | Self::TooMuch { .. }
        )
    }
}

impl Limits {
    fn is_on_space(&self) -> bool {
        self.keep_storage.is_some() || self.max_used.is_some() || self.min_free.is_some()
    }

    /// How many bytes may stay of `used` when `free` are left on the file system.
    pub(crate) fn allowed(&self, used: u64, free: u64) -> u64 {
        if !self.is_on_space() {
            return 0;
        }
        let reserve = self.keep_storage.unwrap_or(0);
        if self.max_used.is_none() && self.min_free.is_none() {
            return reserve;
        }
        let mut allowed = self.max_used.unwrap_or(u64::MAX);
        let wanting = self.min_free.unwrap_or(0).saturating_sub(free);
        if wanting > 0 {
            allowed = allowed.min(used.saturating_sub(wanting));
        }
        allowed.max(reserve)
    }
}

impl Store {
    /// What a collection would do.
    pub fn plan_collection(&self, policy: &Policy<'_>, detail: Detail) -> Result<Plan, StoreError> {
        let _held = self.lock_shared()?;
        self.plan_holding(policy, detail)
    }

    /// Removes what the policy says. `None` if the store can't be had alone for a moment: then another time will do.
    pub fn collect(&self, policy: &Policy<'_>, detail: Detail) -> Result<Option<Plan>, StoreError> {
        let before = {
            let _held = self.lock_shared()?;
            self.inventory(detail)?
        };
        self.collect_knowing(&before, policy)
    }

    /// The same. What takes long to find out was found out before builds have to wait.
    pub(crate) fn collect_knowing(
        &self,
        before: &Inventory,
        policy: &Policy<'_>,
    ) -> Result<Option<Plan>, StoreError> {
        let before = Before::of(before);
        let Some(alone) = self.alone_for_a_moment()? else {
            return Ok(None);
        };
        let plan = self.plan_of(self.inventory_knowing(&before)?, policy)?;
        let hidden = self.onlooker().apply(&plan, &alone)?;
        drop(alone);
        drop(hidden); // Takes long: builds may start meanwhile.
        if let Some(since) = policy.memory_since {
            self.forget(since);
        }
        tmp::sweep(&self.dir("tmp"));
        Ok(Some(plan))
    }

    /// The store lock alone: others hold it for a moment each, or while they take stock.
    fn alone_for_a_moment(&self) -> Result<Option<StoreLock>, StoreError> {
        let began = Instant::now();
        loop {
            let held = self.try_lock_exclusive()?;
            if held.is_some() || began.elapsed() > PATIENCE {
                return Ok(held);
            }
            thread::sleep(PAUSE);
        }
    }

    fn plan_holding(&self, policy: &Policy<'_>, detail: Detail) -> Result<Plan, StoreError> {
        self.plan_of(self.inventory(detail)?, policy)
    }

    fn plan_of(&self, inventory: Inventory, policy: &Policy<'_>) -> Result<Plan, StoreError> {
        let free = match policy.limits.min_free {
            Some(_) => self.disk()?.free,
            None => 0,
        };
        Ok(decide(inventory, policy, free, SystemTime::now()))
    }

    /// Takes what goes out of the store. It is removed when what is returned is dropped.
    fn apply(&self, plan: &Plan, _alone: &StoreLock) -> Result<Vec<TmpPath>, StoreError> {
        let Plan { inventory, .. } = plan;
        let mut hidden = Vec::new();
        let now = SystemTime::now();
        let mut holders: Vec<u32> = inventory.parts.iter().map(Part::pins).collect();
        // What leads to content goes before the content: a kill in between leaves pieces that nothing refers to.
        for (entry, verdict) in inventory.entries.iter().zip(&plan.verdicts) {
            if !verdict.removes() {
                if entry.last_used > now {
                    self.note_used_now(entry);
                }
                continue;
            }
            match &entry.own {
                Own::Image(config) => drop(self.refs().remove_image(config)?),
                Own::Container(id) => self.containers().remove(id)?,
                Own::Record(key) => self.actions().remove(key)?,
                Own::Directory(path, _) if entry.kind == EntryKind::CacheMount => {
                    let lock = path.with_extension("lock");
                    let alone = hold_alone(&lock);
                    if alone.is_none() && lock.exists() {
                        continue; // a step has begun to use it
                    }
                    hidden.push(self.hide(path)?);
                }
                Own::Directory(path, _) => hidden.push(self.hide(path)?),
                Own::Nothing => {}
            }
            for part in &entry.parts {
                holders[*part] -= 1;
            }
        }
        for (alias, target) in &inventory.aliases {
            if self.actions().record(target).is_none() {
                self.actions().remove(alias)?;
            }
        }
        for (part, holders) in inventory.parts.iter().zip(holders) {
            match part.what {
                _ if holders > 0 => {}
                PartName::Layer(layer) => hidden.push(self.hide(&self.layers().dir(&layer))?),
                PartName::Blob(blob) => self.cas().remove(&blob)?,
                PartName::Repository(_) => {}
            }
        }
        Ok(hidden)
    }

    fn note_used_now(&self, entry: &Entry) {
        match &entry.own {
            Own::Image(config) => self.refs().note_use(config),
            Own::Container(id) => touch(&self.containers().path(id)),
            Own::Record(key) => self.actions().note_use(key),
            Own::Directory(path, _) if entry.kind == EntryKind::CacheMount => {
                touch(&path.with_extension("lock"));
            }
            Own::Directory(path, _) => touch(path),
            Own::Nothing => {}
        }
    }

    /// Moves a directory to `tmp/`.
    fn hide(&self, path: &Path) -> Result<TmpPath, StoreError> {
        let hidden = self.tmp_path()?;
        match fs::rename(path, hidden.as_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(hidden),
        }
    }

    /// Forgets what only makes builds faster or explains them: not worth counting, nor failing for.
    fn forget(&self, since: SystemTime) {
        for name in ["steps", "stat", "remotes/http"] {
            for path in old_entries(&self.dir(name), since) {
                let _ = fs::remove_file(path);
            }
        }
        self.actions()
            .forget_preimages(since, &self.keys_in_history());
    }

    /// The keys that builds of the history speak of. Old builds go first.
    fn keys_in_history(&self) -> HashSet<CacheKey> {
        let builds = self.builds();
        let _ = builds.prune(true);
        let kept = builds.list().unwrap_or_default();
        let records = kept.iter().filter_map(|entry| builds.read(entry));
        let keys = records.flat_map(|build| match build {
            KnownBuild::Ended(record) => record.keys().collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        keys.collect()
    }
}

/// Says of every entry whether it stays. `free` is what is left on the file system, in bytes.
pub fn decide(inventory: Inventory, policy: &Policy<'_>, free: u64, now: SystemTime) -> Plan {
    let Limits { keep_duration, .. } = policy.limits;
    let mut used = inventory.removable();
    let allowed = policy.limits.allowed(used, free);
    let kept = inventory.kept();
    let mut pinned: Vec<u32> = inventory.parts.iter().map(Part::pins).collect();
    let mut verdicts = vec![Verdict::Fits; inventory.entries.len()];
    let mut freed = Freed::default();
    for at in in_turn(&inventory.entries, now) {
        let entry = &inventory.entries[at];
        let age = now.duration_since(entry.last_used).unwrap_or_default();
        let verdict = match keep_duration {
            _ if entry.named => Verdict::Named,
            _ if entry.in_use => Verdict::InUse,
            _ if !(policy.takes)(entry) => Verdict::NotAsked,
            _ if entry.kind == EntryKind::Stray => Verdict::Unreferenced,
            Some(keep) if age <= keep => Verdict::Recent(age),
            Some(_) if !policy.limits.is_on_space() => Verdict::Old(age),
            None if !policy.limits.is_on_space() => Verdict::Asked,
            _ if used > allowed && gains(entry, &kept) => Verdict::TooMuch {
                used,
                limit: allowed,
            },
            _ => Verdict::Fits,
        };
        verdicts[at] = verdict;
        if verdict.removes() {
            let bytes = take(entry, &inventory, &mut pinned, &mut freed);
            used = used.saturating_sub(bytes);
        }
    }
    Plan {
        inventory,
        verdicts,
        freed,
    }
}

/// Whether space is won by it at all, sooner or later: an image with a name may need all that it has.
fn gains(entry: &Entry, kept: &[bool]) -> bool {
    entry.own.bytes() > 0 || entry.parts.iter().any(|part| !kept[*part])
}

/// Counts an entry as removed; gives the bytes that go with it.
fn take(entry: &Entry, inventory: &Inventory, holders: &mut [u32], freed: &mut Freed) -> u64 {
    match entry.kind {
        EntryKind::Image => freed.images += 1,
        EntryKind::Container => freed.containers += 1,
        EntryKind::Step => freed.records += 1,
        EntryKind::CacheMount => freed.mounts += 1,
        EntryKind::Repository | EntryKind::Stray => {}
    }
    let mut bytes = entry.own.bytes();
    for at in &entry.parts {
        holders[*at] -= 1;
        if holders[*at] > 0 {
            continue;
        }
        let part = &inventory.parts[*at];
        bytes += part.bytes;
        match part.what {
            PartName::Layer(_) => freed.layers += 1,
            PartName::Blob(_) => freed.blobs += 1,
            PartName::Repository(_) => {}
        }
    }
    freed.bytes += bytes;
    bytes
}

/// Entries by number in the order in which they go: strays, images without a name (the steps they came from make them
/// again), then the least recently used.
fn in_turn(entries: &[Entry], now: SystemTime) -> Vec<usize> {
    let mut turn: Vec<usize> = (0..entries.len()).collect();
    turn.sort_by_cached_key(|at| {
        let entry = &entries[*at];
        let used = entry.last_used.min(now);
        let used = used.duration_since(SystemTime::UNIX_EPOCH);
        let at_once = used.unwrap_or_default().as_secs() / AT_ONCE;
        let class = match entry.kind {
            EntryKind::Stray => 0,
            EntryKind::Image => 1,
            _ => 2,
        };
        (
            class,
            at_once,
            std::cmp::Reverse(entry.created),
            entry.id.clone(),
        )
    });
    turn
}

/// What is in a directory and was not written since; nothing if there is no such directory.
fn old_entries(directory: &Path, since: SystemTime) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_old = |entry: &fs::DirEntry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written < since)
    };
    entries.filter(is_old).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests;
