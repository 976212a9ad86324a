//! What kiln's own session has: a terminal that somebody types into, and keys.
#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_imports, dead_code, reason = "the programs are i386's")
)]

use crate::yard::{Yard, a_terminal};
use kiln_executor::sandbox::{ExitStatus, Stdio};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

/// `ioctl` and requests of it: to type, and to take a terminal from whoever has it.
const CONTROL: u32 = 54;
const TYPE: u32 = 0x5412;
const TAKE: u32 = 0x540e;

/// `add_key`, `request_key` and `keyctl` on i386.
const KEY_CALLS: [u32; 3] = [286, 287, 288];

/// What a shell says of a program that the kernel doesn't run, as one without support for i386.
const NOT_RUN: i32 = 126;

/// CVE-2017-5226 (bubblewrap): what is pushed into the terminal that a step's streams are is executed by the user's shell afterwards. With
/// `kiln run` they are the user's own.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sandbox_types_nothing_into_the_users_terminal(yard: &Yard) {
    use crate::i386::{Data, program};
    let image = yard.image();
    let data = Data(&[b"\n"]); // which ends a line, so that it could be read
    for (name, request, argument) in [("take", TAKE, 1), ("type", TYPE, data.at(0))] {
        let path = image.put(name);
        std::fs::write(&path, program(CONTROL, [0, request, argument, 0, 0], &data)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let pty = a_terminal();
    for (script, refused) in [
        ("/take", vec![Errno::PERM]),
        ("/take; /type", vec![Errno::PERM, Errno::IO]), // the latter by `dev.tty.legacy_tiocsti`
    ] {
        let end = || pty.slave.try_clone().unwrap();
        let stdio = Stdio::new(end(), end(), end());
        let spec = image.spec(&["sh", "-c", &format!("{script} 2>/dev/null; exit $?")]);
        let status = yard.launcher.spawn(&spec, stdio).unwrap().wait().unwrap();
        let mut expected = refused.iter().map(|error| error.raw_os_error());
        assert!(
            status == ExitStatus::Code(NOT_RUN)
                || expected.any(|code| status == ExitStatus::Code(code)),
            "{script}: {status:?}"
        );
    }
    let waiting = rustix::io::ioctl_fionread(&pty.slave).unwrap();
    assert_eq!(waiting, 0, "something was typed");
}

/// CVE-2016-0728 and its like, and keys of the machine: what keeps tickets and passwords has no namespace.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sandbox_reaches_no_key(yard: &Yard) {
    use crate::i386::{Data, program};
    let image = yard.image();
    let data = Data(&[b"user\0", b"kiln\0"]);
    for call in KEY_CALLS {
        let path = image.put(&format!("call{call}"));
        // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
        let arguments = match call {
            288 => [0, 3_u32.wrapping_neg(), 0, 0, 0],
            _ => [data.at(0), data.at(1), 0, 0, 3_u32.wrapping_neg()],
        };
        std::fs::write(&path, program(call, arguments, &data)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for uid in [0, 1000] {
        let script = "for c in 286 287 288; do /call$c 2>/dev/null; echo $?; done; cat /proc/keys 2>/dev/null | wc -l";
        let ran = image
            .shell_with(script, |spec| spec.user.uid = uid)
            .unwrap();
        let expected = match ran.output.starts_with(&NOT_RUN.to_string()) {
            true => "126\n126\n126\n0\n",
            false => "1\n1\n1\n0\n", // EPERM
        };
        ran.prints(expected);
    }
}

/// The same for a step that may make these calls: it has a session keyring of its own, and not what kiln was started with.
pub(crate) fn sandbox_inherits_no_key(yard: &Yard) {
    if std::fs::read("/proc/keys").is_err() {
        println!(
            "*** a part of sandbox_inherits_no_key is left out: this kernel has no /proc/keys ***"
        );
        return;
    }
    let image = yard.image();
    // Others may be listed, too.
    let sessions = || -> BTreeSet<String> {
        let spec = image.spec(&["grep", " keyring *_ses", "/proc/keys"]);
        let ran = image.run(&spec.insecure()).unwrap();
        let numbers = ran.output.lines().filter_map(|line| line.split(' ').next());
        numbers.map(str::to_owned).collect()
    };
    // Those of the next few steps may be there already.
    let seen: Vec<BTreeSet<String>> = (0..8).map(|_| sessions()).collect();
    let [first, .., last] = seen.as_slice() else {
        unreachable!("there are eight")
    };
    assert!(last.difference(first).count() > 0, "{first:?} {last:?}");
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn sandbox_types_nothing_into_the_users_terminal(_: &Yard) {}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn sandbox_reaches_no_key(_: &Yard) {}
