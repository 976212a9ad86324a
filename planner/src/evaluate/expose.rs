//! EXPOSE (R-EXPOSE).

use std::net::IpAddr;
use std::ops::RangeInclusive;

use kiln_parser::Expose;

use super::Evaluator;
use crate::code;

/// The ports of one word.
#[derive(Debug, PartialEq, Eq)]
struct PortSpec {
    ports: RangeInclusive<u16>,
    /// Lower case.
    protocol: String,
    /// Whether the protocol was written in lower case.
    lowercase: bool,
    /// Whether there is an address or host port, which EXPOSE has no use for.
    host_part: bool,
}

/// Why a word is not a port, in the reference engine's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum PortError {
    #[error("invalid port: {0:?}: invalid proto: {1}")]
    Protocol(String, String),
    #[error("invalid port: {0:?}: no port specified")]
    Missing(String),
    #[error("invalid IP address: {0}")]
    Address(String),
    #[error("invalid containerPort: {0}")]
    Container(String),
    #[error("invalid hostPort: {0}")]
    Host(String),
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
}

impl Evaluator<'_, '_> {
    pub(super) fn expose(&mut self, expose: &Expose) {
        // The words are put in order as written, and expanded afterwards (R-EXPOSE-1).
        let mut words: Vec<_> = expose.ports.iter().collect();
        words.sort_by(|a, b| a.raw().cmp(b.raw()));
        let mut keys = Vec::new();
        for word in words {
            let (ports, trace) = match word.expand_words_traced(&self.state.environment) {
                Ok((ports, trace)) => (ports, Ok(trace)),
                Err(error) => (Vec::new(), Err(error)),
            };
            if self.expanded(trace, word.span).is_some() {
                keys.extend(
                    ports
                        .iter()
                        .flat_map(|port| self.port_keys(port, word.span))
                        .collect::<Vec<_>>(),
                );
            }
        }
        self.metadata(format!("EXPOSE [{}]", keys.join(" ")));
        self.state.config.config.exposed_ports.extend(keys);
    }

    /// `8000-8002/UDP` as `8000/udp`, `8001/udp`, `8002/udp`.
    fn port_keys(&mut self, text: &str, span: kiln_parser::Span) -> Vec<String> {
        let spec = match parse_port(text) {
            Ok(spec) => spec,
            Err(error) => {
                self.error(code::PORT, error.to_string(), span);
                return Vec::new();
            }
        };
        if !spec.lowercase {
            let message =
                format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
            self.warn(code::EXPOSE_PROTO_CASING, message, span);
        }
        if spec.host_part {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
            );
            self.warn(code::EXPOSE_INVALID_FORMAT, message, span);
        }
        spec.ports
            .map(|port| format!("{port}/{}", spec.protocol))
            .collect()
    }
}

/// port := [[ip ":"] host ":"] container ["/" protocol]
fn parse_port(text: &str) -> Result<PortSpec, PortError> {
    let (address, host, container) = split_parts(text);
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    if container.is_empty() {
        return Err(PortError::Missing(text.to_owned()));
    }
    let lower = protocol.to_lowercase();
    if !["", "tcp", "udp", "sctp"].contains(&lower.as_str()) {
        return Err(PortError::Protocol(text.to_owned(), protocol.to_owned()));
    }
    let plain_address = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if !address.is_empty() && plain_address.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(address.to_owned()));
    }
    let ports = port_range(container).ok_or_else(|| PortError::Container(container.to_owned()))?;
    if !host.is_empty() {
        let hosts = port_range(host).ok_or_else(|| PortError::Host(host.to_owned()))?;
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(PortError::Ranges(container.to_owned(), host.to_owned()));
        }
    }
    let lowercase = lower == protocol;
    let protocol = if lower.is_empty() {
        "tcp".to_owned()
    } else {
        lower
    };
    Ok(PortSpec {
        ports,
        protocol,
        lowercase,
        host_part: text.contains(':'),
    })
}

/// Address, host port and container port. Only the last two colons count, so that an IPv6 address may have its own.
fn split_parts(text: &str) -> (&str, &str, &str) {
    match text.rsplit_once(':') {
        None => ("", "", text),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |digits: &str| {
        digits
            .parse::<u16>()
            .ok()
            .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, String> {
        let spec = parse_port(text).map_err(|error| error.to_string())?;
        Ok(spec
            .ports
            .map(|port| format!("{port}/{}", spec.protocol))
            .collect())
    }

    // R-EXPOSE-2, R-EXPOSE-3
    #[test]
    fn ports_are_read() {
        for (text, expected) in [
            ("80", vec!["80/tcp"]),
            ("80/", vec!["80/tcp"]),
            ("443/TCP", vec!["443/tcp"]),
            ("53/udp", vec!["53/udp"]),
            ("9/sctp", vec!["9/sctp"]),
            ("0", vec!["0/tcp"]),
            ("65535", vec!["65535/tcp"]),
            ("8000-8002/udp", vec!["8000/udp", "8001/udp", "8002/udp"]),
            ("127.0.0.1:80:8080", vec!["8080/tcp"]),
            ("[::1]:80:81", vec!["81/tcp"]),
            ("1-3:5", vec!["5/tcp"]),
            ("1-2:5-6", vec!["5/tcp", "6/tcp"]),
        ] {
            assert_eq!(
                keys(text),
                Ok(expected.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
    }

    // R-EXPOSE-4
    #[test]
    fn what_is_no_port_is_refused() {
        for (text, message) in [
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("a", "invalid containerPort: a"),
            ("65536", "invalid containerPort: 65536"),
            ("3-1", "invalid containerPort: 3-1"),
            ("+1", "invalid containerPort: +1"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            (
                "5:1-3",
                "invalid ranges specified for container and host Ports: 1-3 and 5",
            ),
            ("x:80", "invalid hostPort: x"),
            ("nowhere:1:2", "invalid IP address: nowhere"),
            ("[\"80\"]", "invalid containerPort: [\"80\"]"),
        ] {
            assert_eq!(keys(text), Err(message.to_owned()), "{text}");
        }
    }
}
