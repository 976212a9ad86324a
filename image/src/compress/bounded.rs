//! Decompression of what nobody vouches for: an archive that somebody sent, and not a layer that a manifest describes.
//!
//! A few kilobytes can stand for terabytes of zeros. No honest archive of files shrinks as much once it is past a size
//! that any disk takes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Algorithm, Decoder, decoder};

/// Up to this size in bytes anything may be compressed as well as it likes.
const HARMLESS: u64 = 4 << 30;

/// How many bytes one compressed byte may stand for past [`HARMLESS`]. Text and code stay below 20.
const RATIO: u64 = 200;

/// A [`Decoder`] that fails when what comes out is out of all proportion to what went in.
#[derive(Debug)]
pub struct BoundedDecoder<R: Read> {
    decoder: Decoder<Counted<R>>,
    taken: Arc<AtomicU64>,
    given: u64,
    harmless: u64,
}

/// Counts what is read from the compressed input, in bytes.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> BoundedDecoder<R> {
    /// Takes the compression off `reader`, as [`decoder`] does.
    pub fn new(reader: R) -> io::Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: reader,
            taken: taken.clone(),
        };
        Ok(Self {
            decoder: decoder(counted)?,
            taken,
            given: 0,
            harmless: HARMLESS,
        })
    }

    /// The compressed input; what was buffered but not yet decoded is lost.
    pub fn into_inner(self) -> R {
        self.decoder.into_inner().inner
    }
}

impl<R: Read> Read for BoundedDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.given += read as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        let is_plain = self.decoder.algorithm() == Algorithm::None;
        if !is_plain && self.given > self.harmless && self.given / RATIO > taken {
            return Err(io::Error::other(format!(
                "it is {taken} bytes and expands to more than {RATIO} times as many; give it uncompressed if that is meant"
            )));
        }
        Ok(read)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::compress::{Compression, encoder};

    fn decoded(input: &[u8], harmless: u64) -> io::Result<u64> {
        let mut bounded = BoundedDecoder::new(input)?;
        bounded.harmless = harmless;
        io::copy(&mut bounded, &mut io::sink())
    }

    #[test]
    fn a_bomb_is_stopped_past_the_harmless_size() {
        let zeros = vec![0; 8 << 20];
        for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
            let mut encoder = encoder(compression, Vec::new()).unwrap();
            encoder.write_all(&zeros).unwrap();
            let bomb = encoder.finish().unwrap();
            assert_eq!(decoded(&bomb, 8 << 20).unwrap(), 8 << 20);
            let error = decoded(&bomb, 4 << 20).unwrap_err().to_string();
            assert!(error.contains("more than 200 times"), "{error}");
        }
        assert_eq!(decoded(&zeros, 0).unwrap(), 8 << 20);
    }
}
