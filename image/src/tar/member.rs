//! The members of any tar, one after the other: ustar, PAX, GNU and the old form before them.
//!
//! Only the container is understood here. What a member's name may be and what it means in a layer is for
//! [`super::read`] to say. Whatever is held in memory (a PAX header, a GNU long name) is bounded.

use std::collections::BTreeMap;
use std::io::{self, Read};

use ::tar::{EntryType, Header};

use super::header::{BLOCK, XATTR_RECORD};
use super::read::ReadError;
use super::sparse::{self, Piece, Sparse, SparseForm, Stored};
use crate::Timestamp;

/// Reads the members of a tar.
pub(crate) struct Members<R> {
    reader: R,
    /// Bytes of content the reader hasn't been asked for yet, and the padding after them.
    content_left: u64,
    padding: u64,
    /// The member the content belongs to, for errors.
    current: String,
    /// Bytes read so far.
    position: u64,
    /// How long the PAX headers and GNU long names of one member may be, and how much of it is left.
    header_limit: u64,
    extension_left: u64,
    /// Where the content that is there belongs, if the member last returned is a sparse file.
    sparse: Option<Sparse>,
    /// The holes of all members so far, in bytes.
    holes: u64,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    /// The name as written, a slash at its end included.
    pub(crate) name: Vec<u8>,
    /// What a hard link or symlink points to.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Bytes of content that can be read; 0 for everything but files.
    pub(crate) size: u64,
    /// Whether that has holes, which take no space in the tar.
    pub(crate) is_sparse: bool,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    Directory,
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// What the members before an ordinary one say about it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Members<R> {
    /// Reads members from `reader`; the headers that go with one may have `header_limit` bytes in all.
    pub(crate) fn new(reader: R, header_limit: u64) -> Self {
        Self {
            reader,
            content_left: 0,
            padding: 0,
            current: String::new(),
            position: 0,
            header_limit,
            extension_left: 0,
            sparse: None,
            holes: 0,
        }
    }

