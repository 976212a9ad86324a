//! A running step: wait for it, kill it, tidy up after it.

use super::furnish::Furnishing;
use super::mounted_root::MountedRoot;
use super::recorder::{Captured, Recorder};
use super::stub::Stubs;
use super::{SandboxError, SandboxSpec, helper};
use crate::locked::locked;
use crate::sys::{self, ChildEnd};
use crate::usage::Usage;
use rustix::process::{Signal, pidfd_send_signal};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited by itself with this status, 0 to 255.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it exited with status 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status a shell would report: the code itself, or 128 + signal (R-RT-15).
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A step whose program is running. Dropping it kills the step and waits for its end.
#[derive(Debug)]
pub struct Step {
    pidfd: OwnedFd,
    /// What ends it and all that it started.
    end: Signal,
    /// Whether signals come to a process that passes them on.
    passes_on: bool,
    /// Where the step's changes are, for the mount points that were made there.
    changes: PathBuf,
    stubs: Stubs,
    recorder: Mutex<Option<Recorder>>,
    recorded: OnceLock<Captured>,
    /// What stands in the root for want of mounts.
    furnishing: Mutex<Option<Furnishing>>,
    /// Where it is said which program it ended for.
    need: Mutex<Option<OwnedFd>>,
    needed: OnceLock<String>,
    ended: OnceLock<Result<(ExitStatus, Usage), SandboxError>>,
    mounts: Mutex<Option<Leavings>>,
    root: Mutex<Option<MountedRoot>>,
}

/// What outlasts a step as long as this is held, since the kernel takes as long to take it away as a step to begin.
#[derive(Debug)]
#[expect(dead_code, reason = "held, and no more")]
pub(crate) enum Leavings {
    /// Its mounts.
    Mounts(OwnedFd),
    /// What stood in its root for want of mounts, and is out of it.
    Furnishing(Furnishing),
}

impl Leavings {
    /// Whether what the step wrote can be a layer of another step meanwhile.
    pub(crate) fn are_apart(&self) -> bool {
        matches!(self, Self::Furnishing(_))
    }
}

impl Step {
    pub(super) fn new(
        pidfd: OwnedFd,
        spec: &SandboxSpec,
        stubs: Stubs,
        recorder: Option<Recorder>,
        furnishing: Option<Furnishing>,
        need: Option<OwnedFd>,
    ) -> Self {
        let recorded = OnceLock::new();
        Self {
            pidfd,
            end: helper::end_signal(spec),
            passes_on: spec.init || helper::is_minded(spec),
            changes: spec.root.changes().to_owned(),
            stubs,
            recorder: Mutex::new(recorder),
            recorded,
            furnishing: Mutex::new(furnishing),
            need: Mutex::new(need),
            needed: OnceLock::new(),
            ended: OnceLock::new(),
            mounts: Mutex::new(None),
            root: Mutex::new(None),
        }
    }

    /// Holds its mounts, so that its end need not wait for theirs. Where that can't be, they go with the step.
    pub(crate) fn hold_mounts(&self) {
        let held = sys::mount_namespace_of(self.pidfd.as_fd()).ok();
        *self.mounts.lock().unwrap_or_else(PoisonError::into_inner) = held.map(Leavings::Mounts);
    }

    /// Hands over what is held of it.
    pub(crate) fn take_mounts(&self) -> Option<Leavings> {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.take()
    }

    /// Keeps its root filesystem mounted until it is taken.
    pub(super) fn keep_root(&self, root: Option<MountedRoot>) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// Hands over its root filesystem, if that stays mounted.
    pub(crate) fn take_root(&self) -> Option<MountedRoot> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        root.take()
    }

    /// Waits until the program and everything it started have ended, then removes the mount points that were made for it
    /// (R-MNT-17). A second call gives the same answer.
    pub fn wait(&self) -> Result<ExitStatus, SandboxError> {
        let ended = self.ended.get_or_init(|| self.reap()).clone();
        ended.map(|(status, _)| status)
    }

    /// What it used, once it has ended.
    pub fn usage(&self) -> Usage {
        match self.ended.get() {
            Some(Ok((_, usage))) => *usage,
            _ => Usage::default(),
        }
    }

    /// The program that the step was ended for before it executed it, once it has ended: it is to be begun again as one that needs such programs
    /// ([`SetId::Certain`](super::SetId::Certain)). `None` if it ended by itself.
    pub fn needed(&self) -> Option<&str> {
        self.needed.get().map(String::as_str)
    }

    /// What was recorded of files that can have no attribute, once it has ended; `None` on a rung that records no owners.
    pub fn recorded(&self) -> Option<&Captured> {
        self.recorded.get()
    }

    /// Kills the program and everything it started. Can be called from any thread, also while another waits.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, self.end); // it may have ended already
    }

    /// Sends the program a signal by number, as `kiln run` passes on its own. As process 1 it gets only those that it has a handler for.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = pidfd_send_signal(&self.pidfd, signal); // it may have ended already
        }
    }

    /// Whether a signal does to the program what it does to any other: if not, as it is process 1 and has no handler, the signal is to end it.
    pub fn minds(&self, signal: i32) -> bool {
        if self.passes_on {
            return true;
        }
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let status = sys::number_of(self.pidfd.as_fd())
            .and_then(|number| std::fs::read_to_string(format!("/proc/{number}/status")).ok())
            .unwrap_or_default();
        let bit = 1_u64 << (signal - 1).clamp(0, 63);
        ["SigCgt:", "SigIgn:"].iter().any(|name| {
            let mask = field(&status, name);
            mask.is_some_and(|mask| {
                u64::from_str_radix(&mask, 16).is_ok_and(|mask| mask & bit != 0)
            })
        })
    }

    fn reap(&self) -> Result<(ExitStatus, Usage), SandboxError> {
        let waited = sys::wait_for_child(self.pidfd.as_fd());
        let (end, usage) = waited.map_err(|cause| SandboxError::Setup {
            stage: "wait for the step".into(),
            cause,
        })?;
        let recorder = self
            .recorder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(recorder) = recorder {
            let captured = recorder.finish();
            captured.map(|captured| self.recorded.set(captured));
        }
        if let Some(need) = locked(&self.need).take() {
            said(need).map(|program| self.needed.set(program));
        }
        self.tidy_up().map_err(|cause| SandboxError::Setup {
            stage: "remove the step's mount points".into(),
            cause,
        })?;
        let status = match end {
            ChildEnd::Exited(code) => ExitStatus::Code(code),
            ChildEnd::Signaled(signal) => ExitStatus::Signal(signal),
        };
        Ok((status, usage.into()))
    }
}

impl Step {
    fn tidy_up(&self) -> crate::sys::Result<()> {
        let mut furnishing = self
            .furnishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(mut furnishing) = furnishing.take() {
            furnishing.clear()?;
            let mut leavings = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
            *leavings = Some(Leavings::Furnishing(furnishing));
        }
        self.stubs.remove(&self.changes)
    }
}

/// What was written before the last to write had gone.
fn said(end: OwnedFd) -> Option<String> {
    let mut said = Vec::new();
    let read = File::from(end).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    read.is_ok_and(|count| count > 0).then(|| said.into_owned())
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.ended.get().is_none() {
            self.kill();
            let _ = self.wait();
        }
    }
}
