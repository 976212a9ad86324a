//! The recorder of owners acts for the step with kiln's own rights, in the rung `userns-single`. What it is asked for is a step's word.

use crate::yard::{Yard, a_terminal};
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// `/proc/self` in a path is the step's process and not kiln's, and what goes up again from there stays in the step's `/proc`.
pub(crate) fn sandbox_makes_nothing_by_way_of_proc_self(yard: &Yard) {
    let image = yard.image();
    let outside = image.outside.text();
    let kiln = std::process::id();
    let ways = [
        "self/../self/root",
        &format!("self/../{kiln}/root"),
        &format!("self/task/../../{kiln}/cwd"),
        "self/../thread-self/root",
        "self/../../..",
    ];
    let mut script = String::new();
    for way in ways {
        let at = format!("/proc/{way}{outside}");
        for command in [
            format!("touch {at}/made"),
            format!("echo x >{at}/written"),
            format!("echo x >>{at}/file"),
            format!("mkdir {at}/directory"),
            format!("mknod {at}/node b 7 0"),
            format!("mkfifo {at}/pipe"),
            format!("ln -s x {at}/link"),
            format!("chown 5:5 {at}/file"),
            format!("cat {at}/file"),
        ] {
            script.push_str(&format!("{command} 2>/dev/null && echo done: {command}\n"));
        }
    }
    script.push_str("true");
    for uid in [0, 1000] {
        let ran = image
            .shell_with(&script, |spec| spec.user.uid = uid)
            .unwrap();
        image.outside.is_untouched();
        ran.tells_no_secret();
    }
}

/// Between the recorder's look and its open(2) a link to `/dev/tty` is put at the path, which for kiln is the user's own terminal.
pub(crate) fn sandbox_opens_nothing_exchanged_while_it_is_made(yard: &Yard) {
    give_kiln_a_terminal();
    let image = yard.image();
    let mut spec = image.probe_spec(&["open-race"]);
    spec.user.uid = 1000;
    let directory = image.put("race");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    image.run(&spec).unwrap().prints("");
}

/// Makes a terminal the controlling one of this process, as a user's is.
fn give_kiln_a_terminal() {
    let pty = a_terminal();
    rustix::process::setsid().unwrap();
    rustix::process::ioctl_tiocsctty(&pty.slave).unwrap();
    std::mem::forget(pty); // who hangs up kills
}

/// A rename is what the recorder is not asked about, so that it doesn't have to wait for the open.
pub(crate) fn probe_open_race() {
    std::os::unix::fs::symlink("/dev/tty", "/race/link").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = std::fs::rename("/race/link", "/race/x");
                let _ = std::fs::rename("/race/x", "/race/link");
            }
        });
        for _ in 0..3000 {
            let flags = OFlags::CREATE | OFlags::RDWR;
            if rustix::fs::open("/race/x", flags, Mode::RWXU).is_ok_and(rustix::termios::isatty) {
                println!("a terminal");
            }
            if !std::fs::symlink_metadata("/race/link").is_ok_and(|found| found.is_symlink()) {
                let _ = std::fs::remove_file("/race/link");
                let _ = std::os::unix::fs::symlink("/dev/tty", "/race/link");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
