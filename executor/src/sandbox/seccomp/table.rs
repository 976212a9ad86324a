//! Which system calls a container may not make, as Docker documents its default profile, with their numbers.
//!
//! Docker lists what is allowed; this lists what is not, of the calls there are up to [`NEWEST`]. Newer ones answer "no such call" until
//! somebody has looked at them, which programs take as an older kernel.

use super::super::capability::{
    BPF, CapabilitySet, DAC_READ_SEARCH, PERFMON, SYS_ADMIN, SYS_BOOT, SYS_CHROOT, SYS_MODULE,
    SYS_NICE, SYS_PACCT, SYS_PTRACE, SYS_RAWIO, SYS_TIME, SYS_TTY_CONFIG, SYSLOG,
};

/// The highest number of a call that was considered: `file_setattr` of Linux 6.17. From 403 on, numbers are the same everywhere.
pub(super) const NEWEST: u32 = 469;

/// When a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Whatever the capabilities.
    Always,
    /// Unless the step has one of these.
    Without(&'static [u8]),
    /// For some values of the first argument, unless the step has one of these capabilities.
    Argument(Argument, &'static [u8]),
    /// Answered as not existing, unless the step has one of these: the C library then takes an older call whose arguments can be seen.
    Absent(&'static [u8]),
}

/// Tests on the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// Refused with any of these bits.
    AnyBit(u32),
    /// Refused if it is one of these.
    OneOf(&'static [u32]),
    /// Refused unless it is one of these.
    Not(&'static [u32]),
}

impl When {
    /// Whether a step with these capabilities needs the rule at all.
    pub(super) fn applies(self, capabilities: CapabilitySet) -> bool {
        let (Self::Without(enough) | Self::Argument(_, enough) | Self::Absent(enough)) = self
        else {
            return true;
        };
        !enough
            .iter()
            .any(|capability| capabilities.contains(*capability))
    }
}

/// One refused call and its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    /// The name. The program knows numbers only.
    pub(super) name: &'static str,
    pub(super) when: When,
    /// On x86-64, i386, arm64 and arm, in this order.
    pub(super) numbers: [Option<u32>; 4],
}

const fn refused(name: &'static str, when: When, numbers: [i32; 4]) -> Refused {
    const fn number(number: i32) -> Option<u32> {
        if number < 0 {
            None
        } else {
            Some(number.cast_unsigned())
        }
    }
    let [a, b, c, d] = numbers;
    Refused {
        name,
        when,
        numbers: [number(a), number(b), number(c), number(d)],
    }
}

/// The bits of `CLONE_NEW…`.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// The personalities that are harmless: Linux, 32-bit Linux, both with the 2.6 version number, and asking.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of sockets that reach further than a container should: the kernel's cryptography (`AF_ALG`), whose attack surface is large,
/// and what is between a virtual machine and its host (`AF_VSOCK`).
const SOCKETS: &[u32] = &[38, 40];

const ADMIN: When = When::Without(&[SYS_ADMIN]);
const MODULE: When = When::Without(&[SYS_MODULE]);
const NICE: When = When::Without(&[SYS_NICE]);
const PTRACE: When = When::Without(&[SYS_PTRACE]);
const RAWIO: When = When::Without(&[SYS_RAWIO]);
const TIME: When = When::Without(&[SYS_TIME]);

/// No such call there.
const NONE: i32 = -1;

/// The table.
#[rustfmt::skip]
pub(super) const REFUSED: &[Refused] = &[
    refused("acct", When::Without(&[SYS_PACCT]), [163, 51, 89, 51]),
    refused("add_key", When::Always, [248, 286, 217, 309]),
    refused("bpf", When::Without(&[SYS_ADMIN, BPF]), [321, 357, 280, 386]),
    refused("chroot", When::Without(&[SYS_CHROOT]), [161, 61, 51, 61]),
    refused("clock_settime", TIME, [227, 264, 112, 262]),
    refused("clock_settime64", TIME, [NONE, 404, NONE, 404]),
    refused("clone", When::Argument(Argument::AnyBit(NEW_NAMESPACES), &[SYS_ADMIN]), [56, 120, 220, 120]),
    refused("clone3", When::Absent(&[SYS_ADMIN]), [435, 435, 435, 435]),
    refused("create_module", When::Always, [174, 127, NONE, NONE]),
    refused("delete_module", MODULE, [176, 129, 106, 129]),
    refused("fanotify_init", ADMIN, [300, 338, 262, 367]),
    refused("finit_module", MODULE, [313, 350, 273, 379]),
    refused("fsconfig", ADMIN, [431, 431, 431, 431]),
    refused("fsmount", ADMIN, [432, 432, 432, 432]),
    refused("fsopen", ADMIN, [430, 430, 430, 430]),
    refused("fspick", ADMIN, [433, 433, 433, 433]),
    refused("get_kernel_syms", When::Always, [177, 130, NONE, NONE]),
    refused("get_mempolicy", NICE, [239, 275, 236, 320]),
    refused("init_module", MODULE, [175, 128, 105, 128]),
    refused("io_uring_enter", When::Always, [426, 426, 426, 426]),
    refused("io_uring_register", When::Always, [427, 427, 427, 427]),
    refused("io_uring_setup", When::Always, [425, 425, 425, 425]),
    refused("ioperm", RAWIO, [173, 101, NONE, NONE]),
    refused("iopl", RAWIO, [172, 110, NONE, NONE]),
    refused("kcmp", PTRACE, [312, 349, 272, 378]),
    refused("kexec_file_load", When::Always, [320, NONE, 294, 401]),
    refused("kexec_load", When::Always, [246, 283, 104, 347]),
    refused("keyctl", When::Always, [250, 288, 219, 311]),
    refused("lookup_dcookie", ADMIN, [212, 253, 18, 249]),
    refused("mbind", NICE, [237, 274, 235, 319]),
    refused("migrate_pages", When::Always, [256, 294, 238, 400]),
    refused("mount", ADMIN, [165, 21, 40, 21]),
    refused("mount_setattr", ADMIN, [442, 442, 442, 442]),
    refused("move_mount", ADMIN, [429, 429, 429, 429]),
    refused("move_pages", When::Always, [279, 317, 239, 344]),
    refused("nfsservctl", When::Always, [180, 169, 42, 169]),
    refused("open_by_handle_at", When::Without(&[DAC_READ_SEARCH]), [304, 342, 265, 371]),
    refused("open_tree", ADMIN, [428, 428, 428, 428]),
    refused("open_tree_attr", ADMIN, [467, 467, 467, 467]),
    refused("perf_event_open", When::Without(&[SYS_ADMIN, PERFMON]), [298, 336, 241, 364]),
    refused("personality", When::Argument(Argument::Not(PERSONALITIES), &[]), [135, 136, 92, 136]),
    refused("pidfd_getfd", PTRACE, [438, 438, 438, 438]),
    refused("pivot_root", When::Always, [155, 217, 41, 218]),
    refused("process_madvise", PTRACE, [440, 440, 440, 440]),
    refused("query_module", When::Always, [178, 167, NONE, NONE]),
    refused("quotactl", ADMIN, [179, 131, 60, 131]),
    refused("quotactl_fd", ADMIN, [443, 443, 443, 443]),
    refused("reboot", When::Without(&[SYS_BOOT]), [169, 88, 142, 88]),
    refused("request_key", When::Always, [249, 287, 218, 310]),
    refused("set_mempolicy", NICE, [238, 276, 237, 321]),
    refused("set_mempolicy_home_node", NICE, [450, 450, 450, 450]),
    refused("setdomainname", ADMIN, [171, 121, 162, 121]),
    refused("sethostname", ADMIN, [170, 74, 161, 74]),
    refused("setns", ADMIN, [308, 346, 268, 375]),
    refused("settimeofday", TIME, [164, 79, 170, 79]),
    refused("socket", When::Argument(Argument::OneOf(SOCKETS), &[]), [41, 359, 198, 281]),
    refused("stime", TIME, [NONE, 25, NONE, NONE]),
    refused("swapoff", When::Always, [168, 115, 225, 115]),
    refused("swapon", When::Always, [167, 87, 224, 87]),
    refused("_sysctl", When::Always, [156, 149, NONE, 149]),
    refused("sysfs", When::Always, [139, 135, NONE, 135]),
    refused("syslog", When::Without(&[SYS_ADMIN, SYSLOG]), [103, 103, 116, 103]),
    refused("umount", ADMIN, [NONE, 22, NONE, NONE]),
    refused("umount2", ADMIN, [166, 52, 39, 52]),
    refused("unshare", ADMIN, [272, 310, 97, 337]),
    refused("uselib", When::Always, [134, 86, NONE, 86]),
    refused("userfaultfd", When::Always, [323, 374, 282, 388]),
    refused("ustat", When::Always, [136, 62, NONE, 62]),
    refused("vhangup", When::Without(&[SYS_TTY_CONFIG]), [153, 111, 58, 111]),
    refused("vm86", When::Always, [NONE, 166, NONE, NONE]),
    refused("vm86old", When::Always, [NONE, 113, NONE, NONE]),
];
