//! Names of files that hold secrets.

/// Whole names.
const NAMES: [&str; 12] = [
    ".aws",
    ".env",
    ".git-credentials",
    ".netrc",
    ".pypirc",
    ".ssh",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "credentials.json",
    "kubeconfig",
];

/// Whether the last part of a path, or a folder of it, is the name of a secret.
pub(super) fn is_secret(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| NAMES.contains(&part))
        || path.ends_with(".key")
        || path.ends_with(".p12")
        || path.ends_with(".pfx")
        || path.ends_with(".docker/config.json")
}