    /// The next member, after skipping what is left of the one before; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, ReadError> {
        let mut extensions = Extensions::default();
        self.extension_left = self.header_limit;
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(self.truncated())
                };
            };
            self.current = shown(&header.path_bytes());
            let size = self.number("size", header.entry_size())?;
            match header.entry_type() {
                EntryType::XHeader => extensions
                    .records
                    .extend(parse_records(&self.extension(size)?)?),
                EntryType::GNULongName => {
                    extensions.long_name = Some(until_nul(self.extension(size)?));
                }
                EntryType::GNULongLink => {
                    extensions.long_link = Some(until_nul(self.extension(size)?));
                }
                // Says something about all members, such as the commit `git archive` was asked for.
                EntryType::XGlobalHeader => self.expect_content(size),
                kind => return self.member(&header, kind, size, extensions).map(Some),
            }
        }
    }

    /// The holes of all members so far, in bytes, which [`Members::position`] does not count.
    pub(crate) fn holes(&self) -> u64 {
        self.holes
    }

    /// Where the content of the member last returned starts, in bytes from the start of the tar.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The reader, wherever it stands.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// The reader, wherever it stands.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extensions: Extensions,
    ) -> Result<Member, ReadError> {
        let Extensions {
            long_name,
            long_link,
            mut records,
        } = extensions;
        let mut record = |key: &[u8]| records.remove(key).filter(|value| !value.is_empty());
        let name = record(b"path")
            .or(long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        self.current = shown(&name);
        let link = record(b"linkpath").or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let [pax_size, pax_uid, pax_gid, pax_mtime] =
            [&b"size"[..], b"uid", b"gid", b"mtime"].map(&mut record);
        let sparse = self.sparse_form(header, kind, &mut records)?;
        let name = sparse
            .as_ref()
            .and_then(|form| form.name.clone())
            .unwrap_or(name);
        let kind = self.kind(kind, is_old(header), &name)?;
        let size = self.pax_number("size", pax_size)?.unwrap_or(size);
        let size = if kind == MemberKind::File { size } else { 0 };
        let uid = self.id("uid", pax_uid, header.uid())?;
        let gid = self.id("gid", pax_gid, header.gid())?;
        let mtime = match pax_mtime {
            Some(text) => parse_time(&text).ok_or_else(|| self.malformed("mtime"))?,
            None => Timestamp {
                secs: self.number("mtime", header.mtime())?.cast_signed(),
                nanos: 0,
            },
        };
        let mode = self.number("mode", header.mode())? & 0o7777;
        let device = match kind {
            MemberKind::CharDevice | MemberKind::BlockDevice => (
                self.number("device", header.device_major())?.unwrap_or(0),
                self.number("device", header.device_minor())?.unwrap_or(0),
            ),
            _ => (0, 0),
        };
        self.expect_content(size);
        let size = match sparse.filter(|_| kind == MemberKind::File) {
            Some(form) => self.expect_sparse(form)?,
            None => size,
        };
        let xattrs = xattrs(records);
        Ok(Member {
            name,
            link: link.unwrap_or_default(),
            kind,
            mode,
            uid,
            gid,
            mtime,
            size,
            is_sparse: self.sparse.is_some(),
            device,
            xattrs,
        })
    }

    fn kind(&self, kind: EntryType, is_old: bool, name: &[u8]) -> Result<MemberKind, ReadError> {
        match kind {
            // Before POSIX, a directory was a file whose name ends with a slash.
            EntryType::Regular if is_old && name.ends_with(b"/") => Ok(MemberKind::Directory),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                Ok(MemberKind::File)
            }
            EntryType::Directory => Ok(MemberKind::Directory),
            EntryType::Link => Ok(MemberKind::HardLink),
            EntryType::Symlink => Ok(MemberKind::Symlink),
            EntryType::Char => Ok(MemberKind::CharDevice),
            EntryType::Block => Ok(MemberKind::BlockDevice),
            EntryType::Fifo => Ok(MemberKind::Fifo),
            other => Err(self.unsupported(&format!(
                "members of type `{}`",
                other.as_byte().escape_ascii()
            ))),
        }
    }

    /// The next header block; `None` at the end mark or the end of the input.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let filled = fill(&mut self.reader, block).map_err(ReadError::Input)?;
        self.position += filled as u64;
        match filled {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(self.truncated()),
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if !checksum_holds(&header) {
            return Err(ReadError::Checksum {
                offset: self.position - BLOCK as u64,
            });
        }
        fill_blank_numbers(&mut header);
        Ok(Some(header))
    }

    /// The whole content of a member that says something about the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        self.spend(size)?;
        self.expect_content(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content)
            .map_err(|error| self.content_error(error))?;
        Ok(content)
    }

    fn expect_content(&mut self, size: u64) {
        self.sparse = None;
        self.content_left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Skips what is left of the member last returned.
    pub(crate) fn skip_content(&mut self) -> Result<(), ReadError> {
        self.sparse = None;
        let mut left = self.content_left.saturating_add(self.padding);
        (self.content_left, self.padding) = (0, 0);
        let mut chunk = [0; 16 << 10];
        while left > 0 {
            let wanted = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            let filled = fill(&mut self.reader, &mut chunk[..wanted]).map_err(ReadError::Input)?;
            if filled == 0 {
                return Err(self.truncated());
            }
            self.position += filled as u64;
            left -= filled as u64;
        }
        Ok(())
    }

    fn number<T>(&self, field: &'static str, value: io::Result<T>) -> Result<T, ReadError> {
        value.map_err(|_| self.malformed(field))
    }

    fn pax_number(
        &self,
        field: &'static str,
        text: Option<Vec<u8>>,
    ) -> Result<Option<u64>, ReadError> {
        let parse = |text: Vec<u8>| {
            let digits = str::from_utf8(&text)
                .ok()
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| self.malformed(field))
        };
        text.map(parse).transpose()
    }

    fn id(
        &self,
        field: &'static str,
        pax: Option<Vec<u8>>,
        header: io::Result<u64>,
    ) -> Result<u32, ReadError> {
        let id = match self.pax_number(field, pax)? {
            Some(id) => id,
            None => self.number(field, header)?,
        };
        // The kernel's "no change" value is no owner.
        u32::try_from(id)
            .ok()
            .filter(|&id| id != u32::MAX)
            .ok_or_else(|| self.malformed(field))
    }

    fn malformed(&self, field: &'static str) -> ReadError {
        ReadError::Field {
            path: self.current.clone(),
            field,
        }
    }

    fn unsupported(&self, what: &str) -> ReadError {
        ReadError::Unsupported {
            path: self.current.clone(),
            what: what.to_owned(),
        }
    }

    fn truncated(&self) -> ReadError {
        ReadError::Truncated {
            path: self.current.clone(),
        }
    }

    /// What an error while reading a member's content means.
    pub(crate) fn content_error(&self, error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(),
            _ => ReadError::Input(error),
        }
    }
}

