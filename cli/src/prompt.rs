//! Questions to the person at the terminal.

use std::io::{self, Read, Write};

use rustix::stdio::stdin;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;
const KILL_LINE: u8 = 21;

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    isatty(stdin())
}

/// Asks for a line that may be seen.
pub(crate) fn line(question: &str) -> io::Result<String> {
    show(question)?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim().to_owned())
}

/// Asks for a line that nobody may see. `ErrorKind::Interrupted` is somebody's Ctrl-C.
pub(crate) fn secret(question: &str) -> io::Result<String> {
    show(question)?;
    let quiet = Quiet::begin()?;
    let answer = hidden_line(&mut io::stdin().lock());
    drop(quiet);
    show("\n")?;
    answer
}

/// Results go to stdout, questions don't.
fn show(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}

/// The terminal without echo. Keys come one by one, Ctrl-C too, so that no signal leaves it in that state.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone has no echo to get back.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}

/// A line of keys, with what the terminal would do about corrections.
fn hidden_line(keys: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        let ended = keys.read(&mut key)? == 0;
        match key[0] {
            b'\n' | b'\r' if !ended => break,
            INTERRUPT if !ended => return Err(io::ErrorKind::Interrupted.into()),
            END if !ended && !line.is_empty() => {}
            _ if ended && !line.is_empty() => break,
            END => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if ended => return Err(io::ErrorKind::UnexpectedEof.into()),
            BACKSPACE | DELETE => erase_last(&mut line),
            KILL_LINE => line.clear(),
            other => line.push(other),
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Takes a whole character, of however many bytes.
fn erase_last(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xC0 != 0x80 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, expected) in [
            ("secret\n", Ok("secret")),
            ("secret\r", Ok("secret")),
            ("no end", Ok("no end")),
            ("sex\u{7f}cret\n", Ok("secret")),
            ("sé\u{8}ecret\n", Ok("secret")),
            ("\u{7f}a\n", Ok("a")),
            ("wrong\u{15}right\n", Ok("right")),
            (" a b \n", Ok(" a b ")),
            ("\n", Ok("")),
            ("half\u{3}\n", Err(io::ErrorKind::Interrupted)),
            ("", Err(io::ErrorKind::UnexpectedEof)),
            ("\u{4}", Err(io::ErrorKind::UnexpectedEof)),
        ] {
            let line = hidden_line(&mut keys.as_bytes()).map_err(|error| error.kind());
            assert_eq!(line.as_deref(), expected.as_deref(), "{keys:?}");
        }
    }
}
