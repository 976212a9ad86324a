//! Why a handshake came to nothing: what is wrong with the certificate of a host, or with this client's, and what may help.

use std::fmt;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// A failed handshake. Displays as a sentence about the host that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFailure {
    /// An authority vouches for the host that nobody here knows.
    UnknownAuthority,
    /// The host's certificate vouches for itself, and is not known here.
    SelfSigned,
    /// The host's certificate is no good any more since this date.
    Expired(String),
    /// The host's certificate is no good before this date.
    NotYetValid(String),
    /// The host's certificate is for others.
    OtherName {
        /// The name it was called by.
        called: String,
        /// The names that the certificate is for.
        names: Vec<String>,
    },
    /// The host wants to see a certificate of this client, or another one than it was shown; what it said.
    WantsCertificate(String),
    /// The host knows no TLS.
    NotTls,
    /// Anything else, in a sentence.
    Other(String),
}

impl TlsFailure {
    pub(crate) fn other(problem: impl Into<String>) -> Self {
        TlsFailure::Other(problem.into())
    }

    /// What may help where a registry is spoken to.
    pub fn remedy(&self) -> &'static str {
        match self {
            TlsFailure::UnknownAuthority | TlsFailure::SelfSigned | TlsFailure::Other(_) => {
                "a private authority is given with `SSL_CERT_FILE` or in `/etc/kiln/certs.d/HOST/ca.crt`; `--tls-verify=false` does without"
            }
            TlsFailure::Expired(_) => {
                "whoever runs it has to renew its certificate, unless the clock here is wrong; until then `--tls-verify=false` does without"
            }
            TlsFailure::NotYetValid(_) => {
                "set the clock of this machine; `--tls-verify=false` does without"
            }
            TlsFailure::OtherName { .. } => {
                "call it by a name that its certificate is for, or have one made for this name; `--tls-verify=false` does without"
            }
            TlsFailure::WantsCertificate(_) => {
                "the certificate and key of this client belong in `/etc/kiln/certs.d/HOST/client.cert` and `client.key`"
            }
            TlsFailure::NotTls => {
                "if it is meant to speak plain HTTP, `--tls-verify=false` allows that, and so does `insecure = true` in `registries.conf`"
            }
        }
    }

    /// What may help where a file is downloaded.
    pub fn remedy_of_download(&self) -> &'static str {
        match self {
            TlsFailure::UnknownAuthority | TlsFailure::SelfSigned | TlsFailure::Other(_) => {
                "the certificate of a private authority is given with `SSL_CERT_FILE`"
            }
            TlsFailure::Expired(_) => {
                "whoever runs it has to renew its certificate, unless the clock here is wrong"
            }
            TlsFailure::NotYetValid(_) => "set the clock of this machine",
            TlsFailure::OtherName { .. } => "call it by a name that its certificate is for",
            TlsFailure::WantsCertificate(_) => {
                "the certificate and key of this client belong in `/etc/kiln/certs.d/HOST/client.cert` and `client.key`"
            }
            TlsFailure::NotTls => "an address of a host without TLS begins with `http://`",
        }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFailure::UnknownAuthority => {
                f.write_str("nobody known here vouches for its certificate")
            }
            TlsFailure::SelfSigned => f.write_str(
                "its certificate vouches for itself, and is not among those trusted here",
            ),
            TlsFailure::Expired(date) => write!(f, "its certificate expired on {date}"),
            TlsFailure::NotYetValid(date) => {
                write!(
                    f,
                    "its certificate is not valid before {date}: is the clock right?"
                )
            }
            TlsFailure::OtherName { called, names } => {
                let names = match names.is_empty() {
                    true => "nobody".to_owned(),
                    false => names.join(", "),
                };
                write!(f, "its certificate is not for `{called}`, but for {names}")
            }
            TlsFailure::WantsCertificate(said) => {
                write!(
                    f,
                    "it ends the handshake: {said}; it may want a certificate of this client"
                )
            }
            TlsFailure::NotTls => f.write_str("it does not speak TLS"),
            TlsFailure::Other(problem) => f.write_str(problem),
        }
    }
}

