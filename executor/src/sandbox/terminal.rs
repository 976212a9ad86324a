//! Terminals for `kiln run -t`: a pseudo-terminal for the step, and the user's own one in raw mode for as long.
//!
//! ```no_run
//! use kiln_executor::sandbox::{Launcher, SandboxSpec, Stdio, terminal};
//! # fn show(launcher: &Launcher, mut spec: SandboxSpec) -> Result<(), Box<dyn std::error::Error>> {
//! spec.terminal = true;
//! let (stdio, master) = terminal::Pty::open()?.split()?;
//! let step = launcher.spawn(&spec, stdio)?;
//! let raw = terminal::RawMode::enter()?; // ends when dropped
//! master.relay(true)?; // until the step ends
//! drop(raw);
//! let status = step.wait()?;
//! # Ok(()) }
//! ```

use super::Stdio;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// What a terminal without a size is taken for.
const DEFAULT_SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A pseudo-terminal: the step gets `slave` as its three streams, kiln copies bytes through `master`. A step with a `/dev/pts` of its own gets
/// another one there, like this.
#[derive(Debug)]
pub struct Pty {
    /// Kiln's end.
    pub master: OwnedFd,
    /// The step's end. It must be closed here once the step has it, or the end of the step's output can't be seen.
    pub slave: OwnedFd,
}

/// Kiln's end alone, once the step has the other.
#[derive(Debug)]
pub struct Master {
    given: OwnedFd,
    /// Of the terminal that the step has instead.
    own: Receiver<OwnedFd>,
}

/// The user's terminal in raw mode: every key goes to the step. Dropping this gives it back as it was.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl Pty {
    /// Opens one with the size of the terminal on standard input, or 80 by 24 if that is none.
    pub fn open() -> io::Result<Self> {
        Self::with_size(size_of(rustix::stdio::stdin()).unwrap_or(DEFAULT_SIZE))
    }

    /// Opens one of the given size.
    pub fn with_size(size: Winsize) -> io::Result<Self> {
        let opened = nix::pty::openpty(None, None)?;
        for fd in [&opened.master, &opened.slave] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        }
        rustix::termios::tcsetwinsize(&opened.master, size)?;
        Ok(Self {
            master: opened.master,
            slave: opened.slave,
        })
    }

    /// Parts it into the three streams of a step and kiln's end.
    pub fn split(self) -> io::Result<(Stdio, Master)> {
        let (stdin, stdout) = (self.slave.try_clone()?, self.slave.try_clone()?);
        let (terminal, own) = mpsc::channel();
        let stdio = Stdio {
            terminal: Some(terminal),
            ..Stdio::new(stdin, stdout, self.slave)
        };
        let given = self.master;
        Ok((stdio, Master { given, own }))
    }
}

impl RawMode {
    /// Puts the terminal on standard input into raw mode; `None` when standard input is no terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !rustix::termios::isatty(stdin) {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(
            rustix::stdio::stdin(),
            OptionalActions::Drain,
            &self.before,
        );
    }
}

impl Master {
    /// Waits until the step runs, and is kiln's end of the terminal that it has.
    pub fn of_step(self) -> OwnedFd {
        self.own.recv().unwrap_or(self.given)
    }

    /// Once the step runs, copies standard input to it and its output to standard output, until it has closed its end. When the user's
    /// window changes its size, the step's terminal follows.
    ///
    /// Without `input` nothing is read, and the step finds its input at its end.
    pub fn relay(self, input: bool) -> io::Result<()> {
        let master = self.of_step();
        let (resized, signal) = io::pipe()?;
        let handler =
            signal_hook::low_level::pipe::register(signal_hook::consts::SIGWINCH, signal)?;
        let mut relay = Relay::new(
            &master,
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            resized.as_fd(),
        );
        if !input {
            relay.input_open = false;
            relay.waiting.push(END_OF_INPUT);
        }
        let relayed = relay.follow_size().and_then(|()| relay.run()); // it may have changed meanwhile
        signal_hook::low_level::unregister(handler);
        relayed
    }
}

/// One loop over all ends. Input that the step does not take yet waits here, so that its output never has to.
struct Relay<'a> {
    master: BorrowedFd<'a>,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    resized: BorrowedFd<'a>,
    waiting: Vec<u8>,
    input_open: bool,
    /// How long after the end of the input the program is told of it again.
    patience: Duration,
}

