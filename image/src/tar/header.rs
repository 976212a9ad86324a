//! Tar headers as kiln writes them: ustar, with PAX records only where ustar can't say it (R-LAY-8).

use std::collections::BTreeMap;

use ::tar::{EntryType, Header};

/// Members of a tar start at multiples of this.
pub(crate) const BLOCK: usize = 512;

/// The end of a tar; for a tar without members, all of it (R-LAY-12).
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The prefix of a PAX record's key that makes it an extended attribute.
pub(crate) const XATTR_RECORD: &[u8] = b"SCHILY.xattr.";

/// The highest number of ustar's 8-byte and 12-byte fields: seven and eleven octal digits.
const HIGHEST_SHORT: u64 = 0o777_7777;
const HIGHEST_LONG: u64 = 0o777_7777_7777;

/// What is said about one member.
#[derive(Debug, Clone)]
pub(crate) struct MemberHeader<'a> {
    /// The name; of a directory with the slash at its end.
    pub(crate) name: &'a [u8],
    /// What a hard link or symlink points to; else empty.
    pub(crate) link: &'a [u8],
    pub(crate) kind: EntryType,
    /// Permission bits, setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of content that follow.
    pub(crate) size: u64,
    /// Seconds since the epoch.
    pub(crate) mtime: i64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes by name.
    pub(crate) xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> MemberHeader<'a> {
    /// A member of this name and kind, owned by root, of the epoch, with nothing in it.
    pub(crate) fn new(name: &'a [u8], kind: EntryType, mode: u32) -> Self {
        let (link, xattrs) = (&[][..], Vec::new());
        Self {
            name,
            link,
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs,
        }
    }

    /// The header's blocks: the PAX header and its records if there are any, then the ustar header.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let records = self.records();
        let mut bytes = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            append_records(&mut bytes, self.name, &records);
        }
        bytes.extend_from_slice(self.ustar().as_bytes());
        bytes
    }

    /// What ustar can't say, by PAX key, in the order it is written.
    fn records(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut records = BTreeMap::new();
        let mut say = |key: &[u8], value: &[u8]| records.insert(key.to_vec(), value.to_vec());
        if split_name(self.name).is_none() {
            say(b"path", self.name);
        }
        if self.link.len() > 100 || !self.link.is_ascii() {
            say(b"linkpath", self.link);
        }
        for (key, id) in [(&b"uid"[..], self.uid), (b"gid", self.gid)] {
            if u64::from(id) > HIGHEST_SHORT {
                say(key, id.to_string().as_bytes());
            }
        }
        if self.size > HIGHEST_LONG {
            say(b"size", self.size.to_string().as_bytes());
        }
        if in_field(self.mtime, HIGHEST_LONG).is_none() {
            say(b"mtime", self.mtime.to_string().as_bytes());
        }
        for (name, value) in &self.xattrs {
            say(&[XATTR_RECORD, name].concat(), value);
        }
        records
    }

    /// The ustar header. Where a PAX record says it better, it has what fits: a name cut short, a zero.
    fn ustar(&self) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(in_field(self.uid.into(), HIGHEST_SHORT).unwrap_or(0));
        header.set_gid(in_field(self.gid.into(), HIGHEST_SHORT).unwrap_or(0));
        header.set_size(if self.size > HIGHEST_LONG {
            0
        } else {
            self.size
        });
        header.set_mtime(in_field(self.mtime, HIGHEST_LONG).unwrap_or(0));
        let ustar = header.as_ustar_mut().expect("made as ustar just above");
        ustar.set_device_major(self.device.0);
        ustar.set_device_minor(self.device.1);
        match split_name(self.name) {
            Some((prefix, name)) => {
                copy_into(&mut ustar.prefix, prefix);
                copy_into(&mut ustar.name, name);
            }
            None => copy_into(&mut ustar.name, &ascii(self.name)),
        }
        copy_into(&mut ustar.linkname, &ascii(self.link));
        header.set_cksum();
        header
    }
}

/// The number as a field up to `highest` has it, if it does.
fn in_field(number: i64, highest: u64) -> Option<u64> {
    u64::try_from(number)
        .ok()
        .filter(|&number| number <= highest)
}

/// How ustar says a name: up to 155 bytes of directories and up to 100 after the slash; `None` if it can't.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some((&[], name));
    }
    // The slash of a directory's own end divides nothing.
    let within = &name[..name.len() - 1];
    let longest_prefix = &within[..within.len().min(156)];
    let slash = longest_prefix.iter().rposition(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

fn ascii(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(u8::is_ascii).collect()
}

fn copy_into(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Appends a PAX header for the member `name`, with its records and their padding.
fn append_records(bytes: &mut Vec<u8>, name: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let body: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect();
    let header_name = records_name(name);
    let header = MemberHeader {
        size: body.len() as u64,
        ..MemberHeader::new(&header_name, EntryType::XHeader, 0)
    };
    bytes.extend_from_slice(header.ustar().as_bytes());
    bytes.extend_from_slice(&body);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

/// The name of the PAX header itself, for readers that know no PAX and make a file of it.
fn records_name(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let (above, last) = match name.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => name.split_at(slash + 1),
        None => (&[][..], name),
    };
    let mut header_name = ascii(&[above, b"PaxHeaders.0/", last].concat());
    header_name.truncate(100);
    header_name
}

/// `<length> <key>=<value>\n`, where the length counts its own digits too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for value in [1, 80, 85, 86, 87, 88, 89, 90, 985, 990, 995] {
            let bytes = record(b"path", &vec![b'v'; value]);
            let text = String::from_utf8_lossy(&bytes);
            let length = text
                .split(' ')
                .next()
                .and_then(|digits| digits.parse().ok());
            assert_eq!(length, Some(bytes.len()), "{value}");
        }
    }

    #[test]
    fn names_are_split_where_ustar_can() {
        let long = |length: usize| vec![b'n'; length];
        assert!(split_name(&long(100)).is_some());
        assert!(split_name(&long(101)).is_none());
        assert!(split_name("é".as_bytes()).is_none());
        let both = [long(155), long(100)].join(&b'/');
        assert_eq!(split_name(&both), Some((&both[..155], &both[156..])));
        assert!(split_name(&[long(156), long(90)].join(&b'/')).is_none());
        assert!(split_name(&[long(90), long(101)].join(&b'/')).is_none());
        assert!(
            split_name(&[long(100), Vec::new()].join(&b'/')).is_none(),
            "a directory of 100 and its slash"
        );
    }
}
