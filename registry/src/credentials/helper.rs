//! Credential helpers: programs `docker-credential-NAME` that keep secrets for Docker and others. What is asked goes to their
//! stdin, answers come from their stdout, and what they say when they fail from either.
//!
//! A helper may ask its user something, so it is given time; one that never answers is ended. What it started, and left behind with
//! its own streams, is not waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialsError};
use crate::locked::locked;
use crate::stop::Stopper;
use crate::waits::Waits;

/// How long a helper may take, unless somebody says something else.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// How long a helper that has ended may leave its streams open.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How often it is looked whether a helper has ended, and whether anybody still waits for it.
const GLANCE: Duration = Duration::from_millis(20);
/// Longest answer that is read, in bytes.
const ANSWER_LIMIT: u64 = 1024 * 1024;

/// The user name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";
/// Longest sentence of a helper that is repeated, in characters.
const WORDS_LIMIT: usize = 200;

/// A credential as helpers spell it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spelled {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// How long helpers are waited for, and who is told of it.
#[derive(Clone, Default)]
pub(crate) struct Patience {
    pub(crate) stopper: Stopper,
    pub(crate) waits: Waits,
    /// [`LIMIT`] if nothing else is said.
    pub(crate) limit: Option<Duration>,
}

/// What the helper `name` has for `server`.
pub(super) fn get(
    name: &str,
    server: &str,
    patience: &Patience,
) -> Result<Option<Credential>, CredentialsError> {
    let output = ask(name, "get", server.as_bytes(), patience)?;
    if !output.status.success() {
        return if knows_nothing(&output) {
            Ok(None)
        } else {
            Err(failed(name, "get", &words(&output)))
        };
    }
    // Its words may be the secret, so they are not repeated here.
    let spelled: Spelled = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed(name, "get", "gave no credential that can be understood"))?;
    Ok(match spelled {
        Spelled { secret, .. } if secret.is_empty() => None,
        Spelled {
            username, secret, ..
        } if username == TOKEN_USER => Some(Credential::IdentityToken(secret)),
        Spelled { username, .. } if username.is_empty() => None,
        Spelled {
            username, secret, ..
        } => Some(Credential::Password {
            username,
            password: secret,
        }),
    })
}

/// Has the helper `name` keep a credential for `server`.
pub(super) fn store(
    name: &str,
    server: &str,
    credential: &Credential,
) -> Result<(), CredentialsError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::IdentityToken(token) => (TOKEN_USER, token),
        Credential::RegistryToken(_) => {
            return Err(failed(name, "store", "can't keep a registry token"));
        }
    };
    let spelled = Spelled {
        server: server.to_owned(),
        username: username.to_owned(),
        secret: secret.clone(),
    };
    let text = serde_json::to_vec(&spelled).expect("strings can be written as JSON");
    let output = ask(name, "store", &text, &Patience::default())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(name, "store", &words(&output)))
    }
}

/// Has the helper `name` forget `server`. Tells whether it knew it, as far as it says.
pub(super) fn erase(name: &str, server: &str) -> Result<bool, CredentialsError> {
    let output = ask(name, "erase", server.as_bytes(), &Patience::default())?;
    match output.status.success() {
        true => Ok(true),
        false if knows_nothing(&output) => Ok(false),
        false => Err(failed(name, "erase", &words(&output))),
    }
}

fn ask(
    name: &str,
    action: &'static str,
    question: &[u8],
    patience: &Patience,
) -> Result<Output, CredentialsError> {
    if name.is_empty() || name.contains('/') {
        return Err(failed(name, action, "is no name of a program"));
    }
    let program = format!("docker-credential-{name}");
    let _told = patience.waits.begin(&program);
    let mut command = Command::new(&program);
    let output = output_of(command.arg(action), question, patience);
    output.map_err(|problem| failed(name, action, &problem))
}

/// Runs a helper; else the end of a sentence about why not.
fn output_of(
    command: &mut Command,
    question: &[u8],
    patience: &Patience,
) -> Result<Output, String> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "is not installed (not found in $PATH)".to_owned(),
        _ => format!("could not be started: {error}"),
    })?;
    let (said, ended) = channel();
    let stdout = Heard::from(child.stdout.take(), said.clone());
    let stderr = Heard::from(child.stderr.take(), said);
    if let Some(mut stdin) = child.stdin.take() {
        let question = question.to_vec();
        // A helper that doesn't read what it was asked says by its status what it thinks of it.
        thread::spawn(move || drop(stdin.write_all(&question)));
    }
    let status = end_of(&mut child, &ended, patience);
    let status = status.inspect_err(|_| {
        // If it has just ended by itself, there is nothing left to end.
        let _ = child.kill();
        let _ = child.wait();
    })?;
    // Both streams, unless somebody else has them.
    let until = Instant::now() + AFTERWARDS;
    while ended
        .recv_timeout(until.saturating_duration_since(Instant::now()))
        .is_ok()
    {}
    Ok(Output {
        status,
        stdout: stdout.taken(),
        stderr: stderr.taken(),
    })
}

