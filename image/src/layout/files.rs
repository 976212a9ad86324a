//! The files of a layout or archive, by name: below a folder, or as members of a tar file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::LayoutError;
use crate::ImagePath;
use crate::compress::Algorithm;
use crate::contents::Root;
use crate::tar::{MemberKind, Members, ReadError};

/// Files that can be opened by name, any number of them at a time.
#[derive(Debug)]
pub(crate) enum Files {
    Folder(Root),
    Tar {
        file: Arc<File>,
        members: BTreeMap<ImagePath, Place>,
    },
}

/// Where a member of a tar has its content.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Bytes of the tar file.
    Range { start: u64, size: u64 },
    /// Another member's: old `docker save` writes equal layers once and links to them.
    Link(ImagePath),
}

/// A range of a file; reading it moves no one else's position.
struct RangeReader {
    file: Arc<File>,
    position: u64,
    left: u64,
}

/// Most members an archive may have: far more than there are blobs in the largest ones.
const MEMBER_LIMIT: usize = 1_000_000;

impl Files {
    /// Opens a folder, or indexes a tar file without reading what its members hold.
    pub(crate) fn open(path: &Path) -> Result<Self, LayoutError> {
        let failed = |source| LayoutError::Open {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Ok(Self::Folder(Root::from_fd(file.into())));
        }
        Self::of_tar(file)
    }

    /// Indexes a tar file.
    pub(crate) fn of_tar(file: File) -> Result<Self, LayoutError> {
        let length = file.metadata().map_err(ReadError::Input)?.len();
        let file = Arc::new(file);
        let mut magic = Vec::new();
        let start = RangeReader {
            file: Arc::clone(&file),
            position: 0,
            left: length,
        };
        start
            .take(Algorithm::MAGIC_LENGTH as u64)
            .read_to_end(&mut magic)
            .map_err(ReadError::Input)?;
        if Algorithm::detect(&magic) != Algorithm::None {
            return Err(LayoutError::Compressed);
        }
        let members = index_members(&file, length)?;
        Ok(Self::Tar { file, members })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Folder(root) => root.file(&ImagePath::clean(name.as_bytes())).is_ok(),
            Self::Tar { members, .. } => find(members, name).is_some(),
        }
    }

    /// The content of a file and its length in bytes.
    pub(crate) fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64), LayoutError> {
        let missing = || LayoutError::Missing {
            name: name.to_owned(),
        };
        match self {
            Self::Folder(root) => {
                let opened = root.file(&ImagePath::clean(name.as_bytes()));
                let opened = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
                let (size, file) = opened.map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => LayoutError::Read {
                        name: name.to_owned(),
                        source,
                    },
                })?;
                Ok((Box::new(file), size))
            }
            Self::Tar { file, members } => {
                let (start, size) = find(members, name).ok_or_else(missing)?;
                Ok((
                    Box::new(RangeReader {
                        file: Arc::clone(file),
                        position: start,
                        left: size,
                    }),
                    size,
                ))
            }
        }
    }

    /// The whole content of a file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let (reader, size) = self.open_file(name)?;
        if size > limit {
            return Err(LayoutError::TooLarge {
                name: name.to_owned(),
                limit,
            });
        }
        let mut bytes = Vec::new();
        let read = reader.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| LayoutError::Read {
            name: name.to_owned(),
            source,
        })?;
        Ok(bytes)
    }
}

/// Follows links among the members, but not in circles.
fn find(members: &BTreeMap<ImagePath, Place>, name: &str) -> Option<(u64, u64)> {
    let mut path = ImagePath::clean(name.as_bytes());
    for _ in 0..8 {
        match members.get(&path)? {
            Place::Range { start, size } => return Some((*start, *size)),
            Place::Link(target) => path = target.clone(),
        }
    }
    None
}

/// Reads the headers alone, jumping over what the members hold.
fn index_members(file: &Arc<File>, length: u64) -> Result<BTreeMap<ImagePath, Place>, LayoutError> {
    let mut found = BTreeMap::new();
    let mut position = 0;
    loop {
        let left = length.saturating_sub(position);
        let reader = RangeReader {
            file: Arc::clone(file),
            position,
            left,
        };
        let mut members = Members::new(reader, 1 << 20);
        let Some(member) = members.next()? else {
            return Ok(found);
        };
        let path = ImagePath::parse(&member.name).map_err(ReadError::from)?;
        let start = position + members.position();
        let truncated = || ReadError::Truncated {
            path: path.to_string(),
        };
        let end = start
            .checked_add(member.size)
            .filter(|&end| end <= length)
            .ok_or_else(truncated)?;
        position = end.next_multiple_of(512);
        let above = path.parent().unwrap_or_default();
        let place = match member.kind {
            MemberKind::File if member.is_sparse => {
                return Err(ReadError::Unsupported {
                    path: path.to_string(),
                    what: "sparse blobs".to_owned(),
                }
                .into());
            }
            MemberKind::File => Place::Range {
                start,
                size: member.size,
            },
            MemberKind::Symlink => Place::Link(above.join_cleaned(&member.link)),
            MemberKind::HardLink => Place::Link(ImagePath::clean(&member.link)),
            _ => continue,
        };
        found.insert(path, place);
        if found.len() > MEMBER_LIMIT {
            return Err(ReadError::TooManyEntries {
                limit: MEMBER_LIMIT as u64,
            }
            .into());
        }
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
