//! Sections of programs, by their names. A file of an image may say anything about itself: what it says is compared with its size, nothing is
//! followed twice, and nothing long is read.

/// Longer sections tell of no packages, in bytes.
const LONGEST: u64 = 16 << 20;

/// More sections than programs have.
const MOST_SECTIONS: u64 = 10_000;

/// Longer than the names of all sections of a program, in bytes.
const LONGEST_NAMES: u64 = 1 << 20;

/// What a header is at most, in bytes.
const HEADER: u64 = 64;

/// Kind of a section without content, and the mark of one whose content is compressed (elf(5)).
const NO_BITS: u64 = 8;
const COMPRESSED: u64 = 0x800;

/// How numbers are written in a file.
#[derive(Debug, Clone, Copy)]
struct Layout {
    wide: bool,
    little: bool,
}

/// Where something is in the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u64,
    length: u64,
}

/// A line of the table of sections.
#[derive(Debug, Clone, Copy)]
struct Section {
    name: usize,
    range: Range,
    has_plain_content: bool,
}

/// The contents of the first sections with these names, of a file of `size` bytes that `read` reads parts of: from a byte on, so many or as many as there
/// are. `None` for what isn't there, and for all of a file that is no program.
pub(super) fn sections<const N: usize, E>(
    size: u64,
    names: [&str; N],
    read: impl Fn(u64, u64) -> Result<Vec<u8>, E>,
) -> Result<[Option<Vec<u8>>; N], E> {
    let mut found = [const { None }; N];
    let whole = |range: Range, most: u64| -> Result<Option<Vec<u8>>, E> {
        let end = range.start.checked_add(range.length);
        if range.length > most || end.is_none_or(|end| end > size) {
            return Ok(None);
        }
        let bytes = read(range.start, range.length)?;
        Ok((bytes.len() as u64 == range.length).then_some(bytes))
    };
    let header = read(0, HEADER)?;
    let Some((layout, table, of_names)) = Layout::read(&header) else {
        return Ok(found);
    };
    let Some(table) = whole(table, MOST_SECTIONS * HEADER)? else {
        return Ok(found);
    };
    let sections: Vec<Section> = table
        .chunks_exact(layout.section_size() as usize)
        .filter_map(|line| layout.section(line))
        .collect();
    let Some(of_names) = sections.get(of_names) else {
        return Ok(found);
    };
    let Some(known) = whole(of_names.range, LONGEST_NAMES)? else {
        return Ok(found);
    };
    for (found, name) in found.iter_mut().zip(names) {
        let is_it = |section: &&Section| {
            let rest = known.get(section.name..).unwrap_or_default();
            rest.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&0))
        };
        let section = sections.iter().find(is_it);
        if let Some(section) = section.filter(|section| section.has_plain_content) {
            *found = whole(section.range, LONGEST)?;
        }
    }
    Ok(found)
}

impl Layout {
    /// The layout of a program, its table of sections, and which of these has their names.
    fn read(header: &[u8]) -> Option<(Self, Range, usize)> {
        let rest = header.strip_prefix(b"\x7fELF")?;
        let layout = match *rest.get(..2)? {
            [class @ (1 | 2), order @ (1 | 2)] => Self {
                wide: class == 2,
                little: order == 1,
            },
            _ => return None,
        };
        let [start, size, count, names] = match layout.wide {
            true => [0x28, 0x3a, 0x3c, 0x3e],
            false => [0x20, 0x2e, 0x30, 0x32],
        };
        let start = layout.number(header, start, layout.word())?;
        let count = layout.number(header, count, 2)?;
        let names = layout.number(header, names, 2)?;
        let is_usual = layout.number(header, size, 2)? == layout.section_size();
        let table = Range {
            start,
            length: count * layout.section_size(),
        };
        let is_there = is_usual && start > 0 && (1..=MOST_SECTIONS).contains(&count);
        is_there.then_some((layout, table, usize::try_from(names).ok()?))
    }

