//! Runs of entries encoded by several threads and put together in order.
//!
//! ```text
//!              ┌▶ encoder ─▶ chunks of run 1 ─┐                 ┌─▶ out (the calling thread)
//!  runs ──▶ jobs ▶ encoder ─▶ chunks of run 2 ─┴▶ one at a time ─┤
//!              └▶ encoder …                                      └─▶ diff id (a thread)
//! ```
//!
//! Every queue is short and chunks are used again, so memory stays the same whatever the sizes of layers and files:
//! a file larger than a chunk goes through piece by piece.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::super::header::END;
use super::WriteError;
use super::encode::{Chunk, Chunks, Digests, Encoder, Filling, Halt};
use crate::tar::TarSummary;
use crate::{DiffId, Digester};

/// Bytes that change hands at a time.
const CHUNK: usize = 256 << 10;
/// A run ends with the entry that brings it to so many bytes.
const RUN: u64 = 1 << 20;
/// How many chunks a run may be ahead of its turn: all of one that isn't a single large file.
const AHEAD: usize = (RUN as usize / CHUNK) + 1;
/// A tar of fewer bytes is not worth a thread.
const WORTH_THREADS: u64 = 2 << 20;
/// Above this, the one thread that hashes the tar is what all others wait for.
const MOST_ENCODERS: usize = 4;

/// What there is to tell of a tar.
pub(super) struct Written {
    pub(super) summary: TarSummary,
    pub(super) digests: Digests,
}

/// A run to be encoded, and where its pieces go.
struct Job {
    positions: Range<usize>,
    pieces: SyncSender<Piece>,
}

enum Piece {
    Bytes(Chunk),
    /// The run is complete.
    End(Digests),
    Failed(WriteError),
}

/// Chunks that are free.
#[derive(Default)]
struct Pool(Mutex<Vec<Chunk>>);

/// Writes the tar to `out`.
pub(super) fn write(encoder: &Encoder<'_>, mut out: impl Write) -> Result<Written, WriteError> {
    let lengths = (0..encoder.members.len()).map(|position| encoder.length(position));
    let written = match lengths.sum::<u64>() {
        0..WORTH_THREADS => write_here(encoder, &mut out)?,
        _ => write_with_threads(encoder, &mut out)?,
    };
    out.flush().map_err(WriteError::Output)?;
    Ok(written)
}

fn write_here(encoder: &Encoder<'_>, out: &mut dyn Write) -> Result<Written, WriteError> {
    struct Direct<'a> {
        out: &'a mut dyn Write,
        digester: Digester,
        size: u64,
    }

    impl Chunks for Direct<'_> {
        fn full(&mut self, chunk: Chunk) -> Result<Chunk, Halt> {
            self.digester.update(chunk.bytes());
            self.size += chunk.bytes().len() as u64;
            self.out
                .write_all(chunk.bytes())
                .map_err(WriteError::Output)?;
            Ok(chunk.emptied())
        }
    }

    let mut direct = Direct {
        out,
        digester: Digester::new(),
        size: 0,
    };
    let mut filling = Filling::new(Chunk::of(CHUNK), &mut direct);
    let encoded = encoder
        .encode(0..encoder.members.len(), &mut filling)
        .and_then(|digests| {
            filling.put(&END)?;
            filling.finish().map(|()| digests)
        });
    let digests = encoded.map_err(|halt| match halt {
        Halt::Failed(error) => error,
        Halt::Unwanted => unreachable!("the one who wants the bytes is this thread"),
    })?;
    let summary = TarSummary {
        diff_id: DiffId(direct.digester.finish()),
        size: direct.size,
    };
    Ok(Written { summary, digests })
}

fn write_with_threads(encoder: &Encoder<'_>, out: &mut dyn Write) -> Result<Written, WriteError> {
    let runs = runs(encoder);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let encoders = processors.min(MOST_ENCODERS).min(runs.len());
    let pool = Pool::default();
    let (jobs, waiting) = channel();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..encoders {
            scope.spawn(|| encode_runs(encoder, &waiting, &pool));
        }
        let (to_hash, hashed) = sync_channel(AHEAD);
        let hasher = scope.spawn(|| hash(hashed, &pool));
        let mut assembly = Assembly {
            out,
            to_hash,
            pool: &pool,
            size: 0,
            digests: Digests::new(),
        };
        assembly.runs(runs, encoders + 2, jobs)?;
        assembly.put(Chunk::holding(&END))?;
        let Assembly {
            to_hash,
            size,
            digests,
            ..
        } = assembly;
        drop(to_hash);
        let digest = hasher.join().expect("hashing does not panic").finish();
        let summary = TarSummary {
            diff_id: DiffId(digest),
            size,
        };
        Ok(Written { summary, digests })
    })
}

