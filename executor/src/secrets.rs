//! Secrets that a build was given. They are read when a step asks for one, and their values are in nothing that can be
//! printed: not in a key, an event, an error, or this type's `Debug` (R-CACHE-6).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;

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

    /// The values of all that can be read, and their lines, but for short ones and those that hold no secret.
    pub(crate) fn values(&self) -> Values {
        let mut searched: BTreeSet<Vec<u8>> = BTreeSet::new();
        for value in self.0.keys().filter_map(|id| self.read(id).ok()?) {
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines = lines.filter(|line| line.len() >= SHORTEST_IN_FILES && !is_frame(line));
            searched.extend(lines.map(<[u8]>::to_vec));
            let whole = value.trim_ascii();
            searched.extend((whole.len() >= SHORTEST_IN_FILES).then(|| whole.to_vec()));
        }
        match searched.is_empty() {
            true => Values::None,
            false => {
                NFA::new(searched).map_or(Values::TooMany, |values| Values::Some(Box::new(values)))
            }
        }
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

/// Values of secrets, to be looked for in bytes that leave the machine.
pub(crate) enum Values {
    /// There are none.
    None,
    /// These.
    Some(Box<NFA>),
    /// More than can be looked for at once: whatever goes by may have one.
    TooMany,
}

/// Passes bytes on and looks for values in them.
pub(crate) struct Searched<'a, W> {
    inner: W,
    /// What is looked for, and how much of it the end of what went by may be.
    search: Option<(&'a NFA, StateID)>,
    found: bool,
}

impl Values {
    /// Passes bytes on to `inner`, and looks for the values in them.
    pub(crate) fn searched<W: Write>(&self, inner: W) -> Searched<'_, W> {
        let search = match self {
            Self::Some(values) => values
                .start_state(Anchored::No)
                .ok()
                .map(|at| (&**values, at)),
            Self::None | Self::TooMany => None,
        };
        Searched {
            inner,
            search,
            found: search.is_none() && !matches!(self, Self::None),
        }
    }
}

impl<W> Searched<'_, W> {
    /// Whether a value went by.
    pub(crate) fn has_found(&self) -> bool {
        self.found
    }

    fn look_at(&mut self, bytes: &[u8]) {
        let Some((values, at)) = &mut self.search else {
            return;
        };
        for byte in bytes {
            *at = values.next_state(Anchored::No, *at, *byte);
            if values.is_match(*at) {
                self.found = true;
                self.search = None;
                return;
            }
        }
    }
}

/// Lines that stand around secrets and in much else: `-----BEGIN …`, `[section]`.
fn is_frame(line: &[u8]) -> bool {
    line.starts_with(b"-----") || (line.starts_with(b"[") && line.ends_with(b"]"))
}

impl<W: Write> Write for Searched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.look_at(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Takes secrets out of texts that are kept.
#[derive(Default)]
pub struct Redactor(Vec<String>);

/// Shorter values, or lines of values, are not looked for: they stand in texts by chance.
const SHORTEST: usize = 4;

/// The same for files, of which there are many more bytes.
const SHORTEST_IN_FILES: usize = 8;

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
    fn values_are_found_wherever_they_are_cut() {
        let lines = "[a-section]\r\n key = of-a-file \r\n-----BEGIN KEY-----\nshort\n";
        let all = ["a-long-secret\n", "short", lines].map(|value| {
            let source = SecretSource::Value(value.as_bytes().to_vec());
            (value.to_owned(), source)
        });
        let secrets: Secrets = all.into_iter().collect();
        let values = secrets.values();
        let cases = [
            ("x a-long-secret y", true),
            ("a-long-secre", false),
            ("a-long-a-long-secret", true),
            ("short", false),
            ("<key = of-a-file>", true),
            ("[a-section]", false),
            ("-----BEGIN KEY-----", false),
        ];
        for (text, expected) in cases {
            for piece in 1..=text.len() {
                let mut searched = values.searched(io::sink());
                let pieces = text.as_bytes().chunks(piece);
                for piece in pieces {
                    assert!(searched.write_all(piece).is_ok());
                }
                assert_eq!(
                    searched.has_found(),
                    expected,
                    "{text} in pieces of {piece}"
                );
            }
        }
    }

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
