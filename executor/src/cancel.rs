//! Stopping a build from outside: an interrupt, or a sibling step that failed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::error::Cause;

/// How often what another process holds is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(20);

type Hook = Box<dyn Fn() + Send>;

/// A request to stop that reaches running steps at once (R-RT-16).
///
/// Clones share one state. Work that polls asks [`Cancel::requested`]; work that blocks (a step's process)
/// leaves a hook that ends it.
#[derive(Clone, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requested: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    waiting: HashMap<u64, Hook>,
}

/// Takes its hook away again when dropped.
#[must_use = "the hook is gone when this is dropped"]
pub struct HookGuard {
    state: Arc<State>,
    id: u64,
}

impl Cancel {
    /// Asks everything to stop. Hooks run on the calling thread, so not from within a signal handler.
    pub fn request(&self) {
        self.state.requested.store(true, Ordering::SeqCst);
        for hook in self.hooks().waiting.values() {
            hook();
        }
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.state.requested.load(Ordering::SeqCst)
    }

    /// Waits until what another process holds can be had, or for the stop. It asks time and again, as nothing wakes a
    /// thread out of flock(2).
    pub(crate) fn until<T>(&self, ask: impl Fn() -> Result<Option<T>, Cause>) -> Result<T, Cause> {
        let (stop, stopped) = mpsc::channel();
        let _hook = self.on_request(move || {
            let _ = stop.send(()); // who waits may be gone already
        });
        loop {
            if let Some(held) = ask()? {
                return Ok(held);
            }
            if stopped.recv_timeout(ASK_AGAIN).is_ok() {
                return Err(Cause::Canceled);
            }
        }
    }

    /// Runs `hook` when a stop is asked for; at once if it was already.
    pub fn on_request(&self, hook: impl Fn() + Send + 'static) -> HookGuard {
        let mut hooks = self.hooks();
        hooks.next += 1;
        let id = hooks.next;
        if self.requested() {
            hook();
        }
        hooks.waiting.insert(id, Box::new(hook));
        HookGuard {
            state: self.state.clone(),
            id,
        }
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Hooks> {
        self.state
            .hooks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        self.state
            .hooks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waiting
            .remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn hooks_run_until_their_guard_goes() {
        let cancel = Cancel::default();
        let count = Arc::new(AtomicU32::new(0));
        let counted = || {
            let count = count.clone();
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        drop(cancel.on_request(counted()));
        let _kept = cancel.on_request(counted());
        cancel.request();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let _late = cancel.on_request(counted());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(cancel.requested());
    }
}
