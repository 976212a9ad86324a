//! The recorder of owners acts for the step with kiln's own rights, in the rung `userns-single`. What it is asked for is a step's word.

use crate::yard::{Yard, a_terminal};
use kiln_executor::sandbox::MountSpec;
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// `/proc/self` in a path is the step's process and not kiln's, and links to what kiln has open lead nowhere, by whatever way `/proc` is come
/// into: in a container kiln's processes are there.
pub(crate) fn sandbox_makes_nothing_by_way_of_proc(yard: &Yard) {
    let image = yard.image();
    let outside = image.outside.text();
    let kiln = std::process::id();
    image.link("self", "/proc/self");
    image.link("above", "proc");
    let mut script = String::from("exec 9</proc 8</proc/self\n");
    for way in [
        "/proc/self/../self/root",
        &format!("/proc/self/../{kiln}/root"),
        &format!("/proc/self/task/../../{kiln}/cwd"),
        &format!("/proc/{kiln}/root"),
        &format!("/proc/{kiln}/task/{kiln}/root"),
        &format!("/above/{kiln}/root"),
        &format!("/dev/fd/9/{kiln}/root"),
        &format!("/proc/self/fd/8/../{kiln}/root"),
        "/proc/self/../thread-self/root",
        "/proc/self/../../..",
        "/proc/thread-self/root",
        "/self/root",
        "/self/task/../root",
        "/self/../self/cwd",
        "/dev/fd/../root",
        "/dev/fd/../cwd",
        "/dev/fd/../../self/root",
        "/proc/1/root",
        "/proc/$PPID/root",
    ] {
        script.push_str(&format!("way {way}\n"));
    }
    let commands = "way() {
            at=$1OUTSIDE
            try touch $at/made; try mkdir $at/directory; try mknod $at/node b 7 0; try mkfifo $at/pipe; try ln -s x $at/link
            try chown 5:5 $at/file; try chmod 777 $at/file; try cat $at/file
            (echo x >$at/written) && echo written by $1; (echo x >>$at/file) && echo changed by $1
            (cd $1 && cd OUTSIDE) && echo got there by $1
        }
        try() { \"$@\" && echo \"done: $*\"; }
        exec 2>/dev/null\n";
    let script = format!("{}{script}true", commands.replace("OUTSIDE", outside));
    for uid in [0, 1000] {
        let ran = image
            .shell_with(&script, |spec| spec.user.uid = uid)
            .unwrap();
        ran.tells_no_secret();
        ran.prints("");
        image.outside.is_untouched();
    }
}

/// Between the recorder's look and its open(2) a link to `/dev/tty` is put at the path, which for kiln is the user's own terminal. A step's own
/// renames wait for the recorder; those of another step with the same cache don't.
pub(crate) fn sandbox_opens_nothing_exchanged_while_it_is_made(yard: &Yard) {
    give_kiln_a_terminal();
    let (image, shared) = (yard.image(), yard.shared());
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut spec = image.probe_spec(&["open-race"]);
    spec.user.uid = 1000;
    let cache = MountSpec::bind(shared.path(), "/race", true);
    spec.mounts.push(cache);
    let (link, place) = (shared.path().join("link"), shared.path().join("x"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if !link.is_symlink() {
                    let _ = std::fs::remove_file(&link);
                    let _ = std::os::unix::fs::symlink("/dev/tty", &link);
                }
                let _ = std::fs::rename(&link, &place);
                let _ = std::fs::rename(&place, &link);
            }
        });
        let ran = image.run(&spec);
        done.store(true, Ordering::Relaxed);
        ran.unwrap().prints("");
    });
}

/// Makes a terminal the controlling one of this process, as a user's is.
fn give_kiln_a_terminal() {
    let pty = a_terminal();
    rustix::process::setsid().unwrap();
    rustix::process::ioctl_tiocsctty(&pty.slave).unwrap();
    std::mem::forget(pty); // who hangs up kills
}

pub(crate) fn probe_open_race() {
    for _ in 0..3000 {
        let flags = OFlags::CREATE | OFlags::RDWR;
        if rustix::fs::open("/race/x", flags, Mode::RWXU).is_ok_and(rustix::termios::isatty) {
            println!("a terminal");
        }
    }
}
