//! Emulators registered with the kernel, as binfmt_misc lists them.

use std::fs;
use std::path::Path;

/// Where the kernel lists them, if that is mounted.
pub(super) const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// An emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handler {
    /// Its path: in the root filesystem of who starts a program, unless it `is_open`.
    pub(super) interpreter: String,
    /// Whether it was opened when it was registered.
    pub(super) is_open: bool,
}

/// The emulators that a program goes to.
pub(super) fn all_for(program: &[u8], directory: &Path) -> Vec<Handler> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| !matches!(entry.file_name().to_str(), Some("register" | "status")))
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| handler(&text, program))
        .collect()
}

/// What an entry says, if it is enabled and for this program.
fn handler(text: &str, program: &[u8]) -> Option<Handler> {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
    };
    if text.lines().next() != Some("enabled") {
        return None;
    }
    let offset: usize = value("offset ")?.parse().ok()?;
    let magic = bytes(value("magic ")?)?;
    let mask = match value("mask ") {
        Some(mask) => bytes(mask)?,
        None => vec![0xff; magic.len()],
    };
    let part = program.get(offset..)?.get(..magic.len())?;
    let mut compared = part.iter().zip(&magic).zip(&mask);
    compared
        .all(|((byte, magic), mask)| byte & mask == magic & mask)
        .then(|| Handler {
            interpreter: value("interpreter ").unwrap_or_default().to_owned(),
            is_open: value("flags:").is_some_and(|flags| flags.contains('F')),
        })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::emulation::program;

    /// As Linux 6 prints Debian's entry.
    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn an_entry_is_for_the_programs_that_its_magic_says() {
        let takes = |text: &str, architecture| {
            handler(text, &program::of(architecture).unwrap()).map(|found| found.is_open)
        };
        assert_eq!(takes(AARCH64, "arm64"), Some(true));
        assert_eq!(takes(AARCH64, "arm"), None);
        let cases = [
            (("enabled", "disabled"), None),
            (("POCF", "POC"), Some(false)),
            (("offset 0", "offset 1"), None),
            (("offset 0", "offset 9999999"), None),
            (("magic 7f", "magic zz"), None),
        ];
        for ((from, to), expected) in cases {
            assert_eq!(takes(&AARCH64.replace(from, to), "arm64"), expected, "{to}");
        }
        assert_eq!(takes("", "arm64"), None);
    }

    #[test]
    fn without_the_directory_nothing_is_known() {
        let program = program::of("arm64").unwrap();
        assert!(all_for(&program, Path::new("/does/not/exist")).is_empty());
    }
}
