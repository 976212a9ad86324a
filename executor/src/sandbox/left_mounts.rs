//! Mounts that a step leaves and nobody looks at again. The kernel takes them down when the last of the namespace goes, for which it waits for all
//! processors, so that is left to a thread.

use super::step::Leavings;
use rustix::process::nice;
use std::mem;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// By how much who takes them down is nicer than the rest of kiln.
const PATIENT: i32 = 10;

/// Takes them down, at the latest when it is dropped, which waits for it.
#[derive(Debug, Default)]
pub(super) struct LeftMounts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Leavings>,
    /// Started for the first.
    thread: Option<(Sender<Vec<Leavings>>, JoinHandle<()>)>,
}

impl LeftMounts {
    /// Keeps some until there is time for them.
    pub(super) fn add(&self, mounts: Leavings) {
        self.state().waiting.push(mounts);
    }

    /// Has them taken down.
    pub(super) fn take_down(&self) {
        let mut state = self.state();
        let waiting = mem::take(&mut state.waiting);
        if waiting.is_empty() {
            return;
        }
        if state.thread.is_none() {
            state.thread = start();
        }
        // Where there is no thread they are dropped, and so taken down, here.
        if let Some((sender, _)) = &state.thread {
            let _ = sender.send(waiting);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LeftMounts {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.waiting.clear();
        if let Some((sender, thread)) = state.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn start() -> Option<(Sender<Vec<Leavings>>, JoinHandle<()>)> {
    let (sender, left) = channel();
    let take_down = move || {
        // Whoever starts a step goes before.
        let _ = nice(PATIENT);
        left.iter().for_each(drop);
    };
    let thread = thread::Builder::new()
        .name("left-mounts".into())
        .spawn(take_down);
    Some((sender, thread.ok()?))
}
