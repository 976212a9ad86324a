//! The filter that sends calls with paths to the broker. Programs of other architectures than the machine's own are asked about attributes
//! alone.

use super::attributes::{ABSENT_CALLS, foreign_attributes};
use super::*;
use crate::sandbox::broker::{self, Wanted, When as Asked};

const NOTIFY: Instruction = returns(libc::SECCOMP_RET_USER_NOTIF);

/// The filter for a step whose `/proc` and `/dev` a broker shows; empty where there is none for the architecture.
pub(in crate::sandbox) fn asking() -> Vec<Instruction> {
    if !SUPPORTED {
        return Vec::new();
    }
    let mut program = foreign_attributes();
    program.push(load(NUMBER));
    program.extend(no_whiteouts());
    program.extend(broker::wanted().into_iter().flat_map(test));
    let absent = |call| [jump_if_equal(call, 0, 1), ABSENT];
    program.extend(ABSENT_CALLS.into_iter().flat_map(absent));
    program.push(ALLOW);
    program
}

/// A rename that leaves a whiteout is one that overlayfs doesn't know. In a layer it would be a device.
fn no_whiteouts() -> Vec<Instruction> {
    let flags = FIRST_ARGUMENT + 8 * 4;
    let unknown = returns(libc::SECCOMP_RET_ERRNO | libc::EINVAL.cast_unsigned());
    vec![
        jump_if_equal(number(libc::SYS_renameat2), 0, 4),
        load(flags),
        jump_if_any_bit(libc::RENAME_WHITEOUT, 0, 1),
        unknown,
        NOTIFY,
    ]
}

fn test((call, when): Wanted) -> Vec<Instruction> {
    let (argument, bits) = match when {
        Asked::Always => return vec![jump_if_equal(number(call), 0, 1), NOTIFY],
        Asked::Without(argument, bits) => (argument, bits),
    };
    let argument = u32::try_from(argument).expect("a call has six arguments");
    vec![
        jump_if_equal(number(call), 0, 4),
        load(FIRST_ARGUMENT + 8 * argument),
        jump_if_any_bit(bits, 0, 1),
        ALLOW,
        NOTIFY,
    ]
}

fn number(call: i64) -> u32 {
    u32::try_from(call).expect("numbers of calls are small")
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn calls_with_paths_are_sent() {
        let program = asking();
        let (architecture, _) = ARCHITECTURES[0];
        let asked = |call: libc::c_long, argument| {
            let call = u32::try_from(call).expect("a number");
            verdict(&program, architecture, call, argument)
        };
        let no_path = libc::AT_EMPTY_PATH.cast_unsigned();
        assert_eq!(asked(libc::SYS_openat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_newfstatat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_newfstatat, no_path), ALLOW.k); // how the C library makes an fstat
        assert_eq!(asked(libc::SYS_sendmsg, 0), ALLOW.k); // by which the listener is handed over
        assert_eq!(asked(libc::SYS_linkat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_unlinkat, 0), NOTIFY.k);
        assert_eq!(asked(libc::SYS_renameat2, libc::RENAME_NOREPLACE), NOTIFY.k);
        let refused = asked(libc::SYS_renameat2, libc::RENAME_WHITEOUT);
        assert_eq!(refused & 0xffff, libc::EINVAL.cast_unsigned());
        assert_eq!(asked(libc::SYS_close, 0), ALLOW.k);
        assert_eq!(verdict(&program, 0x1234, 257, 0), ALLOW.k);
    }
}
