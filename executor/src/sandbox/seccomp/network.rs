//! The filter that keeps a step off the network where it can have no network namespace: there are no sockets but Unix ones, and so
//! no loopback interface either.

use super::*;

/// What a kernel without networking says. `EPERM` would stop programs such as `useradd`, which only want to tell the kernel's audit.
const NO_FAMILY: Instruction =
    returns(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned());

/// `socket` on x86-64, i386, arm64 and arm.
const SOCKET: [u32; 4] = [41, 359, 198, 281];

/// `socketcall` of i386, whose arguments can't be seen.
const SOCKETCALL: u32 = 102;

/// `io_uring_setup`, by which sockets can be made unseen; the same everywhere.
const IO_URING_SETUP: u32 = 425;

/// The filter; empty where there is none for the architecture.
pub(in crate::sandbox) fn no_network() -> Vec<Instruction> {
    if !SUPPORTED {
        return Vec::new();
    }
    let mut program = vec![load(ARCHITECTURE)];
    for (architecture, column) in ARCHITECTURES {
        let block = block(*architecture, SOCKET[*column]);
        let length = u8::try_from(block.len()).expect("a block is a few instructions");
        program.push(jump_if_equal(*architecture, 0, length));
        program.extend(block);
    }
    program.push(REFUSE);
    program
}

fn block(architecture: u32, socket: u32) -> Vec<Instruction> {
    let mut program = vec![load(NUMBER)];
    if architecture == X86_64.0 {
        program.extend([jump_if_at_least(X32, 0, 1), ABSENT]);
    }
    if architecture == I386.0 {
        program.extend([jump_if_equal(SOCKETCALL, 0, 1), NO_FAMILY]);
    }
    program.extend([
        jump_if_equal(IO_URING_SETUP, 0, 1),
        ABSENT,
        jump_if_equal(socket, 1, 0),
        ALLOW,
        load(FIRST_ARGUMENT),
        jump_if_equal(libc::AF_UNIX.cast_unsigned(), 0, 1),
        ALLOW,
        NO_FAMILY,
    ]);
    program
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn only_unix_sockets_are_made() {
        let program = no_network();
        for (architecture, column) in ARCHITECTURES {
            let socket = |family: i32| {
                let family = family.cast_unsigned();
                verdict(&program, *architecture, SOCKET[*column], family)
            };
            assert_eq!(socket(libc::AF_UNIX), ALLOW.k);
            for family in [
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK,
                libc::AF_PACKET,
                libc::AF_VSOCK,
            ] {
                assert_eq!(socket(family), NO_FAMILY.k, "{family}");
            }
            assert_eq!(
                verdict(&program, *architecture, IO_URING_SETUP, 0),
                ABSENT.k
            );
            assert_eq!(verdict(&program, *architecture, 1, 0), ALLOW.k);
        }
        assert_eq!(verdict(&program, 0x1234, 0, 0), REFUSE.k);
    }
}
