//! SIGINT and SIGTERM: the first asks the build to stop and clean up, the second ends kiln at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use kiln_executor::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Turns signals into a request to stop, from its making to the end of the process.
#[derive(Clone)]
pub(crate) struct Interrupt {
    /// Reaches everything that works or waits.
    pub(crate) cancel: Cancel,
    first: Arc<AtomicI32>,
}

impl Interrupt {
    /// Starts listening.
    ///
    /// # Errors
    /// When the handlers cannot be set or the listening thread cannot be started.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Self {
            cancel: Cancel::default(),
            first: Arc::new(AtomicI32::new(0)),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let listening = interrupt.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    listening.received(signal);
                }
            })?;
        Ok(interrupt)
    }

    /// The signal that asked to stop, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        Some(self.first.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }

    fn received(&self, signal: i32) {
        if self.first.swap(signal, Ordering::SeqCst) != 0 {
            // Someone is in a hurry. What is left behind is swept by the next run.
            crate::say("\u{1b}[?25h");
            std::process::exit(128 + signal);
        }
        self.cancel.request();
    }
}
