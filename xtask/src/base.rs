//! The smallest base image, made of Debian's busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, run as shown_run};

/// A tar of the smallest root filesystem with a shell: busybox, a link for each of its commands, two users.
pub(crate) fn busybox_tar(folder: &Path) -> Result<PathBuf> {
    let rootfs = folder.join("base");
    if rootfs.exists() {
        fs::remove_dir_all(&rootfs)?;
    }
    for directory in [
        "bin",
        "etc",
        "root",
        "tmp",
        "usr/bin",
        "usr/local/bin",
        "var/tmp",
    ] {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    let busybox = busybox_program()?;
    fs::copy(&busybox, rootfs.join("bin/busybox"))?;
    for command in output(Command::new(&busybox).arg("--list"))?
        .lines()
        .filter(|name| *name != "busybox")
    {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(command))?;
    }
    fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    )?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    let tar = folder.join("base.tar");
    // The same bytes each time, whoever makes them: a base that changes would leave nothing cached.
    let pack = [
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=go+u,go-w",
    ];
    shown_run(
        Command::new("tar")
            .args(pack)
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(&rootfs)
            .arg("."),
    )?;
    Ok(tar)
}

fn busybox_program() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    places
        .into_iter()
        .find(|path| path.exists())
        .map(Path::to_owned)
        .context("busybox is installed and not in /bin")
}
