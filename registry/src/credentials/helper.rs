//! Credential helpers: programs `docker-credential-NAME` that keep secrets for Docker and others. What is asked goes to their
//! stdin, answers come from their stdout, and what they say when they fail from either.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialsError};

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

/// What the helper `name` has for `server`.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Credential>, CredentialsError> {
    let output = ask(name, "get", server.as_bytes())?;
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
    let output = ask(name, "store", &text)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(name, "store", &words(&output)))
    }
}

/// Has the helper `name` forget `server`. Tells whether it knew it, as far as it says.
pub(super) fn erase(name: &str, server: &str) -> Result<bool, CredentialsError> {
    let output = ask(name, "erase", server.as_bytes())?;
    match output.status.success() {
        true => Ok(true),
        false if knows_nothing(&output) => Ok(false),
        false => Err(failed(name, "erase", &words(&output))),
    }
}

fn ask(name: &str, action: &'static str, question: &[u8]) -> Result<Output, CredentialsError> {
    if name.is_empty() || name.contains('/') {
        return Err(failed(name, action, "is no name of a program"));
    }
    let child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed(name, action, "is not installed (not found in $PATH)"),
        _ => failed(name, action, &format!("could not be started: {error}")),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that doesn't read what it was asked says by its status what it thinks of it.
        let _ = stdin.write_all(question);
    }
    let output = child.wait_with_output();
    output.map_err(|error| failed(name, action, &format!("could not be heard out: {error}")))
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

fn failed(name: &str, action: &'static str, problem: &str) -> CredentialsError {
    CredentialsError::Helper {
        program: format!("docker-credential-{name}"),
        action,
        problem: problem.to_owned(),
    }
}
