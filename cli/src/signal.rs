//! SIGINT and SIGTERM: the first asks the build to stop and clean up, the second, or five seconds more, end kiln at once.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_executor::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

/// How long cleaning up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns signals into a request to stop, from its making to the end of the process.
#[derive(Clone)]
pub(crate) struct Interrupt {
    /// Reaches everything that works or waits.
    pub(crate) cancel: Cancel,
    first: Arc<AtomicI32>,
    handle: Handle,
    taker: Arc<Mutex<Option<Taker>>>,
}

/// Who takes signals, by number.
type Taker = Box<dyn Fn(i32) + Send>;

impl Interrupt {
    /// Starts listening.
    ///
    /// # Errors
    /// When the handlers cannot be set or the listening thread cannot be started.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupt = Self {
            cancel: Cancel::default(),
            first: Arc::new(AtomicI32::new(0)),
            handle: signals.handle(),
            taker: Arc::default(),
        };
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

    /// From now on signals are for somebody else, and more kinds of them.
    pub(crate) fn hand_to(&self, taker: impl Fn(i32) + Send + 'static) -> io::Result<()> {
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(taker));
        let others = [SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
        others
            .into_iter()
            .try_for_each(|signal| self.handle.add_signal(signal))
    }

    /// The signal that asked to stop, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        Some(self.first.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }

    fn received(&self, signal: i32) {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taker) = &*taker {
            return taker(signal);
        }
        drop(taker);
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
