//! A real docker-registry on loopback, for as long as the network tier runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long the registry may take to answer: so many times [`PAUSE`].
const PATIENCE: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// A running registry; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Child,
    /// `127.0.0.1:port`.
    pub(crate) host: String,
}

impl Registry {
    /// Starts an empty registry whose files are below `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("could not empty `{}`", folder.display()))?;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make `{}`", folder.display()))?;
        let host = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())?
            .to_string();
        let (data, config) = (folder.join("data"), folder.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            data.display()
        );
        fs::write(&config, text)
            .with_context(|| format!("could not write `{}`", config.display()))?;
        let log = fs::File::create(folder.join("log"))?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("could not start docker-registry")?;
        let mut registry = Registry { process, host };
        registry.wait(&folder.join("log"))?;
        Ok(registry)
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        for _ in 0..PATIENCE {
            if self.answers() {
                println!("docker-registry listens on {}", self.host);
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "docker-registry ended ({status}): {}",
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
            sleep(PAUSE);
        }
        bail!("docker-registry does not answer on {}", self.host)
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.host)?;
            stream.write_all(
                format!("GET /v2/ HTTP/1.0\r\nHost: {}\r\n\r\n", self.host).as_bytes(),
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
