//! Parts compressed by many threads and written in order.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

/// Most parts underway, whatever the number of processors: it bounds memory, and more would only wait to be written.
const MOST_UNDERWAY: usize = 24;

/// Writes what jobs come to, in the order in which the jobs were handed in.
///
/// Jobs run on rayon's threads (the pool the caller is in, else the global one). Memory is bounded by what the jobs
/// hold, two for each thread and two more, never above [`MOST_UNDERWAY`].
pub(super) struct OrderedWriter<W: Write> {
    out: W,
    underway: VecDeque<Receiver<Part>>,
    starts: Vec<u64>,
    written: u64,
}

/// What a job comes to.
pub(super) struct Part {
    /// The bytes to write.
    pub(super) bytes: Vec<u8>,
    /// Whether [`OrderedWriter::starts`] shall tell where they begin.
    pub(super) noted: bool,
}

impl<W: Write> OrderedWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            underway: VecDeque::new(),
            starts: Vec::new(),
            written: 0,
        }
    }

    /// Has `job` done, after making room for it.
    pub(super) fn submit(&mut self, job: impl FnOnce() -> Part + Send + 'static) -> io::Result<()> {
        let most = (2 * rayon::current_num_threads() + 2).min(MOST_UNDERWAY);
        while self.underway.len() >= most {
            self.write_next()?;
        }
        let (sender, receiver) = sync_channel(1);
        // The receiver is gone only if the writer was dropped, and then nobody wants the part.
        rayon::spawn(move || drop(sender.send(job())));
        self.underway.push_back(receiver);
        Ok(())
    }

    /// Waits for all jobs and writes what they came to.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        while !self.underway.is_empty() {
            self.write_next()?;
        }
        Ok(())
    }

    /// Where each noted part begins, in bytes from the first one; complete once [`OrderedWriter::drain`] was called.
    pub(super) fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// How many bytes were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Waits for all jobs and gives the writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.drain()?;
        self.out.flush()?;
        Ok(self.out)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write_next(&mut self) -> io::Result<()> {
        let Some(receiver) = self.underway.pop_front() else {
            return Ok(());
        };
        let part = wait_for(&receiver)?;
        if part.noted {
            self.starts.push(self.written);
        }
        self.out.write_all(&part.bytes)?;
        self.written += part.bytes.len() as u64;
        Ok(())
    }
}

/// Waits for a part. On one of the pool's own threads waiting means working for the pool: if all of them only waited,
/// nothing would ever be compressed.
fn wait_for(receiver: &Receiver<Part>) -> io::Result<Part> {
    let lost = || io::Error::other("the thread compressing a part is gone");
    loop {
        match receiver.try_recv() {
            Ok(part) => return Ok(part),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                None => return receiver.recv().map_err(|_| lost()),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            },
        }
    }
}
