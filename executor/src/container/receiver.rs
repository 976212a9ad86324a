//! Signals for a container's program, as if they had come to it.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::sandbox::{ExitStatus, Step};

/// Takes signals for a program, from before it starts until after it ended. Clones are for the same one.
#[derive(Clone, Default)]
pub struct Receiver {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    step: Option<Arc<Step>>,
    /// What came before the program was known to run.
    early: Vec<i32>,
    /// The signal that ended it, because it had no handler.
    ended_by: Option<i32>,
}

impl Receiver {
    /// Passes a signal on. A program that is process 1 doesn't get those that it has no handler for: they would end any other, so they end it
    /// and all it started.
    pub fn take(&self, signal: i32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.step.clone() {
            Some(step) => state.pass_on(signal, &step),
            None => state.early.push(signal),
        }
    }

    /// The program has started. What came before is for it, too: it may have said already that it waits for signals.
    pub(super) fn begin(&self, step: &Arc<Step>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for signal in mem::take(&mut state.early) {
            state.pass_on(signal, step);
        }
        state.step = Some(step.clone());
    }

    /// How the program ended, when its process ended so.
    pub(super) fn end(&self, status: ExitStatus) -> ExitStatus {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (status, state.ended_by) {
            (ExitStatus::Signal(_), Some(signal)) => ExitStatus::Signal(signal),
            _ => status,
        }
    }
}

impl State {
    fn pass_on(&mut self, signal: i32, step: &Step) {
        if step.minds(signal) {
            step.signal(signal);
        } else {
            self.ended_by = Some(signal);
            step.kill();
        }
    }
}
