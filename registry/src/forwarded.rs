//! Plain HTTP by way of a proxy: each request goes to the proxy, with the whole address of what is wanted (RFC 9112, 3.2.2).
//!
//! A tunnel would do as well, but proxies commonly let one go to port 443 only. What is under TLS goes through a tunnel, which the
//! HTTP library makes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::host::Scheme;

/// A proxy that is given requests. `Debug` shows no password.
#[derive(Clone)]
pub(crate) struct Forwarder {
    /// Where it is.
    pub(crate) place: Uri,
    /// What it is told besides: who asks.
    authorization: Option<String>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forwarder({:?})", self.place.authority())
    }
}

impl Forwarder {
    /// `proxy`, if addresses of this scheme are for it to fetch.
    pub(crate) fn of(proxy: &Proxy, scheme: Scheme) -> Option<Self> {
        if scheme != Scheme::Http || proxy.protocol() != ProxyProtocol::Http {
            return None;
        }
        let place = format!("http://{}:{}/", proxy.host(), proxy.port());
        let (name, password) = (proxy.username(), proxy.password());
        let known = name.is_some() || password.is_some();
        let authorization = known.then(|| {
            let both = format!(
                "{}:{}",
                name.unwrap_or_default(),
                password.unwrap_or_default()
            );
            format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(both))
        });
        Some(Forwarder {
            place: place.parse().ok()?,
            authorization,
        })
    }

    /// The first line of a request to `origin` (`http://host:port`) and what is said to the proxy alone, in the place of the line
    /// that `request` begins with; and the rest of `request`. `None` if it begins with no such line.
    pub(crate) fn begin<'r>(&self, origin: &str, request: &'r [u8]) -> Option<(Vec<u8>, &'r [u8])> {
        let end = request.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = request.split_at(end + 2);
        let target = line.iter().position(|byte| *byte == b' ')? + 1;
        let mut begun = [&line[..target], origin.as_bytes(), &line[target..]].concat();
        if let Some(authorization) = &self.authorization {
            begun.extend_from_slice(authorization.as_bytes());
        }
        Some((begun, rest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_http_is_forwarded_and_only_by_http_proxies() {
        for (proxy, scheme, expected) in [
            ("http://p:3128", Scheme::Http, true),
            ("p:3128", Scheme::Http, true),
            ("http://p:3128", Scheme::Https, false),
            ("https://p:3128", Scheme::Http, false),
            ("socks5://p:1080", Scheme::Http, false),
        ] {
            let proxy = Proxy::new(proxy).unwrap();
            let forwarder = Forwarder::of(&proxy, scheme);
            assert_eq!(forwarder.is_some(), expected, "{proxy:?} {scheme:?}");
        }
    }

    #[test]
    fn a_request_names_the_whole_address_and_who_asks() {
        let begun = |proxy: &str| {
            let proxy = Proxy::new(proxy).unwrap();
            let forwarder = Forwarder::of(&proxy, Scheme::Http).unwrap();
            let request = b"GET /v2/a?b=c HTTP/1.1\r\nhost: r:5000\r\n\r\nbody";
            let (head, rest) = forwarder.begin("http://r:5000", request).unwrap();
            assert_eq!(rest, b"host: r:5000\r\n\r\nbody");
            assert!(!format!("{forwarder:?}").contains("secret"));
            String::from_utf8(head).unwrap()
        };
        let line = "GET http://r:5000/v2/a?b=c HTTP/1.1\r\n";
        assert_eq!(begun("http://p:1"), line);
        let told = format!("{line}Proxy-Authorization: Basic bWU6c2VjcmV0\r\n");
        assert_eq!(begun("http://me:secret@p:1"), told);
    }
}
