//! Sparse files: members whose holes take no space in the tar.
//!
//! GNU tar has four forms of them. The old one (type `S`) has a table in the header and in blocks after it; in PAX the table is in
//! records (versions 0.0 and 0.1), or before the content (1.0). Whoever reads the member sees the file as it was, holes as zeros.

use std::collections::BTreeMap;

/// What is malformed where something about holes is.
pub(super) const FIELD: &str = "table of holes";

/// Most pieces of one file; a tar that has more of them is not worth the memory.
const MOST_PIECES: usize = 1 << 16;

/// The record that holds the table of versions 0.0 and 0.1.
const MAP: &[u8] = b"GNU.sparse.map";

/// Where the pieces of the content are in the file, while it is read.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Offset and length, in order, not one over another.
    pieces: Vec<(u64, u64)>,
    /// The first piece that isn't read to its end.
    current: usize,
    /// Bytes of the file that were read.
    position: u64,
    /// Its length.
    size: u64,
}

/// What comes next in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many zeros that aren't in the tar.
    Hole(usize),
    /// So many bytes that are.
    Data(usize),
}

/// What the headers of a sparse file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseForm {
    /// Its name, if the one in the header is a stand-in.
    pub(super) name: Option<Vec<u8>>,
    /// Its length with all holes.
    pub(super) size: u64,
    /// Where its content belongs.
    pub(super) stored: Stored,
    /// Whether a block with more of the table follows.
    pub(super) continues: bool,
}

/// Where the content of a sparse file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// Offset and length of each piece.
    Known(Vec<(u64, u64)>),
    /// That is said in front of it.
    BeforeContent,
}

/// The numbers that stand before the content, one a line: how many pieces, then offset and length of each.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    read: Vec<u64>,
    digits: Vec<u8>,
}

impl Sparse {
    /// `None` if the pieces don't make sense: `stored` bytes in a file of `size`.
    pub(super) fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Option<Self> {
        let mut end = 0;
        let mut sum: u64 = 0;
        for &(offset, length) in &pieces {
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            sum += length; // no more than `end`
        }
        (end <= size && sum == stored).then_some(Self {
            pieces,
            current: 0,
            position: 0,
            size,
        })
    }

    /// What comes next, `most` bytes of it; nothing at the end.
    pub(super) fn next(&mut self, most: usize) -> Piece {
        let at_most = |length: u64| usize::try_from(length).map_or(most, |length| length.min(most));
        while let Some(&(offset, length)) = self.pieces.get(self.current) {
            if self.position < offset {
                return Piece::Hole(at_most(offset - self.position));
            }
            match offset + length - self.position {
                0 => self.current += 1,
                left => return Piece::Data(at_most(left)),
            }
        }
        Piece::Hole(at_most(self.size - self.position))
    }

    /// So many bytes were read.
    pub(super) fn advance(&mut self, read: usize) {
        self.position += read as u64;
    }
}

impl SparseForm {
    /// With what a block after the header has; `None` if that makes no sense.
    pub(super) fn with_block(mut self, block: &[u8; 512]) -> Option<Self> {
        let Stored::Known(pieces) = &mut self.stored else {
            return None;
        };
        add_entries(pieces, &block[..504])?;
        self.continues = block[504] != 0;
        Some(self)
    }
}

impl Numbers {
    /// Takes in a block; false if it isn't numbers.
    pub(super) fn add(&mut self, block: &[u8]) -> bool {
        for &byte in block {
            match byte {
                _ if self.pieces().is_some() => return true,
                b'0'..=b'9' if self.digits.len() < 20 => self.digits.push(byte),
                b'\n' => match number(&std::mem::take(&mut self.digits)) {
                    Some(number) => self.read.push(number),
                    None => return false,
                },
                _ => return false,
            }
        }
        self.read.first().is_none_or(|&count| is_bearable(count))
    }

    /// The pieces, once all are there.
    pub(super) fn pieces(&self) -> Option<Vec<(u64, u64)>> {
        let (&count, pairs) = self.read.split_first()?;
        let is_whole = pairs.len() as u64 == count.checked_mul(2)?;
        is_whole.then(|| in_pairs(pairs))
    }
}

fn is_bearable(count: u64) -> bool {
    count <= MOST_PIECES as u64
}

/// Keeps a PAX record. Version 0.0 says offsets and lengths in records that come again and again: they are put together as 0.1 has
/// them, the last one of any other key counts.
pub(super) fn insert(records: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], value: &[u8]) {
    if !matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
        records.insert(key.to_vec(), value.to_vec());
        return;
    }
    let map = records.entry(MAP.to_vec()).or_default();
    if !map.is_empty() {
        map.push(b',');
    }
    map.extend_from_slice(value);
}

/// What PAX records say; the outer `None` if that makes no sense, the inner one if it isn't about holes.
#[expect(
    clippy::option_option,
    reason = "whether it is sparse, and whether that can be read"
)]
pub(super) fn of_records(records: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Option<SparseForm>> {
    let mut take = |key: &str| records.remove(format!("GNU.sparse.{key}").as_bytes());
    let (major, minor, map) = (take("major"), take("minor"), take("map"));
    let (name, real_size, size) = (take("name"), take("realsize"), take("size"));
    let is_known = match (major.as_deref(), minor.as_deref()) {
        (Some(b"1"), Some(b"0")) => false,
        (None | Some(b"0"), None | Some(b"0" | b"1")) => match (&map, &size) {
            (None, None) => return Some(None),
            _ => true,
        },
        _ => return None,
    };
    let stored = match is_known {
        true => Stored::Known(pieces_of(&map.unwrap_or_default())?),
        false => Stored::BeforeContent,
    };
    Some(Some(SparseForm {
        name,
        size: number(&real_size.or(size)?)?,
        stored,
        continues: false,
    }))
}

/// `0,512,4096,512`
fn pieces_of(map: &[u8]) -> Option<Vec<(u64, u64)>> {
    if map.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Option<Vec<u64>> = map.split(|&byte| byte == b',').map(number).collect();
    let numbers = numbers?;
    let is_whole = numbers.len() % 2 == 0 && is_bearable(numbers.len() as u64 / 2);
    is_whole.then(|| in_pairs(&numbers))
}

fn in_pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    let (pairs, _) = numbers.as_chunks::<2>();
    pairs
        .iter()
        .map(|&[offset, length]| (offset, length))
        .collect()
}

