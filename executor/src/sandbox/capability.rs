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

    /// The set with the capability taken out.
    #[must_use]
    pub const fn without(self, capability: u8) -> Self {
        Self(self.0 & !bit(capability))
    }

    /// All that have a name, and no more: programs get them as they get the default ones.
    pub fn named() -> Self {
        let numbers = NAMES.iter().map(|(_, number)| *number);
        numbers.fold(Self::EMPTY, Self::with)
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

        /// Names without `CAP_`, and numbers.
        const NAMES: &[(&str, u8)] = &[$((stringify!($name), $number),)*];
    };
}

/// The capability's number, by its name with or without `CAP_`, in any case.
pub fn by_name(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("CAP_").unwrap_or(&name);
    let found = NAMES.iter().find(|(known, _)| *known == bare);
    found.map(|(_, number)| *number)
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
    LINUX_IMMUTABLE = 9,
    NET_BIND_SERVICE = 10,
    NET_BROADCAST = 11,
    NET_ADMIN = 12,
    NET_RAW = 13,
    IPC_LOCK = 14,
    IPC_OWNER = 15,
    SYS_MODULE = 16,
    SYS_RAWIO = 17,
    SYS_CHROOT = 18,
    SYS_PTRACE = 19,
    SYS_PACCT = 20,
    SYS_ADMIN = 21,
    SYS_BOOT = 22,
    SYS_NICE = 23,
    SYS_RESOURCE = 24,
    SYS_TIME = 25,
    SYS_TTY_CONFIG = 26,
    MKNOD = 27,
    LEASE = 28,
    AUDIT_WRITE = 29,
    AUDIT_CONTROL = 30,
    SETFCAP = 31,
    MAC_OVERRIDE = 32,
    MAC_ADMIN = 33,
    SYSLOG = 34,
    WAKE_ALARM = 35,
    BLOCK_SUSPEND = 36,
    AUDIT_READ = 37,
    PERFMON = 38,
    BPF = 39,
    CHECKPOINT_RESTORE = 40,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers() {
        let cases = [
            ("SYS_ADMIN", Some(21)),
            ("cap_net_admin", Some(12)),
            ("CAP_CHOWN", Some(0)),
            ("ALL", None),
            ("", None),
        ];
        for (name, number) in cases {
            assert_eq!(by_name(name), number, "{name}");
        }
        assert_eq!(CapabilitySet::named().mask(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn the_default_is_dockers_mask() {
        assert_eq!(CapabilitySet::DOCKER_DEFAULT.mask(), 0x0000_0000_a804_25fb); // R-RT-5
    }
}
