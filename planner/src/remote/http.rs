//! Downloads (R-ADD-6..8).

use std::fmt;

use kiln_image::Digest;

use super::RemoteError;
use super::url::{Login, Parts, decoded, encoded, redacted, without_secrets};

/// What a download is called when its address has no name for it (R-ADD-7).
const UNNAMED: &str = "__unnamed__";

/// The address of a file. Shown, it is without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// What to ask for: `http://` or `https://`, host, path and query, with everything escaped that must be, and without
    /// user, password and fragment.
    pub address: String,
    /// The host, without port.
    pub host: String,
    /// Who the address says to be.
    pub login: Option<Login>,
    /// The file's name: the last segment of the path (R-ADD-7).
    pub name: String,
    shown: String,
}

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// From where.
    pub url: HttpUrl,
    /// What the file is called in the tree it makes.
    pub name: String,
    /// What its content must be (R-ADD-8).
    pub checksum: Option<Digest>,
}

impl HttpUrl {
    /// Takes an address that begins with `http://` or `https://` apart.
    ///
    /// # Errors
    /// If it can't be asked for.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let invalid = || RemoteError::InvalidUrl(redacted(text));
        let parts = Parts::of(text).ok_or_else(invalid)?;
        if parts.scheme != "http" && parts.scheme != "https" {
            return Err(invalid());
        }
        let host = parts.host.to_ascii_lowercase();
        let path = if parts.path.is_empty() {
            "/"
        } else {
            parts.path
        };
        let mut address = format!("{}://{host}{}", parts.scheme, encoded(path));
        if !parts.query.is_empty() {
            address.push('?');
            address.push_str(&encoded(parts.query));
        }
        Ok(HttpUrl {
            address,
            host: without_port(&host).to_owned(),
            login: parts.login,
            name: name(parts.path),
            shown: without_secrets(text, |value| {
                // Another token may be for another file.
                format!("sha256:{}", &Digest::of(value.as_bytes()).hex()[..12])
            }),
        })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({})", self.shown)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

/// The last segment of a path; names that can't be a file's are as none.
fn name(path: &str) -> String {
    let path = decoded(path).unwrap_or_default();
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next().unwrap_or_default() {
        "" | "." | ".." => UNNAMED.to_owned(),
        name if name.contains('\0') => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // R-ADD-7
    #[test]
    fn a_download_is_called_by_the_last_segment_of_its_path() {
        for (url, expected) in [
            ("http://h/p/f.txt?x=1", "f.txt"),
            ("http://h/p/f.txt#x/y", "f.txt"),
            ("http://h/", "__unnamed__"),
            ("http://h", "__unnamed__"),
            ("http://h?x=/y", "__unnamed__"),
            ("http://h/p/", "p"),
            ("http://h/a%20b", "a b"),
            ("http://h/a%2Fb", "b"),
            ("http://h/..", "__unnamed__"),
            ("http://h/%2e%2e", "__unnamed__"),
            ("http://h/a%00b", "__unnamed__"),
            ("http://h/ä.txt", "ä.txt"),
        ] {
            assert_eq!(HttpUrl::parse(url).unwrap().name, expected, "{url}");
        }
    }

    #[test]
    fn an_address_is_ready_to_be_sent() {
        for (url, address, host) in [
            ("http://H:8080", "http://h:8080/", "h"),
            ("https://h/ä b?c d#e", "https://h/%C3%A4%20b?c%20d", "h"),
            (
                "http://u:p@[::1]:80/a%20b",
                "http://[::1]:80/a%20b",
                "[::1]",
            ),
        ] {
            let parsed = HttpUrl::parse(url).unwrap();
            assert_eq!((&*parsed.address, &*parsed.host), (address, host), "{url}");
        }
        let secret = HttpUrl::parse("http://u:hunter2@h/f").unwrap();
        assert!(!format!("{secret} {secret:?}").contains("hunter2"));
        let refused = HttpUrl::parse("http://u:hunter2@h/%zz").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
