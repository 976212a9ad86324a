//! Who is waited for, so that somebody who looks on can be told why nothing moves.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::TransportError;
use crate::locked::locked;

/// A host that lets a client wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `host` or `host:port`.
    pub host: String,
    /// Since it was last heard of.
    pub since: Duration,
    /// It is to be asked again after so long in all, because it said so or failed before; otherwise it owes an answer.
    pub pause: Option<Duration>,
}

/// All exchanges and pauses of a client. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    serial: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    host: String,
    epoch: Instant,
    /// Milliseconds after `epoch` at which waiting began, and one more; 0 while nobody waits.
    since: AtomicU64,
    pause: Option<Duration>,
}

/// One exchange or pause, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    table: Arc<Mutex<Table>>,
    serial: u64,
    entry: Arc<Entry>,
}

impl Waits {
    /// Something is asked of `host`.
    pub(crate) fn begin(&self, host: &str) -> Wait {
        self.enter(host, None)
    }

    /// `host` is left alone for as long.
    pub(crate) fn pause(&self, host: &str, pause: Duration) -> Wait {
        self.enter(host, Some(pause))
    }

    /// The hosts that have let wait for at least `least`, each once.
    pub(crate) fn longer_than(&self, least: Duration) -> Vec<Waiting> {
        let mut found: BTreeMap<String, Waiting> = BTreeMap::new();
        for entry in locked(&self.0).entries.values() {
            let Some(since) = entry.waited().filter(|since| *since >= least) else {
                continue;
            };
            let waiting = Waiting {
                host: entry.host.clone(),
                since,
                pause: entry.pause,
            };
            let longest = found.entry(entry.host.clone()).or_insert(waiting.clone());
            if longest.since < since {
                *longest = waiting;
            }
        }
        found.into_values().collect()
    }

    fn enter(&self, host: &str, pause: Option<Duration>) -> Wait {
        let entry = Arc::new(Entry {
            host: host.to_owned(),
            epoch: Instant::now(),
            since: AtomicU64::new(1),
            pause,
        });
        let mut table = locked(&self.0);
        table.serial += 1;
        let serial = table.serial;
        table.entries.insert(serial, Arc::clone(&entry));
        Wait {
            table: Arc::clone(&self.0),
            serial,
            entry,
        }
    }
}

impl Wait {
    /// From now on it is waited for: a byte came or went.
    pub(crate) fn moved(&self) {
        let now = u64::try_from(self.entry.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.entry.since.store(now + 1, Ordering::Relaxed);
    }

    /// It is this side's turn.
    pub(crate) fn rest(&self) {
        self.entry.since.store(0, Ordering::Relaxed);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        locked(&self.table).entries.remove(&self.serial);
    }
}

impl Entry {
    fn waited(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.epoch
                .elapsed()
                .saturating_sub(Duration::from_millis(since)),
        )
    }
}

/// How long a body may take for its next [`LEAST`] bytes, as a multiple of how long it may stand still.
const PATIENCE: u32 = 2;
/// Less than this is no progress, in bytes: who sends or takes a byte a second keeps up a connection, and nothing else.
const LEAST: u64 = 4 * 1024;

/// Whether so many bytes before a failure make it worth to begin counting tries anew.
pub(crate) fn is_progress(bytes: u64, failure: &TransportError) -> bool {
    match failure {
        TransportError::TimedOut(_) => is_worth_it(bytes),
        _ => bytes > 0,
    }
}

/// Whether so many bytes are more than a drip.
pub(crate) fn is_worth_it(bytes: u64) -> bool {
    bytes >= LEAST
}

/// What moves in one direction, and whether it only drips.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: Duration,
    /// Since the last [`LEAST`] bytes: how many there were, and how long they were waited for.
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// `stall` is how long nothing may move.
    pub(crate) fn new(stall: Duration) -> Self {
        Pace {
            limit: stall.saturating_mul(PATIENCE),
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// So many bytes took so long. An error, which says so, where that is too slow.
    pub(crate) fn moved(&mut self, bytes: usize, took: Duration) -> io::Result<()> {
        self.bytes += bytes as u64;
        self.waited += took;
        if self.bytes >= LEAST {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        } else if self.waited > self.limit && bytes > 0 {
            let text = format!("only {} bytes in {}s", self.bytes, self.limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }
}

/// A body that is read: it is known when it is waited for, and one that only drips is an error.
pub(crate) struct WaitedFor<R> {
    inner: R,
    wait: Wait,
    pace: Pace,
}

impl<R: Read> WaitedFor<R> {
    /// `stall` is how long it may be silent.
    pub(crate) fn new(inner: R, wait: Wait, stall: Duration) -> Self {
        WaitedFor {
            inner,
            wait,
            pace: Pace::new(stall),
        }
    }
}

impl<R: Read> Read for WaitedFor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait.moved();
        let asked = Instant::now();
        let read = self.inner.read(buffer);
        self.wait.rest();
        self.pace
            .moved(*read.as_ref().unwrap_or(&0), asked.elapsed())?;
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_waited_for_once_and_while_it_owes_something() {
        let waits = Waits::default();
        let hosts = |waits: &Waits| -> Vec<String> {
            let found = waits.longer_than(Duration::ZERO);
            found.into_iter().map(|waiting| waiting.host).collect()
        };
        let (first, second) = (waits.begin("a"), waits.begin("a"));
        let pause = waits.pause("b", Duration::from_secs(9));
        assert_eq!(hosts(&waits), ["a", "b"]);
        assert_eq!(
            waits.longer_than(Duration::ZERO)[1].pause,
            Some(Duration::from_secs(9))
        );
        assert!(waits.longer_than(Duration::from_secs(3600)).is_empty());
        first.rest();
        drop(second);
        assert_eq!(hosts(&waits), ["b"]);
        first.moved();
        drop(pause);
        assert_eq!(hosts(&waits), ["a"]);
    }

    #[test]
    fn a_body_that_only_drips_is_an_error() {
        struct Drips;
        impl Read for Drips {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::yield_now();
                buffer[0] = 1;
                Ok(1)
            }
        }
        let waits = Waits::default();
        let mut body = WaitedFor::new(Drips, waits.begin("a"), Duration::ZERO);
        let error = io::copy(&mut body, &mut io::sink()).expect_err("it never ends");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let quick = WaitedFor::new(&[7_u8; 9000][..], waits.begin("a"), Duration::from_secs(9));
        assert_eq!(io::copy(&mut { quick }, &mut io::sink()).ok(), Some(9000));
    }

    #[test]
    fn what_moves_slowly_without_an_end_is_too_slow() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(30 * second);
        for _ in 0..59 {
            assert!(pace.moved(1, second).is_ok());
        }
        assert!(pace.moved(4096, second).is_ok());
        assert!(pace.moved(1, 60 * second).is_ok());
        let told = pace.moved(1, second).map_err(|error| error.to_string());
        assert_eq!(told, Err("only 2 bytes in 60s".to_owned()));
    }
}