    /// How long a number is that is as long as an address, in bytes.
    const fn word(self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// How long a line of the table is, in bytes.
    const fn section_size(self) -> u64 {
        if self.wide { 64 } else { 40 }
    }

    fn section(self, line: &[u8]) -> Option<Section> {
        let [start, length] = match self.wide {
            true => [0x18, 0x20],
            false => [0x10, 0x14],
        };
        let kind = self.number(line, 4, 4)?;
        let marks = self.number(line, 8, self.word())?;
        Some(Section {
            name: usize::try_from(self.number(line, 0, 4)?).ok()?,
            range: Range {
                start: self.number(line, start, self.word())?,
                length: self.number(line, length, self.word())?,
            },
            has_plain_content: kind != NO_BITS && marks & COMPRESSED == 0,
        })
    }

    fn number(self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at + length)?.iter();
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.little {
            true => bytes.rev().fold(0, add),
            false => bytes.fold(0, add),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// A program of nothing but these sections, and one with their names.
    fn program(wide: bool, little: bool, sections: &[(&str, &[u8])]) -> Vec<u8> {
        let number = |value: u64, length: usize| -> Vec<u8> {
            match little {
                true => value.to_le_bytes()[..length].to_vec(),
                false => value.to_be_bytes()[8 - length..].to_vec(),
            }
        };
        let word = if wide { 8 } else { 4 };
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4..6].copy_from_slice(&[1 + u8::from(wide), 2 - u8::from(little)]);
        let (mut names, mut lines) = (vec![0], Vec::new());
        let mut line = |name: u64, start: u64, length: u64| {
            let fields = [
                (name, 4),
                (1, 4),
                (0, word),
                (0, word),
                (start, word),
                (length, word),
            ];
            let mut line: Vec<u8> = fields
                .iter()
                .flat_map(|(value, length)| number(*value, *length))
                .collect();
            line.resize(if wide { 64 } else { 40 }, 0);
            lines.extend(line);
        };
        for (name, content) in sections {
            line(names.len() as u64, bytes.len() as u64, content.len() as u64);
            names.extend(name.bytes().chain([0]));
            bytes.extend(*content);
        }
        line(0, bytes.len() as u64, names.len() as u64);
        bytes.extend(names);
        let table = bytes.len() as u64;
        bytes.extend(&lines);
        let places = if wide {
            [0x28, 0x3a, 0x3c, 0x3e]
        } else {
            [0x20, 0x2e, 0x30, 0x32]
        };
        let count = sections.len() as u64;
        let size = if wide { 64 } else { 40 };
        for (at, value, length) in [
            (places[0], table, word),
            (places[1], size, 2),
            (places[2], count + 1, 2),
            (places[3], count, 2),
        ] {
            bytes[at..at + length].copy_from_slice(&number(value, length));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> [Option<Vec<u8>>; 2] {
        let part = |start: u64, length: u64| -> Result<Vec<u8>, Infallible> {
            let rest = bytes.iter().skip(start as usize);
            Ok(rest.take(length as usize).copied().collect())
        };
        sections(bytes.len() as u64, [".one", ".two"], part).unwrap()
    }

    #[test]
    fn sections_are_found_by_name() {
        for (wide, little) in [(true, true), (true, false), (false, true), (false, false)] {
            let program = program(
                wide,
                little,
                &[(".one.x", b"no"), (".one", b"1"), (".x", b"")],
            );
            assert_eq!(read(&program), [Some(b"1".to_vec()), None]);
        }
        assert_eq!(read(b"#!/bin/sh\n"), [None, None]);
        assert_eq!(read(b""), [None, None]);
    }

    proptest! {
        /// Whatever a file says, it is read within its size.
        #[test]
        fn nonsense_is_no_program(at in 0_usize..300, with in prop::collection::vec(any::<u8>(), 1..9)) {
            let mut bytes = program(true, true, &[(".one", b"1"), (".two", &[7; 90])]);
            for (place, byte) in bytes.iter_mut().skip(at).zip(with) {
                *place = byte;
            }
            let length = bytes.len();
            read(&bytes);
            read(&bytes[..at.min(length)]);
        }
    }
}
