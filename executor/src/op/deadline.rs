//! The end of a step's patience: `--step-timeout` and `# kiln: timeout=5m`.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Does something when time is up, unless it is dropped or asked before.
pub(super) struct Deadline {
    stop: Sender<()>,
    watching: JoinHandle<bool>,
}

impl Deadline {
    pub(super) fn start(
        limit: Duration,
        at_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || match stopped.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => {
                at_end();
                true
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
        };
        let watching = std::thread::Builder::new()
            .name("step-timeout".to_owned())
            .spawn(watch)?;
        Ok(Self { stop, watching })
    }

    /// Whether time was up before now.
    pub(super) fn has_passed(self) -> bool {
        drop(self.stop);
        self.watching.join().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn time_is_up_or_not() {
        let (done, was_done) = mpsc::channel();
        let deadline = Deadline::start(Duration::ZERO, move || done.send(()).unwrap()).unwrap();
        was_done.recv().unwrap();
        assert!(deadline.has_passed());
        let hour = Duration::from_secs(3600);
        assert!(
            !Deadline::start(hour, || unreachable!())
                .unwrap()
                .has_passed()
        );
    }
}
