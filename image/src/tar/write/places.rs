//! Files read where they are in a layer's tar.
//!
//! Where each file of a tar is follows from its changeset, for a tar that was written here. So a layer that is kept as
//! a tar can be read from without being unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::super::header::{BLOCK, END};
use super::encode::{Attributes, Encoder};
use super::members;
use crate::contents::{Contents, NoContents};
use crate::{Change, Changeset, ImagePath, Kind, Node};

/// The contents of a changeset's files, in the tar of it.
#[derive(Debug)]
pub struct TarContents {
    tar: File,
    /// Where each regular file's content begins, sorted.
    places: Vec<(ImagePath, u64)>,
}

/// A part of a tar being read.
struct Part<'a> {
    tar: &'a File,
    at: u64,
    left: u64,
}

impl TarContents {
    /// `None` if this is not, header by header, the tar that [`super::write_layer`] makes of the changeset. Contents are not
    /// looked at.
    pub fn of(tar: File, changeset: &Changeset) -> io::Result<Option<Self>> {
        let encoder = Encoder {
            members: members(changeset),
            contents: &NoContents,
            attributes: Attributes::OfLayers,
        };
        let mut places = Vec::new();
        let mut starts = vec![0; encoder.members.len()];
        let mut at = 0;
        let mut found = Vec::new();
        for (position, member) in encoder.members.iter().enumerate() {
            let Ok(header) = encoder.header(member) else {
                return Ok(None);
            };
            let header = header.unwrap_or_default();
            found.resize(header.len(), 0);
            match tar.read_exact_at(&mut found, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            if found != header {
                return Ok(None);
            }
            at += header.len() as u64;
            if let Some(size) = size_of(member.change) {
                let start = member.first.map_or(at, |first| starts[first]);
                starts[position] = start;
                places.push((member.path.clone(), start));
                if member.first.is_none() {
                    at += size.next_multiple_of(BLOCK as u64);
                }
            }
        }
        let is_whole = tar.metadata()?.len() == at + END.len() as u64;
        Ok(is_whole.then_some(Self { tar, places }))
    }
}

fn size_of(change: &Change) -> Option<u64> {
    match change.node()?.kind {
        Kind::File { size, .. } => Some(size),
        _ => None,
    }
}

impl Contents for TarContents {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        self.open_from(path, node, 0)
    }

    fn open_from(
        &self,
        path: &ImagePath,
        node: &Node,
        start: u64,
    ) -> io::Result<Box<dyn Read + '_>> {
        let place = self.places.binary_search_by(|(place, _)| place.cmp(path));
        let place = place.map_err(|_| io::ErrorKind::NotFound)?;
        let Kind::File { size, .. } = node.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Box::new(Part {
            tar: &self.tar,
            at: self.places[place].1.saturating_add(start),
            left: size.saturating_sub(start),
        }))
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(most);
        let read = self.tar.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
