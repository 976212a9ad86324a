//! A socket in a step that leads to an SSH agent outside (R-MNT-16).
//!
//! The step never gets the agent's own socket. What it sends is read message by message, and only two kinds are passed on: to list
//! the keys, and to sign with one. Anything else (to add and remove keys, to lock the agent) is answered with a failure, as BuildKit
//! does, so that a step can't change an agent that outlives it.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kiln_planner::SshMount;
use rustix::fs::{Mode, OFlags};
use rustix::net::Shutdown;

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST` of draft-miller-ssh-agent.
const PASSED_ON: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE`, as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// The longest message that OpenSSH's agent takes, in bytes.
const LONGEST: usize = 256 * 1024;
/// Connections at a time; a step that opens more has them closed.
const MOST_CONNECTIONS: usize = 64;

/// A socket that is served until this is dropped.
pub(super) struct AgentForward {
    socket: PathBuf,
    listener: Arc<UnixListener>,
    serving: Option<JoinHandle<()>>,
    open: Connections,
}

/// What is being forwarded.
type Connections = Arc<Mutex<Vec<Arc<Connection>>>>;

/// A connection of the step, and the one that it leads to.
struct Connection {
    client: UnixStream,
    agent: UnixStream,
}

impl AgentForward {
    /// Makes the socket in `directory`, which is the mount's own, and serves it.
    pub(super) fn start(agent: &Path, mount: &SshMount, directory: &Path) -> io::Result<Self> {
        let socket = directory.join("agent");
        let listener = Arc::new(listen(directory, &socket)?);
        std::fs::set_permissions(&socket, Permissions::from_mode(mount.mode))?;
        if (mount.uid, mount.gid) != (0, 0) {
            give(&socket, mount)?;
        }
        let open = Connections::default();
        let (accepting, agent, connections) = (listener.clone(), agent.to_owned(), open.clone());
        let serving = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || serve(&accepting, &agent, &connections))?;
        Ok(Self {
            socket,
            listener,
            serving: Some(serving),
            open,
        })
    }

    /// Where the socket is.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for AgentForward {
    /// Ends what is under way: the step is gone.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both); // wakes the thread that accepts
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
        for connection in connections(&self.open).iter() {
            for end in [&connection.client, &connection.agent] {
                let _ = end.shutdown(std::net::Shutdown::Both); // it may be closed already
            }
        }
    }
}

/// In a user namespace with one id there is nobody else to give it to, and nobody who is kept from it.
fn give(socket: &Path, mount: &SshMount) -> io::Result<()> {
    match chown(socket, Some(mount.uid), Some(mount.gid)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        given => given,
    }
}

/// Binds through the directory's descriptor: addresses of sockets end at 108 bytes, and paths of stores are longer.
fn listen(directory: &Path, socket: &Path) -> io::Result<UnixListener> {
    let opened = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let name = socket.file_name().unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(name);
    UnixListener::bind(short)
}

fn connections(open: &Connections) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts until the listener is shut down.
fn serve(listener: &UnixListener, agent: &Path, open: &Connections) {
    while let Ok((client, _)) = listener.accept() {
        let Ok(agent) = UnixStream::connect(agent) else {
            continue; // closed at once, as if the agent had gone
        };
        if connections(open).len() >= MOST_CONNECTIONS {
            continue;
        }
        let connection = Arc::new(Connection { client, agent });
        connections(open).push(connection.clone());
        let all = open.clone();
        let forward = move || {
            let _ = exchange(&connection.client, &connection.agent); // either side went away
            connections(&all).retain(|other| !Arc::ptr_eq(other, &connection));
        };
        let started = std::thread::Builder::new()
            .name("ssh-agent-connection".to_owned())
            .spawn(forward);
        drop(started); // it ends with its connection
    }
}

/// Answers the client's messages until it closes.
fn exchange(mut client: &UnixStream, mut agent: &UnixStream) -> io::Result<()> {
    while let Some(request) = message(client)? {
        let is_passed_on = request.get(4).is_some_and(|kind| PASSED_ON.contains(kind));
        if !is_passed_on {
            client.write_all(&FAILURE)?;
            continue;
        }
        agent.write_all(&request)?;
        let answer = message(agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        client.write_all(&answer)?;
    }
    Ok(())
}

/// One message with its length in front; `None` at the end of the stream.
fn message(mut from: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let size = u32::from_be_bytes(length) as usize;
    if size > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message to the agent is too long",
        ));
    }
    let mut message = vec![0; 4 + size];
    message[..4].copy_from_slice(&length);
    from.read_exact(&mut message[4..])?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        frame
    }

    /// An agent that answers each message with the message itself, `echo` in front.
    fn echoing_agent(path: &Path) -> JoinHandle<usize> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut count = 0;
            while let Ok(Some(request)) = message(&client) {
                count += 1;
                client
                    .write_all(&framed(&[b"echo", &request[4..]].concat()))
                    .unwrap();
            }
            count
        })
    }

    fn mount() -> SshMount {
        SshMount {
            id: "default".to_owned(),
            target: "/run/buildkit/ssh_agent.0".to_owned(),
            required: true,
            mode: 0o640,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        // R-MNT-16
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(120)); // longer than an address may be
        std::fs::create_dir(&deep).unwrap();
        let agent = echoing_agent(&dir.path().join("agent"));
        let forward = AgentForward::start(&dir.path().join("agent"), &mount(), &deep).unwrap();
        let mode = std::fs::metadata(forward.socket()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o640);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(forward.socket(), &link).unwrap();
        let mut client = UnixStream::connect(&link).unwrap();
        for (request, answer) in [
            (&[11][..], &b"echo\x0b"[..]),
            (b"\x0dsign", b"echo\x0dsign"),
            (&[17, 1, 2], &[5]), // add a key
            (&[19], &[5]),       // remove all
            (&[22], &[5]),       // lock
            (&[27], &[5]),       // extension
            (&[], &[5]),
        ] {
            client.write_all(&framed(request)).unwrap();
            let answered = message(&client).unwrap().unwrap();
            assert_eq!(answered, framed(answer), "{request:?}");
        }
        drop(forward);
        assert_eq!(agent.join().unwrap(), 2);
        assert!(message(&client).unwrap_or(None).is_none());
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let frame = [0xff, 0xff, 0xff, 0xff, 11];
        assert!(message(&frame[..]).is_err());
        assert!(message(&[][..]).unwrap().is_none());
        assert!(message(&[0, 0, 0, 9, 11][..]).is_err());
    }
}
