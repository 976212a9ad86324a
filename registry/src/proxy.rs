//! Proxies, and the hosts that are reached without them.

use std::net::IpAddr;

use ureq::ProxyProtocol;

use crate::error::TransportError;
use crate::host::{Scheme, Url, host_of, is_loopback};

/// Proxies by what they are for, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say. `Debug` shows no passwords.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxy {
    /// For `http` addresses: `http://[user:password@]host:port`.
    pub http: Option<String>,
    /// For `https` addresses.
    pub https: Option<String>,
    /// Entries of `NO_PROXY`: hosts, domains with or without their leading dot, addresses, networks such as `10.0.0.0/8`, each
    /// perhaps with a port; `*` is every host.
    pub bypass: Vec<String>,
}

impl Proxy {
    /// The proxy to reach `url` by. Loopback hosts have none.
    pub(crate) fn to_reach(&self, url: &Url) -> Option<&str> {
        let proxy = match url.scheme() {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        let proxy = proxy.as_deref()?;
        (!is_loopback(url.authority()) && !self.bypasses(url)).then_some(proxy)
    }

    /// The rules that curl and Go share.
    fn bypasses(&self, url: &Url) -> bool {
        let host = host_of(url.authority());
        self.bypass
            .iter()
            .any(|entry| covers(&entry.trim().to_ascii_lowercase(), host, url.port()))
    }
}

/// A proxy that is taken, as people are told of it: without its password.
#[derive(Debug, Clone)]
pub(crate) struct Via {
    name: String,
    /// Whether hosts beyond it are its own business: it looks up their names and calls them.
    calls: bool,
    has_password: bool,
}

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the proxy `{}`", self.name)
    }
}

impl Via {
    pub(crate) fn of(proxy: &ureq::Proxy) -> Self {
        Via {
            name: format!("{}:{}", proxy.host(), proxy.port()),
            calls: matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https),
            has_password: proxy.username().is_some(),
        }
    }

    /// A failure on the way to `host`, by its true name.
    pub(crate) fn blamed(&self, error: TransportError, host: &str) -> TransportError {
        match error {
            TransportError::Proxy(problem) => match status_in(&problem) {
                Some(status) => self.refused(status, host),
                None => TransportError::Proxy(format!("`{}`: {problem}", self.name)),
            },
            TransportError::Refused | TransportError::UnknownHost if self.calls => {
                TransportError::Proxy(format!("`{}` can't be reached: {error}", self.name))
            }
            TransportError::Refused | TransportError::UnknownHost => {
                TransportError::Proxy(format!("by way of `{}`: {error}", self.name))
            }
            other => other,
        }
    }

    /// It answered with this status where it should have brought the client to `host`.
    pub(crate) fn refused(&self, status: u16, host: &str) -> TransportError {
        let name = &self.name;
        let problem = match status {
            401 | 407 if self.has_password => {
                format!("`{name}` does not take the user name and password ({status})")
            }
            401 | 407 => format!("`{name}` wants a user name and password ({status})"),
            502..=504 => {
                let text = format!("{self} answered {status} for `{host}`");
                return TransportError::Cut(text);
            }
            _ => format!("`{name}` makes no connection to `{host}` ({status})"),
        };
        TransportError::Proxy(problem)
    }
}

/// The status in what the HTTP library says of a tunnel that wasn't made: `proxy server responded 403/403`.
fn status_in(problem: &str) -> Option<u16> {
    problem.rsplit_once('/')?.1.parse().ok()
}

fn covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>()
        && let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>())
    {
        return is_within(address, network, bits);
    }
    let (name, only_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
            match digits.parse::<u16>() {
                Ok(port) => (name, Some(port)),
                Err(_) => (entry, None),
            }
        }
        _ => (entry, None),
    };
    if only_port.is_some_and(|only| only != port) {
        return false;
    }
    let domain = name.trim_matches(['[', ']']);
    let domain = domain.trim_start_matches('*').trim_start_matches('.');
    !domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}")))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    if bits > width {
        return false;
    }
    let shift = width - bits;
    address.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = |url: &Option<String>| {
            url.as_deref()
                .map(|url| url.rsplit('@').next().unwrap_or(url).to_owned())
        };
        f.debug_struct("Proxy")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("bypass", &self.bypass)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn proxies_are_bypassed_as_curl_and_go_do() {
        for (entry, address, expected) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://r.Example.com/", true),
            (".example.com", "https://r.example.com/", true),
            ("*.example.com", "https://r.example.com/", true),
            ("example.com", "https://badexample.com/", false),
            ("example.com:5000", "https://example.com:5000/", true),
            ("example.com:5000", "https://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("10.1.2.3", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("0.0.0.0/0", "https://11.1.2.3/", true),
            ("10.0.0.0/8", "https://a10.example/", false),
            ("10.0.0.0/99", "https://10.1.2.3/", false),
            ("fd00::/8", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("*", "https://any/", true),
            ("", "https://any/", false),
        ] {
            let proxy = Proxy {
                https: Some("p".to_owned()),
                bypass: vec![entry.to_owned()],
                ..Proxy::default()
            };
            let url = Url::parse(address).unwrap();
            assert_eq!(
                proxy.to_reach(&url).is_none(),
                expected,
                "{entry} {address}"
            );
        }
    }

    #[test]
    fn each_scheme_has_its_own_and_loopback_has_none() {
        let proxy = Proxy {
            http: Some("http://me:secret@h:1".to_owned()),
            https: Some("http://s:2".to_owned()),
            ..Proxy::default()
        };
        for (address, expected) in [
            ("http://a/", Some("http://me:secret@h:1")),
            ("https://a/", Some("http://s:2")),
            ("http://127.0.0.1:5000/", None),
            ("https://localhost/", None),
        ] {
            assert_eq!(proxy.to_reach(&Url::parse(address).unwrap()), expected);
        }
        assert!(!format!("{proxy:?}").contains("secret"));
    }

    #[test]
    fn failures_are_told_of_whom_they_are() {
        let proxy = |address: &str| Via::of(&ureq::Proxy::new(address).unwrap());
        let failed = |status: u16| {
            TransportError::Proxy(format!("proxy server responded {status}/{status}"))
        };
        for (address, error, told) in [
            (
                "http://p:1",
                failed(407),
                "proxy: `p:1` wants a user name and password (407)",
            ),
            (
                "http://me:x@p:1",
                failed(407),
                "proxy: `p:1` does not take the user name and password (407)",
            ),
            (
                "http://p:1",
                failed(403),
                "proxy: `p:1` makes no connection to `r:5000` (403)",
            ),
            (
                "http://p:1",
                failed(503),
                "the connection was cut: the proxy `p:1` answered 503 for `r:5000`",
            ),
            (
                "http://p:1",
                TransportError::Refused,
                "proxy: `p:1` can't be reached: connection refused",
            ),
            (
                "http://p:1",
                TransportError::UnknownHost,
                "proxy: `p:1` can't be reached: host name not found",
            ),
            (
                "socks5://p:1",
                TransportError::Refused,
                "proxy: by way of `p:1`: connection refused",
            ),
            ("http://p:1", TransportError::Stopped, "stopped"),
        ] {
            assert_eq!(proxy(address).blamed(error, "r:5000").to_string(), told);
        }
    }
}
