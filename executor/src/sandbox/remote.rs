//! The memory of a process that waits for an answer, read by whoever answers it.

use nix::libc;

/// An error number, as the caller gets it.
pub(super) type Answered<T> = Result<T, i32>;

/// Memory is read up to page borders, as what lies behind one may not be there.
const PAGE: u64 = 4096;

/// Reads exactly as much as `buffer` holds; `read_some` reads what is there of it.
pub(super) fn exactly(
    buffer: &mut [u8],
    read_some: impl FnOnce(&mut [u8]) -> Answered<usize>,
) -> Answered<()> {
    let wanted = buffer.len();
    match read_some(buffer)? == wanted {
        true => Ok(()),
        false => Err(libc::EFAULT),
    }
}

/// Reads a string that ends with a zero byte; `read_some` reads what is there at an address.
pub(super) fn string(
    address: u64,
    mut read_some: impl FnMut(u64, &mut [u8]) -> Answered<usize>,
) -> Answered<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 256]; // most are short
    while bytes.len() < libc::PATH_MAX as usize {
        let from = address.wrapping_add(bytes.len() as u64);
        let to_border = usize::try_from(PAGE - from % PAGE).unwrap_or(1);
        let length = to_border.min(chunk.len());
        let read = read_some(from, &mut chunk[..length])?;
        if let Some(end) = chunk[..read].iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&chunk[..end]);
            return Ok(bytes);
        }
        if read == 0 {
            return Err(libc::EFAULT);
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
    Err(libc::ENAMETOOLONG)
}
