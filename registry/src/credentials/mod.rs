//! Credentials: who to be at which registry.
//!
//! Files are in the format of Docker's `config.json` and podman's `auth.json` (`auths`, `credHelpers`, `credsStore`). The caller
//! says which files, in the order they are asked; this crate knows neither `$DOCKER_CONFIG` nor the home folder.

mod defaults;
mod file;
mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::registries::{RegistryRules, RulesError};
use crate::stop::Stopper;
use crate::waits::Waits;
use defaults::Place;
use file::ConfigFile;
use helper::Patience;

/// Sources of credentials, asked in the order of the fields, unless rules say otherwise; the first that knows the registry wins.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Given outright, by registry host (`docker.io`, `127.0.0.1:5000`).
    pub given: BTreeMap<String, Credential>,
    /// Configurations.
    pub sources: Vec<CredentialSource>,
    /// Files of rules about registries: their `credential-helpers` say which programs have credentials too, or instead of all of
    /// these.
    pub rules: RegistryRules,
    /// How long a credential helper may take; two minutes if nothing is said, as it may have to ask its user.
    pub helper_limit: Option<Duration>,
}

/// Something in the format of Docker's `config.json`.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file where there may be one; a missing one is passed over.
    File(PathBuf),
    /// A file that somebody named: that it is missing is a failure.
    Named(PathBuf),
    /// A text, as in `$DOCKER_AUTH_CONFIG`.
    Text {
        /// What messages call it.
        name: String,
        /// The text.
        text: String,
    },
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
    /// An identity token (an OAuth2 refresh token), for which token services give tokens.
    IdentityToken(String),
    /// A token that is shown to the registry as it is.
    RegistryToken(String),
}

