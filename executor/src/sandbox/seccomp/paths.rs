//! The filter that sends calls with paths to the broker. Programs of other architectures than the machine's own are left alone.

use super::*;
use crate::sandbox::broker::{self, Wanted};

const NOTIFY: Instruction = returns(libc::SECCOMP_RET_USER_NOTIF);

/// The filter for a step whose `/proc` and `/dev` a broker shows; empty where there is none for the architecture.
pub(in crate::sandbox) fn asking() -> Vec<Instruction> {
    if !SUPPORTED {
        return Vec::new();
    }
    let (architecture, _) = ARCHITECTURES[0];
    let mut program = vec![
        load(ARCHITECTURE),
        jump_if_equal(architecture, 1, 0),
        ALLOW,
        load(NUMBER),
    ];
    program.extend(broker::wanted().into_iter().flat_map(test));
    program.push(ALLOW);
    program
}

fn test((call, unless): Wanted) -> Vec<Instruction> {
    let call = u32::try_from(call).expect("numbers of calls are small");
    match unless {
        None => vec![jump_if_equal(call, 0, 1), NOTIFY],
        Some((argument, bits)) => {
            let number = u32::try_from(argument).expect("a call has six arguments");
            vec![
                jump_if_equal(call, 0, 4),
                load(FIRST_ARGUMENT + 8 * number),
                jump_if_any_bit(bits, 0, 1),
                ALLOW,
                NOTIFY,
            ]
        }
    }
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
        assert_eq!(asked(libc::SYS_close, 0), ALLOW.k);
        assert_eq!(verdict(&program, 0x1234, 257, 0), ALLOW.k);
    }
}
