//! The rungs of the ladder: the ways a step can be kept apart from the machine, best first.
//!
//! What differs between them, and where that is decided:
//!
//! | | `root` | `userns-range` | `userns-given` | `userns-single` | `chroot` |
//! |---|---|---|---|---|---|
//! | namespaces of a step ([`Rung::has_namespaces`]) | own | own | own | own | none |
//! | ids | the machine's | mapped by newuidmap, or by root of a container | mapped by who made the namespace | one, the others recorded | the container's |
//! | kiln itself runs ([`super::Footing`]) | as it was started | in a user namespace that it enters | as it was started | in a user namespace that it enters | as it was started |
//! | root filesystem ([`crate::snapshot`]) | overlay, or a copy where the store can't take one | likewise | likewise | likewise | a copy |
//! | owners of files in the store ([`super::Form`]) | on the files | on the files | on the files | in an attribute | on the files |
//! | device nodes in the store | on the files | in an attribute | in an attribute | in an attribute | on the files |
//! | device nodes of `/dev` | made | bound | bound | bound | made, or the container's handed over |
//! | `/proc` | mounted | mounted, or the surrounding one bound where parts of that are hidden | likewise | likewise | answered call by call |
//! | `/sys` | mounted | mounted, or the surrounding one bound | likewise | likewise | answered call by call |

use std::fmt;
use std::str::FromStr;

/// A rung of the sandbox ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Rung {
    /// Namespaces and overlayfs with the machine's own root privileges.
    Root,
    /// The same inside a user namespace that kiln makes, with the range of ids that `/etc/subuid` gives the user.
    UsernsRange,
    /// The same with the privileges of root in a user namespace that somebody else made, such as a pod's.
    UsernsGiven,
    /// The same inside a user namespace that kiln makes, with no id but the user's own.
    UsernsSingle,
    /// A change of root and nothing more, for root in an ordinary container, which is the boundary then.
    Chroot,
}

impl Rung {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [
        Self::Root,
        Self::UsernsRange,
        Self::UsernsGiven,
        Self::UsernsSingle,
        Self::Chroot,
    ];

    /// As `--sandbox` and `KILN_SANDBOX` have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UsernsRange => "userns-range",
            Self::UsernsGiven => "userns-given",
            Self::UsernsSingle => "userns-single",
            Self::Chroot => "chroot",
        }
    }

    /// Whether a step has namespaces, and so mounts, of its own.
    pub const fn has_namespaces(self) -> bool {
        !matches!(self, Self::Chroot)
    }

    /// Whether kiln's user namespace isn't the machine's first one: no device nodes can be made, and overlayfs keeps its marks in
    /// `user` attributes.
    pub const fn is_in_user_namespace(self) -> bool {
        matches!(
            self,
            Self::UsernsRange | Self::UsernsGiven | Self::UsernsSingle
        )
    }

    /// Whether the kernel makes no device nodes for a step, so that they are recorded.
    pub const fn records_devices(self) -> bool {
        self.is_in_user_namespace()
    }

    /// Whether there is no id but one, so that others are recorded.
    pub const fn records_owners(self) -> bool {
        matches!(self, Self::UsernsSingle)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no rung's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no sandbox; there are root, userns-range, userns-given, userns-single and chroot"
)]
pub struct UnknownRung(String);

impl FromStr for Rung {
    type Err = UnknownRung;

    fn from_str(name: &str) -> Result<Self, UnknownRung> {
        let mut rungs = Self::ALL.into_iter();
        rungs
            .find(|rung| rung.name() == name)
            .ok_or_else(|| UnknownRung(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_has_a_name_that_is_read_back() {
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(rung));
        }
        assert!("docker".parse::<Rung>().is_err());
    }
}