impl<'a> Relay<'a> {
    fn new(
        master: &'a OwnedFd,
        input: BorrowedFd<'a>,
        output: BorrowedFd<'a>,
        resized: BorrowedFd<'a>,
    ) -> Self {
        Self {
            master: master.as_fd(),
            input,
            output,
            resized,
            waiting: Vec::new(),
            input_open: true,
            patience: FIRST_PATIENCE,
        }
    }

    fn run(mut self) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(self.master)?;
        rustix::fs::fcntl_setfl(self.master, flags | OFlags::NONBLOCK)?;
        loop {
            let [master, input, resized] = self.wait()?;
            if !(self.input_open || master || resized) {
                self.end_again();
            }
            if resized {
                let _ = rustix::io::read(self.resized, &mut [0; 64])?;
                self.follow_size()?;
            }
            if input {
                self.take_input()?;
            }
            self.give_input()?;
            if master && !self.pass_output()? {
                return Ok(());
            }
        }
    }

    /// Waits until something can be done: output or room in the master, input, a change of size.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let both = PollFlags::POLLIN | PollFlags::POLLOUT;
        let master = if self.waiting.is_empty() {
            PollFlags::POLLIN
        } else {
            both
        };
        let mut polled = vec![
            PollFd::new(self.master, master),
            PollFd::new(self.resized, PollFlags::POLLIN),
        ];
        if self.input_open && self.waiting.is_empty() {
            polled.push(PollFd::new(self.input, PollFlags::POLLIN));
        }
        let timeout = match self.input_open {
            true => PollTimeout::NONE,
            false => PollTimeout::try_from(self.patience).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut polled, timeout) {
            Ok(0) => return Ok([false; 3]),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: usize| polled.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
        Ok([ready(0), ready(2), ready(1)])
    }

    fn follow_size(&self) -> io::Result<()> {
        if let Some(size) = size_of(self.input) {
            rustix::termios::tcsetwinsize(self.master, size)?;
        }
        Ok(())
    }

    fn take_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(self.input, &mut buffer) {
            Ok(0) | Err(Errno::IO) => self.input_open = false,
            Ok(length) => self.waiting.extend(&buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !self.input_open {
            self.waiting.push(END_OF_INPUT);
        }
        Ok(())
    }

    /// A program that makes the terminal its own, as shells do, throws away what came before: it is told again, ever more seldom.
    fn end_again(&mut self) {
        self.waiting.push(END_OF_INPUT);
        self.patience = (self.patience * 2).min(LAST_PATIENCE);
    }

    fn give_input(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match rustix::io::write(self.master, &self.waiting) {
            Ok(length) => drop(self.waiting.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::IO) => self.waiting.clear(), // nobody is there to read it
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Passes on what there is; false when the step has closed its end.
    fn pass_output(&self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(self.master, &mut buffer) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => write_all(self.output, &buffer[..length]).map(|()| true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The size of a terminal that has one.
fn size_of(terminal: BorrowedFd<'_>) -> Option<Winsize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(size)
}

const FIRST_PATIENCE: Duration = Duration::from_millis(100);
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Control-D: what a terminal takes for the end of its input.
const END_OF_INPUT: u8 = 4;

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn bytes_go_both_ways_until_the_step_closes() {
        let (mut stdio, master) = Pty::with_size(DEFAULT_SIZE).unwrap().split().unwrap();
        stdio.terminal = None; // as if it ran, with no other
        let (input, mut keys) = io::pipe().unwrap();
        let (mut screen, output) = io::pipe().unwrap();
        let (resized, _signal) = io::pipe().unwrap();
        keys.write_all(b"hello\n").unwrap();
        let step = std::thread::spawn(move || {
            let stdio = stdio; // all three ends are closed here
            let mut line = [0; 6];
            let length = rustix::io::read(&stdio.stdin, &mut line).unwrap();
            rustix::io::write(&stdio.stdout, &line[..length]).unwrap();
        });
        let master = master.of_step();
        Relay::new(&master, input.as_fd(), output.as_fd(), resized.as_fd())
            .run()
            .unwrap();
        step.join().unwrap();
        drop(output);
        let mut shown = String::new();
        screen.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "hello\r\nhello\r\n"); // the terminal's echo, and the step's answer
    }
}
