//! Collection that nobody has to ask for: after a build, within a budget.
//!
//! It must cost nothing where there is nothing to do. A build that put nothing into the store, because all was cached, is
//! not followed by one; nor is one on a disk that has less on it, of whatever kind, than the cache alone may take; and the store is looked
//! through at most once a [`PAUSE`], however many builds end. What the build that just ended has used stays, even if that alone is more than
//! the budget.

use std::time::{Duration, SystemTime};

use crate::disk::Disk;
use crate::gc::{Freed, Limits, Policy, Verdict};
use crate::inventory::{Detail, Entry};
use crate::records::touch;
use crate::{Store, StoreError};

/// So long after one look the store is not looked through again.
const PAUSE: Duration = Duration::from_secs(60);

/// What only makes builds faster or explains them goes after so long.
const MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How much of the disk the cache may have. Images with a name are not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// What was used within this time stays.
    pub keep_duration: Option<Duration>,
    /// Never less than this for the sake of the others.
    pub keep_storage: Option<Amount>,
    /// No more than this.
    pub max_used: Option<Amount>,
    /// What has to be free on the file system.
    pub min_free: Option<Amount>,
}

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk.
    Percent(u8),
}

/// Half of the disk, and less where under a twentieth of it is free; but 2 GiB in any case.
impl Default for Budget {
    fn default() -> Self {
        Self {
            keep_duration: None,
            keep_storage: Some(Amount::Bytes(2 << 30)),
            max_used: Some(Amount::Percent(50)),
            min_free: Some(Amount::Percent(5)),
        }
    }
}

impl Budget {
    /// The limits it comes to on a disk.
    pub fn on(&self, disk: Disk) -> Limits {
        let bytes = |amount: Amount| amount.of(disk.total);
        Limits {
            keep_duration: self.keep_duration,
            keep_storage: self.keep_storage.map(bytes),
            max_used: self.max_used.map(bytes),
            min_free: self.min_free.map(bytes),
        }
    }
}

impl Limits {
    /// Whether nothing would have to go even if the cache were all that is on the disk.
    fn are_kept_by_all_of(&self, disk: Disk) -> bool {
        let used = disk.total.saturating_sub(disk.free);
        self.keep_duration.is_none() && used <= self.allowed(used, disk.free)
    }
}

impl Amount {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(hundredths) => total / 100 * u64::from(hundredths),
        }
    }
}

/// When what only makes builds faster or explains them was written last, if it is to go.
pub fn memory_limit(now: SystemTime) -> SystemTime {
    now.checked_sub(MEMORY).unwrap_or(SystemTime::UNIX_EPOCH)
}

impl Store {
    /// Brings the cache back within its budget after a build that began at `began`. `None` if there was nothing to do. `asked` looks
    /// even if that was done a moment ago.
    pub fn keep_within(
        &self,
        budget: &Budget,
        began: SystemTime,
        asked: bool,
    ) -> Result<Option<Freed>, StoreError> {
        if !self.has_grown() {
            return Ok(None);
        }
        let disk = self.disk()?;
        let limits = budget.on(disk);
        if limits.are_kept_by_all_of(disk) || !(asked || self.is_time_to_look()?) {
            return Ok(None);
        }
        let takes = |entry: &Entry| entry.last_used < began;
        let policy = Policy {
            takes: &takes,
            limits,
            memory_since: Some(memory_limit(SystemTime::now())),
        };
        let plan = self.plan_collection(&policy, Detail::Sizes)?;
        let is_over = |verdict: &Verdict| verdict.removes() && *verdict != Verdict::Unreferenced;
        if !plan.verdicts.iter().any(is_over) {
            return Ok(None);
        }
        let plan = self.collect_knowing(&plan.inventory, &policy)?;
        Ok(plan.map(|plan| plan.freed))
    }

    /// Whether the last look was long enough ago; then this counts as one.
    fn is_time_to_look(&self) -> Result<bool, StoreError> {
        let stamp = self.dir("locks").join("looked");
        let looked = stamp.metadata().and_then(|stamp| stamp.modified());
        let now = SystemTime::now();
        // A look in the future was made with a wrong clock.
        let recent = looked.is_ok_and(|looked| {
            now.duration_since(looked)
                .is_ok_and(|passed| passed < PAUSE)
        });
        if recent {
            return Ok(false);
        }
        match stamp.exists() {
            true => touch(&stamp),
            false => self.write_file(&stamp, &[])?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_whole_disk() {
        let disk = Disk {
            total: 1000,
            free: 10,
        };
        let limits = Budget::default().on(disk);
        assert_eq!(limits.max_used, Some(500));
        assert_eq!(limits.min_free, Some(50));
        assert_eq!(limits.keep_storage, Some(2 << 30));
    }

    #[test]
    fn a_disk_with_little_on_it_needs_no_look() {
        let gib = 1 << 30;
        let needs_none = |budget: Budget, used: u64, total: u64| {
            let disk = Disk {
                total: total * gib,
                free: (total - used) * gib,
            };
            budget.on(disk).are_kept_by_all_of(disk)
        };
        let usual = Budget::default();
        assert!(needs_none(usual, 50, 100));
        assert!(!needs_none(usual, 51, 100));
        // What may stay in any case.
        assert!(needs_none(usual, 2, 2));
        assert!(!needs_none(usual, 3, 3));
        let of_size = |bytes| Budget {
            max_used: Some(Amount::Bytes(bytes)),
            ..usual
        };
        assert!(!needs_none(of_size(10 * gib), 11, 100));
        let old_goes = Budget {
            keep_duration: Some(Duration::from_secs(1)),
            ..usual
        };
        assert!(!needs_none(old_goes, 1, 100));
        let no_limit = Budget {
            keep_duration: None,
            keep_storage: None,
            max_used: None,
            min_free: None,
        };
        assert!(!needs_none(no_limit, 1, 100));
    }
}
