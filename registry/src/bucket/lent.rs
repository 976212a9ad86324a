//! Keys that are lent for some time, by what kiln runs on: a CI that proves who it is, a container's service, a machine.
//!
//! They are asked for when a bucket is first spoken to and again some minutes before they end, so that a long build can still write
//! its cache. The services of containers and machines are nearby and never behind a proxy.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use ureq::http::Method;

use super::AccessKey;
use super::exchange::element;
use crate::host::{Url, host_of, is_loopback, percent_encoded};
use crate::locked::locked;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::session::Session;
use crate::transport::{Payload, Request, Wire, printable};

/// A key is asked for anew when so much of its time is left.
const REST: SignedDuration = SignedDuration::from_mins(5);
/// Longest answer that is read, in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// Longest time to connect to a service nearby, and in which a machine's answers: most machines have none.
const NEARBY: Duration = Duration::from_secs(1);
/// Longest time in which a container's service answers: it is there, or nobody had named it.
const OF_CONTAINER: Duration = Duration::from_secs(5);
/// A failure counts so many times as long as it took: what fails at once may soon be well, and a service that says nothing is not
/// waited for by each step.
const BELIEVED: u32 = 20;
/// Hosts besides loopback to which a container's token goes without TLS.
const OF_CONTAINERS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// For how many seconds a machine's service is asked to know who asks.
const SESSION_SECONDS: &str = "300";

/// Who lends keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyLender {
    /// Amazon's token service, for a token that somebody else has signed (`AssumeRoleWithWebIdentity`).
    WebIdentity {
        /// Name of the role.
        role: String,
        /// The file that has the token; read each time.
        token_file: PathBuf,
        /// What the session is called in logs.
        session: String,
        /// Address of the service.
        endpoint: String,
    },
    /// A service for the container that kiln runs in.
    Container {
        /// Its address.
        url: String,
        /// What it wants to see, if anything.
        token: Option<ContainerToken>,
    },
    /// The service of a machine of Amazon's (`IMDSv2`). Elsewhere there is none, which is no mistake.
    Machine {
        /// Its address.
        endpoint: String,
    },
}

/// What a container's service wants to see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ContainerToken {
    /// This.
    Text(String),
    /// What is in this file now.
    File(PathBuf),
}

/// What lenders have said, by lender. Whoever wants a key that somebody is asking for waits for that answer.
pub(crate) type Lent = HashMap<KeyLender, Arc<Mutex<Said>>>;

/// What a lender has said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Its last key, if it has one, and when that ends.
    key: Option<(Option<AccessKey>, Option<Timestamp>)>,
    /// Why there was none the last time, and until when nobody asks again.
    failed: Option<(String, Instant)>,
}

impl std::fmt::Debug for ContainerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContainerToken(…)")
    }
}

