//! What several tests need: layers said in a few words, and tars made by hand, bad ones too.

use std::collections::BTreeMap;

use kiln_image::contents::Contents;
use kiln_image::tar::{Limits, Nothing, ReadError, TarSummary, read_layer, write_layer};
use kiln_image::{Change, Changeset, Digest, ImagePath, Kind, Metadata, Node, Timestamp};
use tar::{EntryType, Header};

/// Contents of files by path.
pub(crate) type Files = BTreeMap<ImagePath, Vec<u8>>;

pub(crate) fn path(text: &str) -> ImagePath {
    ImagePath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn metadata(mode: u32) -> Metadata {
    Metadata {
        mtime: Timestamp::from_secs(1_700_000_000),
        ..Metadata::with_mode(mode)
    }
}

pub(crate) fn directory() -> Change {
    Change::Put(Node::directory(metadata(0o755)))
}

pub(crate) fn file(content: &[u8]) -> Change {
    let kind = Kind::File {
        size: content.len() as u64,
        digest: Digest::of(content),
    };
    Change::Put(Node::new(metadata(0o644), kind))
}

pub(crate) fn linked(content: &[u8], link: u64) -> Change {
    with_link(file(content), link)
}

/// The same as one of several names of an object.
pub(crate) fn with_link(mut change: Change, link: u64) -> Change {
    if let Change::Put(node) = &mut change {
        node.link = Some(link);
    }
    change
}

pub(crate) fn symlink(target: &str) -> Change {
    let kind = Kind::Symlink {
        target: target.into(),
    };
    Change::Put(Node::new(metadata(0o777), kind))
}

pub(crate) fn changeset(changes: &[(&str, Change)]) -> Changeset {
    changes
        .iter()
        .map(|(name, change)| (path(name), change.clone()))
        .collect()
}

pub(crate) fn files(files: &[(&str, &[u8])]) -> Files {
    files
        .iter()
        .map(|(name, content)| (path(name), content.to_vec()))
        .collect()
}

/// The tar of a changeset.
pub(crate) fn written(changeset: &Changeset, contents: &Files) -> (Vec<u8>, TarSummary) {
    written_from(changeset, contents)
}

/// The tar of a changeset whose files are anywhere.
pub(crate) fn written_from(
    changeset: &Changeset,
    contents: &dyn Contents,
) -> (Vec<u8>, TarSummary) {
    let mut bytes = Vec::new();
    let summary = write_layer(changeset, contents, &mut bytes).unwrap();
    assert_eq!(summary.diff_id.0, Digest::of(&bytes));
    assert_eq!(summary.size, bytes.len() as u64);
    (bytes, summary)
}

/// The names in a tar as another reader sees them.
pub(crate) fn names(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
        .collect()
}

/// The changeset of a tar.
pub(crate) fn read(bytes: &[u8]) -> Result<Changeset, ReadError> {
    let (changeset, summary) = read_layer(bytes, &Limits::default(), &mut Nothing)?;
    assert_eq!(summary.diff_id.0, Digest::of(bytes));
    assert_eq!(summary.size, bytes.len() as u64);
    Ok(changeset)
}

/// One member of a tar made by hand.
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) link: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) mode: u32,
}

pub(crate) fn member(name: &str, kind: EntryType) -> Member {
    let mode = if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    };
    Member {
        name: name.into(),
        kind,
        link: Vec::new(),
        content: Vec::new(),
        device: (0, 0),
        mode,
    }
}

pub(crate) fn dir(name: &str) -> Member {
    member(name, EntryType::Directory)
}

pub(crate) fn plain(name: &str, content: &[u8]) -> Member {
    Member {
        content: content.to_vec(),
        ..member(name, EntryType::Regular)
    }
}

pub(crate) fn link_to(name: &str, kind: EntryType, target: &str) -> Member {
    Member {
        link: target.into(),
        ..member(name, kind)
    }
}

/// A PAX header with these records, for the member after it.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Member {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = (1..9)
            .find(|digits| (rest + digits).to_string().len() == *digits)
            .unwrap();
        content.extend_from_slice(format!("{} {key}=", rest + digits).as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    Member {
        content,
        ..member("pax", EntryType::XHeader)
    }
}

impl Member {
    pub(crate) fn header(&self) -> Header {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..self.name.len()].copy_from_slice(&self.name);
        header.as_old_mut().linkname[..self.link.len()].copy_from_slice(&self.link);
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(self.content.len() as u64);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        header.set_cksum();
        header
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header().as_bytes().to_vec();
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A whole tar of members made by hand.
pub(crate) fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(Member::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Whether the test runs as root, which owners and privileged attributes take.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
