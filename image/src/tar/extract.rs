//! A tar read as a person's archive, as `tar -x` does, not as a layer (R-ADD-2..4).
//!
//! The members come out in the order they have, for whoever puts them somewhere to repeat: a later one replaces an
//! earlier one of the same name, and a name may lead through a link that was put before. What means something in a
//! layer means nothing here: `.wh.x` is a file of that name. Names may be hostile: `..` goes up in the name alone and stops
//! at the directory that is unpacked to, and where links lead is for the reader of the members to bound.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::Limits;
use super::member::{MemberKind, Members};
use super::read::{ReadError, check_holes, check_length, node_of};
use crate::{DigestReader, ImagePath, Kind, Metadata, Node};

/// How much of what could be an archive is looked at for its first header, in bytes.
const FIRST_HEADER: u64 = 4 << 20;

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveMember {
    /// Where it is to be; the root for the directory that is unpacked to.
    pub path: ImagePath,
    /// What it is. Hard links have the node of what they link to; the numbers of their groups are in order of appearance.
    pub node: Node,
    /// Where the content of a regular file starts in what [`read_archive`] wrote, in bytes; else 0.
    pub content: u64,
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive itself is at fault.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The contents could not be written.
    #[error("could not write the contents of the archive")]
    Write(#[source] io::Error),
}

/// Whether an uncompressed stream is a tar: it begins with a whole header. An empty one, and zeros, are none.
///
/// Streams that can't be read are none either.
pub fn is_archive(reader: impl Read) -> bool {
    let mut members = Members::new(reader.take(FIRST_HEADER), Limits::default().header);
    // Members of kinds that can't be unpacked are members.
    matches!(
        members.next(),
        Ok(Some(_)) | Err(ReadError::Unsupported { .. })
    )
}

/// Reads an uncompressed tar to its end mark, and writes the contents of its files to `contents`, one after the other.
pub fn read_archive(
    reader: impl Read,
    limits: &Limits,
    contents: &mut dyn Write,
) -> Result<Vec<ArchiveMember>, ArchiveError> {
    let stream = reader.take(limits.size.saturating_add(1));
    let mut members = Members::new(stream, limits.header);
    let mut archive = Archive::default();
    let result = archive.read(&mut members, limits, contents);
    if members.reader().limit() == 0 {
        return Err(ReadError::TooLarge { limit: limits.size }.into());
    }
    result?;
    Ok(archive.into_members())
}

/// What was read so far.
#[derive(Default)]
struct Archive {
    members: Vec<ArchiveMember>,
    /// The last member of each name.
    names: HashMap<ImagePath, usize>,
    written: u64,
    next_link: u64,
    /// What the last link to each file says of it, by the file's number: that counts for all its names.
    described: HashMap<u64, Metadata>,
}

impl Archive {
    fn into_members(mut self) -> Vec<ArchiveMember> {
        for member in &mut self.members {
            if let Some(link) = member.node.link
                && let Some(metadata) = self.described.get(&link)
            {
                member.node.metadata = metadata.clone();
            }
        }
        self.members
    }

    fn read<R: Read>(
        &mut self,
        members: &mut Members<R>,
        limits: &Limits,
        contents: &mut dyn Write,
    ) -> Result<(), ArchiveError> {
        while let Some(member) = members.next()? {
            if self.members.len() as u64 >= limits.entries {
                return Err(ReadError::TooManyEntries {
                    limit: limits.entries,
                }
                .into());
            }
            check_length(&member, limits)?;
            check_holes(members, limits)?;
            let path = below(&member.name)?;
            if path.is_root() && member.kind != MemberKind::Directory {
                return Err(ReadError::Root.into());
            }
            if member.kind == MemberKind::CharDevice && member.device == (0, 0) {
                return Err(ReadError::Unsupported {
                    path: path.to_string(),
                    what: "devices that overlayfs takes for removals".to_owned(),
                }
                .into());
            }
            if member.kind == MemberKind::HardLink {
                let target = below(&member.link)?;
                self.link(path, target, node_of(member).metadata)?;
                continue;
            }
            let content = self.written;
            let mut node = node_of(member);
            if let Kind::File { size, digest, .. } = &mut node.kind {
                let mut reader = DigestReader::new(&mut *members);
                copy(&mut reader, contents, &path)?;
                *digest = reader.finish().1;
                self.written += *size;
            }
            self.push(path, node, content);
        }
        Ok(())
    }

    fn link(
        &mut self,
        path: ImagePath,
        target: ImagePath,
        mut metadata: Metadata,
    ) -> Result<(), ReadError> {
        if path == target && self.names.contains_key(&path) {
            return Ok(());
        }
        let linked = self.names.get(&target).map(|&at| &mut self.members[at]);
        let Some(linked) = linked.filter(|linked| !linked.node.is_directory()) else {
            return Err(ReadError::HardLink { path, target });
        };
        let link = *linked.node.link.get_or_insert_with(|| {
            self.next_link += 1;
            self.next_link - 1
        });
        let (node, content) = (linked.node.clone(), linked.content);
        metadata.xattrs.clone_from(&node.metadata.xattrs);
        metadata.mode = node.kind.mode_in_layers(metadata.mode);
        self.described.insert(link, metadata);
        self.push(path, node, content);
        Ok(())
    }

    fn push(&mut self, path: ImagePath, node: Node, content: u64) {
        self.names.insert(path.clone(), self.members.len());
        self.members.push(ArchiveMember {
            path,
            node,
            content,
        });
    }
}

/// What a name means below the directory that is unpacked to.
fn below(name: &[u8]) -> Result<ImagePath, ReadError> {
    Ok(ImagePath::parse(ImagePath::clean(name).as_bytes())?)
}

/// Copies a file's content, keeping apart which side failed.
fn copy(
    reader: &mut impl Read,
    writer: &mut dyn Write,
    path: &ImagePath,
) -> Result<(), ArchiveError> {
    let mut chunk = [0; 32 << 10];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => writer
                .write_all(&chunk[..read])
                .map_err(ArchiveError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::of_content(path, error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tar::{Builder, EntryType, Header};

    use super::*;

    /// A tar of `name`, `name=content`, `name/`, `name->target` and `name=>other`.
    fn tar_of(members: &[&str]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for member in members {
            let mut header = Header::new_gnu();
            header.set_mode(0o640);
            let (name, link, content) = if let Some((name, target)) = member.split_once("->") {
                header.set_entry_type(EntryType::Symlink);
                (name, target, "")
            } else if let Some((name, other)) = member.split_once("=>") {
                header.set_entry_type(EntryType::Link);
                (name, other, "")
            } else {
                let (name, content) = member.split_once('=').unwrap_or((member, ""));
                let is_directory = name.ends_with('/');
                header.set_entry_type(match is_directory {
                    true => EntryType::Directory,
                    false => EntryType::Regular,
                });
                (name, "", content)
            };
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(members: &[&str]) -> Result<(Vec<String>, Vec<u8>), ArchiveError> {
        let mut contents = Vec::new();
        let found = read_archive(&tar_of(members)[..], &Limits::default(), &mut contents)?;
        let shown = |member: ArchiveMember| {
            let what = match member.node.kind {
                Kind::Directory => "/".to_owned(),
                Kind::File { size, .. } => format!(" {}+{size}", member.content),
                _ => "->".to_owned(),
            };
            let link = member.node.link.map(|link| format!(" #{link}"));
            format!("{}{what}{}", member.path, link.unwrap_or_default())
        };
        Ok((found.into_iter().map(shown).collect(), contents))
    }

    fn refused(members: &[&str]) -> String {
        read(members).unwrap_err().to_string()
    }

    #[test]
    fn archives_are_told_by_their_first_header() {
        // R-ADD-2
        assert!(is_archive(&tar_of(&["f"])[..]));
        assert!(is_archive(&tar_of(&["f"])[..512]));
        assert!(!is_archive(&tar_of(&["f"])[..511]));
        assert!(!is_archive(&tar_of(&[])[..]));
        assert!(!is_archive(io::empty()));
        assert!(!is_archive(&[0; 4096][..]));
        assert!(!is_archive(&b"plain text ".repeat(100)[..]));
        let mut sparse = Header::new_gnu();
        sparse.set_entry_type(EntryType::GNUSparse);
        sparse.set_size(0);
        sparse.set_cksum();
        assert!(is_archive(&sparse.as_bytes()[..]));
    }

    #[test]
    fn members_come_in_their_order_with_their_contents() {
        // R-ADD-4
        let (members, contents) = read(&[
            "./", "f=one", "d/", "d/g=two2", "h=>f", "f=3", "l->d", "l/x",
        ])
        .unwrap();
        let expected = [
            "/", "f 0+3 #0", "d/", "d/g 3+4", "h 0+3 #0", "f 7+1", "l->", "l/x 8+0",
        ];
        assert_eq!(members, expected);
        assert_eq!(contents, b"onetwo23");
    }

    #[test]
    fn what_removes_in_a_layer_is_a_file() {
        let (members, _) = read(&["d/.wh.x=1", ".wh..wh..opq", ".wh..wh.aufs"]).unwrap();
        assert_eq!(
            members,
            ["d/.wh.x 0+1", ".wh..wh..opq 1+0", ".wh..wh.aufs 1+0"]
        );
    }

    #[test]
    fn hostile_archives_are_refused() {
        let (members, _) = read(&["../up", "a/../../b", "a/../c", "/d", "h=>../../c"]).unwrap();
        assert_eq!(
            members,
            ["up 0+0", "b 0+0", "c 0+0 #0", "d 0+0", "h 0+0 #0"]
        );
        assert!(refused(&["..=x"]).contains("root"));
        assert!(refused(&["h=>../../nope"]).contains("no earlier file"));
        assert!(refused(&["h=>/etc/passwd"]).contains("hard link"));
        assert!(refused(&["d/", "h=>d"]).contains("hard link"));
        let cut = &tar_of(&["f=content"])[..515];
        let error = read_archive(cut, &Limits::default(), &mut io::sink()).unwrap_err();
        assert!(matches!(
            error,
            ArchiveError::Read(ReadError::Truncated { .. })
        ));
    }

    #[test]
    fn limits_hold() {
        let limits = |entries, size| Limits {
            entries,
            size,
            ..Limits::default()
        };
        let tar = tar_of(&["a=1", "b=2"]);
        let read = |limits| read_archive(&tar[..], &limits, &mut io::sink()).map(|all| all.len());
        assert_eq!(read(limits(2, 1 << 20)).unwrap(), 2);
        let many = read(limits(1, 1 << 20)).unwrap_err();
        assert!(matches!(
            many,
            ArchiveError::Read(ReadError::TooManyEntries { .. })
        ));
        let large = read(limits(2, 700)).unwrap_err();
        assert!(matches!(
            large,
            ArchiveError::Read(ReadError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_failing_writer_is_not_the_archives_fault() {
        let error = read_archive(&tar_of(&["a=1"])[..], &Limits::default(), &mut &mut [][..]);
        assert!(matches!(error.unwrap_err(), ArchiveError::Write(_)));
    }
}
