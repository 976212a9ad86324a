//! Signals for a container's program, as if they had come to it.

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
    /// The signal that ended it, because it had no handler.
    ended_by: Option<i32>,
}

impl Receiver {
    /// Passes a signal on. A program that is process 1 doesn't get those that it has no handler for: they would end any other, so they end it
    /// and all it started.
    pub fn take(&self, signal: i32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(step) = state.step.clone() else {
            state.ended_by = Some(signal);
            return;
        };
        match step.minds(signal) {
            true => step.signal(signal),
            false => {
                state.ended_by = Some(signal);
                step.kill();
            }
        }
    }

    /// The program has started; one that was to end before it began ends now.
    pub(super) fn begin(&self, step: &Arc<Step>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended_by.is_some() {
            step.kill();
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
