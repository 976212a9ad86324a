//! Why a build ended without a result, as data: the kind decides the exit code, the diagnostic what people read.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kiln_cache::StoreError;
use kiln_image::tar::ReadError;
use kiln_image::{DiffId, Digest, ImagePath, Platform};
use kiln_parser::{Code, Diagnostic, Span};
use kiln_registry::{Act, BucketError, FetchError, RegistryError, TransportError};
use thiserror::Error;

use crate::cgroup::CgroupError;
use crate::op::file::{CopyError, MkdirError};
use crate::sandbox::{ExitStatus, SandboxError, Unavailable};
use crate::source::git::GitError;
use crate::usage::Shortage;

/// How many lower layers overlayfs takes (`OVL_MAX_STACK`).
pub(crate) const MOST_LAYERS: usize = 500;

/// What sort of failure it was; the command line maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A step of the Dockerfile failed.
    Build,
    /// The Dockerfile or the context is wrong.
    Input,
    /// This machine can't: privileges, kernel, disk.
    Environment,
    /// A registry or the network.
    Registry,
    /// Somebody asked to stop.
    Canceled,
    /// A step took longer than it may.
    TimedOut,
}

/// A build that failed, and the instruction it failed at.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct BuildError {
    /// The instruction in the Dockerfile, where there is one.
    pub span: Option<Span>,
    /// Where it stands in words: ``stage `build`, step 3 of 5``.
    pub place: Option<String>,
    /// What happened.
    #[source]
    pub cause: Box<Cause>,
    /// The container that has what a failed step left, if it is kept.
    pub kept: Option<String>,
}

