//! A gzip writer that uses every thread and always gives the same bytes.
//!
//! The input is cut into blocks of 128 KiB. Each is deflated by itself, with the 32 KiB before it as its
//! dictionary, and ended by a sync flush, so the blocks joined are one ordinary gzip member and lose almost
//! nothing of the ratio. Where a block starts depends on the input alone. That makes the bytes independent of
//! the number of threads and also of how the input was cut into writes, which zlib-rs's own output is not.
//!
//! The bytes do depend on zlib-rs: its version is pinned in the workspace, and a test below holds digests of
//! what it makes, so that a new version can't change layer digests unnoticed.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use flate2::{Compress, Crc, FlushCompress, Status};

/// How much input is compressed at a time.
const BLOCK: usize = 128 << 10;

/// How far deflate looks back, and so how long a dictionary is.
const WINDOW: usize = 32 << 10;

/// Deflate, no name, no time, no extra flags, unknown system: nothing that could differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it into one gzip member; [`ParallelGzipWriter::finish`] must be called.
///
/// Blocks are compressed on rayon's threads (the pool the caller is in, else the global one) and written in
/// order. Memory is bounded by a few blocks a thread.
pub struct ParallelGzipWriter<W: Write> {
    out: W,
    level: u32,
    header_written: bool,
    block: Vec<u8>,
    before: Option<Arc<Vec<u8>>>,
    underway: VecDeque<Receiver<Packed>>,
    crc: Crc,
}

/// A block to compress.
struct Block {
    input: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
}

/// A block compressed.
struct Packed {
    bytes: Vec<u8>,
    crc: Crc,
}

impl<W: Write> ParallelGzipWriter<W> {
    /// Compresses into `out` at a level of 0 (stored) to 9 (smallest); a higher one counts as 9.
    pub fn new(out: W, level: u32) -> Self {
        Self {
            out,
            level: level.min(9),
            header_written: false,
            block: Vec::with_capacity(BLOCK),
            before: None,
            underway: VecDeque::new(),
            crc: Crc::new(),
        }
    }

    /// Waits for all blocks, writes the end of the member and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.dispatch(true)?;
        while !self.underway.is_empty() {
            self.write_next()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Hands the block at hand to the pool, after making room for it.
    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        while self.underway.len() >= 2 * rayon::current_num_threads() + 2 {
            self.write_next()?;
        }
        let next = if last {
            Vec::new()
        } else {
            Vec::with_capacity(BLOCK)
        };
        let input = Arc::new(std::mem::replace(&mut self.block, next));
        let block = Block {
            before: self.before.replace(Arc::clone(&input)),
            input,
            last,
        };
        let level = self.level;
        let (sender, receiver) = sync_channel(1);
        // The receiver is gone only if the writer was dropped, and then nobody wants the block.
        rayon::spawn(move || drop(sender.send(block.compress(level))));
        self.underway.push_back(receiver);
        Ok(())
    }

    /// Writes the oldest block underway.
    fn write_next(&mut self) -> io::Result<()> {
        let Some(receiver) = self.underway.pop_front() else {
            return Ok(());
        };
        let packed = wait_for(&receiver)?;
        if !self.header_written {
            self.out.write_all(&HEADER)?;
            self.header_written = true;
        }
        self.out.write_all(&packed.bytes)?;
        self.crc.combine(&packed.crc);
        Ok(())
    }
}

/// Waits for a block. On one of the pool's own threads waiting means working for the pool: if all of them
/// only waited, no block would ever be compressed.
fn wait_for(receiver: &Receiver<Packed>) -> io::Result<Packed> {
    let lost = || io::Error::other("the thread compressing a block is gone");
    loop {
        match receiver.try_recv() {
            Ok(packed) => return Ok(packed),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                None => return receiver.recv().map_err(|_| lost()),
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => std::thread::yield_now(),
            },
        }
    }
}

