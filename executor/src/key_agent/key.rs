//! Private keys in files: OpenSSH's own form, PKCS #1 and PKCS #8, and what is signed with them (RFC 4253, 5656, 8332, 8709).

use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaKeyPair,
};

use super::pem::{self, Block};
use super::wire::{Reader, Writer};

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`: what an RSA key is to sign with.
const SHA_256: u32 = 2;
const SHA_512: u32 = 4;

/// A private key.
#[derive(Debug)]
pub struct Key {
    pair: Pair,
    public: Vec<u8>,
    comment: Vec<u8>,
}

#[derive(Debug)]
enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

#[derive(Debug, Clone, Copy)]
enum Curve {
    P256,
    P384,
}

/// Why a file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key, or something else altogether.
    #[error("there is no private key in it")]
    NoKey,
    /// Nobody is there to be asked for it.
    #[error("the key is protected by a passphrase")]
    Passphrase,
    /// A form or an algorithm that kiln does not know.
    #[error("a key in the form `{0}` can't be read")]
    Unknown(String),
    /// It is none, or its parts don't fit together, or it is too weak (RSA below 2048 bits).
    #[error("the key is damaged")]
    Damaged,
}

impl Key {
    /// Reads the first key of a file. `comment` is what it is called if the file has nothing to say about that.
    ///
    /// # Errors
    /// There is no key in it that can be used.
    pub fn parse(file: &[u8], comment: &str) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(file).map_err(|_| KeyError::NoKey)?;
        let block = pem::first_block(text).ok_or(KeyError::NoKey)?;
        let Block {
            label,
            headers,
            data,
        } = &block;
        if label == "ENCRYPTED PRIVATE KEY" || headers.iter().any(|line| line.contains("ENCRYPTED"))
        {
            return Err(KeyError::Passphrase);
        }
        let (pair, own_comment) = match label.as_str() {
            "OPENSSH PRIVATE KEY" => openssh(data)?,
            "RSA PRIVATE KEY" => {
                let pair = RsaKeyPair::from_der(data).map_err(|_| KeyError::Damaged)?;
                (Pair::Rsa(Box::new(pair)), Vec::new())
            }
            "PRIVATE KEY" => (pkcs8(data)?, Vec::new()),
            label => return Err(KeyError::Unknown(label.to_owned())),
        };
        let comment = match own_comment.is_empty() {
            true => comment.as_bytes().to_vec(),
            false => own_comment,
        };
        Ok(Self {
            public: pair.public(),
            pair,
            comment,
        })
    }

    /// The public key as SSH has it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn comment(&self) -> &[u8] {
        &self.comment
    }

    /// `None` for an algorithm that the key can't sign with: SHA-1.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let mut signature = Writer::default();
        match &self.pair {
            Pair::Ed25519(pair) => {
                signature.string(b"ssh-ed25519");
                signature.string(pair.sign(data).as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                let signed = pair.sign(&random, data).ok()?;
                let (r, s) = signed.as_ref().split_at(signed.as_ref().len() / 2);
                let mut numbers = Writer::default();
                numbers.integer(r);
                numbers.integer(s);
                signature.string(curve.algorithm().as_bytes());
                signature.string(numbers.bytes());
            }
            Pair::Rsa(pair) => {
                let (name, padding) = match flags {
                    flags if flags & SHA_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & SHA_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signed).ok()?;
                signature.string(name.as_bytes());
                signature.string(&signed);
            }
        }
        Some(signature.into_bytes())
    }
}

impl Pair {
    fn public(&self) -> Vec<u8> {
        let mut public = Writer::default();
        match self {
            Pair::Ed25519(pair) => {
                public.string(b"ssh-ed25519");
                public.string(pair.public_key().as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                public.string(curve.algorithm().as_bytes());
                public.string(curve.name().as_bytes());
                public.string(pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                let key = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                public.string(b"ssh-rsa");
                public.integer(&key.e);
                public.integer(&key.n);
            }
        }
        public.into_bytes()
    }
}

impl Curve {
    const ALL: [Self; 2] = [Self::P256, Self::P384];

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
        }
    }

    fn algorithm(self) -> String {
        format!("ecdsa-sha2-{}", self.name())
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    /// Bytes of a private key.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// `openssh-key-v1` of OpenSSH's PROTOCOL.key, with the comment that it has.
fn openssh(data: &[u8]) -> Result<(Pair, Vec<u8>), KeyError> {
    let parts = data.strip_prefix(b"openssh-key-v1\0").and_then(|rest| {
        let mut rest = Reader::new(rest);
        let (cipher, _kdf, _options) = (rest.string()?, rest.string()?, rest.string()?);
        let (_count, _public, secret) = (rest.number()?, rest.string()?, rest.string()?);
        Some((cipher, secret))
    });
    let (cipher, secret) = parts.ok_or(KeyError::Damaged)?;
    if cipher != b"none" {
        return Err(KeyError::Passphrase);
    }
    let mut secret = Reader::new(secret);
    let kind = secret
        .number()
        .zip(secret.number())
        .filter(|(one, other)| one == other);
    let kind = kind
        .and_then(|_| secret.string())
        .ok_or(KeyError::Damaged)?;
    let kind = String::from_utf8_lossy(kind);
    let curve = Curve::ALL
        .into_iter()
        .find(|curve| curve.algorithm() == kind);
    let pair = match (&*kind, curve) {
        ("ssh-ed25519", _) => ed25519_parts(&mut secret).map(Pair::Ed25519),
        ("ssh-rsa", _) => rsa_parts(&mut secret).map(|pair| Pair::Rsa(Box::new(pair))),
        (_, Some(curve)) => ecdsa_parts(&mut secret, curve).map(|pair| Pair::Ecdsa(curve, pair)),
        (unknown, None) => return Err(KeyError::Unknown(unknown.to_owned())),
    };
    let pair = pair.ok_or(KeyError::Damaged)?;
    Ok((pair, secret.string().unwrap_or_default().to_vec()))
}

fn ed25519_parts(secret: &mut Reader<'_>) -> Option<Ed25519KeyPair> {
    let (public, both) = (secret.string()?, secret.string()?);
    Ed25519KeyPair::from_seed_and_public_key(both.get(..32)?, public).ok()
}

fn ecdsa_parts(secret: &mut Reader<'_>, curve: Curve) -> Option<EcdsaKeyPair> {
    let (_curve, public, private) = (secret.string()?, secret.string()?, secret.integer()?);
    let padding = curve.size().checked_sub(private.len())?;
    let private = [&vec![0; padding], private].concat();
    let random = SystemRandom::new();
    EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &private, public, &random).ok()
}

fn rsa_parts(secret: &mut Reader<'_>) -> Option<RsaKeyPair> {
    let (n, e, d) = (secret.integer()?, secret.integer()?, secret.integer()?);
    let (q_inverse, p, q) = (secret.integer()?, secret.integer()?, secret.integer()?);
    RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &remainder(d, &one_less(p)?)[..],
        dQ: &remainder(d, &one_less(q)?)[..],
        qInv: q_inverse,
    })
    .ok()
}

fn pkcs8(data: &[u8]) -> Result<Pair, KeyError> {
    let random = SystemRandom::new();
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(data) {
        return Ok(Pair::Ed25519(pair));
    }
    for curve in Curve::ALL {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.signing(), data, &random) {
            return Ok(Pair::Ecdsa(curve, pair));
        }
    }
    let pair = RsaKeyPair::from_pkcs8(data).map_err(|_| KeyError::Damaged)?;
    Ok(Pair::Rsa(Box::new(pair)))
}

/// An odd number less one; `None` if it is even, which no prime of a key is.
fn one_less(number: &[u8]) -> Option<Vec<u8>> {
    let mut less = number.to_vec();
    let last = less.last_mut().filter(|last| **last & 1 == 1)?;
    *last -= 1;
    Some(less)
}

/// `number` modulo `divisor`, big-endian, without zeros in front: bit by bit, as it is done once a key.
fn remainder(number: &[u8], divisor: &[u8]) -> Vec<u8> {
    let mut rest = vec![0_u8; divisor.len() + 1];
    let divisor = [&[0], divisor].concat();
    for bit in number
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            let high = *byte >> 7;
            *byte = *byte << 1 | carry;
            carry = high;
        }
        if rest >= divisor {
            subtract(&mut rest, &divisor);
        }
    }
    let start = rest.iter().position(|byte| *byte != 0);
    rest.split_off(start.unwrap_or(rest.len()))
}

/// Takes a number that is not greater, and as long, away.
fn subtract(from: &mut [u8], number: &[u8]) {
    let mut borrow = false;
    for (byte, less) in from.iter_mut().zip(number).rev() {
        let (difference, first) = byte.overflowing_sub(*less);
        let (difference, second) = difference.overflowing_sub(u8::from(borrow));
        *byte = difference;
        borrow = first || second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        for (number, divisor, expected) in [
            (&[100][..], &[7][..], &[2][..]),
            (&[1, 0, 0], &[0xff], &[1]),
            (&[3], &[5], &[3]),
            (&[10], &[5], &[]),
            (&[0xff, 0xff, 0xff], &[1, 0], &[0xff]),
            (&[0x12, 0x34, 0x56, 0x78], &[0x9a, 0xbc], &[0x2c, 0x70]),
        ] {
            let (number, divisor) = (number, divisor);
            assert_eq!(
                remainder(number, divisor),
                expected,
                "{number:?} {divisor:?}"
            );
        }
        assert_eq!(one_less(&[1, 1]), Some(vec![1, 0]));
        assert_eq!(one_less(&[1, 0]), None);
    }
}