/// The content of the member last returned. Its end before the size said is `UnexpectedEof`.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut sparse) = self.sparse.take() else {
            return self.read_stored(buffer);
        };
        let read = match sparse.next(buffer.len()) {
            Piece::Hole(length) => {
                buffer[..length].fill(0);
                Ok(length)
            }
            Piece::Data(length) => self.read_stored(&mut buffer[..length]),
        };
        sparse.advance(*read.as_ref().unwrap_or(&0));
        self.sparse = Some(sparse);
        read
    }
}

impl<R: Read> Members<R> {
    /// Reads of what the tar has of the content.
    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted =
            usize::try_from(self.content_left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content_left -= read as u64;
        self.position += read as u64;
        Ok(read)
    }
}

/// What sparse files say before their content.
impl<R: Read> Members<R> {
    /// In what form a member says that it is a sparse file, if it does.
    fn sparse_form(
        &mut self,
        header: &Header,
        kind: EntryType,
        records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Option<SparseForm>, ReadError> {
        if kind != EntryType::GNUSparse {
            return sparse::of_records(records).ok_or_else(|| self.malformed(sparse::FIELD));
        }
        let mut form = sparse::of_header(header.as_bytes());
        while form.as_ref().is_some_and(|form| form.continues) {
            let mut block = [0; BLOCK];
            self.spend(BLOCK as u64)?;
            let filled = fill(&mut self.reader, &mut block).map_err(ReadError::Input)?;
            self.position += filled as u64;
            if filled < BLOCK {
                return Err(self.truncated());
            }
            form = form.and_then(|form| form.with_block(&block));
        }
        form.map(Some).ok_or_else(|| self.malformed(sparse::FIELD))
    }

    /// Says where the content that follows belongs; gives the length of the file with its holes.
    fn expect_sparse(&mut self, form: SparseForm) -> Result<u64, ReadError> {
        let pieces = match form.stored {
            Stored::Known(pieces) => pieces,
            Stored::BeforeContent => self.sparse_map()?,
        };
        let sparse = Sparse::new(pieces, form.size, self.content_left);
        let sparse = sparse.ok_or_else(|| self.malformed(sparse::FIELD))?;
        self.holes = self
            .holes
            .saturating_add(form.size.saturating_sub(self.content_left));
        self.sparse = Some(sparse);
        Ok(form.size)
    }

    /// The numbers that version 1.0 has in blocks of their own before the content.
    fn sparse_map(&mut self) -> Result<Vec<(u64, u64)>, ReadError> {
        let mut numbers = sparse::Numbers::default();
        loop {
            if let Some(pieces) = numbers.pieces() {
                return Ok(pieces);
            }
            let mut block = [0; BLOCK];
            self.spend(BLOCK as u64)?;
            self.read_exact(&mut block)
                .map_err(|error| self.content_error(error))?;
            if !numbers.add(&block) {
                return Err(self.malformed(sparse::FIELD));
            }
        }
    }

    /// Counts what headers say besides the usual; an error where it is too much.
    fn spend(&mut self, bytes: u64) -> Result<(), ReadError> {
        let left = self.extension_left.checked_sub(bytes);
        self.extension_left = left.ok_or_else(|| ReadError::HeaderTooLong {
            path: self.current.clone(),
            limit: self.header_limit,
        })?;
        Ok(())
    }
}

/// Whether a header is of the form before POSIX, which has no type for files.
fn is_old(header: &Header) -> bool {
    header.as_old().linkflag == [0]
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.records.is_empty()
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The sum of the header's bytes with the checksum itself taken as spaces. Some old tars sum signed bytes.
fn checksum_holds(header: &Header) -> bool {
    let Ok(stated) = header.cksum() else {
        return false;
    };
    let counted = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let bytes = || {
        header
            .as_bytes()
            .iter()
            .enumerate()
            .map(|(at, &byte)| counted(at, byte))
    };
    let unsigned: u32 = bytes().map(u32::from).sum();
    let signed: i32 = bytes().map(|byte| i32::from(byte.cast_signed())).sum();
    stated == unsigned || i64::from(stated) == i64::from(signed)
}

/// Makes zeros of numbers left blank, as some writers leave those that don't matter to a member.
fn fill_blank_numbers(header: &mut Header) {
    const NUMBERS: [std::ops::Range<usize>; 5] = [100..108, 108..116, 116..124, 124..136, 136..148];
    let bytes = header.as_mut_bytes();
    for field in NUMBERS {
        if bytes[field.clone()]
            .iter()
            .all(|byte| matches!(byte, 0 | b' '))
        {
            bytes[field].fill(b'0');
        }
    }
}

/// Splits `<length> <key>=<value>\n` records; the last one of a key counts.
fn parse_records(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    let mut records = BTreeMap::new();
    while !body.is_empty() {
        let (key, value, rest) = parse_record(body).ok_or(ReadError::PaxRecord)?;
        sparse::insert(&mut records, key, value);
        body = rest;
    }
    Ok(records)
}

fn parse_record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = str::from_utf8(&body[..space]).ok()?.parse().ok()?;
    let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &body[length..]))
}