impl From<&TlsError> for TlsFailure {
    fn from(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidCertificate(bad) => of_certificate(bad),
            TlsError::InvalidMessage(_) => TlsFailure::NotTls,
            TlsError::AlertReceived(alert) if is_about_client(*alert) => {
                TlsFailure::WantsCertificate(format!("{alert:?}"))
            }
            TlsError::AlertReceived(alert) => {
                TlsFailure::Other(format!("it ends the handshake: {alert:?}"))
            }
            other => TlsFailure::Other(other.to_string()),
        }
    }
}

/// What hosts say that don't like the certificate of their client, or miss it. Those of old know no word of their own for that.
fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as Said;
    matches!(
        alert,
        Said::CertificateRequired
            | Said::NoCertificate
            | Said::BadCertificate
            | Said::UnsupportedCertificate
            | Said::CertificateRevoked
            | Said::CertificateExpired
            | Said::CertificateUnknown
            | Said::UnknownCA
            | Said::AccessDenied
            | Said::HandshakeFailure
    )
}

fn of_certificate(bad: &CertificateError) -> TlsFailure {
    use CertificateError as Bad;
    match bad {
        Bad::UnknownIssuer => TlsFailure::UnknownAuthority,
        Bad::ExpiredContext { not_after, .. } => TlsFailure::Expired(date(*not_after)),
        Bad::NotValidYetContext { not_before, .. } => TlsFailure::NotYetValid(date(*not_before)),
        Bad::NotValidForNameContext {
            expected,
            presented,
        } => TlsFailure::OtherName {
            called: expected.to_str().into_owned(),
            names: presented.iter().map(|name| bare(name).to_owned()).collect(),
        },
        bad if is_authority(bad) => TlsFailure::SelfSigned,
        bad => TlsFailure::Other(format!("its certificate will not do: {bad}")),
    }
}

/// Whether a host showed the certificate of an authority. The library has no name for that besides this text.
pub(crate) fn is_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// A name as it stands in a certificate: the library shows `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match Timestamp::from_second(seconds) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d").to_string(),
        Err(_) => format!("second {seconds}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rustls::InvalidMessage;
    use rustls::pki_types::ServerName;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn elsewhere(names: &[&str]) -> TlsError {
        TlsError::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("r.example").unwrap(),
            presented: names.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    #[test]
    fn a_failed_handshake_is_told_in_words_with_what_may_help() {
        let expired = CertificateError::ExpiredContext {
            time: at(1_700_000_000),
            not_after: at(1_600_000_000),
        };
        let early = CertificateError::NotValidYetContext {
            time: at(0),
            not_before: at(1_600_000_000),
        };
        let bad = TlsError::InvalidCertificate;
        for (error, told, help) in [
            (
                bad(CertificateError::UnknownIssuer),
                "nobody known here vouches for its certificate",
                "a private authority is given with",
            ),
            (
                bad(expired),
                "its certificate expired on 2020-09-13",
                "whoever runs it has to renew",
            ),
            (
                bad(early),
                "its certificate is not valid before 2020-09-13: is the clock right?",
                "set the clock",
            ),
            (
                elsewhere(&["DnsName(\"a.example\")", "IpAddress(10.0.0.1)"]),
                "its certificate is not for `r.example`, but for a.example, 10.0.0.1",
                "call it by a name",
            ),
            (
                elsewhere(&[]),
                "its certificate is not for `r.example`, but for nobody",
                "call it by a name",
            ),
            (
                TlsError::InvalidMessage(InvalidMessage::InvalidContentType),
                "it does not speak TLS",
                "if it is meant to speak plain HTTP",
            ),
            (
                TlsError::AlertReceived(AlertDescription::CertificateRequired),
                "it ends the handshake: CertificateRequired; it may want a certificate of this client",
                "the certificate and key of this client",
            ),
            (
                TlsError::AlertReceived(AlertDescription::ProtocolVersion),
                "it ends the handshake: ProtocolVersion",
                "a private authority",
            ),
        ] {
            let failure = TlsFailure::from(&error);
            assert_eq!(failure.to_string(), told);
            assert!(
                failure.remedy().starts_with(help),
                "{told}: {}",
                failure.remedy()
            );
        }
    }
}
