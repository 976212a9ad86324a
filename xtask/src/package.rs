//! Debian packages that chores need, installed when they are missing.

use anyhow::{Context, Result, bail};

use crate::process::{Root, is_installed, run};

/// A package and the program by which it is known to be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// A shell and tools in one static file: the smallest base image.
pub(crate) const BUSYBOX: Package = package("busybox-static", "busybox");

/// What the tests use.
pub(crate) const FOR_TESTS: &[Package] = &[
    BUSYBOX,
    package("ca-certificates", "update-ca-certificates"),
    package("docker-registry", "docker-registry"),
    package("git", "git"),
    package("mmdebstrap", "mmdebstrap"),
    package("podman", "podman"),
    package("runc", "runc"),
    package("skopeo", "skopeo"),
    package("uidmap", "newuidmap"),
    package("umoci", "umoci"),
];

/// Makes sure that packages are there.
pub(crate) fn ensure(packages: &[Package], root: Root) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !is_installed(package.program))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing packages: {}", missing.join(" "));
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let apt = || {
        root.command("apt-get", &quiet)
            .context("installing them needs root, or sudo without a password")
    };
    // The lists may be old or absent; a failure here shows in the installation, if it matters.
    if let Err(error) = run(apt()?.args(["update", "-qq"])) {
        println!("note: {error:#}");
    }
    run(apt()?
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing))?;
    match packages
        .iter()
        .find(|package| !is_installed(package.program))
    {
        Some(package) => bail!(
            "package `{}` is installed, and `{}` is still not there",
            package.name,
            package.program
        ),
        None => Ok(()),
    }
}
