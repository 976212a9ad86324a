//! Compression of layer blobs: recognised by magic number, written with bytes that never vary.
//!
//! What a blob is compressed with is read from its first bytes, not from its media type: registries hold
//! layers whose media type is wrong, and every other engine goes by the magic number too. Writing is
//! deterministic: the same input and level give the same bytes on any machine, with any number of threads and
//! however the input was cut into writes, because a layer's name in a registry is the digest of these bytes.
//! bzip2 and xz are read only: archives that ADD unpacks may have them (R-ADD-2).

mod bounded;
mod estargz;
mod format;
mod gzip;
mod ordered;
mod sample;
mod zstd;

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read, Write};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

pub use bounded::BoundedDecoder;
pub use estargz::{Estargz, EstargzError, TOC_DIGEST, UNCOMPRESSED_SIZE, write_estargz};
pub use format::LayerFormat;
pub use gzip::ParallelGzipWriter;

/// How a blob is compressed, without the level, which can't be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Not at all.
    None,
    /// gzip, RFC 1952; one or more members.
    Gzip,
    /// zstd, RFC 8878; one or more frames.
    Zstd,
    /// bzip2; one or more streams. Only read.
    Bzip2,
    /// xz; one or more streams. Only read.
    Xz,
}

/// How a blob is to be compressed (R-MAN-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip at a level of 0 to 9.
    Gzip {
        /// 0 (stored) to 9 (smallest).
        level: u32,
    },
    /// zstd at a level of 0 (the library's default) to 22.
    Zstd {
        /// 0 to 22.
        level: i32,
    },
}

/// Why a compression was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// A name that means no compression kiln writes.
    #[error("unsupported compression type {name}")]
    Unsupported {
        /// The name as given.
        name: String,
    },
    /// A level out of the algorithm's range.
    #[error("the compression level of {algorithm} is 0 to {highest}, not {level}")]
    Level {
        /// The algorithm asked for.
        algorithm: Algorithm,
        /// The level as given.
        level: i32,
        /// The highest level there is.
        highest: i32,
    },
}

/// What comes out of a blob once its compression is taken off.
pub struct Decoder<R: Read> {
    inner: DecoderInner<R>,
}

