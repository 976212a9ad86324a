//! The filter that sends calls to the recorder. Programs of other architectures than the machine's own are asked about attributes alone.

use super::attributes::{ABSENT_CALLS, foreign_attributes};
use super::*;
use crate::sandbox::recorder::{self, Scope};

const NOTIFY: Instruction = returns(libc::SECCOMP_RET_USER_NOTIF);

/// A call's number and what is said when it is that.
type Rule = (u32, Vec<Instruction>);

/// What there is to record, and the capabilities, if it refuses what these don't leave.
type On = (Scope, Option<CapabilitySet>);

static LAST: Mutex<Made<On>> = Mutex::new(None);

/// The filter for a step that is recorded; empty where there is none for the architecture. It refuses what is only for setting up, too
/// ([`from_set_up_on`]), if it is told of the step's capabilities: two filters take twice as long to load.
pub(in crate::sandbox) fn notifying(
    scope: Scope,
    set_up: Option<CapabilitySet>,
) -> Arc<[Instruction]> {
    made_once(&LAST, (scope, set_up), make)
}

fn make((scope, set_up): On) -> Vec<Instruction> {
    if !SUPPORTED {
        return Vec::new();
    }
    let mut rules: Vec<Rule> = recorder::wanted(scope)
        .into_iter()
        .filter_map(|(call, bits)| u32::try_from(call).ok().map(|call| (call, bits)))
        .map(|(call, bits)| (call, verdict(call, bits)))
        .collect();
    let of_owners = recorder::ABSENT
        .into_iter()
        .filter(|_| scope == Scope::Everything);
    let of_owners = of_owners.filter_map(|call| u32::try_from(call).ok());
    let absent = ABSENT_CALLS.into_iter().chain(of_owners);
    rules.extend(absent.map(|call| (call, vec![jump_if_equal(call, 0, 1), ABSENT])));
    let refused = set_up.map(only_for_set_up).unwrap_or_default();
    rules.extend(
        refused
            .into_iter()
            .map(|(call, when)| (call, test(call, when))),
    );
    rules.sort_by_key(|(call, _)| *call);
    let mut program = foreign_attributes();
    program.push(load(NUMBER));
    program.extend(tree(&rules));
    program
}

fn tree(rules: &[Rule]) -> Vec<Instruction> {
    if rules.len() <= 3 {
        let verdicts = rules.iter().flat_map(|(_, verdict)| verdict);
        return verdicts.copied().chain([ALLOW]).collect();
    }
    let (low, high) = rules.split_at(rules.len() / 2);
    let (below, above) = (tree(low), tree(high));
    let reach = u8::try_from(below.len()).expect("half of the list is less than 256 instructions");
    let mut program = vec![jump_if_at_least(high[0].0, reach, 0)];
    program.extend(below);
    program.extend(above);
    program
}

fn verdict(call: u32, bits: Option<(usize, u32)>) -> Vec<Instruction> {
    match bits {
        None => vec![jump_if_equal(call, 0, 1), NOTIFY],
        Some((argument, bits)) => {
            let offset =
                FIRST_ARGUMENT + 8 * u32::try_from(argument).expect("a call has six arguments");
            vec![
                jump_if_equal(call, 0, 4),
                load(offset),
                jump_if_any_bit(bits, 0, 1),
                NOTIFY,
                ALLOW,
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn calls_that_make_or_look_are_sent() {
        let program = notifying(Scope::Everything, None);
        let (architecture, _) = ARCHITECTURES[0];
        let asked = |call: libc::c_long, argument| {
            verdict(
                &program,
                architecture,
                u32::try_from(call).expect("a number"),
                argument,
            )
        };
        let create = libc::O_CREAT.cast_unsigned();
        assert_eq!(asked(libc::SYS_fchownat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_getuid, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_openat, create), NOTIFY.k);
        assert_eq!(asked(libc::SYS_openat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_chdir, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_read, create), ALLOW.k);
        assert_eq!(asked(libc::SYS_mount, 0), ALLOW.k); // the default filter refuses it
        assert_eq!(asked(libc::SYS_flistxattr, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_openat2, 0), ABSENT.k);
        assert_eq!(verdict(&program, 0x1234, 92, 0), ALLOW.k);
    }

    #[test]
    fn with_what_is_only_for_setting_up_it_is_both_filters() {
        let capabilities = CapabilitySet::DOCKER_DEFAULT;
        let second = from_set_up_on(capabilities);
        for scope in [
            Scope::Everything,
            Scope::Devices { looks: true },
            Scope::Devices { looks: false },
        ] {
            let (both, first) = (notifying(scope, Some(capabilities)), notifying(scope, None));
            for (architecture, _) in ARCHITECTURES {
                for number in 0..NEWEST + 9 {
                    for argument in [0, 1, 0o20000, 0x7e02_0000, u32::MAX] {
                        let of = |program: &[Instruction]| {
                            verdict(program, *architecture, number, argument)
                        };
                        let expected = match of(&second) {
                            allowed if allowed == ALLOW.k => of(&first),
                            refused => refused,
                        };
                        assert_eq!(of(&both), expected, "{architecture:x} {number} {argument}");
                    }
                }
            }
        }
    }

    #[test]
    fn devices_alone_may_be_sent() {
        let program = notifying(Scope::Devices { looks: false }, None);
        let (architecture, _) = ARCHITECTURES[0];
        let made = |mode: u32| {
            let call = u32::try_from(libc::SYS_mknodat).expect("a number");
            verdict(&program, architecture, call, mode | 0o644)
        };
        assert_eq!(made(libc::S_IFCHR), NOTIFY.k);
        assert_eq!(made(libc::S_IFBLK), NOTIFY.k);
        for other in [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK] {
            assert_eq!(made(other), ALLOW.k, "{other:o}");
        }
        let stat = u32::try_from(libc::SYS_newfstatat).expect("a number");
        assert_eq!(verdict(&program, architecture, stat, u32::MAX), ALLOW.k);
        let program = notifying(Scope::Devices { looks: true }, None);
        assert_eq!(verdict(&program, architecture, stat, u32::MAX), NOTIFY.k);
    }
}
