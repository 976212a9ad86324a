//! Certificates of hosts, as Docker and podman keep them: a folder `certs.d/HOST` with authorities (`*.crt`) that are trusted
//! for this host besides the machine's own, and a certificate (`*.cert`) with its key (`*.key`) that shows who asks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;

/// What is kept for one host.
#[derive(Debug, Default)]
pub(crate) struct HostCertificates {
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) own: Option<Arc<CertifiedKey>>,
}

impl HostCertificates {
    /// Reads the folder of `authority` (`host` or `host:port`) in the first of `folders` that has one. `None` if none has;
    /// an error is a sentence for people.
    pub(crate) fn find(folders: &[PathBuf], authority: &str) -> Result<Option<Self>, String> {
        // Names come from answers of registries, too.
        if authority.is_empty() || authority.contains('/') || authority.starts_with('.') {
            return Ok(None);
        }
        let names = [Some(authority), hub_name(authority)];
        for folder in folders {
            for name in names.into_iter().flatten() {
                let folder = folder.join(name);
                match fs::read_dir(&folder).map(Self::read) {
                    Ok(read) => match read? {
                        found if found.is_empty() => {}
                        found => return Ok(Some(found)),
                    },
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                    Err(error) => return Err(unreadable(&folder, &error)),
                }
            }
        }
        Ok(None)
    }

    fn read(entries: fs::ReadDir) -> Result<Self, String> {
        let mut found = HostCertificates::default();
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.add_authority(&path)?,
                Some("cert") if found.own.is_none() => {
                    found.set_own(&path, &path.with_extension("key"))?;
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Trusts the certificates of a file.
    pub(crate) fn add_authority(&mut self, path: &Path) -> Result<(), String> {
        self.authorities.extend(certificates(path)?);
        Ok(())
    }

    /// Shows the certificate of a file.
    pub(crate) fn set_own(&mut self, path: &Path, key: &Path) -> Result<(), String> {
        self.own = Some(own(path, key)?);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.own.is_none()
    }
}

/// Docker Hub's folder has the name that people know.
fn hub_name(authority: &str) -> Option<&'static str> {
    (authority == "registry-1.docker.io").then_some("docker.io")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("`{}`: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("there is no certificate in `{}`", path.display()));
    }
    Ok(certificates)
}

fn own(path: &Path, key_path: &Path) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(path)?;
    let bytes = fs::read(key_path).map_err(|error| unreadable(key_path, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| format!("there is no private key in `{}`", key_path.display()))?;
    let unusable = |error: rustls::Error| {
        format!(
            "the key in `{}` can't be used with the certificate in `{}`: {error}",
            key_path.display(),
            path.display()
        )
    };
    let key = ring::sign::any_supported_type(&key).map_err(unusable)?;
    let own = CertifiedKey::new(chain, key);
    match own.keys_match() {
        Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(unusable(error))
        }
        // Of certificates in their oldest form, as `openssl x509 -req` makes them, the library can't say it. The host will.
        _ => Ok(Arc::new(own)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("reading `{}` failed: {error}", path.display())
}
