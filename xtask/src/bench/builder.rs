//! kiln and the builders beside it, each by its command line.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::memfd::MFdFlags;

use crate::process::{is_installed, output, shown, succeeds};

/// How often a program's memory is looked at, and when for the first time: what ends before is too short to be disturbed.
const LOOK: Duration = Duration::from_millis(2);
const FIRST_LOOK: Duration = Duration::from_millis(30);

/// What the built image is called.
const IMAGE: &str = "bench:latest";

/// What is to be built.
pub(super) struct Task<'a> {
    pub(super) context: &'a Path,
    /// Whether steps run although they were run before.
    pub(super) again: bool,
    /// The sandbox that kiln is to take.
    pub(super) sandbox: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// A Dockerfile and its context.
    pub(super) fn of(context: &'a Path) -> Self {
        Task {
            context,
            again: false,
            sandbox: None,
        }
    }
}

/// What one build took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) time: Duration,
    /// Peak of the program's memory in bytes; of a daemon's client it says nothing.
    pub(super) memory: u64,
}

/// A program that builds images.
pub(super) enum Builder {
    Kiln {
        program: PathBuf,
        store: PathBuf,
    },
    Buildah {
        storage: PathBuf,
    },
    /// With a daemon that runs.
    Docker,
    /// With a daemon that runs, at `$BUILDKIT_HOST`.
    BuildKit,
}

/// kiln, and the others that can be used here.
pub(super) fn builders(kiln: &Path, folder: &Path) -> Vec<Builder> {
    let mut builders = vec![Builder::Kiln {
        program: kiln.to_owned(),
        store: folder.join("kiln"),
    }];
    if is_installed("buildah") {
        builders.push(Builder::Buildah {
            storage: folder.join("buildah"),
        });
    }
    if succeeds(Command::new("docker").arg("version")) {
        builders.push(Builder::Docker);
    }
    if succeeds(Command::new("buildctl").args(["debug", "workers"])) {
        builders.push(Builder::BuildKit);
    }
    builders
}

impl Cost {
    pub(super) fn of(time: Duration) -> Self {
        Cost { time, memory: 0 }
    }

    /// The fastest counts, and the most memory.
    pub(super) fn improve(&mut self, other: Cost) {
        self.time = self.time.min(other.time);
        self.memory = self.memory.max(other.memory);
    }
}

impl Builder {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Builder::Kiln { .. } => "kiln",
            Builder::Buildah { .. } => "buildah",
            Builder::Docker => "docker",
            Builder::BuildKit => "buildkit",
        }
    }

    /// Forgets all that was built.
    pub(super) fn empty(&self) -> Result<()> {
        match self {
            Builder::Kiln { store, .. } => remove(store),
            Builder::Buildah { storage } => {
                if storage.exists() {
                    output(buildah(storage).args(["rmi", "--all", "--force"]))?;
                }
                remove(storage)
            }
            Builder::Docker => {
                // There is nothing to remove the first time.
                succeeds(Command::new("docker").args(["rmi", "--force", IMAGE]));
                output(Command::new("docker").args(["system", "prune", "--force"])).map(drop)
            }
            Builder::BuildKit => {
                output(Command::new("buildctl").args(["prune", "--all"])).map(drop)
            }
        }
    }

    /// Builds the Dockerfile of a context.
    pub(super) fn build(&self, task: &Task<'_>) -> Result<Cost> {
        let context = task.context;
        let mut command = match self {
            Builder::Kiln { program, store } => {
                let mut command = Command::new(program);
                command.args(["build", "--progress=none", "-t", IMAGE, "--root"]);
                command.arg(store);
                command
            }
            Builder::Buildah { storage } => {
                let mut command = buildah(storage);
                command.args(["build", "--layers", "--tls-verify=false", "-t", IMAGE]);
                command
            }
            Builder::Docker => {
                let mut command = Command::new("docker");
                command.args(["build", "-t", IMAGE]);
                command
            }
            Builder::BuildKit => buildkit(context),
        };
        if task.again {
            command.arg("--no-cache");
        }
        if let (Builder::Kiln { .. }, Some(sandbox)) = (self, task.sandbox) {
            command.args(["--sandbox", sandbox]);
        }
        if !matches!(self, Builder::BuildKit) {
            command.arg(context);
        }
        timed(&mut command)
    }
}

impl Builder {
    /// Whether it writes an image as one compressed file.
    pub(super) fn can_export(&self) -> bool {
        !matches!(self, Builder::Docker)
    }

    /// Writes the image that was built of `context` to `file`, as an OCI archive with its layers compressed as `format`.
    pub(super) fn export(&self, context: &Path, format: &str, file: &Path) -> Result<Cost> {
        let output = format!("type=oci,dest={},compression={format}", file.display());
        let mut command = match self {
            Builder::Kiln { program, store } => {
                let mut command = Command::new(program);
                command.args(["build", "--progress=none", "-o", &output, "--root"]);
                command.arg(store).arg(context);
                command
            }
            Builder::Buildah { storage } => {
                let mut command = buildah(storage);
                command.args(["push", "--compression-format", format, IMAGE]);
                command.arg(format!("oci-archive:{}", file.display()));
                command
            }
            Builder::Docker => bail!("docker writes its layers uncompressed"),
            Builder::BuildKit => {
                let mut command = buildkit(context);
                command.args(["--output", &output]);
                command
            }
        };
        timed(&mut command)
    }
}

/// A build by BuildKit.
fn buildkit(context: &Path) -> Command {
    let mut command = Command::new("buildctl");
    command.args(["build", "--frontend=dockerfile.v0"]);
    for name in ["context", "dockerfile"] {
        let local = format!("{name}={}", context.display());
        command.args(["--local", &local]);
    }
    command
}

fn buildah(storage: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(storage.join("root"));
    command.arg("--runroot").arg(storage.join("run"));
    command
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("could not remove `{}`", folder.display()))
}

/// How long a command takes that succeeds. What it says on stderr is shown if it doesn't; a file takes it, for which nobody has to read along.
fn timed(command: &mut Command) -> Result<Cost> {
    let mut said = nix::sys::memfd::memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .context("could not make a file in memory")?;
    let stderr = said.try_clone().context("could not copy a descriptor")?;
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(stderr);
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    let status = Path::new("/proc")
        .join(child.id().to_string())
        .join("status");
    let ended = AtomicBool::new(false);
    let (ended_as, time, memory) = thread::scope(|scope| {
        let memory = scope.spawn(|| peak_memory(&status, &ended));
        let ended_as = child.wait();
        let time = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        memory.thread().unpark();
        (ended_as, time, memory.join())
    });
    let ended_as = ended_as?;
    if !ended_as.success() {
        let mut text = Vec::new();
        said.rewind()?;
        said.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        bail!("`{}` failed: {ended_as}\n{}", shown(command), text.trim());
    }
    let memory = memory.unwrap_or_default();
    Ok(Cost { time, memory })
}

/// The most memory that a process had, in bytes, as far as its status could be read before it ended.
fn peak_memory(status: &Path, ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    thread::park_timeout(FIRST_LOOK);
    while !ended.load(Ordering::Relaxed) {
        let text = fs::read_to_string(status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) << 10);
        thread::sleep(LOOK);
    }
    peak
}