impl Block {
    fn compress(&self, level: u32) -> Packed {
        let mut deflate = Compress::new(flate2::Compression::new(level), false);
        if let Some(before) = self.before.as_deref().filter(|before| !before.is_empty()) {
            let dictionary = &before[before.len().saturating_sub(WINDOW)..];
            deflate
                .set_dictionary(dictionary)
                .expect("a raw deflate stream takes a dictionary at its start");
        }
        let mut crc = Crc::new();
        crc.update(&self.input);
        Packed {
            bytes: self.deflate(&mut deflate),
            crc,
        }
    }

    /// Feeds the whole block at once; there is room for the worst case, so one turn does it.
    fn deflate(&self, deflate: &mut Compress) -> Vec<u8> {
        let flush = if self.last {
            FlushCompress::Finish
        } else {
            FlushCompress::Sync
        };
        let mut bytes = Vec::with_capacity(self.input.len() + self.input.len() / 7 + 256);
        loop {
            let done = usize::try_from(deflate.total_in()).expect("a block is 128 KiB");
            let status = deflate
                .compress_vec(&self.input[done..], &mut bytes, flush)
                .expect("deflate has no input it refuses");
            let complete = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.len() < bytes.capacity(),
            };
            if complete {
                return bytes;
            }
            bytes.reserve(BLOCK);
        }
    }
}

impl<W: Write> Write for ParallelGzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.dispatch(false)?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Flushes only what is already compressed: the bytes must not depend on when someone flushed.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> fmt::Debug for ParallelGzipWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelGzipWriter")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::Digest;

    /// Text-like bytes that are the same everywhere: words chosen by a small generator.
    fn sample(length: usize) -> Vec<u8> {
        let words: [&[u8]; 8] = [
            b"layer ",
            b"digest\n",
            b"of ",
            b"\0\x01\xfe",
            b"root ",
            b"7",
            b"== ",
            b"kiln",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(words[(state >> 40) as usize % words.len()]);
        }
        bytes.truncate(length);
        bytes
    }

    fn packed(input: &[u8], level: u32) -> Vec<u8> {
        let mut writer = ParallelGzipWriter::new(Vec::new(), level);
        writer.write_all(input).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn bytes_are_the_pinned_ones() {
        let input = sample(1_000_000);
        for (level, expected) in [
            (
                0,
                "b86ebaf8c90947802be7834d4bb26ab522fe781a978290d2975caeeffcc29208",
            ),
            (
                1,
                "dfd2263388211a1f49da398c65870c1276695cd90c69a68331bd18359eff5ea6",
            ),
            (
                4,
                "4b270e23eaf38be3e0f393cfc17031b84d4f14447858e73459c9664f800fef3d",
            ),
            (
                6,
                "b92d18b570273ee612a89774708bf3e51c73a50cd62b6176f50bf1a1f117df9d",
            ),
            (
                9,
                "3bbe576540483550b2ce52b2134c3b5b2e4e1d3eae7619052188fbbbe92418e5",
            ),
        ] {
            let found = Digest::of(&packed(&input, level)).hex();
            assert_eq!(found, expected, "level {level}: layer digests would change");
        }
    }

    #[test]
    fn bytes_are_the_same_for_any_number_of_threads() {
        let input = sample(3_000_000);
        let outside = packed(&input, 6);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            assert_eq!(
                pool.install(|| packed(&input, 6)),
                outside,
                "{threads} threads"
            );
        }
    }

    #[test]
    fn it_is_one_member_of_any_length() {
        for length in [
            0,
            1,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            3 * BLOCK,
            3 * BLOCK + WINDOW / 2,
        ] {
            let input = sample(length);
            let bytes = packed(&input, 6);
            let mut output = Vec::new();
            let mut decoder = GzDecoder::new(&bytes[..]);
            decoder.read_to_end(&mut output).unwrap();
            assert!(output == input, "{length} bytes");
            assert!(
                decoder.into_inner().is_empty(),
                "one member for {length} bytes"
            );
        }
    }

    #[test]
    fn a_failing_writer_is_reported() {
        let mut room = [0_u8; 16];
        let mut writer = ParallelGzipWriter::new(&mut room[..], 1);
        let result = writer
            .write_all(&sample(4 << 20))
            .and_then(|()| writer.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
