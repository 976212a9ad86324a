//! Which distribution an image is of, by its `os-release`.

use super::files::Files;
use crate::error::Cause;

/// A distribution; all empty if the image is of none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Release {
    /// `debian`, `alpine`.
    pub(super) id: String,
    /// `12`, `3.20.1`.
    pub(super) version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub(super) name: String,
}

/// Reads it.
pub(super) fn read(files: &Files<'_>) -> Result<Release, Cause> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(text) = files.text(path)? {
            return Ok(parse(&text));
        }
    }
    Ok(Release::default())
}

impl Release {
    /// As package addresses call it: `debian-12`.
    pub(super) fn distro(&self) -> Option<String> {
        match (&*self.id, &*self.version) {
            ("", _) => None,
            (id, "") => Some(id.to_owned()),
            (id, version) => Some(format!("{id}-{version}")),
        }
    }
}

fn parse(text: &str) -> Release {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| key.trim() == name);
        let value = found.map(|(_, value)| value.trim().trim_matches(['"', '\'']));
        value.unwrap_or_default().to_owned()
    };
    Release {
        id: value("ID"),
        version: value("VERSION_ID"),
        name: value("PRETTY_NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_left_out() {
        let text =
            "# x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\n";
        let release = parse(text);
        assert_eq!(release.distro().as_deref(), Some("debian-12"));
        assert_eq!(release.name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(parse("").distro(), None);
    }
}
