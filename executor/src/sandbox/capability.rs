//! Sets of Linux capabilities (capabilities(7)) by number and by name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of capabilities, one bit each, as `/proc/PID/status` prints it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability at all.
    pub const EMPTY: Self = Self(0);
    /// Everything the kernel knows, for `--security=insecure` (R-RT-6).
    pub const ALL: Self = Self(u64::MAX);
    /// Docker's fourteen (R-RT-5): mask `00000000a80425fb`.
    pub const DOCKER_DEFAULT: Self = Self(
        bit(CHOWN)
            | bit(DAC_OVERRIDE)
            | bit(FOWNER)
            | bit(FSETID)
            | bit(KILL)
            | bit(SETGID)
            | bit(SETUID)
            | bit(SETPCAP)
            | bit(NET_BIND_SERVICE)
            | bit(NET_RAW)
            | bit(SYS_CHROOT)
            | bit(MKNOD)
            | bit(AUDIT_WRITE)
            | bit(SETFCAP),
    );

    /// The set whose bits are `mask`.
    pub const fn from_mask(mask: u64) -> Self {
        Self(mask)
    }

    /// The bits.
    pub const fn mask(self) -> u64 {
        self.0
    }

    /// Whether the capability with this number is in the set.
    pub const fn contains(self, capability: u8) -> bool {
        self.0 & bit(capability) != 0
    }

    /// The set with the capability added.
    #[must_use]
    pub const fn with(self, capability: u8) -> Self {
        Self(self.0 | bit(capability))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet({:016x})", self.0)
    }
}

const fn bit(capability: u8) -> u64 {
    1 << capability
}

macro_rules! capabilities {
    ($($name:ident = $number:literal,)*) => {
        $(#[doc = concat!("`CAP_", stringify!($name), "`.")] pub const $name: u8 = $number;)*
    };
}

capabilities! {
    CHOWN = 0,
    DAC_OVERRIDE = 1,
    DAC_READ_SEARCH = 2,
    FOWNER = 3,
    FSETID = 4,
    KILL = 5,
    SETGID = 6,
    SETUID = 7,
    SETPCAP = 8,
    NET_BIND_SERVICE = 10,
    NET_RAW = 13,
    SYS_MODULE = 16,
    SYS_RAWIO = 17,
    SYS_CHROOT = 18,
    SYS_PTRACE = 19,
    SYS_PACCT = 20,
    SYS_ADMIN = 21,
    SYS_BOOT = 22,
    SYS_NICE = 23,
    SYS_TIME = 25,
    SYS_TTY_CONFIG = 26,
    MKNOD = 27,
    AUDIT_WRITE = 29,
    SETFCAP = 31,
    SYSLOG = 34,
    PERFMON = 38,
    BPF = 39,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers_mask() {
        assert_eq!(CapabilitySet::DOCKER_DEFAULT.mask(), 0x0000_0000_a804_25fb); // R-RT-5
    }
}
