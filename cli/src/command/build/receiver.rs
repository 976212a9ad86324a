//! `--load`: the image goes into Docker or podman, by their own `load`. An index of several images goes into Docker where it
//! keeps images in containerd's store, as an OCI archive; all others take Docker's archives.
//!
//! The program is started before anything is built, and waits for the image: kiln without root enters a user namespace soon, in
//! which podman would take itself for root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use kiln_executor::export::{Destination, OpenFile, Sink};
use kiln_image::{DiffId, Digest};

use crate::failure::Failure;

/// A program that takes images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// Docker, through its daemon
    Docker,
    /// podman
    Podman,
}

/// A `load` that waits for an image.
#[derive(Debug)]
pub(super) struct Receiver {
    engine: Engine,
    child: Option<Child>,
    stdin: Option<Arc<File>>,
    is_index: bool,
    known: Vec<Vec<DiffId>>,
}

impl Receiver {
    /// Starts the engine that is asked for, else the first one that is there: Docker, then podman. Fails if it can't take an
    /// index, where that is what it gets.
    pub(super) fn start(asked: Option<Engine>, is_index: bool) -> Result<Self, Failure> {
        let engine = match asked {
            Some(engine) => engine.checked()?,
            None => [Engine::Docker, Engine::Podman]
                .into_iter()
                .find(|engine| engine.is_there())
                .ok_or_else(nobody)?,
        };
        if is_index && !engine.takes_index() {
            return Err(engine.no_index());
        }
        let known = match is_index {
            true => Vec::new(), // it goes to containerd's store, which wants all
            false => engine.known_layers(),
        };
        let child = Command::new(engine.program())
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| engine.failed(&error.to_string()))?;
        let stdin = child.stdin.take().expect("it is piped");
        Ok(Self {
            engine,
            child: Some(child),
            stdin: Some(Arc::new(File::from(OwnedFd::from(stdin)))),
            is_index,
            known,
        })
    }

    /// Where the image is written, and how.
    pub(super) fn sink(&self) -> Sink {
        let stdin = self.stdin.as_ref().expect("it is open until the end");
        let to = Destination::Open(OpenFile(Arc::clone(stdin)));
        match self.is_index {
            true => Sink::Oci(to),
            false => Sink::Docker(to),
        }
    }

    /// The layers of images that it has already, and needs no blobs of.
    pub(super) fn known(&self) -> &[Vec<DiffId>] {
        &self.known
    }

    /// Ends the image and waits until it is loaded. Gives the engine's name.
    pub(super) fn finish(mut self) -> Result<&'static str, Failure> {
        self.stdin = None;
        let child = self.child.take().expect("it is waited for once");
        let failed = |error: io::Error| self.engine.failed(&error.to_string());
        let ended = child.wait_with_output().map_err(failed)?;
        match ended.status.success() {
            true => Ok(self.engine.program()),
            false => Err(self
                .engine
                .failed(String::from_utf8_lossy(&ended.stderr).trim())),
        }
    }
}

impl Drop for Receiver {
    /// What waits for an image that never comes is stopped.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Engine {
    fn program(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        }
    }

    /// Docker is there if its daemon answers.
    fn is_there(self) -> bool {
        let arguments: &[&str] = match self {
            Engine::Docker => &["version", "--format", "{{.Server.Version}}"],
            Engine::Podman => &["--version"],
        };
        self.output(arguments).is_some()
    }

    fn checked(self) -> Result<Self, Failure> {
        match (self.is_there(), self) {
            (true, engine) => Ok(engine),
            (false, Engine::Docker) => Err(Failure::environment(
                "`--load=docker` needs the `docker` program, and a daemon that answers it",
            )
            .help("`docker version` tells what is wrong")),
            (false, Engine::Podman) => Err(Failure::environment(
                "`--load=podman` needs the `podman` program",
            )),
        }
    }

    fn failed(self, words: &str) -> Failure {
        let program = self.program();
        let failure = Failure::environment(format!("`{program} load` failed"));
        match words.is_empty() {
            true => failure,
            false => failure.note(words.to_owned()),
        }
    }

    /// What a program prints, if it is there and succeeds.
    fn output(self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(self.program());
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().ok()?;
        let text = || String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(text)
    }

    /// Whether Docker keeps images in containerd's store; `None` of podman, or if it doesn't say.
    fn has_containerd_store(self) -> Option<bool> {
        let asked = ["info", "--format", "{{json .DriverStatus}}"];
        let driver = (self == Engine::Docker).then(|| self.output(&asked))??;
        Some(driver.contains("io.containerd.snapshotter"))
    }

    /// `podman load` takes one image of an index, and Docker's own store has none.
    fn takes_index(self) -> bool {
        self.has_containerd_store() == Some(true)
    }

    fn no_index(self) -> Failure {
        let program = self.program();
        let message = format!(
            "`{program} load` can't take images for several platforms or attestations here"
        );
        Failure::usage(message)
            .note("Docker can where it keeps images in containerd's store (`docker info` names its driver)")
            .help("load an image for one platform without attestations, or use `-o type=oci,dest=FILE`")
    }

    /// The layers of each image that it has, where it can do without their blobs: Docker with a store of its own. With
    /// containerd's, blobs count by themselves, and podman wants an archive to be whole.
    fn known_layers(self) -> Vec<Vec<DiffId>> {
        if self.has_containerd_store() != Some(false) {
            return Vec::new();
        }
        let ids = self.output(&["image", "ls", "--quiet", "--no-trunc"]);
        let ids = ids.unwrap_or_default();
        let format = ["image", "inspect", "--format", "{{json .RootFS.Layers}}"];
        let arguments: Vec<&str> = format.into_iter().chain(ids.lines()).collect();
        if arguments.len() == format.len() {
            return Vec::new();
        }
        let lists = self.output(&arguments).unwrap_or_default();
        let read = |line: &str| serde_json::from_str::<Vec<String>>(line).ok();
        let layers = |list: Vec<String>| {
            let ids = list.iter().map(|id| id.parse::<Digest>().map(DiffId));
            ids.collect::<Result<Vec<_>, _>>().ok()
        };
        lists.lines().filter_map(read).filter_map(layers).collect()
    }
}

fn nobody() -> Failure {
    Failure::environment("there is nobody to load the image into")
        .note("`--load` needs Docker, with a daemon that answers, or podman")
        .help("`-o type=docker,dest=FILE` writes a file that `docker load` and `podman load` take")
}