/// Entries that are encoded together: at least [`RUN`] bytes, but for the last.
fn runs(encoder: &Encoder<'_>) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut length) = (0, 0);
    for position in 0..encoder.members.len() {
        length += encoder.length(position);
        if length >= RUN || position + 1 == encoder.members.len() {
            runs.push(start..position + 1);
            (start, length) = (position + 1, 0);
        }
    }
    runs
}

/// What an encoding thread does until there are no more runs.
fn encode_runs(encoder: &Encoder<'_>, waiting: &Mutex<Receiver<Job>>, pool: &Pool) {
    struct Queue<'a> {
        pieces: &'a SyncSender<Piece>,
        pool: &'a Pool,
    }

    impl Chunks for Queue<'_> {
        fn full(&mut self, chunk: Chunk) -> Result<Chunk, Halt> {
            let sent = self.pieces.send(Piece::Bytes(chunk));
            sent.map_err(|_| Halt::Unwanted)?;
            Ok(self.pool.take())
        }
    }

    let next = || locked(waiting).recv();
    while let Ok(Job { positions, pieces }) = next() {
        let mut queue = Queue {
            pieces: &pieces,
            pool,
        };
        let mut filling = Filling::new(pool.take(), &mut queue);
        let encoded = encoder
            .encode(positions, &mut filling)
            .and_then(|digests| filling.finish().map(|()| digests));
        let last = match encoded {
            Ok(digests) => Piece::End(digests),
            Err(Halt::Failed(error)) => Piece::Failed(error),
            Err(Halt::Unwanted) => return,
        };
        if pieces.send(last).is_err() {
            return;
        }
    }
}

fn hash(chunks: Receiver<Arc<Chunk>>, pool: &Pool) -> Digester {
    let mut digester = Digester::new();
    for chunk in chunks {
        digester.update(chunk.bytes());
        pool.give(chunk);
    }
    digester
}

/// Where the pieces of all runs come together.
struct Assembly<'a> {
    out: &'a mut dyn Write,
    to_hash: SyncSender<Arc<Chunk>>,
    pool: &'a Pool,
    size: u64,
    digests: Digests,
}

impl Assembly<'_> {
    /// Hands out runs, a few ahead of the one that is being put together.
    fn runs(
        &mut self,
        runs: Vec<Range<usize>>,
        most_ahead: usize,
        jobs: Sender<Job>,
    ) -> Result<(), WriteError> {
        let mut under_way = VecDeque::new();
        for positions in runs {
            let (pieces, run) = sync_channel(AHEAD);
            // If all encoders are gone, the first run that is missing tells why.
            let _ = jobs.send(Job { positions, pieces });
            under_way.push_back(run);
            if under_way.len() > most_ahead {
                self.run(under_way.pop_front())?;
            }
        }
        under_way
            .into_iter()
            .try_for_each(|run| self.run(Some(run)))
    }

    fn run(&mut self, pieces: Option<Receiver<Piece>>) -> Result<(), WriteError> {
        for piece in pieces.into_iter().flatten() {
            match piece {
                Piece::Bytes(chunk) => self.put(chunk)?,
                Piece::End(digests) => self.digests.extend(digests),
                Piece::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn put(&mut self, chunk: Chunk) -> Result<(), WriteError> {
        let chunk = Arc::new(chunk);
        self.size += chunk.bytes().len() as u64;
        self.to_hash
            .send(chunk.clone())
            .expect("the hasher waits for as long as there is a sender");
        self.out
            .write_all(chunk.bytes())
            .map_err(WriteError::Output)?;
        self.pool.give(chunk);
        Ok(())
    }
}

impl Pool {
    fn take(&self) -> Chunk {
        let free = locked(&self.0).pop();
        free.map_or_else(|| Chunk::of(CHUNK), Chunk::emptied)
    }

    /// Takes a chunk back from the last one who has it.
    fn give(&self, chunk: Arc<Chunk>) {
        if let Some(chunk) = Arc::into_inner(chunk) {
            locked(&self.0).push(chunk);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