/// Waits for a helper's end; else why it isn't waited for any longer, as the end of a sentence.
fn end_of(
    child: &mut Child,
    streams: &Receiver<()>,
    patience: &Patience,
) -> Result<ExitStatus, String> {
    let (begun, limit) = (Instant::now(), patience.limit.unwrap_or(LIMIT));
    loop {
        let ended = child.try_wait();
        if let Some(status) = ended.map_err(|error| format!("could not be heard out: {error}"))? {
            return Ok(status);
        }
        if patience.stopper.is_asked() {
            return Err("was stopped".to_owned());
        }
        if begun.elapsed() >= limit {
            let seconds = limit.as_secs_f64();
            return Err(format!("gave no answer within {seconds}s, and was ended"));
        }
        // Whoever closes its streams is about to end.
        if streams.recv_timeout(GLANCE).is_err() {
            patience.stopper.pause(Duration::from_millis(1));
        }
    }
}

/// What came out of a stream so far.
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Reads `stream` to its end, and says when it is there.
    fn from(stream: Option<impl Read + Send + 'static>, said: Sender<()>) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            let mut stream = stream.map(|stream| stream.take(ANSWER_LIMIT));
            let mut piece = [0; 4096];
            while let Some(count) = stream.as_mut().and_then(|stream| some(stream, &mut piece)) {
                let mut kept = locked(&kept);
                kept.extend_from_slice(&piece[..count]);
            }
            // Nobody waits for it any more if the helper was given up.
            let _ = said.send(());
        });
        Heard(heard)
    }

    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut locked(&self.0))
    }
}

/// Some bytes more; `None` at the end.
fn some(stream: &mut impl Read, piece: &mut [u8]) -> Option<usize> {
    loop {
        match stream.read(piece) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The protocol has no other way to say "none": this sentence, on one stream or the other.
fn knows_nothing(output: &Output) -> bool {
    [&output.stdout, &output.stderr]
        .iter()
        .any(|stream| String::from_utf8_lossy(stream).contains("credentials not found"))
}

/// Why it failed, by its own words.
fn words(output: &Output) -> String {
    let first = |stream: &[u8]| {
        let text = String::from_utf8_lossy(stream);
        let line = text.trim().lines().next().unwrap_or("").to_owned();
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(WORDS_LIMIT)
            .collect::<String>()
    };
    let said = [&output.stdout, &output.stderr]
        .iter()
        .map(|stream| first(stream))
        .find(|line| !line.is_empty());
    match said {
        Some(said) => format!("failed: {said}"),
        None => format!("failed ({})", output.status),
    }
}

pub(super) fn failed(name: &str, action: &'static str, problem: &str) -> CredentialsError {
    CredentialsError::Helper {
        program: format!("docker-credential-{name}"),
        action,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What comes of a helper that is this shell script.
    fn said(script: &str, limit: Duration) -> Result<(Option<i32>, String, String), String> {
        let patience = Patience {
            limit: Some(limit),
            ..Patience::default()
        };
        let mut command = Command::new("/bin/sh");
        let output = output_of(command.args(["-c", script]), b"question", &patience)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok((
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        ))
    }

    #[test]
    fn a_helper_is_heard_out_on_both_streams() {
        for (script, code, stdout, stderr) in [
            ("cat; echo no >&2; exit 3", Some(3), "question", "no\n"),
            ("exec cat", Some(0), "question", ""),
            // One that isn't interested in the question.
            ("exec <&-; echo yes", Some(0), "yes\n", ""),
            ("kill -9 $$", None, "", ""),
            // One that leaves a process with its streams behind, as gpg does.
            (
                "echo yes; sleep 1000 & echo >&2 $!",
                Some(0),
                "yes\n",
                "PID",
            ),
        ] {
            let heard = said(script, LIMIT).unwrap();
            let told = heard.2.trim().to_owned();
            assert_eq!((heard.0, &*heard.1), (code, stdout), "{script}");
            if stderr == "PID" {
                Command::new("kill").arg(told).status().unwrap();
            } else {
                assert_eq!(heard.2, stderr, "{script}");
            }
        }
        let long = said("head -c 300000 /dev/zero | tr '\\0' x", LIMIT).unwrap();
        assert_eq!(long.1.len(), 300_000);
    }

    #[test]
    fn a_helper_that_never_answers_is_ended() {
        for script in ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"] {
            let problem = said(script, Duration::from_millis(50)).unwrap_err();
            assert_eq!(problem, "gave no answer within 0.05s, and was ended");
        }
    }

    #[test]
    fn a_stop_ends_a_helper() {
        let patience = Patience::default();
        let stopper = patience.stopper.clone();
        let waiting = thread::spawn(move || {
            let mut command = Command::new("sleep");
            output_of(command.arg("1000"), b"", &patience)
        });
        stopper.stop();
        assert_eq!(waiting.join().unwrap().unwrap_err(), "was stopped");
    }
}
