//! Removes what is left in `tmp/` while the build goes on.
//!
//! A step leaves the directories that its overlay was made in, and removing a directory costs more than making one: on a file system
//! that discards freed blocks at once, a tenth of a millisecond each. Nobody waits for that but the end of the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::tmp::remove_all;

/// Takes away directories on a thread of its own, which starts with the first one.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// There was nothing to remove so far.
    #[default]
    Idle,
    Working(Sender<PathBuf>, JoinHandle<()>),
    /// Whoever removes something now does it himself.
    Finished,
}

impl Sweeper {
    /// Removes a file now, and a directory soon.
    pub(crate) fn remove(&self, path: PathBuf) {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let refused = match is_directory {
            true => self.hand_over(path),
            false => Some(path),
        };
        if let Some(path) = refused {
            remove_all(&path);
        }
    }

    /// Waits until all is removed.
    pub(crate) fn finish(&self) {
        let state = std::mem::replace(&mut *self.locked(), State::Finished);
        if let State::Working(sender, thread) = state {
            drop(sender);
            let _ = thread.join();
        }
    }

    /// Leaves a directory to the thread; gives it back if there is none.
    fn hand_over(&self, path: PathBuf) -> Option<PathBuf> {
        let mut state = self.locked();
        if matches!(*state, State::Idle) {
            *state = start();
        }
        match &*state {
            State::Working(sender, _) => sender.send(path).err().map(|refused| refused.0),
            State::Idle | State::Finished => Some(path),
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start() -> State {
    let (sender, paths) = channel::<PathBuf>();
    let work = move || paths.iter().for_each(|path| remove_all(Path::new(&path)));
    let thread = thread::Builder::new().name("sweeper".into()).spawn(work);
    thread.map_or(State::Finished, |thread| State::Working(sender, thread))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn everything_is_gone_when_it_has_finished() {
        let dir = tempfile::tempdir().unwrap();
        let sweeper = Sweeper::default();
        let made = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("below")).unwrap();
            path
        };
        fs::write(dir.path().join("file"), "").unwrap();
        sweeper.remove(dir.path().join("file"));
        sweeper.remove(dir.path().join("nothing"));
        sweeper.remove(made("one"));
        sweeper.remove(made("two"));
        sweeper.finish();
        sweeper.remove(made("late"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
