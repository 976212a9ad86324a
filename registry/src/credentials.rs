//! Credentials: who to be at which registry.
//!
//! Files are in the format of Docker's `config.json` and podman's `auth.json` (`auths`, `credHelpers`, `credsStore`). The caller
//! says which files, in the order they are asked; this crate knows neither `$DOCKER_CONFIG` nor the home folder.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use thiserror::Error;

/// Sources of credentials, asked in the order of the fields; the first that knows the registry wins.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Given outright, by registry host (`docker.io`, `127.0.0.1:5000`).
    pub given: BTreeMap<String, Credential>,
    /// The text of a configuration, as in `$DOCKER_AUTH_CONFIG`.
    pub config_text: Option<String>,
    /// Configuration files; a missing one is passed over.
    pub files: Vec<PathBuf>,
}

/// What proves who is asking. `Debug` never shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and password (or personal access token).
    Password {
        /// The user.
        username: String,
        /// The secret.
        password: String,
    },
    /// An identity token (an OAuth2 refresh token), as `credsStore` helpers and `docker login` keep them.
    IdentityToken(String),
}

/// A credential file or helper that could not be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file is there and can't be read.
    #[error("reading `{}` failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a Docker configuration, or the helper it names failed.
    #[error("{origin}: {problem}")]
    Lookup {
        /// The file, or `the given configuration`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
}

impl Credentials {
    /// The credential for a repository of a registry, or `None` to stay anonymous.
    ///
    /// An entry of a file for the repository or one of the folders above it (podman's `quay.io/team`) comes before one for the
    /// registry. Docker Hub is known under both of its names.
    pub(crate) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        if let Some(credential) = self.given.get(registry) {
            return Ok(Some(credential.clone()));
        }
        if let Some(text) = &self.config_text
            && let Some(found) = look_up(
                text.as_bytes(),
                "the given configuration",
                registry,
                repository,
            )?
        {
            return Ok(Some(found));
        }
        for path in &self.files {
            let Some(bytes) = read_if_there(path)? else {
                continue;
            };
            if let Some(found) = look_up(
                &bytes,
                &format!("`{}`", path.display()),
                registry,
                repository,
            )? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Largest configuration file that is read, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Some(bytes))
}

fn look_up(
    config: &[u8],
    origin: &str,
    registry: &str,
    repository: &str,
) -> Result<Option<Credential>, CredentialsError> {
    let problem = |problem: String| CredentialsError::Lookup {
        origin: origin.to_owned(),
        problem,
    };
    let value: serde_json::Value = serde_json::from_slice(config)
        .map_err(|error| problem(format!("not valid JSON: {error}")))?;
    for name in names(&value, registry, repository) {
        match docker_credential::get_credential_from_reader(Cursor::new(config), &name) {
            Ok(DockerCredential::IdentityToken(token)) => {
                return Ok(Some(Credential::IdentityToken(token)));
            }
            Ok(DockerCredential::UsernamePassword(username, password)) if !username.is_empty() => {
                return Ok(Some(Credential::Password { username, password }));
            }
            Ok(DockerCredential::UsernamePassword(..))
            | Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                if knows_nothing(&stdout, &stderr) => {}
            Err(error) => return Err(problem(error.to_string())),
        }
    }
    Ok(None)
}

/// The protocol of credential helpers has no other way to say "none": this sentence, on one stream or the other.
fn knows_nothing(stdout: &str, stderr: &str) -> bool {
    stdout.contains("credentials not found") || stderr.contains("credentials not found")
}

/// The names a registry may have in this configuration, best first. Those of repositories only where the configuration has
/// them, so that a credential helper is not asked for each.
fn names(config: &serde_json::Value, registry: &str, repository: &str) -> Vec<String> {
    let whole = format!("{registry}/{repository}");
    let ends = whole
        .match_indices('/')
        .map(|(at, _)| at)
        .skip(1)
        .chain([whole.len()]);
    let mut prefixes: Vec<&str> = ends.map(|end| &whole[..end]).collect();
    prefixes.reverse();
    let listed = |name: &&str| {
        config
            .get("auths")
            .and_then(|auths| auths.get(name))
            .is_some()
    };
    let mut names: Vec<String> = prefixes
        .into_iter()
        .filter(listed)
        .map(str::to_owned)
        .collect();
    if registry == "docker.io" {
        names.push("https://index.docker.io/v1/".to_owned());
    }
    names.push(registry.to_owned());
    names
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Credential::IdentityToken(_) => f.write_str("IdentityToken(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: &str = r#"{ "auths": {
        "https://index.docker.io/v1/": { "auth": "aHViOnMx" },
        "quay.io": { "auth": "cXVheTpzMg==" },
        "quay.io/team/secret": { "auth": "dGVhbTpzMw==" },
        "empty.example": {},
        "token.example": { "identitytoken": "refresh" }
    } }"#;

    fn found(registry: &str, repository: &str) -> Option<Credential> {
        let credentials = Credentials {
            config_text: Some(CONFIG.to_owned()),
            ..Credentials::default()
        };
        credentials.find(registry, repository).unwrap()
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn the_best_entry_wins() {
        for (registry, repository, expected) in [
            ("docker.io", "library/alpine", password("hub", "s1")),
            ("quay.io", "other", password("quay", "s2")),
            ("quay.io", "team/secret/app", password("team", "s3")),
            ("quay.io", "team/secretive", password("quay", "s2")),
            ("empty.example", "x", None),
            ("unknown.example", "x", None),
            (
                "token.example",
                "x",
                Some(Credential::IdentityToken("refresh".to_owned())),
            ),
        ] {
            assert_eq!(
                found(registry, repository),
                expected,
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_passed_over_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("config.json");
        std::fs::write(&broken, "{").unwrap();
        let mut credentials = Credentials {
            files: vec![folder.path().join("none.json")],
            ..Credentials::default()
        };
        assert_eq!(credentials.find("quay.io", "x").unwrap(), None);
        credentials.files.push(broken.clone());
        let error = credentials.find("quay.io", "x").unwrap_err().to_string();
        assert!(error.contains(&broken.display().to_string()), "{error}");
    }

    #[test]
    fn debug_hides_secrets() {
        let shown = format!(
            "{:?} {:?}",
            password("me", "hunter2"),
            Credential::IdentityToken("hunter2".to_owned())
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
