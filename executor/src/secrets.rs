//! Secrets that a build was given. They are read when a step asks for one, and their values are in nothing that can be
//! printed: not in a key, an event, an error, or this type's `Debug` (R-CACHE-6).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Cause;

/// Largest secret in bytes, as in BuildKit.
const LARGEST: u64 = 500 * 1024;

/// Where a secret's value is.
#[derive(Clone)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// Here.
    Value(Vec<u8>),
}

/// Secrets by id.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, SecretSource>>);

impl Secrets {
    /// What they are called, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The value of a secret; `None` if it was not given.
    pub(crate) fn read(&self, id: &str) -> Result<Option<Vec<u8>>, Cause> {
        match self.0.get(id) {
            None => Ok(None),
            Some(SecretSource::Value(value)) => Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => File::open(path)
                .and_then(|file| limited(&file))
                .map(Some)
                .map_err(Cause::file("read the secret in", path)),
        }
    }
}

/// Takes secrets out of texts that are kept.
#[derive(Default)]
pub struct Redactor(Vec<String>);

/// Shorter values, or lines of values, are not looked for: they stand in texts by chance.
const SHORTEST: usize = 4;

impl Redactor {
    /// Of all secrets, and more values that are to be hidden. A secret that can't be read can't have been used either.
    pub fn new(secrets: &Secrets, more: impl IntoIterator<Item = String>) -> Self {
        let values = secrets.0.keys().filter_map(|id| secrets.read(id).ok()?);
        let texts = values.map(|value| String::from_utf8_lossy(&value).into_owned());
        let mut lines: Vec<String> = texts
            .chain(more)
            .flat_map(|text| {
                let lines = text.lines().map(|line| line.trim().to_owned());
                lines.collect::<Vec<_>>()
            })
            .filter(|line| line.len() >= SHORTEST)
            .collect();
        // One that is part of another comes later.
        lines.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        lines.dedup();
        Redactor(lines)
    }

    /// The text with `***` for every value.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), "***");
            }
        }
        text
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

fn limited(file: &File) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut value)?;
    match value.len() as u64 > LARGEST {
        true => Err(io::Error::other("a secret has at most 500 KiB")),
        false => Ok(value),
    }
}

impl FromIterator<(String, SecretSource)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretSource)>>(all: I) -> Self {
        Secrets(Arc::new(all.into_iter().collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_line_by_line() {
        let key = "-----BEGIN-----\nabcdef\n".as_bytes().to_vec();
        let all = [("key".to_owned(), SecretSource::Value(key))];
        let secrets: Secrets = all.into_iter().collect();
        let redactor = Redactor::new(&secrets, ["abc".to_owned(), "abcdefgh".to_owned()]);
        let cases = [
            ("x abcdef y", "x *** y"),
            ("abcdefgh", "***"),
            ("abc", "abc"),
            ("-----BEGIN-----\n", "***\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(redactor.redact(text), expected);
        }
    }
}
