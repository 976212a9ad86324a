//! A stream of bytes from one thread to another, of which little is held at a time.
//!
//! Downloading, taking off the compression and writing files go on at once, each on a thread of its own.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use kiln_image::compress;

/// Size of the pieces that are handed over, in bytes.
const PIECE: usize = 256 << 10;

/// As many pieces wait at most.
const WAITING: usize = 4;

/// The writing end. The stream ends well when this is dropped.
pub(crate) struct Feed {
    pieces: SyncSender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

/// The reading end.
pub(crate) struct Flow {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

/// Both ends of a new stream.
pub(crate) fn stream() -> (Feed, Flow) {
    let (sender, receiver) = sync_channel(WAITING);
    let feed = Feed {
        pieces: sender,
        piece: Vec::with_capacity(PIECE),
    };
    let flow = Flow {
        pieces: receiver,
        piece: io::Cursor::default(),
    };
    (feed, flow)
}

/// Gives `work` what is in `reader` with its compression taken off, which another thread does. `reader` is read to its end unless `work`
/// ends before.
pub(crate) fn decoded<T>(reader: impl Read + Send, work: impl FnOnce(&mut dyn Read) -> T) -> T {
    let (feed, mut flow) = stream();
    thread::scope(|scope| {
        scope.spawn(move || decode(reader, feed));
        let result = work(&mut flow);
        drop(flow);
        result
    })
}

fn decode(reader: impl Read, mut feed: Feed) {
    let decoding = || {
        let mut decoder = compress::decoder(reader)?;
        while feed.fill_from(&mut decoder)? {}
        // Whatever follows the compressed data belongs to what the reader verifies.
        io::copy(&mut decoder.into_inner(), &mut io::sink())
    };
    if let Err(error) = decoding() {
        // A reader that has gone needs nothing more.
        let _ = feed.pieces.send(Err(error));
    }
}

impl Feed {
    /// Passes one piece on; `false` at the end of `reader`.
    fn fill_from(&mut self, reader: &mut impl Read) -> io::Result<bool> {
        let room = PIECE - self.piece.len();
        let read = reader.take(room as u64).read_to_end(&mut self.piece)?;
        self.hand_over()?;
        Ok(read == room)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces.send(Ok(piece)).map_err(gone)
    }
}

fn gone<T>(_: T) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = room.min(bytes.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.hand_over();
    }
}

impl Read for Flow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pieces.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::compress::{Compression, encoder};

    use super::*;

    fn compressed(content: &[u8]) -> Vec<u8> {
        let mut encoder = encoder(Compression::default(), Vec::new()).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_goes_in_comes_out() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (mut feed, mut flow) = stream();
            let mut read = Vec::new();
            thread::scope(|scope| {
                scope.spawn(|| {
                    feed.write_all(&content).unwrap();
                    drop(feed);
                });
                flow.read_to_end(&mut read).unwrap();
            });
            assert!(read == content, "{length}");
            let mut read = Vec::new();
            let whole = |reader: &mut dyn Read| reader.read_to_end(&mut read);
            decoded(&compressed(&content)[..], whole).unwrap();
            assert!(read == content, "{length} compressed");
        }
    }

    #[test]
    fn a_stream_that_is_cut_or_damaged_is_an_error() {
        let mut stream = compressed(&[7; 3 * PIECE]);
        stream.truncate(stream.len() - 9);
        let read = decoded(&stream[..], |reader| io::copy(reader, &mut io::sink()));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_may_stop_in_the_middle() {
        let endless = io::repeat(7);
        let mut start = [0; 3];
        decoded(endless, |reader| reader.read_exact(&mut start)).unwrap();
        assert_eq!(start, [7; 3]);
    }
}