/// The reader given, with the bytes that were looked at put back in front.
type Rewound<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum DecoderInner<R: Read> {
    Plain(Rewound<R>),
    Gzip(Box<MultiGzDecoder<Rewound<R>>>),
    Zstd(Box<::zstd::Decoder<'static, Rewound<R>>>),
    Bzip2(Box<MultiBzDecoder<Rewound<R>>>),
    Xz(Box<XzReader<Rewound<R>>>),
}

/// Most memory for what an xz stream looks back on, in KiB: `xz -9` needs half of it, the format allows 4 GiB.
const XZ_MEMORY: u32 = 128 << 10;

/// A writer that compresses what it is given; [`Encoder::finish`] must be called.
pub struct Encoder<W: Write> {
    inner: EncoderInner<W>,
}

enum EncoderInner<W: Write> {
    Plain(W),
    Gzip(ParallelGzipWriter<W>),
    Zstd(Box<::zstd::Encoder<'static, W>>),
}

/// Takes the compression off `reader`, whichever its first bytes say it has.
///
/// Bytes that start no known format are passed on as they are.
pub fn decoder<R: Read>(mut reader: R) -> io::Result<Decoder<R>> {
    let mut start = Vec::with_capacity(Algorithm::MAGIC_LENGTH);
    reader
        .by_ref()
        .take(Algorithm::MAGIC_LENGTH as u64)
        .read_to_end(&mut start)?;
    let algorithm = Algorithm::detect(&start);
    let rewound = BufReader::with_capacity(64 << 10, Cursor::new(start).chain(reader));
    let inner = match algorithm {
        Algorithm::None => DecoderInner::Plain(rewound),
        Algorithm::Gzip => DecoderInner::Gzip(Box::new(MultiGzDecoder::new(rewound))),
        Algorithm::Zstd => DecoderInner::Zstd(Box::new(::zstd::Decoder::with_buffer(rewound)?)),
        Algorithm::Bzip2 => DecoderInner::Bzip2(Box::new(MultiBzDecoder::new(rewound))),
        Algorithm::Xz => {
            let reader = XzReader::new_mem_limit(rewound, true, XZ_MEMORY);
            DecoderInner::Xz(Box::new(reader))
        }
    };
    Ok(Decoder { inner })
}

/// A writer that compresses into `out`.
pub fn encoder<W: Write>(compression: Compression, out: W) -> io::Result<Encoder<W>> {
    let inner = match compression {
        Compression::None => EncoderInner::Plain(out),
        Compression::Gzip { level } => EncoderInner::Gzip(ParallelGzipWriter::new(out, level)),
        Compression::Zstd { level } => EncoderInner::Zstd(Box::new(zstd::encoder(out, level)?)),
    };
    Ok(Encoder { inner })
}

impl Algorithm {
    /// How many bytes [`Algorithm::detect`] wants to see.
    pub const MAGIC_LENGTH: usize = 10;

    /// What the first bytes of a blob say it is compressed with.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A zstd skippable frame, which zstd's own seekable format starts with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            // With what a first block, or the end, begins with: a tar's first name may well begin with `BZh`.
            [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x31,
                0x41,
                0x59,
                0x26,
                0x53,
                0x59,
                ..,
            ]
            | [
                b'B',
                b'Z',
                b'h',
                b'1'..=b'9',
                0x17,
                0x72,
                0x45,
                0x38,
                0x50,
                0x90,
                ..,
            ] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

impl Compression {
    /// The level gzip has when none is asked for: about as small as other builders' default.
    pub const DEFAULT_GZIP_LEVEL: u32 = 2;
    /// The level zstd has when none is asked for.
    pub const DEFAULT_ZSTD_LEVEL: i32 = 3;

    /// The compression an exporter's `compression` and `compression-level` ask for (R-MAN-4).
    pub fn parse(name: &str, level: Option<i32>) -> Result<Self, CompressionError> {
        match name {
            "uncompressed" => Ok(Self::None),
            "gzip" => {
                let level = checked_level(Algorithm::Gzip, level, 9)?;
                Ok(Self::Gzip {
                    level: level.map_or(Self::DEFAULT_GZIP_LEVEL, i32::unsigned_abs),
                })
            }
            "zstd" => {
                let level = checked_level(Algorithm::Zstd, level, 22)?;
                Ok(Self::Zstd {
                    level: level.unwrap_or(Self::DEFAULT_ZSTD_LEVEL),
                })
            }
            _ => Err(CompressionError::Unsupported {
                name: name.to_owned(),
            }),
        }
    }

    /// The algorithm without its level.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::None => Algorithm::None,
            Self::Gzip { .. } => Algorithm::Gzip,
            Self::Zstd { .. } => Algorithm::Zstd,
        }
    }
}

impl Default for Compression {
    /// gzip, as the reference builder's exporters do (R-MAN-4).
    fn default() -> Self {
        Self::Gzip {
            level: Self::DEFAULT_GZIP_LEVEL,
        }
    }
}

fn checked_level(
    algorithm: Algorithm,
    level: Option<i32>,
    highest: i32,
) -> Result<Option<i32>, CompressionError> {
    match level {
        Some(level) if !(0..=highest).contains(&level) => Err(CompressionError::Level {
            algorithm,
            level,
            highest,
        }),
        level => Ok(level),
    }
}

impl<R: Read> Decoder<R> {
    /// What was found at the start of the input.
    pub fn algorithm(&self) -> Algorithm {
        match self.inner {
            DecoderInner::Plain(_) => Algorithm::None,
            DecoderInner::Gzip(_) => Algorithm::Gzip,
            DecoderInner::Zstd(_) => Algorithm::Zstd,
            DecoderInner::Bzip2(_) => Algorithm::Bzip2,
            DecoderInner::Xz(_) => Algorithm::Xz,
        }
    }

    /// The compressed input; what was buffered but not yet decoded is lost.
    pub fn into_inner(self) -> R {
        let rewound = match self.inner {
            DecoderInner::Plain(rewound) => rewound,
            DecoderInner::Gzip(gzip) => gzip.into_inner(),
            DecoderInner::Zstd(zstd) => zstd.finish(),
            DecoderInner::Bzip2(bzip2) => bzip2.into_inner(),
            DecoderInner::Xz(xz) => xz.into_inner(),
        };
        rewound.into_inner().into_inner().1
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            DecoderInner::Plain(plain) => plain.read(buffer),
            DecoderInner::Gzip(gzip) => gzip.read(buffer),
            DecoderInner::Zstd(zstd) => zstd.read(buffer),
            DecoderInner::Bzip2(bzip2) => bzip2.read(buffer),
            DecoderInner::Xz(xz) => xz.read(buffer),
        }
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

impl<W: Write> Encoder<W> {
    /// Writes what is still held back and the format's end, and gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self.inner {
            EncoderInner::Plain(mut out) => {
                out.flush()?;
                Ok(out)
            }
            EncoderInner::Gzip(gzip) => gzip.finish(),
            EncoderInner::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            EncoderInner::Plain(out) => out.write(bytes),
            EncoderInner::Gzip(gzip) => gzip.write(bytes),
            EncoderInner::Zstd(zstd) => zstd.write(bytes),
        }
    }

    /// Doesn't end a compressed block: bytes must not depend on when someone flushed.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            EncoderInner::Plain(out) => out.flush(),
            EncoderInner::Gzip(gzip) => gzip.flush(),
            EncoderInner::Zstd(_) => Ok(()),
        }
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn packed(compression: Compression, input: &[u8], step: usize) -> Vec<u8> {
        let mut encoder = encoder(compression, Vec::new()).unwrap();
        input
            .chunks(step.max(1))
            .for_each(|chunk| encoder.write_all(chunk).unwrap());
        encoder.finish().unwrap()
    }

    fn unpacked(input: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        decoder(input)?.read_to_end(&mut output)?;
        Ok(output)
    }

    #[test]
    fn every_compression_comes_back_and_is_recognised() {
        let input: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n / 7 * 13).to_le_bytes())
            .collect();
        for compression in [
            Compression::None,
            Compression::Gzip { level: 0 },
            Compression::Gzip { level: 1 },
            Compression::default(),
            Compression::Gzip { level: 9 },
            Compression::Zstd { level: 0 },
            Compression::Zstd { level: 3 },
        ] {
            for input in [&input[..], &input[..5], &[]] {
                let bytes = packed(compression, input, 10_000);
                assert_eq!(
                    decoder(&bytes[..]).unwrap().algorithm(),
                    compression.algorithm()
                );
                assert_eq!(unpacked(&bytes).unwrap(), input, "{compression:?}");
            }
        }
    }

    #[test]
    fn bytes_do_not_depend_on_how_the_input_was_cut() {
        let input: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n.wrapping_mul(n) / 5).to_le_bytes())
            .collect();
        for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
            let whole = packed(compression, &input, input.len());
            for step in [777, 4096, 131_072, 131_073] {
                assert_eq!(
                    packed(compression, &input, step),
                    whole,
                    "{compression:?} cut at {step}"
                );
            }
        }
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        for compression in [Compression::default(), Compression::Zstd { level: 1 }] {
            let two = [
                packed(compression, b"one ", 9),
                packed(compression, b"two", 9),
            ]
            .concat();
            assert_eq!(unpacked(&two).unwrap(), b"one two");
        }
    }

    /// `two\n`, as `bzip2` and `xz` write it.
    const BZIP2: &str =
        "425a68393141592653592eb71ad700000141800010000084802000219a68334d073c5dc914e14240badc6b5c";
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a301000374776f0a006506d6ffc4c0f93a00011c046f2c9cc11fb6f37d010000000004595a";

    #[test]
    fn what_is_only_read_comes_out() {
        // R-ADD-2
        for (algorithm, hex) in [(Algorithm::Bzip2, BZIP2), (Algorithm::Xz, XZ)] {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!(Algorithm::detect(&bytes), algorithm);
            assert_eq!(unpacked(&bytes).unwrap(), b"two\n");
            let twice = [&bytes[..], &bytes].concat();
            assert_eq!(unpacked(&twice).unwrap(), b"two\ntwo\n", "{algorithm}");
            assert!(unpacked(&bytes[..bytes.len() - 3]).is_err(), "{algorithm}");
        }
        assert_eq!(Algorithm::detect(b"BZh9 is a name"), Algorithm::None);
        assert!(Compression::parse("xz", None).is_err());
    }

    #[test]
    fn a_cut_blob_is_an_error() {
        for compression in [Compression::default(), Compression::Zstd { level: 1 }] {
            let bytes = packed(compression, &[7; 10_000], 9);
            assert!(
                unpacked(&bytes[..bytes.len() - 3]).is_err(),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn options_are_understood() {
        // R-MAN-4
        assert_eq!(Compression::parse("gzip", None), Ok(Compression::default()));
        assert_eq!(
            Compression::parse("gzip", Some(0)),
            Ok(Compression::Gzip { level: 0 })
        );
        assert_eq!(
            Compression::parse("zstd", Some(22)),
            Ok(Compression::Zstd { level: 22 })
        );
        assert_eq!(
            Compression::parse("uncompressed", None),
            Ok(Compression::None)
        );
        let unsupported = Compression::parse("lz4", None).unwrap_err();
        assert_eq!(unsupported.to_string(), "unsupported compression type lz4");
        assert!(Compression::parse("gzip", Some(10)).is_err());
        assert!(Compression::parse("zstd", Some(-1)).is_err());
    }
}
