//! The root and what is above it.

use crate::yard::Yard;
use rustix::fs::{Mode, OFlags};
use std::fs;

/// The old way out of a changed root: keep a directory open, change the root to one below it, and climb. With a mount namespace there is
/// nothing above but the empty directory in which a process waits for its step. In the rung `chroot` it leads into the container, which is the boundary there.
pub(crate) fn sandbox_finds_no_way_up(yard: &Yard) {
    let image = yard.image();
    image
        .probe(&["climb", &format!("{}/file", image.outside.text())])
        .prints("");
    let ran = image.shell(&format!("cat /..{0}/file /../../..{0}/file /proc/1/cwd{0}/file /proc/self/root/..{0}/file; ls -id / /..", image.outside.text()));
    ran.tells_no_secret();
    image.outside.is_untouched();
}

pub(crate) fn probe_climb(files: &[String]) {
    let here = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    fs::create_dir("/below").unwrap();
    rustix::process::chroot("/below").unwrap();
    rustix::process::fchdir(&here).unwrap();
    for _ in 0..64 {
        rustix::process::chdir("..").unwrap();
    }
    rustix::process::chroot(".").unwrap();
    for file in files {
        if let Ok(text) = fs::read(file) {
            println!("{}", String::from_utf8_lossy(&text));
        }
    }
    if fs::read_dir("/place").is_ok_and(|mut found| found.next().is_some()) {
        println!("something is left where mounts waited");
    }
    if fs::exists("/place").unwrap() && fs::create_dir("/place/made").is_ok() {
        println!("the empty directory can be written to");
    }
}