/// What happened.
#[derive(Debug, Error)]
pub enum Cause {
    /// A RUN's program ended with anything but status 0 (R-RUN-7).
    #[error("`{text}` {}", ended(*.status))]
    Run {
        /// The instruction as shown in progress.
        text: String,
        /// How it ended.
        status: ExitStatus,
        /// How it was run: shell, user, directory.
        how: String,
        /// What it had not enough of (R-RT-15).
        shortage: Option<Shortage>,
    },
    /// A RUN took longer than it may.
    #[error("`{text}` took longer than {limit:?}")]
    TimedOut {
        /// The instruction as shown in progress.
        text: String,
        /// How long it may take.
        limit: Duration,
        /// How it was run.
        how: String,
    },
    /// A limit of `--resource` was refused.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The step's program could not be started, or the sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// No step can run on this machine as it is.
    #[error("{}", .0.reason)]
    NoSandbox(Unavailable),
    /// A RUN is for a platform whose programs this machine can't start (R-RT-17).
    #[error("`{text}` is for {platform}, and this machine is {}", Platform::host())]
    NoEmulator {
        /// The instruction.
        text: String,
        /// The platform.
        platform: Box<Platform>,
        /// What is wrong with the emulator that is registered, if one is.
        flaw: Option<String>,
    },
    /// A user or group of `USER` is not in the image (R-RT-9).
    #[error("{0}")]
    User(String),
    /// COPY or ADD can't do what is asked.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// WORKDIR can't make its directory.
    #[error(transparent)]
    Mkdir(#[from] MkdirError),
    /// A source of COPY or ADD that is not there (R-COPY-8).
    #[error("`{path}` is not in {origin}")]
    SourceNotFound {
        /// As written.
        path: String,
        /// `the build context`, or what `--from` names.
        origin: String,
        /// Where it stands in the Dockerfile.
        span: Span,
        /// Facts about what is there.
        notes: Vec<String>,
        /// What might have been meant.
        help: Vec<String>,
    },
    /// A name that a lock does not have, in a build that is held to it.
    #[error("{0} is not in the lock file")]
    NotLocked(String),
    /// What a lock says is not there any more.
    #[error("{what} is not what the lock file says: {locked}")]
    LockDiffers {
        /// The name, and what it is the name of.
        what: String,
        /// What it should stand for.
        locked: String,
    },
    /// A file of the context changed while it was read.
    #[error("`{path}` changed while it was being read")]
    ContextChanged {
        /// Below the context.
        path: String,
    },
    /// An archive that ADD should unpack is damaged, hostile or too large (R-ADD-2).
    #[error("could not unpack `{path}`: {}", chain(.source))]
    Archive {
        /// The archive, below the context.
        path: ImagePath,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// The archive that a context is can't be taken: damaged, hostile or too large.
    #[error("could not read the context `{context}`: {}", chain(.source))]
    ContextArchive {
        /// As the user calls it.
        context: String,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// The members of the archive that a context is contradict each other.
    #[error("could not read the context `{context}`: {source}")]
    ContextMembers {
        /// As the user calls it.
        context: String,
        /// What is wrong with them.
        #[source]
        source: CopyError,
    },
    /// Files without an image config were to be an image (R-CTX-5).
    #[error("invalid image config for export: missing architecture")]
    NoConfig,
    /// What was built can't be written as is asked.
    #[error("{0}")]
    Export(String),
    /// A layer is gone or damaged, and can't be had again.
    #[error("layer {0} is not in the store any more")]
    LayerLost(DiffId),
    /// Files of an unpacked layer are not what the layer put there. They are out of use already.
    #[error("the store's files of layer {layer} are damaged: `/{path}` is not what it was")]
    LayerDamaged {
        /// The layer.
        layer: DiffId,
        /// The file that was looked at.
        path: ImagePath,
    },
    /// More layers than the kernel can stack for a RUN.
    #[error("{count} layers are too many for a RUN to stand on: the kernel stacks {MOST_LAYERS}")]
    TooManyLayers {
        /// How many there are, equal ones counted once.
        count: usize,
    },
    /// A secret that a RUN needs was not given, or can't be what is asked (R-MNT-15).
    #[error("{0}")]
    Secret(String),
    /// The part of a cache that a mount wants is not in it (R-MNT-9).
    #[error("could not mount `{path}` of the cache")]
    CacheSource {
        /// The path in the cache.
        path: String,
        /// Why not.
        #[source]
        reason: io::Error,
    },
    /// An SSH agent that a RUN needs was not given, or can't be forwarded (R-MNT-16).
    #[error("{0}")]
    Agent(String),
    /// A feature of the Dockerfile language that kiln does not have yet.
    #[error("{0}")]
    Unsupported(String),
    /// A registry said no, or nothing.
    #[error(transparent)]
    Registry(RegistryError),
    /// A bucket said no, or nothing.
    #[error(transparent)]
    Bucket(BucketError),
    /// The files of a git repository could not be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file could not be downloaded (R-ADD-6).
    #[error(transparent)]
    Download(FetchError),
    /// A download is not what `--checksum` says (R-ADD-8).
    #[error("digest mismatch {found}: {expected}")]
    DigestMismatch {
        /// Its address, without a password.
        url: String,
        /// What came.
        found: Digest,
        /// What was asked for.
        expected: Digest,
    },
    /// An image that is here for other platforms alone, and could not be had for the one that is wanted.
    #[error("`{name}` is here for {here} only, and could not be pulled for {wanted}")]
    OtherPlatforms {
        /// Its name.
        name: String,
        /// The platforms that it is here for, in words.
        here: String,
        /// The first of them.
        first: Box<Platform>,
        /// The platform that was wanted.
        wanted: Box<Platform>,
        /// What its registry said.
        #[source]
        source: Box<RegistryError>,
    },
    /// The image a reference names can't be used.
    #[error("{0}")]
    Image(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of this machine could not be read or written.
    #[error("could not {act} `{}`", path.display())]
    File {
        /// `read`, `write`, …
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Work on a layer's bytes failed.
    #[error("could not {act} layer {layer}")]
    Layer {
        /// `unpack`, `compress`, …
        act: &'static str,
        /// Which layer, or what it is for.
        layer: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The build was asked to stop.
    #[error("canceled")]
    Canceled,
}

impl From<RegistryError> for Cause {
    fn from(error: RegistryError) -> Self {
        match kiln_registry::is_stop(&error) {
            true => Cause::Canceled,
            false => Cause::Registry(error),
        }
    }
}

impl From<BucketError> for Cause {
    fn from(error: BucketError) -> Self {
        match kiln_registry::is_stop(&error) {
            true => Cause::Canceled,
            false => Cause::Bucket(error),
        }
    }
}

impl From<FetchError> for Cause {
    fn from(error: FetchError) -> Self {
        match kiln_registry::is_stop(&error) {
            true => Cause::Canceled,
            false => Cause::Download(error),
        }
    }
}

impl Cause {
    /// A failed act on a file of this machine.
    pub(crate) fn file(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Cause {
        let path = path.into();
        move |source| Cause::File { act, path, source }
    }

    /// A failed act on a layer.
    pub(crate) fn layer<E>(act: &'static str, layer: impl ToString) -> impl FnOnce(E) -> Cause
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let layer = layer.to_string();
        move |source| Cause::Layer {
            act,
            layer,
            source: Box::new(source),
        }
    }

    /// What progress says of the vertex: short, as the vertex's name stands above it.
    pub(crate) fn in_progress(&self) -> String {
        match self {
            Cause::Run {
                status: ExitStatus::Code(code),
                ..
            } => format!("exit status {code}"),
            Cause::Run { status, .. } => ended(*status),
            Cause::TimedOut { limit, .. } => format!("took longer than {limit:?}"),
            other => other.to_string(),
        }
    }

    fn code(&self) -> Code {
        Code(match self {
            Cause::Run { .. } => "run-failed",
            Cause::TimedOut { .. } => "step-timeout",
            Cause::Cgroup(_) => "resources",
            Cause::Agent(_) => "ssh-agent",
            Cause::Sandbox(error) if is_program(error) => "run-failed",
            Cause::Sandbox(_) | Cause::NoSandbox(_) => "sandbox",
            Cause::NoEmulator { .. } => "no-emulator",
            Cause::User(_) => "user-not-found",
            Cause::Copy(_) => "copy-failed",
            Cause::Mkdir(_) => "workdir-failed",
            Cause::SourceNotFound { .. } => "copy-source-not-found",
            Cause::NotLocked(_) => "not-locked",
            Cause::LockDiffers { .. } => "lock-differs",
            Cause::ContextChanged { .. } => "context-changed",
            Cause::Archive { .. } => "archive",
            Cause::ContextArchive { .. } | Cause::ContextMembers { .. } => "context-archive",
            Cause::TooManyLayers { .. } => "too-many-layers",
            Cause::Secret(_) => "secret",
            Cause::CacheSource { .. } => "cache-mount",
            Cause::Unsupported(_) => "unsupported",
            Cause::Registry(_) => "registry",
            Cause::OtherPlatforms { .. } => "platform",
            Cause::Bucket(_) => "bucket",
            Cause::Git(_) => "git",
            Cause::Download(_) => "download",
            Cause::DigestMismatch { .. } => "digest-mismatch",
            Cause::Image(_) | Cause::NoConfig | Cause::Export(_) => "image",
            Cause::LayerLost(_) | Cause::LayerDamaged { .. } | Cause::Store(_) => "store",
            Cause::File { .. } | Cause::Layer { .. } => "io",
            Cause::Canceled => "canceled",
        })
    }

    /// The status that a shell has for a program that could not be started; `None` if it is about something else.
    pub(crate) fn not_started(&self) -> Option<i32> {
        match self {
            Cause::Sandbox(SandboxError::ProgramNotFound { .. }) => Some(127),
            Cause::Sandbox(error) if is_program(error) => Some(126),
            _ => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Cause::Run { .. } | Cause::User(_) | Cause::Copy(_) | Cause::Mkdir(_) => {
                ErrorKind::Build
            }
            Cause::TooManyLayers { .. } | Cause::Archive { .. } => ErrorKind::Build,
            Cause::Sandbox(error) if is_program(error) => ErrorKind::Build,
            Cause::SourceNotFound { .. }
            | Cause::ContextChanged { .. }
            | Cause::NotLocked(_)
            | Cause::LockDiffers { .. } => ErrorKind::Build,
            Cause::Secret(_) | Cause::Agent(_) | Cause::CacheSource { .. } => ErrorKind::Build,
            Cause::DigestMismatch { .. } | Cause::NoConfig | Cause::Export(_) => ErrorKind::Build,
            Cause::Git(error) => error.kind(),
            Cause::Download(FetchError::Local { .. }) => ErrorKind::Environment,
            Cause::Download(_) => ErrorKind::Registry,
            Cause::TimedOut { .. } => ErrorKind::TimedOut,
            Cause::Unsupported(_) => ErrorKind::Input,
            Cause::ContextArchive { .. } | Cause::ContextMembers { .. } => ErrorKind::Input,
            Cause::Registry(error)
                if matches!(error.of_registry(), RegistryError::Local { .. }) =>
            {
                ErrorKind::Environment
            }
            Cause::Registry(_)
            | Cause::OtherPlatforms { .. }
            | Cause::Bucket(_)
            | Cause::Image(_) => ErrorKind::Registry,
            Cause::Canceled => ErrorKind::Canceled,
            Cause::Sandbox(_)
            | Cause::NoSandbox(_)
            | Cause::NoEmulator { .. }
            | Cause::LayerLost(_)
            | Cause::LayerDamaged { .. }
            | Cause::Store(_)
            | Cause::Cgroup(_)
            | Cause::File { .. }
            | Cause::Layer { .. } => ErrorKind::Environment,
        }
    }
}

impl BuildError {
    /// A failure that belongs to no instruction.
    pub fn new(cause: impl Into<Cause>) -> Self {
        BuildError {
            span: None,
            place: None,
            cause: Box::new(cause.into()),
            kept: None,
        }
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }

    /// Something to try, where there is something.
    fn help(&self) -> Option<String> {
        match &*self.cause {
            Cause::Run {
                shortage: Some(Shortage::Limit { .. }),
                ..
            } => Some("raise `--resource memory=…`, or let the step do less at a time".to_owned()),
            Cause::Run {
                shortage: Some(Shortage::Processes { .. }),
                ..
            } => Some("raise `--resource pids-limit=…`, or let the step do less at a time".to_owned()),
            Cause::Run {
                status: ExitStatus::Signal(9),
                ..
            } => Some("if nobody sent it, memory may have run out: see `dmesg`".to_owned()),
            Cause::TimedOut { .. } => Some(
                "allow more with `--step-timeout`, or `# kiln: timeout=…` above the instruction"
                    .to_owned(),
            ),
            Cause::Agent(_) => {
                Some("forward an agent with `--ssh default`, or `--ssh ID=SOCKET`".to_owned())
            }
            Cause::NotLocked(_) => Some("`kiln lock` adds it".to_owned()),
            Cause::LockDiffers { .. } => Some("`kiln lock --update` takes what is there".to_owned()),
            Cause::ContextChanged { .. } => {
                Some("build again when nothing writes to the context".to_owned())
            }
            Cause::LayerLost(_) => {
                Some("pull its image again, or build with `--no-cache`".to_owned())
            }
            Cause::TooManyLayers { .. } => Some(
                "join steps, or copy what they made into a new stage with `COPY --from`".to_owned(),
            ),
            Cause::LayerDamaged { .. } => {
                Some("they are not used again: build once more, and look after the disk".to_owned())
            }
            Cause::Archive { .. } => {
                Some("`ADD --unpack=false` copies it as it is, for a RUN to unpack".to_owned())
            }
            Cause::Registry(error) if !is_full(&self.cause) => {
                registry_help(error).map(str::to_owned)
            }
            Cause::OtherPlatforms { first, .. } => Some(format!(
                "`--platform {first}` takes the one that is here; a FROM takes it with `FROM --platform={first}` whatever is built for"
            )),
            Cause::Git(error) => error.help(),
            Cause::Download(error) if !is_full(&self.cause) => {
                download_help(error).map(str::to_owned)
            }
            Cause::DigestMismatch { .. } => Some(
                "either the file changed, then see why and give its new digest, or it is not the one that was meant"
                    .to_owned(),
            ),
            Cause::NoConfig => Some(
                "put the name of the context into a FROM: a stage that it takes the place of has its files and nothing else"
                    .to_owned(),
            ),
            Cause::Sandbox(SandboxError::OomScore { own, .. }) => Some(format!(
                "`--oom-score-adj {own}` and more can be had; less, if kiln runs as root that has this capability"
            )),
            Cause::NoSandbox(unavailable) => Some(unavailable.remedy.clone()),
            Cause::NoEmulator { platform, .. } => Some(format!(
                "`apt-get install qemu-user-static` registers emulators, as does `docker run --privileged --rm tonistiigi/binfmt --install {}`",
                platform.architecture
            )),
            Cause::Store(error) => error.help(),
            cause if is_full(cause) => Some(
                "the disk is full: make room, or give the store or the output another place"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The failure as people read it: message, place, facts and help.
    pub fn diagnostic(&self) -> Diagnostic {
        let span = match &*self.cause {
            Cause::SourceNotFound { span, .. } => Some(*span),
            _ => self.span,
        };
        let mut diagnostic = Diagnostic::error(self.cause.code(), self.cause.to_string(), span);
        diagnostic.label = self.place.clone();
        match &*self.cause {
            Cause::Run { how, shortage, .. } => {
                let shortage = shortage.map(|what| what.to_string());
                diagnostic.notes.extend(shortage);
                diagnostic = diagnostic.note(how.clone());
            }
            Cause::TimedOut { how, .. } => diagnostic = diagnostic.note(how.clone()),
            Cause::NoEmulator { flaw, .. } => {
                let why = flaw.clone().unwrap_or_else(|| {
                    "the kernel has neither the processor for it nor an emulator".to_owned()
                });
                diagnostic = diagnostic.note(why).note("a stage `FROM --platform=$BUILDPLATFORM` runs here, and stages that only copy need no emulator");
            }
            Cause::DigestMismatch { url, .. } => {
                diagnostic = diagnostic.note(format!("what came from `{url}` has another digest"));
            }
            Cause::SourceNotFound { notes, help, .. } => {
                diagnostic.notes.extend(notes.iter().cloned());
                diagnostic.help.extend(help.iter().cloned());
            }
            _ => {}
        }
        diagnostic.help.extend(self.help());
        diagnostic
    }
}

/// What may help where a download failed.
fn download_help(error: &FetchError) -> Option<&'static str> {
    match error {
        FetchError::Unreachable {
            source: TransportError::Tls(failure),
            ..
        } => Some(failure.remedy_of_download()),
        FetchError::Unreachable {
            source: TransportError::Proxy(_),
            ..
        } => Some(PROXY_HELP),
        FetchError::Unreachable { .. } => {
            Some("check the address and the network; one with `--checksum` is not asked for again")
        }
        FetchError::Status {
            status: 401 | 403, ..
        } => Some(
            "give the secret `HTTP_AUTH_TOKEN_<host>` or `HTTP_AUTH_HEADER_<host>` with `--secret`",
        ),
        FetchError::Status { status: 404, .. } => Some("check the address"),
        FetchError::Changed { .. } => Some("build again"),
        _ => None,
    }
}

/// What may help where a registry did not give what was asked of it.
fn registry_help(error: &RegistryError) -> Option<&'static str> {
    match error.of_registry() {
        RegistryError::Unreachable {
            source: TransportError::Tls(failure),
            ..
        } => Some(failure.remedy()),
        RegistryError::Unreachable {
            source: TransportError::Proxy(_),
            ..
        } => Some(PROXY_HELP),
        RegistryError::Unreachable { at, .. } => Some(match at.act.reads() {
            true => {
                "check the name and the network; an image that is in the store is not asked for"
            }
            false => "check the name and the network",
        }),
        RegistryError::NotFound { at, .. } => Some(match at.act.reads() {
            true => "check name and tag; `kiln images` lists what is in the store",
            false => {
                "check the name; some registries want a repository made before anything is pushed to it"
            }
        }),
        RegistryError::Credentials { .. } => Some(
            "`kiln login` keeps credentials anew; `--authfile FILE` names another file with some",
        ),
        RegistryError::Unauthorized { at, .. } if at.act == Act::LogIn => None,
        RegistryError::Unauthorized { at, .. } => Some(match at.act.reads() {
            true => "the image may not exist, or `kiln login` may be needed",
            false => "`kiln login` may be needed, as somebody who may push there",
        }),
        _ => None,
    }
}

/// What to try where a proxy is the trouble.
const PROXY_HELP: &str = "`HTTP_PROXY` and `HTTPS_PROXY` name it, as `http://USER:PASSWORD@HOST:PORT`; what `NO_PROXY` lists goes without";

/// Whether a full disk is behind it.
fn is_full(cause: &Cause) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let first: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    std::iter::successors(first, |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

/// Whether the program itself was at fault, or the image or the instruction, and not the sandbox.
fn is_program(error: &SandboxError) -> bool {
    matches!(
        error,
        SandboxError::ProgramNotFound { .. }
            | SandboxError::ProgramNotExecutable { .. }
            | SandboxError::WorkingDirectory { .. }
            | SandboxError::MountPoint { .. }
    )
}

/// An error and what is behind it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with status {code}"),
        ExitStatus::Signal(signal) => format!("was killed by {}", signal_name(signal)),
    }
}

/// `SIGKILL` for 9; the number where it has no name.
fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}
