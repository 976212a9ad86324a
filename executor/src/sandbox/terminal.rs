//! Terminals for `kiln run -t`: a pseudo-terminal for the step, and the user's own one in raw mode for as long.

use std::os::fd::OwnedFd;

/// A pseudo-terminal: the step gets `slave` as its three streams, kiln copies bytes through `master`.
#[derive(Debug)]
pub struct Pty {
    /// Kiln's end.
    pub master: OwnedFd,
    /// The step's end.
    pub slave: OwnedFd,
}

impl Pty {
    /// Opens one with the size of the user's terminal if standard input is one.
    pub fn open() -> std::io::Result<Self> {
        todo!()
    }
}
