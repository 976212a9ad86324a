//! The table of contents of an eStargz blob.
//!
//! It is kept as the text it becomes, but for the places of files, which are known when all is written: a layer may have
//! some 100,000 files.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::tar::{Member, MemberKind};
use crate::{Digest, Timestamp};

/// A table of contents.
#[derive(Default)]
pub(super) struct Toc {
    /// The entries before the last one, each without its closing brace and place.
    text: Vec<u8>,
    /// Where each of them ends in `text`, and whether it has a place.
    ends: Vec<(usize, bool)>,
    /// The entry of the file that is being written, and its further chunks.
    last: Vec<Entry>,
}

/// One file, directory or chunk. Names and omissions are the format's.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    modtime: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

impl Toc {
    /// Adds a member of the layer.
    pub(super) fn add(&mut self, member: &Member) {
        self.settle();
        self.last.push(Entry {
            name: text(&member.name),
            kind: kind(member.kind),
            size: member.size,
            modtime: time(member.mtime),
            link_name: match member.kind {
                MemberKind::HardLink | MemberKind::Symlink => text(&member.link),
                _ => String::new(),
            },
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            dev_major: member.device.0.into(),
            dev_minor: member.device.1.into(),
            xattrs: xattrs(member),
            ..Entry::default()
        });
    }

    /// Adds a file of the format's own.
    pub(super) fn add_own(&mut self, name: &[u8], content: &[u8]) {
        self.settle();
        self.last.push(Entry {
            name: text(name),
            kind: "reg",
            size: content.len() as u64,
            mode: 0o444,
            ..Entry::default()
        });
    }

    /// Says that the file added last has a chunk, of `length` bytes at `from`, of `size` in all.
    pub(super) fn add_chunk(
        &mut self,
        name: &[u8],
        from: u64,
        length: u64,
        size: u64,
        digest: Digest,
    ) {
        if from > 0 {
            self.last.push(Entry {
                name: text(name),
                kind: "chunk",
                chunk_offset: from,
                ..Entry::default()
            });
        }
        let entry = self
            .last
            .last_mut()
            .expect("a file is added before its chunks");
        // The last chunk goes to the file's end.
        entry.chunk_size = if from + length < size { length } else { 0 };
        entry.chunk_digest = Some(digest.to_string());
    }

    /// Says what the file added last contains.
    pub(super) fn set_digest(&mut self, digest: Digest) {
        if let Some(file) = self.last.first_mut() {
            file.digest = Some(digest.to_string());
        }
    }

    /// The JSON text, with the places of all chunks in the order in which they were added.
    pub(super) fn into_json(mut self, places: &[u64]) -> Vec<u8> {
        self.settle();
        let mut json = Vec::with_capacity(self.text.len() + 24 * self.ends.len() + 32);
        json.extend_from_slice(br#"{"version":1,"entries":["#);
        let (mut start, mut places) = (0, places.iter());
        for &(end, has_place) in &self.ends {
            if start > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&self.text[start..end]);
            if has_place {
                let place = places.next().expect("every chunk was written");
                write!(json, ",\"offset\":{place}").expect("memory takes it");
            }
            json.push(b'}');
            start = end;
        }
        json.extend_from_slice(b"]}");
        json
    }

    /// Makes text of the entries at hand.
    fn settle(&mut self) {
        for entry in self.last.drain(..) {
            serde_json::to_writer(&mut self.text, &entry)
                .expect("it is made of strings and numbers");
            self.text.pop(); // the brace
            self.ends
                .push((self.text.len(), entry.chunk_digest.is_some()));
        }
    }
}

fn kind(kind: MemberKind) -> &'static str {
    match kind {
        MemberKind::Directory => "dir",
        MemberKind::File => "reg",
        MemberKind::HardLink => "hardlink",
        MemberKind::Symlink => "symlink",
        MemberKind::CharDevice => "char",
        MemberKind::BlockDevice => "block",
        MemberKind::Fifo => "fifo",
    }
}

/// Whole seconds in UTC; nothing for the epoch itself.
fn time(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.secs) {
        Ok(time) if time != jiff::Timestamp::UNIX_EPOCH => time.to_string(),
        _ => String::new(),
    }
}

fn xattrs(member: &Member) -> BTreeMap<String, String> {
    let pairs = member.xattrs.iter();
    pairs
        .map(|(name, value)| (text(name), STANDARD.encode(value)))
        .collect()
}

/// JSON has no other bytes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
