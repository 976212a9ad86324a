//! An SSH agent of kiln's own, for keys that are given as files: it lists them and signs with them, as draft-miller-ssh-agent has it,
//! and knows nothing else. It listens in a directory that only this user can enter, so a build takes it as it takes any other agent.

mod key;
mod pem;
mod wire;

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use rustix::net::Shutdown;
use tempfile::TempDir;

pub use key::{Key, KeyError};
use wire::{Reader, Writer};

/// `SSH_AGENTC_REQUEST_IDENTITIES`, `SSH_AGENT_IDENTITIES_ANSWER`.
const LIST: (u8, u8) = (11, 12);
/// `SSH_AGENTC_SIGN_REQUEST`, `SSH_AGENT_SIGN_RESPONSE`.
const SIGN: (u8, u8) = (13, 14);
/// `SSH_AGENT_FAILURE`.
const FAILURE: u8 = 5;
/// The longest message that OpenSSH's agent takes, in bytes.
const LONGEST: u32 = 256 * 1024;

/// An agent that starts when it is first asked for, as kiln may not have threads before it has taken its place in a sandbox, and serves
/// until it is dropped.
#[derive(Debug)]
pub struct KeyAgent {
    keys: Arc<Vec<Key>>,
    running: OnceLock<io::Result<Running>>,
}

#[derive(Debug)]
struct Running {
    socket: PathBuf,
    listener: Arc<UnixListener>,
    serving: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl KeyAgent {
    /// One that has these keys.
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys: Arc::new(keys),
            running: OnceLock::new(),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// No directory, socket or thread can be made.
    pub fn socket(&self) -> io::Result<&Path> {
        match self.running.get_or_init(|| Running::start(&self.keys)) {
            Ok(running) => Ok(&running.socket),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

impl Running {
    fn start(keys: &Arc<Vec<Key>>) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("kiln-agent-").tempdir()?; // of mode 0700
        let socket = directory.path().join("agent");
        let listener = Arc::new(UnixListener::bind(&socket)?);
        let (accepting, keys) = (listener.clone(), keys.clone());
        let serving = std::thread::Builder::new()
            .name("ssh-keys".to_owned())
            .spawn(move || serve(&accepting, &keys))?;
        Ok(Self {
            socket,
            listener,
            serving: Some(serving),
            _directory: directory,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both); // wakes the thread that accepts
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Accepts until the listener is shut down. A connection's thread ends with the connection.
fn serve(listener: &UnixListener, keys: &Arc<Vec<Key>>) {
    while let Ok((client, _)) = listener.accept() {
        let keys = keys.clone();
        let started = std::thread::Builder::new()
            .name("ssh-keys-connection".to_owned())
            .spawn(move || drop(converse(&client, &keys))); // the client went away, or made no sense
        drop(started);
    }
}

fn converse(mut client: &UnixStream, keys: &[Key]) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut request = vec![0; length as usize];
        client.read_exact(&mut request)?;
        let mut answer = Writer::default();
        answer.string(&answer_to(&request, keys).unwrap_or_else(|| vec![FAILURE]));
        client.write_all(answer.bytes())?;
    }
}

/// `None` for what the agent can't or won't do.
fn answer_to(request: &[u8], keys: &[Key]) -> Option<Vec<u8>> {
    let (kind, rest) = request.split_first()?;
    let mut rest = Reader::new(rest);
    let mut answer = Writer::default();
    if *kind == LIST.0 {
        answer.byte(LIST.1);
        answer.number(u32::try_from(keys.len()).ok()?);
        for key in keys {
            answer.string(key.public());
            answer.string(key.comment());
        }
    } else if *kind == SIGN.0 {
        let (public, data, flags) = (rest.string()?, rest.string()?, rest.number()?);
        let key = keys.iter().find(|key| key.public() == public)?;
        answer.byte(SIGN.1);
        answer.string(&key.sign(data, flags)?);
    } else {
        return None;
    }
    Some(answer.into_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    /// Made by ssh-keygen for this test alone.
    const ED25519: &str = include_str!("testing/ed25519");
    const ECDSA: &str = include_str!("testing/ecdsa");
    const RSA: &str = include_str!("testing/rsa");
    const RSA_PEM: &str = include_str!("testing/rsa.pem");
    const LOCKED: &str = include_str!("testing/locked");

    fn key(text: &str) -> Key {
        Key::parse(text.as_bytes(), "file").unwrap()
    }

    #[test]
    fn a_key_is_listed_and_signs() {
        // R-CLI-4
        for text in [ED25519, ECDSA, RSA, RSA_PEM] {
            let keys = [key(text)];
            let listed = answer_to(&[11], &keys).unwrap();
            let mut reader = Reader::new(&listed[1..]);
            assert_eq!((listed[0], reader.number()), (12, Some(1)));
            let public = reader.string().unwrap().to_vec();
            let mut request = Writer::default();
            request.byte(13);
            request.string(&public);
            request.string(b"data");
            request.number(4); // SHA-512, for RSA
            let signed = answer_to(request.bytes(), &keys).unwrap();
            assert_eq!(signed[0], 14);
            for kind in [17, 18, 19, 22, 25, 27, 0] {
                assert_eq!(answer_to(&[kind], &keys), None, "{kind}");
            }
            assert_eq!(answer_to(&[], &keys), None);
            assert_eq!(answer_to(&request.bytes()[..9], &keys), None);
        }
    }

    #[test]
    fn what_is_no_usable_key_is_told() {
        let told = |text: &str| Key::parse(text.as_bytes(), "f").unwrap_err().to_string();
        assert_eq!(told(LOCKED), "the key is protected by a passphrase");
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ] {
            assert_eq!(told(text), "the key is protected by a passphrase");
        }
        assert_eq!(told("ssh-ed25519 AAAA me"), "there is no private key in it");
        assert_eq!(told(""), "there is no private key in it");
        let cut: String = ED25519.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(told(&cut), "there is no private key in it");
        let short =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----\n";
        assert_eq!(told(short), "the key is damaged");
        let dsa = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n";
        assert_eq!(
            told(dsa),
            "a key in the form `DSA PRIVATE KEY` can't be read"
        );
    }

    /// OpenSSH's own word on it, where it is installed.
    #[test]
    fn openssh_can_use_it() {
        let agent = KeyAgent::new([ED25519, ECDSA, RSA].map(key).into());
        let socket = agent.socket().unwrap();
        let listed = Command::new("ssh-add")
            .arg("-L")
            .env("SSH_AUTH_SOCK", socket)
            .output();
        let Ok(listed) = listed else { return };
        let public = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(public.lines().count(), 3, "{public}");
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::write(&data, "data").unwrap();
        let keygen = |arguments: &[&str]| {
            let mut command = Command::new("ssh-keygen");
            let command = command
                .env("SSH_AUTH_SOCK", socket)
                .arg("-Y")
                .args(arguments);
            command.stdin(std::fs::File::open(&data).unwrap());
            command.current_dir(directory.path()).output().unwrap()
        };
        for line in public.lines() {
            std::fs::write(directory.path().join("key.pub"), line).unwrap();
            let signed = keygen(&["sign", "-f", "key.pub", "-n", "test", "data"]);
            assert!(signed.status.success(), "{line}: {signed:?}");
            let checked = keygen(&["check-novalidate", "-n", "test", "-s", "data.sig"]);
            assert!(checked.status.success(), "{line}: {checked:?}");
            std::fs::remove_file(directory.path().join("data.sig")).unwrap();
        }
    }
}