impl Session {
    /// The key of the first of these that lends one. One that should and can't is an error, in words.
    pub(crate) fn lent_key(&self, lenders: &[KeyLender]) -> Result<Option<AccessKey>, String> {
        for lender in lenders {
            if let Some(key) = self.lent_by(lender)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn lent_by(&self, lender: &KeyLender) -> Result<Option<AccessKey>, String> {
        let said = {
            let mut lent = locked(&self.lent);
            lent.entry(lender.clone()).or_default().clone()
        };
        let mut said = locked(&said);
        let now = Timestamp::now();
        if let Some((key, end)) = &said.key
            && end.is_none_or(|end| now.duration_until(end) > REST)
        {
            return Ok(key.clone());
        }
        let problem = match &said.failed {
            Some((problem, until)) if Instant::now() < *until => problem.clone(),
            _ => match self.ask_lender(lender, &mut said) {
                Ok(key) => return Ok(key),
                Err(problem) => problem,
            },
        };
        match &said.key {
            // It is good for some minutes yet.
            Some((key, Some(end))) if now < *end => Ok(key.clone()),
            _ => Err(problem),
        }
    }

    fn ask_lender(&self, lender: &KeyLender, said: &mut Said) -> Result<Option<AccessKey>, String> {
        let began = Instant::now();
        let answer = match lender {
            KeyLender::WebIdentity { .. } => self.of_web_identity(lender).map(Some),
            KeyLender::Container { url, token } => of_container(url, token.as_ref()).map(Some),
            KeyLender::Machine { endpoint } => of_machine(endpoint),
        };
        match answer {
            Ok(answer) => {
                let (key, end) = answer.unzip();
                said.key = Some((key.clone(), end.flatten()));
                said.failed = None;
                Ok(key)
            }
            Err(problem) => {
                let until = Instant::now() + began.elapsed() * BELIEVED;
                said.failed = Some((problem.clone(), until));
                Err(problem)
            }
        }
    }

    fn of_web_identity(
        &self,
        lender: &KeyLender,
    ) -> Result<(AccessKey, Option<Timestamp>), String> {
        let KeyLender::WebIdentity {
            role,
            token_file,
            session,
            endpoint,
        } = lender
        else {
            return Err("it lends no key".to_owned());
        };
        let token = read(token_file)?;
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", &token),
        ];
        let fields = fields.map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        let form = fields.join("&");
        let kind = "application/x-www-form-urlencoded".to_owned();
        let headers = vec![("content-type", kind)];
        let payload = Payload::Bytes(form.as_bytes());
        let text = exchange(&self.wire, Method::POST, endpoint, headers, payload)?;
        let part = |name| element(&text, name);
        let key = part("AccessKeyId").zip(part("SecretAccessKey"));
        let key = key.ok_or_else(|| format!("`{endpoint}` gave no key"))?;
        let key = AccessKey {
            id: key.0,
            secret: key.1,
            session_token: part("SessionToken"),
        };
        let end = part("Expiration").and_then(|end| end.parse().ok());
        Ok((key, end))
    }
}

fn of_container(
    address: &str,
    token: Option<&ContainerToken>,
) -> Result<(AccessKey, Option<Timestamp>), String> {
    let url = Url::parse(address).ok_or_else(|| format!("`{address}` is no address"))?;
    let host = host_of(url.authority());
    let is_private = address.starts_with("https://")
        || is_loopback(url.authority())
        || OF_CONTAINERS.contains(&host);
    if !is_private {
        return Err(format!("`{address}` is neither nearby nor https"));
    }
    let token = match token {
        None => None,
        Some(ContainerToken::Text(text)) => Some(text.clone()),
        Some(ContainerToken::File(path)) => Some(read(path)?),
    };
    let headers = token.map(|token| ("authorization", token));
    let headers = headers.into_iter().collect();
    let text = exchange(
        &nearby(OF_CONTAINER),
        Method::GET,
        address,
        headers,
        Payload::None,
    )?;
    of_json(&text).ok_or_else(|| format!("`{address}` gave no key"))
}

/// `None` where there is no such service, or it has no role to give.
fn of_machine(endpoint: &str) -> Result<Option<(AccessKey, Option<Timestamp>)>, String> {
    let wire = nearby(NEARBY);
    let endpoint = endpoint.trim_end_matches('/');
    let address = format!("{endpoint}/latest/api/token");
    let headers = vec![(
        "x-aws-ec2-metadata-token-ttl-seconds",
        SESSION_SECONDS.to_owned(),
    )];
    let Ok(session) = exchange(&wire, Method::PUT, &address, headers, Payload::Bytes(&[])) else {
        return Ok(None);
    };
    let ask = |path: &str| {
        let headers = vec![("x-aws-ec2-metadata-token", session.trim().to_owned())];
        let address = format!("{endpoint}/latest/meta-data/iam/security-credentials/{path}");
        exchange(&wire, Method::GET, &address, headers, Payload::None)
    };
    let Ok(roles) = ask("") else {
        return Ok(None);
    };
    let Some(role) = roles.lines().next().filter(|role| !role.is_empty()) else {
        return Ok(None);
    };
    let text = ask(&percent_encoded(role))?;
    let key = of_json(&text).ok_or_else(|| format!("`{endpoint}` gave no key"))?;
    Ok(Some(key))
}

fn of_json(text: &str) -> Option<(AccessKey, Option<Timestamp>)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let part = |name: &str| value[name].as_str().map(str::to_owned);
    let key = AccessKey {
        id: part("AccessKeyId")?,
        secret: part("SecretAccessKey")?,
        session_token: part("Token"),
    };
    Some((key, part("Expiration").and_then(|end| end.parse().ok())))
}

/// Connections to what is on this machine or beside it.
fn nearby(longest: Duration) -> Wire {
    Wire::new(&Options {
        proxy: Proxy::default(),
        connect_timeout: NEARBY,
        stall_timeout: longest,
        ..Options::default()
    })
}

/// The text of an answer that is a success. Errors have no more of it than the code that says why.
fn exchange(
    wire: &Wire,
    method: Method,
    address: &str,
    headers: Vec<(&'static str, String)>,
    payload: Payload<'_>,
) -> Result<String, String> {
    let url = Url::parse(address).ok_or_else(|| format!("`{address}` is no address"))?;
    let host = url.authority().to_owned();
    let request = Request {
        method,
        url,
        headers,
        payload,
        unverified: false,
        grace: Duration::ZERO,
        host: None,
    };
    let answer = wire.send(&request, None);
    let answer = answer.map_err(|error| format!("`{host}` can't be reached: {error}"))?;
    let (status, is_success) = (answer.status, answer.is_success());
    let text = answer.bytes(ANSWER_LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    if is_success {
        return Ok(text);
    }
    let code = element(&text, "Code").map(|code| format!(" ({})", printable(&code)));
    Err(format!(
        "`{host}` answered {status}{}",
        code.unwrap_or_default()
    ))
}

fn read(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| format!("can't read `{}`: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::{Reply, TestServer};

    #[test]
    fn a_failure_is_believed_for_a_while() {
        let service = TestServer::start(|_| Reply::status(500));
        let lender = KeyLender::Container {
            url: service.origin() + "/key",
            token: None,
        };
        let session = Session::new(Options::default());
        let asked = || session.lent_by(&lender).unwrap_err();
        assert!(asked().contains("500"));
        assert_eq!(service.lines().len(), 1);
        let said = session.lent.lock().unwrap()[&lender].clone();
        let failed = said.lock().unwrap().failed.take();
        let (problem, until) = failed.unwrap();
        assert!(problem.contains("500"));
        let later = until + Duration::from_secs(3600);
        said.lock().unwrap().failed = Some(("it was silent".to_owned(), later));
        assert_eq!(asked(), "it was silent");
        assert_eq!(service.lines(), Vec::<String>::new(), "not asked again");
    }
}
