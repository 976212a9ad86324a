//! The data types of SSH (RFC 4251, section 5).

/// Reads one value after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// Writes one value after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// `uint32`
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// `string`
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A positive `mpint`, without zeros in front.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        self.string().map(without_zeros)
    }
}

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// `uint32`
    pub(super) fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    /// `string`. Nothing here is as long as 4 GiB.
    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes.extend(bytes);
    }

    /// A positive `mpint`.
    pub(super) fn integer(&mut self, bytes: &[u8]) {
        let bytes = without_zeros(bytes);
        let looks_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        match looks_negative {
            true => self.string(&[&[0], bytes].concat()),
            false => self.string(bytes),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0);
    &bytes[start.unwrap_or(bytes.len())..]
}
