//! A hash that means the same in every kiln: on any machine, from any compiler, in any year.
//!
//! `std::hash` promises none of that. Here every value is framed so that no two different values of a type feed the
//! same bytes: numbers at full width, little-endian; text, bytes and sequences with their length in front;
//! variants of an enum with a number of their own. Struct fields follow each other in an order that is part of
//! the format. Golden tests hold it still: a failing one means that every store in use loses its cache.

use std::collections::{BTreeMap, BTreeSet};

use kiln_image::{DiffId, Digest, Digester};

/// What [`ContentHash`] feeds its bytes to.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Digester);

/// A value with a stable digest.
pub trait ContentHash {
    /// Feeds the value to `state`, framed.
    fn hash(&self, state: &mut Hasher);
}

/// The digest of a value, in a domain that keeps values of different meanings apart.
pub fn content_digest(domain: &str, value: &(impl ContentHash + ?Sized)) -> Digest {
    let mut state = Hasher::default();
    domain.hash(&mut state);
    value.hash(&mut state);
    state.finish()
}

impl Hasher {
    /// Feeds a number of an enum's variant.
    pub fn variant(&mut self, number: u8) {
        self.0.update(&[number]);
    }

    /// Feeds bytes with their length in front.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    /// The digest of everything fed.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }

    fn length(&mut self, length: usize) {
        (length as u64).hash(self);
    }
}

macro_rules! hash_number {
    ($($number:ty),*) => {$(
        impl ContentHash for $number {
            fn hash(&self, state: &mut Hasher) {
                state.0.update(&self.to_le_bytes());
            }
        }
    )*};
}

hash_number!(u8, u16, u32, u64, i8, i16, i32, i64);

impl ContentHash for bool {
    fn hash(&self, state: &mut Hasher) {
        state.variant(u8::from(*self));
    }
}

impl ContentHash for str {
    fn hash(&self, state: &mut Hasher) {
        state.bytes(self.as_bytes());
    }
}

impl ContentHash for String {
    fn hash(&self, state: &mut Hasher) {
        self.as_str().hash(state);
    }
}

impl ContentHash for Digest {
    fn hash(&self, state: &mut Hasher) {
        state.0.update(self.as_bytes());
    }
}

impl ContentHash for DiffId {
    fn hash(&self, state: &mut Hasher) {
        self.0.hash(state);
    }
}

impl<T: ContentHash + ?Sized> ContentHash for &T {
    fn hash(&self, state: &mut Hasher) {
        (**self).hash(state);
    }
}

impl<T: ContentHash> ContentHash for Option<T> {
    fn hash(&self, state: &mut Hasher) {
        match self {
            None => state.variant(0),
            Some(value) => {
                state.variant(1);
                value.hash(state);
            }
        }
    }
}

impl<T: ContentHash> ContentHash for [T] {
    fn hash(&self, state: &mut Hasher) {
        state.length(self.len());
        for item in self {
            item.hash(state);
        }
    }
}

impl<T: ContentHash> ContentHash for Vec<T> {
    fn hash(&self, state: &mut Hasher) {
        self.as_slice().hash(state);
    }
}

impl<T: ContentHash> ContentHash for BTreeSet<T> {
    fn hash(&self, state: &mut Hasher) {
        state.length(self.len());
        for item in self {
            item.hash(state);
        }
    }
}

impl<K: ContentHash, V: ContentHash> ContentHash for BTreeMap<K, V> {
    fn hash(&self, state: &mut Hasher) {
        state.length(self.len());
        for (key, value) in self {
            key.hash(state);
            value.hash(state);
        }
    }
}

impl<A: ContentHash, B: ContentHash> ContentHash for (A, B) {
    fn hash(&self, state: &mut Hasher) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl<A: ContentHash, B: ContentHash, C: ContentHash> ContentHash for (A, B, C) {
    fn hash(&self, state: &mut Hasher) {
        self.0.hash(state);
        self.1.hash(state);
        self.2.hash(state);
    }
}
