//! Real parts for the network tier: docker-registry on loopback as it can be set up, a token service, certificates from
//! openssl, and a proxy that damages what goes through.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod fault_proxy;
pub mod material;
pub mod tokens;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Who may log in to a registry with [`Setup::htpasswd`].
pub const USER: &str = "me";
pub const PASSWORD: &str = "secret";
/// `PASSWORD` as bcrypt has it.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A running docker-registry with a folder of its own. It ends when dropped.
pub struct RealRegistry {
    process: Child,
    /// `127.0.0.1:port`.
    pub host: String,
    pub dir: TempDir,
}

/// How a registry is set up.
#[derive(Default)]
pub struct Setup {
    pub htpasswd: bool,
    /// HTTPS, with a certificate of [`Authority`] in the registry's folder.
    pub tls: bool,
    /// Only clients with a certificate of that authority.
    pub client_certificates: bool,
    /// HTTPS, with a certificate for this name (`IP:127.0.0.1`) that vouches for itself, as Docker's documentation has it made.
    pub self_signed: Option<&'static str>,
    /// Tokens of this service.
    pub tokens: Option<tokens::Settings>,
}

impl RealRegistry {
    pub fn start(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut http = "http:\n  addr: 127.0.0.1:0\n  secret: s\n".to_owned();
        let authority = setup.tls.then(|| Authority::make(dir.path()));
        if let Some(authority) = &authority {
            authority.issue("server", "127.0.0.1");
        }
        if let Some(name) = setup.self_signed {
            Authority(dir.path()).openssl(&format!(
                "req -newkey rsa:2048 -nodes -sha256 -keyout server.key -x509 -days 2 -subj /CN=me -addext subjectAltName={name} -out server.crt"
            ));
        }
        if setup.tls || setup.self_signed.is_some() {
            http += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                path("server.crt"),
                path("server.key")
            );
            if let Some(authority) = authority.filter(|_| setup.client_certificates) {
                authority.issue("client", "client");
                http += &format!("    clientcas: [{}]\n", path("ca.crt"));
            }
        }
        let mut auth = String::new();
        if setup.htpasswd {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            auth = format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                path("htpasswd")
            );
        }
        if let Some(tokens) = &setup.tokens {
            auth = format!(
                "auth:\n  token:\n    realm: {}\n    service: test\n    issuer: test\n    rootcertbundle: {}\n",
                tokens.realm,
                tokens.certificate.display()
            );
        }
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{http}{auth}",
            path("store")
        );
        std::fs::write(path("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry can be started (package docker-registry)");
        let host = listening(&mut process);
        RealRegistry { process, host, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        // If it is gone already, the test has failed elsewhere.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the line that says where it listens, and has the rest of what it says read.
fn listening(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some((_, rest)) = line.split_once("listening on ") {
            let host = rest.split([',', '"']).next().unwrap().to_owned();
            std::thread::spawn(move || lines.for_each(drop));
            return host;
        }
        said.push(line);
    }
    panic!("docker-registry did not start:\n{}", said.join("\n"));
}

/// A certificate authority in a folder: `ca.crt`, `ca.key`, and what it issues.
pub struct Authority<'a>(&'a Path);

impl<'a> Authority<'a> {
    pub fn make(dir: &'a Path) -> Self {
        let authority = Authority(dir);
        authority.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        );
        authority
    }

    /// `NAME.crt` and `NAME.key` for a host that is an address.
    pub fn issue(&self, name: &str, host: &str) {
        let subject = match host.parse::<std::net::IpAddr>() {
            Ok(_) => format!("IP:{host}"),
            Err(_) => format!("DNS:{host}"),
        };
        std::fs::write(
            self.0.join("extensions"),
            format!("subjectAltName={subject}\nextendedKeyUsage=serverAuth,clientAuth\n"),
        )
        .unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.crt"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0)
            .output()
            .expect("openssl can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }
}

/// Runs skopeo to a good end, and gives what it printed.
pub fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
