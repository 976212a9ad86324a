//! The default seccomp filter (R-RT-6): a classic BPF program that the kernel runs on each system call of a step.
//!
//! For each architecture whose programs this machine runs there is one block. In it the refused numbers are a binary tree, so that
//! a call costs a handful of comparisons, and loading, at which the kernel tries every number, is cheap, too.
//!
//! What a process that waits for its step is a copy of loads all of it but for what setting up takes, and the rest when that is done: the kernel goes by the
//! stricter of the two, and loading the second, which is on the way of the step, takes a fifth.
//!
//! On other architectures than x86-64 and arm64 there is no filter: see [`SUPPORTED`].

mod attributes;
mod network;
mod notify;
mod paths;
mod table;

use super::CapabilitySet;
use crate::locked::locked;
use crate::sys::Instruction;
pub(super) use network::no_network;
use nix::libc;
pub(super) use notify::notifying;
pub(super) use paths::asking;
use std::sync::{Arc, Mutex};
use table::{Argument, NEWEST, REFUSED, Refused, When};

/// Whether there is a filter for this machine's architecture. Where there is none, steps run without.
pub const SUPPORTED: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `AUDIT_ARCH_…` of `linux/audit.h` with the column of the table.
const X86_64: (u32, usize) = (0xc000_003e, 0);
const I386: (u32, usize) = (0x4000_0003, 1);
const ARM64: (u32, usize) = (0xc000_00b7, 2);
const ARM: (u32, usize) = (0x4000_0028, 3);

/// The architectures whose programs run here, the usual one first.
const ARCHITECTURES: &[(u32, usize)] = if cfg!(target_arch = "x86_64") {
    &[X86_64, I386]
} else {
    &[ARM64, ARM]
};

/// Calls of the x32 ABI have this bit; no system uses them any more.
const X32: u32 = 0x4000_0000;

/// From here on, 32-bit arm has private calls that every program needs.
const ARM_PRIVATE: u32 = 0x0f_0000;

/// Offsets in `struct seccomp_data`; of the first argument, the low half.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: Instruction = returns(libc::SECCOMP_RET_ALLOW);
const REFUSE: Instruction = returns(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
const ABSENT: Instruction = returns(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());

/// A filter, and what it depends on: at the least the capabilities that it leaves calls for.
type Made<On = CapabilitySet> = Option<(On, Arc<[Instruction]>)>;

/// The filters that were asked for last. The helper asks before it clones a step, which has it then.
static LAST: Mutex<Made> = Mutex::new(None);
static LAST_UNTIL_SET_UP: Mutex<Made> = Mutex::new(None);
static LAST_FROM_SET_UP_ON: Mutex<Made> = Mutex::new(None);

/// What a step with mounts, and what it is a copy of, calls while it is set up, and then no more.
const SET_UP: [&str; 14] = [
    "clone",
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "sethostname",
    "setns",
    "umount2",
];

/// The filter for a step with these capabilities; empty where there is none for the architecture.
pub(super) fn default_profile(capabilities: CapabilitySet) -> Arc<[Instruction]> {
    made_once(&LAST, capabilities, |capabilities| {
        make_profile(capabilities, |_| true)
    })
}

/// The same but for what this machine's own programs call to set a step up.
pub(super) fn until_set_up(capabilities: CapabilitySet) -> Arc<[Instruction]> {
    made_once(&LAST_UNTIL_SET_UP, capabilities, |capabilities| {
        make_profile(capabilities, |refused| !SET_UP.contains(&refused.name))
    })
}

/// What has to come on top of that for the default filter.
pub(super) fn from_set_up_on(capabilities: CapabilitySet) -> Arc<[Instruction]> {
    made_once(&LAST_FROM_SET_UP_ON, capabilities, make_from_set_up_on)
}

fn make_from_set_up_on(capabilities: CapabilitySet) -> Vec<Instruction> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump_if_equal(ARCHITECTURES[0].0, 1, 0),
        ALLOW,
        load(NUMBER),
    ];
    program.extend(search(&only_for_set_up(capabilities)));
    program
}