/// Where credentials are kept: a file, or the credential helper that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself, readable for whoever may read the file.
    InFile(PathBuf),
    /// By the program `docker-credential-NAME`.
    ByHelper(String),
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
        source: io::Error,
    },
    /// The file can't be written.
    #[error("writing `{}` failed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// It is not a Docker configuration.
    #[error("{origin}: {problem}")]
    Format {
        /// The file, or the name of the text.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// What says which helpers there are can't be read.
    #[error("which credential helpers to ask is not known")]
    Rules(#[source] RulesError),
    /// A credential helper that isn't there, or failed.
    #[error("credential helper `{program} {action}` {problem}")]
    Helper {
        /// The program.
        program: String,
        /// `get`, `store` or `erase`.
        action: &'static str,
        /// What is wrong, as the end of the sentence.
        problem: String,
    },
}

impl Credentials {
    /// The credential for a repository of a registry, or `None` to stay anonymous.
    ///
    /// An entry for the repository or one of the folders above it (podman's `quay.io/team`) comes before one for the registry.
    /// Docker Hub is known under all of its names.
    ///
    /// # Errors
    /// If a source can't be read, or a credential helper fails.
    pub fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        let (stopper, waits) = Default::default();
        self.find_until(stopper, waits, registry, repository)
    }

    /// The same, at the longest until the stop.
    pub(crate) fn find_until(
        &self,
        stopper: Stopper,
        waits: Waits,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        if let Some(credential) = self.given.get(registry) {
            return Ok(Some(credential.clone()));
        }
        let limit = self.helper_limit;
        let patience = Patience {
            stopper,
            waits,
            limit,
        };
        defaults::first(&self.rules, |place| {
            if patience.stopper.is_asked() {
                return Ok(None);
            }
            match place {
                Place::Files => self.in_sources(registry, repository, &patience),
                Place::Helper(helper) => helper.find(registry, &patience),
            }
        })
    }

    fn in_sources(
        &self,
        registry: &str,
        repository: &str,
        patience: &Patience,
    ) -> Result<Option<Credential>, CredentialsError> {
        for source in &self.sources {
            if let Some(config) = source.read()?
                && let Some(found) = config.find(registry, repository, patience)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a credential for `registry` (`host`, or `host/namespace`) in the file at `path`, or with the helper that the file
    /// names; where the rules name helpers, with the first of them that takes it. The file is replaced as a whole and is for its
    /// owner alone.
    ///
    /// # Errors
    /// If the file is not a configuration or can't be written, or the helper fails.
    pub fn store(
        &self,
        path: &Path,
        registry: &str,
        credential: &Credential,
    ) -> Result<Kept, CredentialsError> {
        let kept = defaults::first(&self.rules, |place| match place {
            Place::Files => store_in(path, registry, credential).map(Some),
            Place::Helper(helper) => helper.store(registry, credential).map(Some),
        })?;
        Ok(kept.expect("a place has kept it or failed"))
    }

    /// Forgets what the file at `path`, the helper it names, and those that the rules name, have for `registry`. Tells whether there
    /// was anything.
    ///
    /// # Errors
    /// As those of [`Credentials::store`].
    pub fn erase(&self, path: &Path, registry: &str) -> Result<bool, CredentialsError> {
        let mut erased = false;
        let gone = defaults::first(&self.rules, |place| {
            erased |= match place {
                Place::Files => erase_in(path, registry)?,
                Place::Helper(helper) => helper.erase(registry)?,
            };
            Ok(None::<()>)
        });
        gone.map(|_| erased)
    }
}

fn store_in(
    path: &Path,
    registry: &str,
    credential: &Credential,
) -> Result<Kept, CredentialsError> {
    let _alone = alone(path);
    let mut config = file_or_empty(path)?;
    let helper = config.store(registry, credential)?;
    config.write(path)?;
    Ok(helper.map_or_else(|| Kept::InFile(path.to_owned()), Kept::ByHelper))
}

fn erase_in(path: &Path, registry: &str) -> Result<bool, CredentialsError> {
    let _alone = alone(path);
    let mut config = file_or_empty(path)?;
    let erased = config.erase(registry)?;
    if erased {
        config.write(path)?;
    }
    Ok(erased)
}

impl CredentialSource {
    fn read(&self) -> Result<Option<ConfigFile>, CredentialsError> {
        match self {
            CredentialSource::File(path) => read_file(path),
            CredentialSource::Named(path) => match read_file(path)? {
                None => Err(CredentialsError::Read {
                    path: path.clone(),
                    source: ErrorKind::NotFound.into(),
                }),
                found => Ok(found),
            },
            CredentialSource::Text { name, text } => {
                ConfigFile::parse(text.as_bytes(), name).map(Some)
            }
        }
    }
}

/// Largest configuration file that is read, in bytes.
const CONFIG_LIMIT: u64 = 4 * 1024 * 1024;

/// Keeps other processes of kiln from changing a file that is read, changed and written, as long as it is not dropped. Where
/// there is no folder yet, or none that can be locked, it goes without.
fn alone(path: &Path) -> Option<File> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

fn file_or_empty(path: &Path) -> Result<ConfigFile, CredentialsError> {
    match read_file(path)? {
        Some(config) => Ok(config),
        None => ConfigFile::parse(b"", ""),
    }
}

fn read_file(path: &Path) -> Result<Option<ConfigFile>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    ConfigFile::parse(&bytes, &format!("`{}`", path.display())).map(Some)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Credential::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Credential::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialSource::File(path) => write!(f, "File({path:?})"),
            CredentialSource::Named(path) => write!(f, "Named({path:?})"),
            CredentialSource::Text { name, .. } => write!(f, "Text({name:?}, …)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_file_is_passed_over_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("config.json");
        std::fs::write(&broken, "{").unwrap();
        let mut credentials = Credentials {
            sources: vec![CredentialSource::File(folder.path().join("none.json"))],
            ..Credentials::default()
        };
        assert_eq!(credentials.find("quay.io", "x").unwrap(), None);
        let none = folder.path().join("none.json");
        for (source, path) in [
            (CredentialSource::File(broken.clone()), &broken),
            (CredentialSource::Named(none.clone()), &none),
        ] {
            credentials.sources.push(source);
            let error = credentials.find("quay.io", "x").unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            credentials.sources.pop();
        }
    }

    #[test]
    fn the_first_source_that_knows_the_registry_wins() {
        let text = |name: &str, text: &str| CredentialSource::Text {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let credentials = Credentials {
            sources: vec![
                text("first", r#"{"auths":{"a.example":{"auth":"b25lOjE="}}}"#),
                text(
                    "second",
                    r#"{"auths":{"a.example":{"auth":"dHdvOjI="},"b.example":{"auth":"dHdvOjI="}}}"#,
                ),
            ],
            ..Credentials::default()
        };
        for (registry, user) in [("a.example", "one"), ("b.example", "two")] {
            let found = credentials.find(registry, "x").unwrap();
            assert!(
                matches!(&found, Some(Credential::Password { username, .. }) if username == user),
                "{found:?}"
            );
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let password = Credential::Password {
            username: "me".to_owned(),
            password: "hunter2".to_owned(),
        };
        let text = CredentialSource::Text {
            name: "x".to_owned(),
            text: "hunter2".to_owned(),
        };
        let token = Credential::IdentityToken("hunter2".to_owned());
        let shown = format!("{password:?} {token:?} {text:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn logins_at_the_same_time_forget_nothing_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let password = Credential::Password {
            username: "me".to_owned(),
            password: "x".to_owned(),
        };
        std::thread::scope(|scope| {
            for at in 0..16 {
                let (path, password) = (&path, &password);
                scope.spawn(move || {
                    let credentials = Credentials::default();
                    let name = format!("r{at}.example");
                    credentials.store(path, &name, password).unwrap();
                });
            }
        });
        let credentials = Credentials {
            sources: vec![CredentialSource::File(path)],
            ..Credentials::default()
        };
        for at in 0..16 {
            let found = credentials.find(&format!("r{at}.example"), "x").unwrap();
            assert!(found.is_some(), "{at}");
        }
    }
}
