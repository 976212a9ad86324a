//! What the kernel takes a program for by how it begins: something that it executes itself, or a script for another program.

/// As much of a program is looked at (`BINPRM_BUF_SIZE` of Linux).
pub(super) const START: usize = 256;

/// As many scripts may be run by one another (`BINPRM_MAX_RECURSION`).
pub(super) const MOST: usize = 5;

/// How what the kernel itself can execute begins.
pub(super) const ELF: &[u8] = b"\x7fELF";

/// The path of what is to run the script that begins so, if it is one.
pub(super) fn interpreter(start: &[u8]) -> Option<&[u8]> {
    first_word(start.strip_prefix(b"#!")?)
}

/// The first word of a line that ends.
fn first_word(line: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = line.iter().position(|byte| !is_blank(byte))?;
    let word = &line[begin..];
    let end = word
        .iter()
        .position(|byte| is_blank(byte) || matches!(byte, b'\n' | 0));
    let end = end.or_else(|| (line.len() + 2 < START).then_some(word.len()))?;
    (end > 0).then(|| &word[..end])
}

#[cfg(test)]
mod tests {
    use super::{START, first_word};

    #[test]
    fn a_script_names_what_runs_it() {
        let long = [b'x'; START - 2];
        for (line, expected) in [
            (&b"/bin/sh\n"[..], Some(&b"/bin/sh"[..])),
            (b" \t/bin/env python\n", Some(b"/bin/env")),
            (b"/bin/sh", Some(b"/bin/sh")),
            (b"/bin/sh\0\0", Some(b"/bin/sh")),
            (b"\n/bin/sh", None),
            (b"  ", None),
            (&long, None),
        ] {
            assert_eq!(first_word(line), expected);
        }
    }
}
