//! Base images, handed out by a registry on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::base::busybox_tar;
use crate::package;
use crate::process::{Root, run as shown_run};
use crate::registry::Registry;

/// A registry with a small base image, and the kiln that fills it.
pub(super) struct Served {
    registry: Registry,
    kiln: PathBuf,
    store: PathBuf,
    /// The base image's root filesystem.
    pub(super) rootfs: PathBuf,
}

impl Served {
    pub(super) fn start(folder: &Path, kiln: &Path) -> Result<Self> {
        let registry = package::FOR_TESTS.iter().copied();
        let registry = registry.filter(|package| package.program == "docker-registry");
        let mut packages = vec![package::BUSYBOX];
        packages.extend(registry);
        package::ensure(&packages, Root::find())?;
        fs::create_dir_all(folder)?;
        let tar = busybox_tar(folder)?;
        let served = Served {
            registry: Registry::start(&folder.join("registry"))?,
            kiln: kiln.to_owned(),
            store: folder.join("served"),
            rootfs: folder.join("base"),
        };
        shown_run(
            served
                .kiln("import")
                .args([tar.as_path(), Path::new(&served.base())]),
        )?;
        served.push(&served.base())?;
        Ok(served)
    }

    /// What the small base image is called.
    pub(super) fn base(&self) -> String {
        self.name("base")
    }

    /// Builds an image, puts it into the registry and says what it is called there.
    pub(super) fn serve(&self, name: &str, context: &Path) -> Result<String> {
        let name = self.name(name);
        let mut build = self.kiln("build");
        shown_run(build.args(["--progress=none", "-t", &name]).arg(context))?;
        self.push(&name)?;
        Ok(name)
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.registry.host)
    }

    fn push(&self, name: &str) -> Result<()> {
        shown_run(self.kiln("push").arg(name))
    }

    fn kiln(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.kiln);
        command.arg(verb).arg("--root").arg(&self.store);
        command
    }
}
