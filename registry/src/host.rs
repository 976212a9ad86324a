//! Where a registry lives: host names, origins and the addresses that answers point to.

use std::net::{IpAddr, Ipv6Addr};

use ureq::http::Uri;

/// Whether a registry (`host` or `host:port`) is this machine: `localhost`, `127.0.0.0/8` or `[::1]`.
///
/// ```
/// assert!(kiln_registry::is_loopback("127.0.0.1:5000"));
/// assert!(kiln_registry::is_loopback("[::1]:5000"));
/// assert!(!kiln_registry::is_loopback("localhost.example.com"));
/// ```
pub fn is_loopback(registry: &str) -> bool {
    let host = host_of(registry);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
        Err(_) => false,
    }
}

/// The host of `host`, `host:port` or `[v6]:port`, without brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}

/// The host (and port) that serves a registry. Docker Hub's name is not its address.
pub(crate) fn server_of(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// An absolute `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: Scheme,
    authority: String,
    path_and_query: String,
}

impl Url {
    /// `path_and_query` starts with a slash.
    pub(crate) fn new(scheme: Scheme, authority: &str, path_and_query: impl Into<String>) -> Self {
        Url {
            scheme,
            authority: authority.to_ascii_lowercase(),
            path_and_query: path_and_query.into(),
        }
    }

    /// An absolute address. User names in it are refused: they would be credentials of somebody else's choice.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        if authority.contains('@') {
            return None;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(Url::new(scheme, authority, path))
    }

    /// What a `Location` header means when it came from this address (RFC 9110, 10.2.2).
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        if location.starts_with("//") {
            return Url::parse(&format!("{}:{location}", self.scheme.as_str()));
        }
        if location.starts_with('/') {
            return Url::parse(&format!(
                "{}://{}{}",
                self.scheme.as_str(),
                self.authority,
                without_dots(location)
            ));
        }
        let scheme = location.split_once("://").map(|(scheme, _)| scheme);
        if scheme.is_some_and(|scheme| !scheme.contains(['/', '?', '#'])) {
            return Url::parse(location);
        }
        let path = self.path();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = match location.chars().next() {
            None | Some('#') => self.path_and_query.clone(),
            Some('?') => format!("{path}{location}"),
            Some(_) => without_dots(&format!("{folder}/{location}")),
        };
        Url::parse(&format!(
            "{}://{}{target}",
            self.scheme.as_str(),
            self.authority
        ))
    }

    /// The same address with one more query parameter, its value percent-encoded.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Self {
        self.path_and_query
            .push(if self.path_and_query.contains('?') {
                '&'
            } else {
                '?'
            });
        self.path_and_query.push_str(name);
        self.path_and_query.push('=');
        self.path_and_query.push_str(&percent_encoded(value));
        self
    }

    /// The path, without a query.
    pub(crate) fn path(&self) -> &str {
        let path = self.path_and_query.split('?').next();
        path.unwrap_or(&self.path_and_query)
    }

    /// An address below this one. `rest` may have a query.
    pub(crate) fn below(&self, rest: &str) -> Self {
        let path = self.path().trim_end_matches('/');
        Url {
            path_and_query: format!("{path}/{rest}"),
            ..self.clone()
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host, and port if one is written.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The same address, protected.
    pub(crate) fn over_tls(self) -> Self {
        Url {
            scheme: Scheme::Https,
            ..self
        }
    }

    /// Whether both are the same scheme, host and port: the border a secret may not cross.
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        self.scheme == other.scheme
            && host_of(&self.authority) == host_of(&other.authority)
            && self.port() == other.port()
    }

    pub(crate) fn port(&self) -> u16 {
        let after_host = self
            .authority
            .rsplit_once(']')
            .map_or(self.authority.as_str(), |(_, rest)| rest);
        let default = if self.scheme == Scheme::Https {
            443
        } else {
            80
        };
        after_host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(default)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority,
            self.path_and_query
        )
    }
}

/// A path without its `.` and `..` (RFC 3986, 5.2.4), and what follows it.
fn without_dots(target: &str) -> String {
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let (path, rest) = target.split_at(end);
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if at + 1 == segments.len() {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}{rest}", kept.join("/"))
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:5000",
            "LOCALHOST",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "docker.io",
            "localhost.example.com",
            "10.0.0.1:5000",
            "128.0.0.1",
            "[::2]:5000",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn locations_are_joined_as_rfc_9110_says() {
        let base = Url::new(Scheme::Http, "h:1", "/v2/a/blobs/uploads/?x=1");
        for (location, expected) in [
            ("/v2/b?_state=q%2F", "http://h:1/v2/b?_state=q%2F"),
            ("https://o/p", "https://o/p"),
            ("//o:2/p", "http://o:2/p"),
            ("tail?x", "http://h:1/v2/a/blobs/uploads/tail?x"),
            (
                "tail?to=http://o/",
                "http://h:1/v2/a/blobs/uploads/tail?to=http://o/",
            ),
            ("?y=2", "http://h:1/v2/a/blobs/uploads/?y=2"),
            ("", "http://h:1/v2/a/blobs/uploads/?x=1"),
            ("../up/./1?z=..", "http://h:1/v2/a/blobs/up/1?z=.."),
            ("/../../v2/b/..", "http://h:1/v2/"),
            ("HTTPS://O:2/P", "https://o:2/P"),
            ("/v2/b#part", "http://h:1/v2/b"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), expected);
        }
        for refused in ["ftp://o/p", "http://user:secret@o/p", "http://"] {
            assert_eq!(base.join(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let base = Url::parse("https://r.example/v2/").unwrap();
        assert!(base.same_origin(&Url::parse("https://R.example:443/other").unwrap()));
        for other in [
            "http://r.example/",
            "https://r.example:8443/",
            "https://cdn.r.example/",
        ] {
            assert!(!base.same_origin(&Url::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        let url = Url::new(Scheme::Https, "h", "/t")
            .with_query("scope", "repository:a/b:pull,push")
            .with_query("a", "b c");
        assert_eq!(
            url.to_string(),
            "https://h/t?scope=repository%3Aa%2Fb%3Apull%2Cpush&a=b%20c"
        );
    }
}
