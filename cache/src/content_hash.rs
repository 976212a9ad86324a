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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(value: &(impl ContentHash + ?Sized)) -> String {
        content_digest("test", value).hex()[..16].to_owned()
    }

    /// A failure here means that every store in use loses its cache: make the new numbers a new key domain.
    #[test]
    fn digests_are_the_same_forever() {
        assert_eq!(digest("make"), "c0edb82a1ee427ac");
        assert_eq!(digest(&7_u32), "fa42da31947a5041");
        assert_eq!(digest(&7_u64), "8bb9e6b8f0253098");
        assert_eq!(
            digest(&vec!["a".to_owned(), "b".to_owned()]),
            "2d29680dc300a2ed"
        );
        assert_eq!(digest(&Some(true)), "e47631f01701c438");
        assert_eq!(
            digest(&("a".to_owned(), -1_i64, None::<bool>)),
            "405c2e231a8a0e30"
        );
        assert_eq!(digest(&Digest::of(b"x")), "d45a89c5cccb8b0c");
        assert_eq!(digest(&BTreeMap::from([(1_u8, 2_u16)])), "b569517208091e5e");
    }

    #[test]
    fn the_domain_keeps_equal_values_apart() {
        assert_ne!(content_digest("one", "x"), content_digest("two", "x"));
        assert_ne!(content_digest("ab", "c"), content_digest("a", "bc"));
    }

    proptest! {
        #[test]
        fn different_tuples_never_meet(
            left in (".{0,3}", prop::collection::vec(".{0,2}", 0..3), prop::option::of(".{0,2}")),
            right in (".{0,3}", prop::collection::vec(".{0,2}", 0..3), prop::option::of(".{0,2}")),
        ) {
            let same = content_digest("test", &left) == content_digest("test", &right);
            prop_assert_eq!(left == right, same);
        }

        #[test]
        fn moving_a_border_shows(text in "[a-z]{2,6}", at in 1_usize..2, other in 0_usize..2) {
            let split = |at: usize| (text[..at].to_owned(), text[at..].to_owned());
            let same = content_digest("test", &split(at)) == content_digest("test", &split(other));
            prop_assert_eq!(at == other, same);
        }
    }
}
