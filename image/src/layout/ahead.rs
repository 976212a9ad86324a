//! Copying blobs into archives, with reading ahead of writing.
//!
//! Reading a blob means hashing it, which takes about as long as writing it. By the time an archive is written nothing
//! else is left to do, so the two go on at once.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// How many pieces there are: one being read, one being written, and one in between.
const PIECES: usize = 3;

/// Less than this is not worth a thread.
const WORTH_A_THREAD: u64 = 4 << 20;

/// A buffer with the beginning filled.
struct Piece {
    bytes: Box<[u8]>,
    filled: usize,
}

/// Copies what is in `reader`, about `size` bytes, to `out`.
///
/// # Errors
/// The first of reading and writing that failed, or that there can be no more threads. All before what could not be read is written.
pub(super) fn copy(
    reader: &mut (dyn Read + Send),
    size: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    if size < WORTH_A_THREAD {
        return io::copy(reader, out).map(drop);
    }
    let (full, filled) = sync_channel(PIECES);
    let (empty, emptied) = channel();
    for _ in 0..PIECES {
        let bytes = vec![0; PIECE].into_boxed_slice();
        // Its receiver is right here.
        let _ = empty.send(Piece { bytes, filled: 0 });
    }
    thread::scope(move |scope| {
        let read = move || read_all(reader, &emptied, &full);
        thread::Builder::new().spawn_scoped(scope, read)?;
        // Both go before the thread is waited for: it ends when nobody wants what it reads.
        write_all(filled, empty, out)
    })
}

/// Fills pieces until the end, or until nobody wants them.
fn read_all(
    reader: &mut dyn Read,
    emptied: &Receiver<Piece>,
    full: &SyncSender<io::Result<Piece>>,
) {
    while let Ok(piece) = emptied.recv() {
        let piece = fill(reader, piece);
        let is_last = !matches!(&piece, Ok(piece) if piece.filled == PIECE);
        if full.send(piece).is_err() || is_last {
            return;
        }
    }
}

/// Reads until the piece is full or the input ends.
fn fill(reader: &mut dyn Read, mut piece: Piece) -> io::Result<Piece> {
    piece.filled = 0;
    while piece.filled < PIECE {
        match reader.read(&mut piece.bytes[piece.filled..]) {
            Ok(0) => break,
            Ok(read) => piece.filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(piece)
}

fn write_all(
    filled: Receiver<io::Result<Piece>>,
    empty: Sender<Piece>,
    out: &mut impl Write,
) -> io::Result<()> {
    for piece in filled {
        let piece = piece?;
        out.write_all(&piece.bytes[..piece.filled])?;
        // After the last piece nobody waits for another.
        let _ = empty.send(piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Gives a few bytes at a time, and in the end fails if told so.
    struct Trickle {
        left: usize,
        fails: bool,
    }

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.left.min(buffer.len()).min(70_001);
            if read == 0 && self.fails {
                return Err(io::Error::other("damaged"));
            }
            for (at, byte) in buffer[..read].iter_mut().enumerate() {
                *byte = ((self.left - at) % 251) as u8;
            }
            self.left -= read;
            Ok(read)
        }
    }

    fn expected(length: usize) -> Vec<u8> {
        (0..length).map(|at| ((length - at) % 251) as u8).collect()
    }

    #[test]
    fn any_length_comes_through() {
        for length in [
            0,
            1,
            PIECE - 1,
            PIECE,
            5 * PIECE,
            5 * PIECE + 1,
            9 * PIECE - 7,
        ] {
            for said in [length as u64, WORTH_A_THREAD] {
                let mut reader = Trickle {
                    left: length,
                    fails: false,
                };
                let mut out = Vec::new();
                copy(&mut reader, said, &mut out).unwrap();
                assert!(out == expected(length), "{length} bytes, said to be {said}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_error() {
        let mut reader = Trickle {
            left: 6 * PIECE,
            fails: true,
        };
        let error = copy(&mut reader, WORTH_A_THREAD, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "damaged");
    }

    #[test]
    fn a_writer_that_fails_ends_the_reading() {
        let mut reader = Trickle {
            left: usize::MAX,
            fails: false,
        };
        let mut room = [0_u8; 100];
        let error = copy(&mut reader, u64::MAX, &mut &mut room[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
