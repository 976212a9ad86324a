//! Credentials: who to be at which registry.
//!
//! Files are in the format of Docker's `config.json` and podman's `auth.json` (`auths`, `credHelpers`, `credsStore`). The caller
//! says which files, in the order they are asked; this crate knows neither `$DOCKER_CONFIG` nor the home folder.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::path::PathBuf;

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
