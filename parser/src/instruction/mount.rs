//! `RUN --mount` (R-MNT): the list of keys and values; what they mean is the planner's to say.

use crate::{Spanned, Word};

/// The value of a `--mount` flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The value, flag quotes removed.
    pub raw: String,
    /// Its fields, in written order, which matters (R-MNT-4).
    pub fields: Vec<MountField>,
}

/// `key=value`, or a bare key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key, lower-cased (R-MNT-1).
    pub key: Spanned<String>,
    /// What follows `=`, to be expanded (`from` is not: R-MNT-3); `None` for a bare key.
    pub value: Option<Spanned<Word>>,
}

impl MountFlag {
    /// The value of a key; the last one when repeated (R-MNT-2).
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Spanned<Word>> {
        self.fields.iter().rev().find(|field| field.key.value == key).and_then(|field| field.value.as_ref())
    }
}
