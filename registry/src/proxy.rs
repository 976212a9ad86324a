//! Proxies, and the hosts that are reached without them.

use std::net::IpAddr;

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
}
