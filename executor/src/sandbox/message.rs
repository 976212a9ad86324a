//! What kiln, the helper and the step say to each other: typed values in frames of four length bytes and postcard.
//!
//! The order is fixed. Kiln sends a [`Request`] with its descriptors. The helper answers one for a process with an [`Answer`], which carries the pidfd of the
//! new process when it is good. One that waits to become a step gets what else would be in the request from kiln itself. The step itself sends
//! [`Report`]s: one when everything is ready, one more if the program then could not be executed. The socket closes by itself at exec,
//! so its end without a failure means that the program is running. What descriptors a report carries is said in it.

use super::error::Failure;
use super::mounted_root::Changed;
use super::stub::Stubs;
use super::template::Mould;
use crate::sys;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// No spec is this long; a longer frame is not one of ours.
const MAX_FRAME: usize = 64 << 20;

/// How many descriptors a frame may carry.
const MAX_FDS: usize = 5;

/// What the helper is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request<Spec> {
    /// A process.
    New(Role<Spec>),
    /// That a process which a template made, here by its pidfd, ends with kiln as all others do. There is no answer.
    Mind,
}

/// What a new process is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role<Spec> {
    /// A step, with the three streams, a socket for reports and, if it is mounted already, its root filesystem.
    Step(Spec),
    /// A process that copies of itself are asked for, with the socket from which it hears of that, and with each what the copy hears and answers by.
    Template(Mould),
}

/// The helper's answer to a request.
pub(super) type Answer = Result<(), sys::Error>;

/// What the step tells before it becomes the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The mount points made so far.
    pub(super) stubs: Stubs,
    /// Why it can't go on, if so.
    pub(super) failure: Option<Failure>,
    /// The directory for changes as the program finds it, if the root filesystem is kept.
    pub(super) found: Option<Changed>,
    /// What the descriptors are that come with it, in their order.
    pub(super) brings: Vec<Brought>,
}

/// What a descriptor is that comes with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Brought {
    /// Where the step's calls wait for a recorder from then on.
    Listener,
    /// The step's root filesystem, to be kept.
    Root,
    /// Where it is said which program the step ended for, to be begun again.
    Need,
    /// Kiln's end of a terminal that the step has in the place of the one it was given.
    Terminal,
}

/// A frame around `value`.
fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(body.len() - 4).map_err(io::Error::other)?;
    let mut frame = body;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// One end of a socket, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket<'a>(pub(super) BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(self.0, &mut *buffer)
        })?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL)
        })?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a value and descriptors as one frame.
pub(super) fn send(
    mut socket: Socket<'_>,
    value: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = encode(value)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one frame"));
    }
    let iov = [IoSlice::new(&frame)];
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket.0, &iov, &mut control, SendFlags::NOSIGNAL)
    })?;
    socket.write_all(&frame[sent..])
}

/// Receives a frame and its descriptors; `None` when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(
    mut socket: Socket<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let mut iov = [IoSliceMut::new(&mut length)];
    let message = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket.0, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if message.bytes == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut length[message.bytes..])?;
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let fds = fds.collect();
    Ok(Some((read_body(socket, length)?, fds)))
}

fn read_body<T: DeserializeOwned>(mut from: impl Read, length: [u8; 4]) -> io::Result<T> {
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sandbox::{RootSpec, SandboxSpec};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_spec_and_its_descriptors_cross_a_socket() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]);
        spec.env.push(("LONG".into(), "x".repeat(1 << 20))); // more than the socket holds at once
        let sent = spec.clone();
        let file = tempfile::tempfile().unwrap();
        let sender = std::thread::spawn(move || {
            send(Socket(left.as_fd()), &sent, &[file.as_fd(), file.as_fd()]).unwrap();
        });
        let (received, fds): (SandboxSpec, _) = receive(Socket(right.as_fd())).unwrap().unwrap();
        sender.join().unwrap();
        assert_eq!(received, spec);
        assert_eq!(fds.len(), 2);
        assert!(
            receive::<SandboxSpec>(Socket(right.as_fd()))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_frame_of_nonsense_is_refused() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&[0xff, 0xff, 0xff, 0xff, 1]).unwrap();
        assert!(receive::<Report>(Socket(right.as_fd())).is_err());
    }
}
