//! Stopping what a client does, from another thread and at once: connections end, pauses are over, nothing new begins.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ureq::Agent;

use crate::locked::locked;

/// Stops a [`Client`](crate::Client), for good. Clones stop the same one.
#[derive(Clone, Default)]
pub struct Stopper(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// It was asked for, or something that is waited for has come.
    news: Condvar,
}

#[derive(Default)]
struct State {
    asked: bool,
    /// Whose connections are to end.
    agents: Vec<Agent>,
}

/// Why something was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GaveUp {
    Stopped,
    TooLong,
}

impl Stopper {
    /// Ends all that is under way. Whoever waits for an answer gets an error.
    pub fn stop(&self) {
        let mut state = self.state();
        state.asked = true;
        let agents = std::mem::take(&mut state.agents);
        drop(state);
        self.0.news.notify_all();
        agents.into_iter().for_each(Agent::shutdown);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.state().asked
    }

    /// Notes an agent whose connections are to end, too; `false` if it comes too late.
    pub(crate) fn reaches(&self, agent: &Agent) -> bool {
        let mut state = self.state();
        if !state.asked {
            state.agents.push(agent.clone());
        }
        !state.asked
    }

    /// Waits as long, or until the stop.
    pub(crate) fn pause(&self, duration: Duration) {
        let wait = self
            .0
            .news
            .wait_timeout_while(self.state(), duration, |state| !state.asked);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does something that nothing can interrupt on a thread of its own, which is left alone when it takes too long.
    pub(crate) fn apart<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GaveUp> {
        let done = Arc::new(Mutex::new(None));
        let (kept, shared) = (Arc::clone(&done), Arc::clone(&self.0));
        thread::spawn(move || {
            let result = work();
            *locked(&kept) = Some(result);
            // Who is about to wait has looked before this is locked, or looks after.
            drop(locked(&shared.state));
            shared.news.notify_all();
        });
        let waits = |state: &mut State| !state.asked && locked(&done).is_none();
        let state = self.state();
        let wait = self.0.news.wait_timeout_while(state, limit, waits);
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        match locked(&done).take() {
            _ if state.asked => Err(GaveUp::Stopped),
            Some(result) => Ok(result),
            None => Err(GaveUp::TooLong),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn work_apart_is_waited_for_until_its_limit_or_the_stop() {
        let stopper = Stopper::default();
        assert_eq!(stopper.apart(LONG, || 7), Ok(7));
        let (release, released) = mpsc::channel::<()>();
        let stuck = move || released.recv().is_ok();
        let gave_up = stopper.apart(Duration::from_millis(1), stuck);
        assert_eq!(gave_up, Err(GaveUp::TooLong));
        drop(release);
        let (begun, began) = mpsc::channel();
        let (_never, stuck) = mpsc::channel::<()>();
        let other = stopper.clone();
        let waiting = thread::spawn(move || {
            other.apart(LONG, move || {
                begun.send(()).unwrap();
                stuck.recv().is_ok()
            })
        });
        began.recv().unwrap();
        stopper.stop();
        assert_eq!(waiting.join().unwrap(), Err(GaveUp::Stopped));
        assert_eq!(stopper.apart(LONG, || 7), Err(GaveUp::Stopped));
        stopper.pause(LONG);
    }
}