/// What is refused on the machine's own architecture once a step is set up.
fn only_for_set_up(capabilities: CapabilitySet) -> Vec<(u32, When)> {
    rules(ARCHITECTURES[0].1, capabilities, |refused| {
        SET_UP.contains(&refused.name)
    })
}

fn made_once<On: Copy + PartialEq>(
    last: &Mutex<Made<On>>,
    on: On,
    make: fn(On) -> Vec<Instruction>,
) -> Arc<[Instruction]> {
    let mut last = locked(last);
    match &*last {
        Some((known, program)) if *known == on => program.clone(),
        _ => {
            let program: Arc<[Instruction]> = make(on).into();
            *last = Some((on, program.clone()));
            program
        }
    }
}

/// On the machine's own architecture, only the calls that `on_own` names are refused.
fn make_profile(capabilities: CapabilitySet, on_own: fn(&Refused) -> bool) -> Vec<Instruction> {
    if !SUPPORTED {
        return Vec::new();
    }
    let mut program = vec![load(ARCHITECTURE)];
    for (number, architecture) in ARCHITECTURES.iter().enumerate() {
        let refused = if number == 0 {
            on_own
        } else {
            |_: &Refused| true
        };
        let block = block(*architecture, capabilities, refused);
        // A block is longer than a conditional jump can reach.
        program.push(jump_if_equal(architecture.0, 1, 0));
        program.push(jump(block.len()));
        program.extend(block);
    }
    program.push(REFUSE); // a program of no architecture we know
    program
}

/// All rules for one architecture.
fn block(
    (architecture, column): (u32, usize),
    capabilities: CapabilitySet,
    is_meant: fn(&Refused) -> bool,
) -> Vec<Instruction> {
    let mut program = vec![load(NUMBER)];
    if architecture == X86_64.0 {
        program.extend([jump_if_at_least(X32, 0, 1), ABSENT]);
    }
    if architecture == ARM.0 {
        program.extend([jump_if_at_least(ARM_PRIVATE, 0, 1), ALLOW]);
    }
    program.extend([jump_if_at_least(NEWEST + 1, 0, 1), ABSENT]);
    program.extend(search(&rules(column, capabilities, is_meant)));
    program
}

/// Refused numbers and what to do about each, sorted.
fn rules(
    column: usize,
    capabilities: CapabilitySet,
    is_meant: fn(&Refused) -> bool,
) -> Vec<(u32, When)> {
    let applying = REFUSED
        .iter()
        .filter(|refused| refused.when.applies(capabilities) && is_meant(refused));
    let mut rules: Vec<_> = applying
        .filter_map(|refused| Some((refused.numbers[column]?, refused.when)))
        .collect();
    rules.sort_by_key(|(number, _)| *number);
    rules
}

/// A binary tree over sorted rules. Every path ends in a return.
fn search(rules: &[(u32, When)]) -> Vec<Instruction> {
    if rules.len() <= 3 {
        let mut program: Vec<_> = rules
            .iter()
            .flat_map(|(number, when)| test(*number, *when))
            .collect();
        program.push(ALLOW);
        return program;
    }
    let (low, high) = rules.split_at(rules.len() / 2);
    let (below, above) = (search(low), search(high));
    let reach = u8::try_from(below.len()).expect("half of the table is less than 256 instructions");
    let mut program = vec![jump_if_at_least(high[0].0, reach, 0)];
    program.extend(below);
    program.extend(above);
    program
}

/// If the call has this number, the verdict; otherwise on to what follows.
fn test(number: u32, when: When) -> Vec<Instruction> {
    let verdict = match when {
        When::Always | When::Without(_) => vec![REFUSE],
        When::Absent(_) => vec![ABSENT],
        When::Argument(argument, _) => argument_verdict(argument),
    };
    let length = u8::try_from(verdict.len()).expect("a verdict is a few instructions");
    let mut program = vec![jump_if_equal(number, 0, length)];
    program.extend(verdict);
    program
}

