//! A token service as docker-registry believes it: it gives whoever is known a signed list of what was asked for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kiln_registry::testing::{Asked, Reply, TestServer};
use serde_json::{Value, json};

use super::{Authority, PASSWORD, USER};

/// What the registry has to know of the service.
pub struct Settings {
    pub realm: String,
    pub certificate: PathBuf,
}

/// A running token service.
pub struct TokenService {
    pub server: TestServer,
    pub dir: tempfile::TempDir,
}

/// How it likes to be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A GET with *Basic*.
    Get,
    /// A POST, as OAuth2 has it.
    Post,
}

impl TokenService {
    /// One that knows [`USER`], and lets anybody pull.
    pub fn start(takes: Takes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Authority::make(dir.path());
        let folder = dir.path().to_owned();
        let server = TestServer::start(move |asked| answer(&folder, takes, asked));
        TokenService { server, dir }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            realm: format!("{}/token", self.server.origin()),
            certificate: self.dir.path().join("ca.crt"),
        }
    }
}

fn answer(dir: &Path, takes: Takes, asked: Asked<'_>) -> Reply {
    let method = if takes == Takes::Get { "GET" } else { "POST" };
    if asked.method() != method {
        return Reply::status(405);
    }
    let query = asked
        .target()
        .split_once('?')
        .map_or("", |(_, query)| query);
    let form = String::from_utf8_lossy(asked.body).into_owned();
    let fields = if takes == Takes::Get { query } else { &form };
    let values = |name: &str| -> Vec<String> {
        fields
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
            .collect()
    };
    let one = |name: &str| values(name).first().cloned().unwrap_or_default();
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let given = asked.header("authorization");
    let is_user = match takes {
        Takes::Get => given == Some(basic.as_str()),
        Takes::Post => {
            (one("username") == USER && one("password") == PASSWORD)
                || one("refresh_token") == "refresh-me"
        }
    };
    if !is_user && (given.is_some() || takes == Takes::Post) {
        return Reply::status(401);
    }
    let scopes = values("scope");
    let scopes = scopes.iter().flat_map(|scopes| scopes.split(' '));
    let access: Vec<Value> = scopes.filter_map(|scope| granted(scope, is_user)).collect();
    let token = signed(dir, &one("service"), &access);
    let offline = one("offline_token") == "true" || one("access_type") == "offline";
    let refresh = (is_user && offline && takes == Takes::Post).then_some("refresh-me");
    let body = json!({ "access_token": token, "refresh_token": refresh, "expires_in": 300 });
    Reply::ok(body.to_string()).header("content-type", "application/json")
}

fn granted(scope: &str, is_user: bool) -> Option<Value> {
    let (rest, actions) = scope.rsplit_once(':')?;
    let (kind, name) = rest.split_once(':')?;
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| is_user || *action == "pull")
        .collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A JSON web token, signed by the authority itself.
fn signed(dir: &Path, service: &str, access: &[Value]) -> String {
    let pem = std::fs::read_to_string(dir.join("ca.crt")).unwrap();
    let certificate: String = pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] }));
    let claims = part(json!({
        "iss": "test", "sub": USER, "aud": service, "exp": now + 300, "nbf": now - 60, "iat": now,
        "jti": "1", "access": access,
    }));
    let text = format!("{header}.{claims}");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", "ca.key"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = openssl.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let signature = openssl.wait_with_output().unwrap().stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
