//! A gzip writer that uses every thread and always gives the same bytes.
//!
//! The input is cut into blocks of 1 MiB, and each becomes a gzip member of its own: a gzip file is a series of members
//! (RFC 1952, section 2.2), and readers of layers take them as one stream. Where a member starts depends on the input
//! alone, so the bytes depend neither on the number of threads nor on how the input was cut into writes.
//!
//! Members are made by libdeflate, which wants a whole block at once and is then nearly twice as fast as zlib-rs at the
//! same size. What can't be compressed (images, archives, keys) is recognised from a sample and stored, which costs
//! next to nothing; and at [`MIXED_LEVEL`] what shrinks much anyway gets the level below.
//!
//! The bytes do depend on libdeflate: its version is pinned in the workspace, and a test below holds digests of what
//! it makes, so that a new version can't change layer digests unnoticed.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor};

use super::Compression;
use super::ordered::{OrderedWriter, Part};
use super::sample::{Order, order};

/// The level of which only blocks without much order are: others gain too little by it. So it is between two of libdeflate's,
/// in time and in size.
const MIXED_LEVEL: u32 = Compression::DEFAULT_GZIP_LEVEL;

/// How many levels there are.
const LEVELS: usize = 10;

/// How much input becomes one member. Longer ones gain less than half a percent of size.
const BLOCK: usize = 1 << 20;

/// Deflate, no name, no time, no extra flags, unknown system: nothing that could differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Check sum and length.
const TRAILER: usize = 8;

/// Compresses what is written to it into gzip members; [`ParallelGzipWriter::finish`] must be called.
///
/// Memory is bounded by a few blocks a thread.
pub struct ParallelGzipWriter<W: Write> {
    out: OrderedWriter<W>,
    level: u32,
    block: Vec<u8>,
    is_empty: bool,
}

impl<W: Write> ParallelGzipWriter<W> {
    /// Compresses into `out` at a level of 0 (stored) to 9 (smallest); a higher one counts as 9.
    pub fn new(out: W, level: u32) -> Self {
        Self {
            out: OrderedWriter::new(out),
            level: level.min(LEVELS as u32 - 1),
            block: Vec::new(),
            is_empty: true,
        }
    }

    /// Waits for all blocks and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        // Nothing is one member too: no bytes at all would be no gzip.
        if self.is_empty || !self.block.is_empty() {
            self.dispatch()?;
        }
        self.out.finish()
    }

    /// Hands the block at hand to the pool.
    fn dispatch(&mut self) -> io::Result<()> {
        self.is_empty = false;
        let block = std::mem::take(&mut self.block);
        let level = self.level;
        self.out.submit(move || Part {
            bytes: member(&block, level),
            noted: false,
        })
    }
}

/// What a thread uses again for each member, so that memory is not cleared, mapped and unmapped for each.
#[derive(Default)]
struct Workshop {
    /// By level, made when first needed.
    compressors: [Option<Compressor>; LEVELS],
    /// Room for the worst case.
    room: Vec<u8>,
}

thread_local! {
    static WORKSHOP: RefCell<Workshop> = RefCell::default();
}

/// A whole gzip member with `input` in it, at a level of 0 to 9.
pub(super) fn member(input: &[u8], level: u32) -> Vec<u8> {
    let level = match order(input) {
        Order::None => 0,
        Order::Much if level == MIXED_LEVEL => level - 1,
        _ => level,
    };
    WORKSHOP.with_borrow_mut(|workshop| {
        let deflated = workshop.deflate(input, level as usize);
        let mut bytes = Vec::with_capacity(HEADER.len() + deflated.len() + TRAILER);
        bytes.extend(HEADER);
        bytes.extend_from_slice(deflated);
        bytes.extend(libdeflater::crc32(input).to_le_bytes());
        // The length is kept modulo 2^32.
        bytes.extend((input.len() as u32).to_le_bytes());
        bytes
    })
}

impl Workshop {
    fn deflate(&mut self, input: &[u8], level: usize) -> &[u8] {
        let compressor = self.compressors[level].get_or_insert_with(|| {
            let known = CompressionLvl::new(level as i32);
            Compressor::new(known.expect("0 to 9 are levels of libdeflate"))
        });
        let worst = compressor.deflate_compress_bound(input.len());
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        let length = compressor
            .deflate_compress(input, &mut self.room)
            .expect("there is room for the worst case");
        &self.room[..length]
    }
}

impl<W: Write> Write for ParallelGzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.dispatch()?;
        }
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

    use flate2::read::MultiGzDecoder;

    use super::*;
    use crate::Digest;
    use crate::compress::sample::tests::{noise, words};

    fn packed(input: &[u8], level: u32) -> Vec<u8> {
        let mut writer = ParallelGzipWriter::new(Vec::new(), level);
        writer.write_all(input).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn bytes_are_the_pinned_ones() {
        let input = words(1_500_000);
        for (level, expected) in [
            (
                0,
                "10b340d34ca99ccf9d292bdc146d4a782a5efc9305cb44e18f01918bfb59658a",
            ),
            (
                1,
                "79b8b0241457ff5a30e0966f713c7734f78fbcf1100c20ea7df6a876ee3565b3",
            ),
            (
                3,
                "64fbb311ec6b50307bd6debb8c8874c0d7ba40d9982420032566aed213be89f8",
            ),
            (
                6,
                "d501cbd8660d9370bc91a452bb6ea669106cf55812aed3b76c91e96da0690068",
            ),
            (
                9,
                "924f83580908495d900ba02e0f8adc2aeb0a8cce8f8057abb9010fbd026aa8d3",
            ),
        ] {
            let found = Digest::of(&packed(&input, level)).hex();
            assert_eq!(found, expected, "level {level}: layer digests would change");
        }
    }

    #[test]
    fn between_two_levels_a_block_has_one_or_the_other() {
        let text = words(BLOCK);
        assert!(member(&text, MIXED_LEVEL) == member(&text, MIXED_LEVEL - 1));
        let code = [noise(BLOCK / 2), words(BLOCK / 2)].concat();
        assert!(member(&code, MIXED_LEVEL) != member(&code, MIXED_LEVEL - 1));
        assert!(member(&text, 9) != member(&text, 8));
    }

    #[test]
    fn bytes_are_the_same_for_any_number_of_threads() {
        let input = words(7_000_000);
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
    fn any_length_comes_back() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let input = words(length);
            let bytes = packed(&input, 3);
            let mut output = Vec::new();
            MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut output)
                .unwrap();
            assert!(output == input, "{length} bytes");
            let members = bytes
                .windows(HEADER.len())
                .filter(|at| *at == HEADER)
                .count();
            assert_eq!(members, length.div_ceil(BLOCK).max(1), "{length} bytes");
        }
    }

    #[test]
    fn what_does_not_compress_is_stored() {
        let input = noise(BLOCK);
        let bytes = packed(&input, 9);
        assert!(bytes.len() > input.len() && bytes.len() < input.len() + 200);
        let mut output = Vec::new();
        MultiGzDecoder::new(&bytes[..])
            .read_to_end(&mut output)
            .unwrap();
        assert!(output == input);
    }

    #[test]
    fn a_failing_writer_is_reported() {
        let mut room = [0_u8; 16];
        let mut writer = ParallelGzipWriter::new(&mut room[..], 1);
        let result = writer
            .write_all(&words(4 << 20))
            .and_then(|()| writer.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
