//! SIGINT and SIGTERM: the first asks the build to stop and clean up, the second, or five seconds more, end kiln at once.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use kiln_executor::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long cleaning up may take.
const PATIENCE: Duration = Duration::from_secs(5);

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
            give_up(signal);
        }
        // Steps end at once, but a transfer may hang on a network that does not answer.
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            give_up(signal);
        });
        self.cancel.request();
    }
}

/// Ends kiln without waiting for anything. What is left behind is swept by the next run.
fn give_up(signal: i32) -> ! {
    if std::io::stderr().is_terminal() {
        crate::say("\u{1b}[?25h");
    }
    std::process::exit(128 + signal);
}