fn argument_verdict(argument: Argument) -> Vec<Instruction> {
    let mut program = vec![load(FIRST_ARGUMENT)];
    match argument {
        Argument::AnyBit(bits) => program.extend([jump_if_any_bit(bits, 0, 1), REFUSE, ALLOW]),
        Argument::OneOf(values) => {
            for value in values {
                program.extend([jump_if_equal(*value, 0, 1), REFUSE]);
            }
            program.push(ALLOW);
        }
        Argument::Not(values) => {
            for value in values {
                program.extend([jump_if_equal(*value, 0, 1), ALLOW]);
            }
            program.push(REFUSE);
        }
    }
    program
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "operation codes have 16 bits"
    )]
    let code = code as u16;
    Instruction { code, jt, jf, k }
}

const fn returns(action: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

const fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(over: usize) -> Instruction {
    let over = u32::try_from(over).expect("a program is less than 4096 instructions");
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, over)
}

const fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> Instruction {
    instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        then,
        otherwise,
        value,
    )
}

const fn jump_if_at_least(value: u32, then: u8, otherwise: u8) -> Instruction {
    instruction(
        libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
        then,
        otherwise,
        value,
    )
}

const fn jump_if_any_bit(bits: u32, then: u8, otherwise: u8) -> Instruction {
    instruction(
        libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
        then,
        otherwise,
        bits,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, on a call's architecture, number and first argument.
    pub(super) fn verdict(
        program: &[Instruction],
        architecture: u32,
        number: u32,
        argument: u32,
    ) -> u32 {
        let (mut at, mut register) = (0, 0);
        loop {
            let instruction = program[at];
            let branch = |taken: bool| {
                usize::from(if taken {
                    instruction.jt
                } else {
                    instruction.jf
                })
            };
            at += 1 + match u32::from(instruction.code) {
                0x06 => return instruction.k,
                0x20 => {
                    register = match instruction.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        _ => argument,
                    };
                    0
                }
                0x05 => instruction.k as usize,
                0x15 => branch(register == instruction.k),
                0x35 => branch(register >= instruction.k),
                0x45 => branch(register & instruction.k != 0),
                code => panic!("unknown operation {code:#x}"),
            };
        }
    }

    fn number(name: &str, column: usize) -> u32 {
        let refused = REFUSED
            .iter()
            .find(|refused| refused.name == name)
            .expect("in the table");
        refused.numbers[column].expect("on this architecture")
    }

    #[test]
    fn exactly_the_calls_of_the_table_are_refused() {
        let program = default_profile(CapabilitySet::DOCKER_DEFAULT);
        for (architecture, column) in ARCHITECTURES {
            let rules = rules(*column, CapabilitySet::DOCKER_DEFAULT, |_| true);
            for number in 0..=NEWEST {
                let rule = rules
                    .iter()
                    .find(|(refused, _)| *refused == number)
                    .map(|(_, when)| *when);
                let expected = match rule {
                    None
                    | Some(When::Argument(
                        Argument::AnyBit(_) | Argument::OneOf(_) | Argument::Not(_),
                        _,
                    )) => ALLOW.k,
                    Some(When::Absent(_)) => ABSENT.k,
                    Some(When::Always | When::Without(_)) => REFUSE.k,
                };
                assert_eq!(
                    verdict(&program, *architecture, number, 0),
                    expected,
                    "{architecture:x} {number}"
                );
            }
            assert_eq!(verdict(&program, *architecture, NEWEST + 1, 0), ABSENT.k);
        }
        assert_eq!(verdict(&program, 0x1234, 0, 0), REFUSE.k);
    }

    /// By handles of files (shocker), rings that make calls by themselves, keyrings, programs in the kernel, faults that wait, other kernels.
    #[test]
    fn calls_that_led_out_of_containers_are_refused() {
        let program = default_profile(CapabilitySet::DOCKER_DEFAULT);
        let calls = "open_by_handle_at io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl bpf perf_event_open \
             userfaultfd kexec_load kexec_file_load init_module finit_module delete_module fsopen fsconfig fsmount move_mount open_tree \
             mount_setattr mount umount2 pivot_root setns unshare reboot syslog acct swapon ioperm iopl quotactl lookup_dcookie kcmp \
             pidfd_getfd process_madvise settimeofday clock_settime";
        for (architecture, column) in ARCHITECTURES {
            for name in calls.split_whitespace() {
                let refused = REFUSED.iter().find(|refused| refused.name == name);
                if let Some(number) = refused.expect("in the table").numbers[*column] {
                    assert_eq!(
                        verdict(&program, *architecture, number, 0),
                        REFUSE.k,
                        "{name}"
                    );
                }
            }
        }
    }

    /// The kernel goes by the filter that is stricter, of two that refuse by the one loaded last.
    #[test]
    fn both_halves_together_are_the_default_filter() {
        for capabilities in [CapabilitySet::DOCKER_DEFAULT, CapabilitySet::EMPTY] {
            let whole = default_profile(capabilities);
            let (first, second) = (until_set_up(capabilities), from_set_up_on(capabilities));
            let others = [(0x1234, 0), (0xc000_003e, 0), (0x4000_0003, 1)];
            for (architecture, _) in ARCHITECTURES.iter().chain(&others) {
                for number in (0..NEWEST + 9).chain([X32, X32 + 165, u32::MAX]) {
                    for argument in [0, 1, 3, 38, 40, 0x10_0000, 0x7e02_0000, u32::MAX] {
                        let of = |program: &[Instruction]| {
                            verdict(program, *architecture, number, argument)
                        };
                        let both = match of(&second) {
                            allowed if allowed == ALLOW.k => of(&first),
                            refused => refused,
                        };
                        assert_eq!(both, of(&whole), "{architecture:x} {number} {argument}");
                    }
                }
            }
        }
    }

    #[test]
    fn setting_up_is_not_refused_before_its_end() {
        let program = until_set_up(CapabilitySet::DOCKER_DEFAULT);
        for name in SET_UP {
            let (architecture, column) = ARCHITECTURES[0];
            let asked = verdict(&program, architecture, number(name, column), 0);
            assert_eq!(asked, ALLOW.k, "{name}");
        }
        let (architecture, column) = ARCHITECTURES[1];
        let asked = verdict(&program, architecture, number("mount", column), 0);
        assert_eq!(asked, REFUSE.k); // of programs of the other architecture
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = default_profile(CapabilitySet::DOCKER_DEFAULT);
        let (architecture, column) = ARCHITECTURES[0];
        let asked =
            |name, argument| verdict(&program, architecture, number(name, column), argument);
        assert_eq!(asked("clone", libc::SIGCHLD.cast_unsigned()), ALLOW.k);
        assert_eq!(
            asked("clone", libc::CLONE_NEWUSER.cast_unsigned()),
            REFUSE.k
        );
        assert_eq!(asked("socket", libc::AF_INET.cast_unsigned()), ALLOW.k);
        assert_eq!(asked("socket", libc::AF_VSOCK.cast_unsigned()), REFUSE.k);
        assert_eq!(asked("socket", libc::AF_ALG.cast_unsigned()), REFUSE.k);
        assert_eq!(asked("personality", 0xffff_ffff), ALLOW.k);
        assert_eq!(asked("personality", 0x004_0000), REFUSE.k); // no randomised addresses
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let program = default_profile(CapabilitySet::ALL);
        let (architecture, column) = ARCHITECTURES[0];
        for (name, expected) in [
            ("mount", ALLOW.k),
            ("clone3", ALLOW.k),
            ("reboot", ALLOW.k),
            ("keyctl", REFUSE.k),
        ] {
            assert_eq!(
                verdict(&program, architecture, number(name, column), 0x7e02_0000),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn the_kernel_numbers_are_the_c_librarys() {
        let (_, column) = ARCHITECTURES[0];
        let known = [
            ("mount", libc::SYS_mount),
            ("keyctl", libc::SYS_keyctl),
            ("bpf", libc::SYS_bpf),
            ("unshare", libc::SYS_unshare),
        ];
        for (name, expected) in known {
            assert_eq!(i64::from(number(name, column)), expected, "{name}");
        }
    }
}
