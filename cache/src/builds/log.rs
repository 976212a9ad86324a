//! What the steps of a build printed, a line at a time, written while they run.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BuildEntry, BuildHeader};
use crate::StoreError;

/// Of what a build prints, so many bytes are kept: half of what the history may take.
pub const MOST_LOGGED: u64 = super::MOST_BYTES / 2;

/// One line of a log file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogEntry {
    /// What is to be built: the first line.
    Begun(BuildHeader),
    /// Work begins.
    Started {
        /// When.
        at: Timestamp,
        /// Its number in progress.
        vertex: u32,
        /// As progress calls it.
        name: String,
    },
    /// A line that a step printed.
    Line {
        /// When.
        at: Timestamp,
        /// The step's number in progress.
        vertex: u32,
        /// 1 or 2: where it was printed.
        stream: u8,
        /// The text with its line end; what is no UTF-8 is replaced.
        text: String,
    },
    /// Work has ended.
    Ended {
        /// When.
        at: Timestamp,
        /// Its number in progress.
        vertex: u32,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// More was printed than is kept.
    Cut,
}

/// A log that is being written. Nobody else takes its build for a dead one.
#[derive(Debug)]
pub struct BuildLog {
    file: File,
    path: PathBuf,
    entry: BuildEntry,
    written: u64,
    pending: Vec<u8>,
}

/// Reads a log.
#[derive(Debug)]
pub struct LogReader {
    lines: BufReader<File>,
}

impl BuildLog {
    pub(super) fn create(
        path: PathBuf,
        entry: BuildEntry,
        header: &BuildHeader,
    ) -> Result<Self, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        match file.try_lock() {
            // Somebody who looks at it this very moment holds it shared.
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
        let mut log = Self {
            file,
            path,
            entry,
            written: 0,
            pending: Vec::new(),
        };
        log.add(&LogEntry::Begun(header.clone()))?;
        log.flush()?;
        Ok(log)
    }

    pub(super) fn entry(&self) -> &BuildEntry {
        &self.entry
    }

    /// Adds an entry; it is on its way to the file only after [`BuildLog::flush`].
    pub fn add(&mut self, entry: &LogEntry) -> Result<(), StoreError> {
        if self.written > MOST_LOGGED {
            return Ok(());
        }
        let before = self.pending.len();
        serde_json::to_writer(&mut self.pending, entry).map_err(|source| {
            StoreError::Serialise {
                what: "a line of a log",
                source: Box::new(source),
            }
        })?;
        self.pending.push(b'\n');
        self.written += (self.pending.len() - before) as u64;
        if self.written > MOST_LOGGED {
            self.pending.extend_from_slice(b"\"cut\"\n");
        }
        match self.pending.len() > 64 << 10 {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes what was added.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written.map_err(StoreError::io("write", &self.path))
    }
}

impl LogReader {
    pub(super) fn new(file: File) -> Self {
        Self {
            lines: BufReader::new(file),
        }
    }
}

/// The entries; a torn last line ends it.
impl Iterator for LogReader {
    type Item = LogEntry;

    fn next(&mut self) -> Option<LogEntry> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }
}
