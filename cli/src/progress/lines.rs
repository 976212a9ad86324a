//! A step's output, cut into lines that can be shown in a list.
//!
//! What a program prints was meant for a terminal of its own: it may stop in the middle of a line, draw over a line after
//! a carriage return, or move the cursor. A list of lines keeps the last state of each line and its colours, nothing that
//! moves.

/// A line that grows without end is cut, so that a step printing gigabytes without a newline stays harmless.
const LONGEST: usize = 16 * 1024;

/// Collects bytes until a line is whole.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes more bytes and returns the lines they complete.
    pub(super) fn push(&mut self, data: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() > LONGEST {
                complete.extend(self.finish());
            }
        }
        complete
    }

    /// What is there of a line that never ended.
    pub(super) fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.rest);
        (!line.is_empty()).then(|| visible(&line))
    }
}

/// The text a line shows in the end.
fn visible(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last_state = line.rsplit(|&byte| byte == b'\r').next().unwrap_or(line);
    without_movement(&String::from_utf8_lossy(last_state))
}

/// Drops control characters and control sequences except colours (`ESC [ … m`).
fn without_movement(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        shown.push_str(&rest[..at]);
        let (sequence, after) = control_sequence(&rest[at..]);
        if sequence.starts_with("\u{1b}[") && sequence.ends_with('m') {
            shown.push_str(sequence);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Splits off the control character or escape sequence that `text` begins with.
fn control_sequence(text: &str) -> (&str, &str) {
    let after_first = text.chars().next().map_or(0, char::len_utf8);
    let end = match text.as_bytes() {
        // CSI: parameters, then one final byte.
        [0x1b, b'[', ..] => text[2..]
            .find(|c: char| ('\u{40}'..='\u{7e}').contains(&c))
            .map_or(text.len(), |at| at + 3),
        // OSC: up to BEL or ESC \.
        [0x1b, b']', ..] => text
            .find('\u{7}')
            .map(|at| at + 1)
            .or_else(|| text.find("\u{1b}\\").map(|at| at + 2))
            .unwrap_or(text.len()),
        [0x1b, ..] => text.chars().take(2).map(char::len_utf8).sum(),
        _ => after_first,
    };
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_came() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"he"), [""; 0]);
        assert_eq!(lines.push(b"llo\nwor"), ["hello"]);
        assert_eq!(lines.push(b"ld\n\nend"), ["world", ""]);
        assert_eq!(lines.finish().as_deref(), Some("end"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn what_moves_is_dropped_and_colour_kept() {
        let cases: [(&[u8], &str); 7] = [
            (b"10%\r50%\r100%\r\n", "100%"),
            (b"\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m"),
            (b"\x1b[2J\x1b[Hclear\n", "clear"),
            (b"\x1b]0;title\x07text\n", "text"),
            (b"a\x08b\x00\n", "ab"),
            (b"tab\there\n", "tab\there"),
            (b"\xffbad \x1b\n", "\u{fffd}bad "),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Lines::default().push(bytes), [expected], "{bytes:?}");
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        let cut: usize = (0..20).map(|_| lines.push(&[b'x'; 1024]).len()).sum();
        assert_eq!(cut, 1);
    }
}
