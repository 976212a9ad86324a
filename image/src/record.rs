//! What a file is to be where its file system can't say so: an extended attribute of the file.
//!
//! In a user namespace nobody can make device nodes, and a user without a range of ids can own files as nobody but themselves. There a
//! device is an empty file whose attribute says which, and the true owner, if need be, stands in it as well. An attribute goes where the file goes: through
//! renames, hard links and overlayfs's copies. Symlinks and FIFOs can't have one; whoever makes them keeps a list.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;

use crate::{Kind, Metadata, acl};

/// The attribute's name. It never comes out of a tree nor gets in.
pub const XATTR: &str = "user.kiln.record";

/// Attributes that stand for access lists which name users and groups without ids here ([`acl`]), beside the names those have.
const LISTS: [(&str, &[u8]); 2] = [
    ("user.kiln.acl.access", acl::ACCESS),
    ("user.kiln.acl.default", acl::DEFAULT),
];

/// What is recorded of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Record {
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// The device that the file stands for.
    pub device: Option<Device>,
}

/// A file that can have no attribute, for as long as it lives: numbers of inodes are given again, times of birth are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
    /// Seconds and nanoseconds; zero on filesystems that don't keep it.
    born: (i64, u32),
}

impl Inode {
    /// What is at `path` below `directory`, itself if it is a link; of an empty path, what is open (`O_PATH` will do).
    pub fn of(directory: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<Self> {
        let how = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let found = rustix::fs::statx(directory, path, how, wanted)?;
        Ok(Self {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            number: found.stx_ino,
            born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        })
    }
}

/// A device's type and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Whether it is a block device and not a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Record {
    /// What must be recorded of an object with this description; the default record for most.
    pub fn of(metadata: &Metadata, kind: &Kind) -> Self {
        Self {
            uid: metadata.uid,
            gid: metadata.gid,
            ..Self::of_device(kind)
        }
    }

    /// What must be recorded of such an object where its owner is its own.
    pub fn of_device(kind: &Kind) -> Self {
        let (block, major, minor) = match *kind {
            Kind::CharDevice { major, minor } => (false, major, minor),
            Kind::BlockDevice { major, minor } => (true, major, minor),
            _ => return Self::default(),
        };
        Self {
            device: Some(Device {
                block,
                major,
                minor,
            }),
            ..Self::default()
        }
    }

    /// Whether there is nothing to record: a file of root that is what it seems.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The attribute's value: numbers in text, which `getfattr` shows as they are.
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { uid, gid, device } = self;
        match device {
            None => format!("{uid} {gid}"),
            Some(Device {
                block,
                major,
                minor,
            }) => format!(
                "{uid} {gid} {} {major} {minor}",
                if block { 'b' } else { 'c' }
            ),
        }
        .into_bytes()
    }

    /// Reads [`Record::to_bytes`] back; `None` for what is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let device = match words.next() {
            None => None,
            Some(kind) => Some(Device {
                block: match kind {
                    "b" => true,
                    "c" => false,
                    _ => return None,
                },
                major: words.next()?.parse().ok()?,
                minor: words.next()?.parse().ok()?,
            }),
        };
        words.next().is_none().then_some(Self { uid, gid, device })
    }

    /// Writes it to an open file or directory; a plain one takes away what is there.
    pub fn write(self, file: impl AsFd) -> rustix::io::Result<()> {
        if !self.is_plain() {
            return rustix::fs::fsetxattr(file, XATTR, &self.to_bytes(), XattrFlags::empty());
        }
        match rustix::fs::fremovexattr(file, XATTR) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            removed => removed,
        }
    }

    /// The kind of the device that the file stands for.
    pub fn device_kind(&self) -> Option<Kind> {
        let Device {
            block,
            major,
            minor,
        } = self.device?;
        Some(match block {
            true => Kind::BlockDevice { major, minor },
            false => Kind::CharDevice { major, minor },
        })
    }
}

/// Whether an attribute is this module's.
pub fn is_record(name: &[u8]) -> bool {
    name == XATTR.as_bytes() || list_in(name).is_some()
}

/// The attribute that stands for an access list of this name.
pub fn place_of_list(name: &[u8]) -> Option<&'static str> {
    let found = LISTS.iter().find(|(_, list)| *list == name)?;
    Some(found.0)
}

/// The name of the access list that an attribute stands for.
pub fn list_in(name: &[u8]) -> Option<&'static [u8]> {
    let found = LISTS.iter().find(|(place, _)| place.as_bytes() == name)?;
    Some(found.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back() {
        let device = Device {
            block: true,
            major: 7,
            minor: 300,
        };
        for device in [None, Some(device)] {
            let record = Record {
                uid: 65534,
                gid: 12,
                device,
            };
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }
        for nonsense in [
            "",
            "1",
            "1 x",
            "1 2 q 3 4",
            "1 2 c 3",
            "1 2 c 3 4 5",
            "-1 2",
        ] {
            assert_eq!(Record::from_bytes(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
