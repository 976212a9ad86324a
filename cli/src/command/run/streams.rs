//! The streams of a container without a terminal of its own. It never gets the user's terminal itself: whoever has that open can put
//! words into its input (TIOCSTI), which the user's shell would read. Where a stream is a terminal, there is a pipe in its place.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use kiln_executor::sandbox::Stdio;

/// What passes on what the container prints; ends with the container.
#[derive(Default)]
pub(super) struct Relays(Vec<JoinHandle<()>>);

impl Relays {
    /// Waits until all is shown.
    pub(super) fn finish(self) {
        for relay in self.0 {
            let _ = relay.join(); // what could not be shown is lost with where it was to go
        }
    }
}

/// kiln's own streams, or pipes to them; without `-i` there is nothing to read.
pub(super) fn streams(interactive: bool) -> io::Result<(Stdio, Relays)> {
    let mut stdio = Stdio::inherit()?;
    let mut relays = Relays::default();
    if !interactive {
        stdio.stdin = File::open("/dev/null")?.into();
    } else if rustix::termios::isatty(&stdio.stdin) {
        stdio.stdin = read_for_it()?;
    }
    if rustix::termios::isatty(&stdio.stdout) {
        stdio.stdout = relays.show(io::stdout())?;
    }
    if rustix::termios::isatty(&stdio.stderr) {
        stdio.stderr = relays.show(io::stderr())?;
    }
    Ok((stdio, relays))
}

impl Relays {
    /// A pipe whose content goes to `out`.
    fn show(&mut self, mut out: impl Write + Send + 'static) -> io::Result<OwnedFd> {
        let (mut reader, writer) = io::pipe()?;
        let relay = thread::Builder::new().spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length) = reader.read(&mut buffer)
                && length > 0
                && out.write_all(&buffer[..length]).is_ok()
                && out.flush().is_ok()
            {}
        })?;
        self.0.push(relay);
        Ok(writer.into())
    }
}

/// A pipe with what is typed. Nobody waits for its thread: that may be reading when the container ends, and goes with kiln.
fn read_for_it() -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    thread::Builder::new().spawn(move || {
        let mut typed = io::stdin();
        let mut buffer = [0; 8192];
        while let Ok(length) = typed.read(&mut buffer)
            && length > 0
            && writer.write_all(&buffer[..length]).is_ok()
        {}
    })?;
    Ok(reader.into())
}