/// `-12.034`: seconds and their fraction, which always counts forward in a [`Timestamp`].
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let secs: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    match (nanos, whole.starts_with('-')) {
        (1.., true) => Some(Timestamp {
            secs: secs.checked_sub(1)?,
            nanos: 1_000_000_000 - nanos,
        }),
        _ => Some(Timestamp { secs, nanos }),
    }
}

/// The attributes among PAX records, without overlayfs's own.
fn xattrs(records: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let named = records.into_iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(XATTR_RECORD)?;
        let usable = !name.is_empty() && !name.contains(&0) && !super::is_bookkeeping_xattr(name);
        usable.then(|| (name.to_vec(), value))
    });
    named.collect()
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A name for an error message.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_fraction() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|time| (time.secs, time.nanos));
        assert_eq!(time("0"), Some((0, 0)));
        assert_eq!(time("1700000000.25"), Some((1_700_000_000, 250_000_000)));
        assert_eq!(time("12.1234567899"), Some((12, 123_456_789)));
        assert_eq!(time("-1"), Some((-1, 0)));
        assert_eq!(time("-1.25"), Some((-3 + 1, 750_000_000)));
        assert_eq!(time("-0.5"), Some((-1, 500_000_000)));
        for wrong in ["", "x", "1.x", "1.-5", "99999999999999999999", "."] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn records_are_split_by_their_length() {
        let records = parse_records(b"14 path=a\nb=c\n13 path=last\n7 x=y=\n");
        let records = records.map(|records| records.into_iter().collect::<Vec<_>>());
        let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        assert_eq!(
            records.ok(),
            Some(vec![pair(b"path", b"last"), pair(b"x", b"y=")])
        );
        for wrong in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"0 a=b\n",
            b"4 ab\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert!(parse_records(wrong).is_err(), "{wrong:?}");
        }
    }
}