/// What a header of type `S` says; `None` if that makes no sense.
pub(super) fn of_header(header: &[u8; 512]) -> Option<SparseForm> {
    let mut pieces = Vec::new();
    add_entries(&mut pieces, &header[386..482])?;
    Some(SparseForm {
        name: None,
        size: octal(&header[483..495])?,
        stored: Stored::Known(pieces),
        continues: header[482] != 0,
    })
}

/// Entries of twelve bytes of offset and twelve of length, up to the first that is empty.
fn add_entries(pieces: &mut Vec<(u64, u64)>, table: &[u8]) -> Option<()> {
    for entry in table.chunks_exact(24) {
        if entry[0] == 0 || entry[12] == 0 {
            break;
        }
        pieces.push((octal(&entry[..12])?, octal(&entry[12..])?));
    }
    (pieces.len() <= MOST_PIECES).then_some(())
}

/// A number of a header: octal digits, or bytes after one with its highest bit set.
fn octal(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let start = field.len() - 8;
        let is_small = field[0] == 0x80 && field[1..start].iter().all(|&byte| byte == 0);
        let bytes = field[start..].try_into().ok()?;
        return is_small.then(|| u64::from_be_bytes(bytes));
    }
    let digits = field.iter().take_while(|byte| !matches!(byte, 0 | b' '));
    let text: Vec<u8> = digits.copied().collect();
    if text.is_empty() {
        return Some(0); // left blank
    }
    u64::from_str_radix(str::from_utf8(&text).ok()?, 8).ok()
}

fn number(text: &[u8]) -> Option<u64> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text)
        .ok()
        .filter(|_| is_digits)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pieces_and_holes_take_turns() {
        let mut sparse = Sparse::new(vec![(0, 3), (10, 2), (12, 0)], 20, 5).unwrap();
        let mut told = Vec::new();
        loop {
            let piece = sparse.next(6);
            let (Piece::Hole(length) | Piece::Data(length)) = piece;
            if length == 0 {
                break;
            }
            told.push(piece);
            sparse.advance(length);
        }
        let expected = [
            Piece::Data(3),
            Piece::Hole(6),
            Piece::Hole(1),
            Piece::Data(2),
            Piece::Hole(6),
            Piece::Hole(2),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let of = |pieces: &[(u64, u64)], size, stored| Sparse::new(pieces.to_vec(), size, stored);
        assert!(of(&[], 5, 0).is_some());
        assert!(of(&[(0, 5)], 5, 5).is_some());
        assert!(of(&[(0, 5)], 4, 5).is_none());
        assert!(of(&[(0, 5)], 9, 4).is_none());
        assert!(of(&[(4, 1), (0, 1)], 9, 2).is_none());
        assert!(of(&[(0, 5), (4, 1)], 9, 6).is_none());
        assert!(of(&[(u64::MAX, 5)], u64::MAX, 5).is_none());
    }

    #[test]
    fn each_version_of_the_records_is_read() {
        let form = |records: &[(&str, &str)]| {
            let mut kept = BTreeMap::new();
            for (key, value) in records {
                insert(&mut kept, key.as_bytes(), value.as_bytes());
            }
            of_records(&mut kept)
        };
        assert_eq!(form(&[("path", "x")]), Some(None));
        let known = Stored::Known(vec![(0, 5), (9, 1)]);
        let first = [
            ("GNU.sparse.size", "10"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "5"),
            ("GNU.sparse.offset", "9"),
            ("GNU.sparse.numbytes", "1"),
        ];
        let found = form(&first).unwrap().unwrap();
        assert_eq!(
            (found.size, found.name, found.stored),
            (10, None, known.clone())
        );
        let second = [
            ("GNU.sparse.name", "s"),
            ("GNU.sparse.size", "10"),
            ("GNU.sparse.map", "0,5,9,1"),
        ];
        let found = form(&second).unwrap().unwrap();
        assert_eq!((found.name, found.stored), (Some(b"s".to_vec()), known));
        let third = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "s"),
            ("GNU.sparse.realsize", "10"),
        ];
        assert_eq!(form(&third).unwrap().unwrap().stored, Stored::BeforeContent);
        for wrong in [
            &[("GNU.sparse.map", "0,5")][..],
            &[("GNU.sparse.size", "x"), ("GNU.sparse.map", "")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,5,1")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,-5")],
            &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")],
        ] {
            assert_eq!(form(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn numbers_before_the_content_may_go_over_blocks() {
        let mut numbers = Numbers::default();
        assert!(numbers.add(b"2\n0\n51") && numbers.pieces().is_none());
        assert!(numbers.add(b"2\n4096\n7\n\0\0\0"));
        assert_eq!(numbers.pieces(), Some(vec![(0, 512), (4096, 7)]));
        assert!(!Numbers::default().add(b"1\nx"));
        assert!(!Numbers::default().add(b"99999999999\n"));
        assert!(!Numbers::default().add(b"\n"));
    }
}
