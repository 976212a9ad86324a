//! Digests, and the ids that are digests of something particular.
//!
//! Only sha256 is known: every registry and every image in use has it, and a second algorithm would make two
//! names for one blob in the store.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A sha256 digest, written `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The digest of a layer's uncompressed tar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// The identity of a stack of layers, as the OCI image specification defines it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:` in front.
    #[error("the digest `{text}` has no algorithm")]
    NoAlgorithm {
        /// The text as given.
        text: String,
    },
    /// Another algorithm than sha256.
    #[error("the digest `{text}` is not a sha256 digest, the only kind that kiln knows")]
    Algorithm {
        /// The text as given.
        text: String,
    },
    /// Not 64 lower-case hex digits.
    #[error("the digest `{text}` does not have 64 lower-case hex digits")]
    Hex {
        /// The text as given.
        text: String,
    },
}

/// Hashes what is written to it.
#[derive(Debug, Clone, Default)]
pub struct Digester(Sha256);

/// Passes bytes on to a writer, hashing and counting them.
#[derive(Debug)]
pub struct DigestWriter<W> {
    inner: W,
    digester: Digester,
    count: u64,
}

/// Passes bytes on from a reader, hashing and counting them.
#[derive(Debug)]
pub struct DigestReader<R> {
    inner: R,
    digester: Digester,
    count: u64,
}

impl Digest {
    /// Stands for the digest of a file that nobody has read yet: all zeros.
    pub const UNKNOWN: Digest = Digest([0; 32]);

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with this value.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's value.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let halves = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves
            .map(|half| char::from(DIGITS[usize::from(half)]))
            .collect()
    }

    /// The digest with these 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError::Hex {
            text: hex.to_owned(),
        };
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else {
            return Err(wrong());
        };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return Err(wrong());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex_value(*high).ok_or_else(wrong)? << 4 | hex_value(*low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }

    /// The same digest as `oci_spec`'s type, for descriptors.
    pub fn to_oci(&self) -> oci_spec::image::Digest {
        self.to_string()
            .parse()
            .expect("a sha256 digest is an OCI digest")
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let named = || text.to_owned();
        match text.split_once(':') {
            None => Err(DigestError::NoAlgorithm { text: named() }),
            Some(("sha256", hex)) => {
                Self::from_hex(hex).map_err(|_| DigestError::Hex { text: named() })
            }
            Some(_) => Err(DigestError::Algorithm { text: named() }),
        }
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = DigestError;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, DigestError> {
        digest.to_string().parse()
    }
}

impl From<Digest> for oci_spec::image::Digest {
    fn from(digest: Digest) -> Self {
        digest.to_oci()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As text where the format is for people (JSON), as 32 bytes where it isn't (postcard).
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// The traits of a newtype around [`Digest`].
macro_rules! digest_id {
    ($id:ident) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self.0)
            }
        }

        impl FromStr for $id {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_id!(DiffId);
digest_id!(ChainId);

impl ChainId {
    /// The chain id of a stack of layers, lowest first; `None` for no layers.
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        let above =
            |below: Digest, layer: &DiffId| Digest::of(format!("{below} {layer}").as_bytes());
        Some(Self(rest.iter().fold(first.0, above)))
    }
}

impl Digester {
    /// A digester that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` to what is hashed.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything written.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> DigestWriter<W> {
    /// Hashes what goes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            digester: Digester::new(),
            count: 0,
        }
    }

    /// How many bytes went through.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The writer, the digest and the number of the bytes that went through.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.digester.finish(), self.count)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digester.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R> DigestReader<R> {
    /// Hashes what is read from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            digester: Digester::new(),
            count: 0,
        }
    }

    /// How many bytes were read.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The reader, the digest and the number of the bytes read from it.
    pub fn finish(self) -> (R, Digest, u64) {
        (self.inner, self.digester.finish(), self.count)
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digester.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(Digest::try_from(&digest.to_oci()).unwrap(), digest);
        assert_eq!(
            serde_json::to_string(&DiffId(digest)).unwrap(),
            format!("\"{EMPTY}\"")
        );
        let stored = postcard::to_stdvec(&digest).unwrap();
        assert_eq!(
            (stored.len(), postcard::from_bytes(&stored)),
            (32, Ok(digest))
        );
    }

    #[test]
    fn refusals() {
        let parse = |text: &str| text.parse::<Digest>().unwrap_err();
        assert!(matches!(parse("abc"), DigestError::NoAlgorithm { .. }));
        assert!(matches!(parse("sha512:abc"), DigestError::Algorithm { .. }));
        assert!(matches!(parse("sha256:abc"), DigestError::Hex { .. }));
        assert!(matches!(
            parse(&EMPTY.to_uppercase().replace("SHA", "sha")),
            DigestError::Hex { .. }
        ));
        assert!(matches!(
            parse(&format!("{EMPTY}00")),
            DigestError::Hex { .. }
        ));
    }

    #[test]
    fn a_chain_id_is_that_of_the_image_specification() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|layer| DiffId(Digest::of(layer)));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        let two = Digest::of(format!("{a} {b}").as_bytes());
        let three = Digest::of(format!("{two} {c}").as_bytes());
        assert_eq!(ChainId::of(&[a, b, c]), Some(ChainId(three)));
    }

    #[test]
    fn readers_and_writers_hash_what_passes() {
        let mut reader = DigestReader::new(&b"hello"[..]);
        let mut writer = DigestWriter::new(Vec::new());
        io::copy(&mut reader, &mut writer).unwrap();
        let (_, read, count) = reader.finish();
        assert_eq!((read, count), (Digest::of(b"hello"), 5));
        assert_eq!(writer.finish(), (b"hello".to_vec(), read, 5));
    }
}
