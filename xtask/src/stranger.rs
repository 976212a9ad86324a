//! Somebody else to run tests as, with a home of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::inside::FIRST_ID;
use crate::process::{is_installed, output};
use crate::workspace::Workspace;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `nobody`, with no id but their own.
    User,
    /// `nobody`, with a range of ids.
    UserWithRange,
    /// Root of a user namespace.
    RootOfNamespace,
}

/// Somebody; their home goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    kind: Kind,
    /// As the machine numbers them.
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl Stranger {
    /// Makes a home for them. Needs root. Fails, with the reason, where they can't be had or can't reach the tests.
    pub(crate) fn prepare(kind: Kind, workspace: &Workspace) -> Result<Self> {
        let id = |what| -> Result<u32> {
            let id = output(Command::new("id").args([what, "nobody"]))?;
            Ok(id.trim().parse()?)
        };
        let (uid, gid) = match kind {
            Kind::User | Kind::UserWithRange => (id("-u")?, id("-g")?),
            Kind::RootOfNamespace => (FIRST_ID, FIRST_ID),
        };
        ensure!(
            kind != Kind::UserWithRange || is_installed("newuidmap"),
            "there is no `newuidmap` (package uidmap)"
        );
        let home = std::env::temp_dir().join(format!("kiln-test-{uid}-{}", std::process::id()));
        let somebody = Self {
            kind,
            uid,
            gid,
            home,
        };
        let home = &somebody.home;
        fs::create_dir_all(home).with_context(|| format!("could not make `{}`", home.display()))?;
        std::os::unix::fs::chown(home, Some(uid), Some(gid))
            .with_context(|| format!("could not give `{}` to user {uid}", home.display()))?;
        // The build that runs the tests may replace the original, and may have done so already: then it has no name any more.
        fs::copy("/proc/self/exe", somebody.xtask()).context("this program can't be copied")?;
        for path in [
            workspace.root.join("Cargo.toml"),
            workspace.target.join("debug"),
        ] {
            somebody.reads(&path)?;
        }
        Ok(somebody)
    }

    fn reads(&self, path: &Path) -> Result<()> {
        let wrapper = self.wrapper();
        let mut words = wrapper.split(' ');
        let mut command = Command::new(words.next().unwrap_or("setpriv"));
        let tried = output(command.args(words).args(["test", "-r"]).arg(path));
        tried.map(drop).with_context(|| {
            let who = match self.kind {
                Kind::User | Kind::UserWithRange => "user `nobody`",
                Kind::RootOfNamespace => "root of a user namespace",
            };
            format!("{who} can't be had or can't read `{}`", path.display())
        })
    }

    fn xtask(&self) -> PathBuf {
        self.home.join("xtask")
    }

    /// What makes a command theirs; words without spaces.
    pub(crate) fn wrapper(&self) -> String {
        let (home, xtask) = (self.home.display(), self.xtask());
        let Self { uid, gid, .. } = self;
        match self.kind {
            Kind::User => format!(
                "setpriv --reuid={uid} --regid={gid} --clear-groups env HOME={home} TMPDIR={home}"
            ),
            Kind::UserWithRange => format!("{} inside range {uid} {gid} {home}", xtask.display()),
            Kind::RootOfNamespace => format!("{} inside given 0 0 {home}", xtask.display()),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Only a folder in the temporary one.
        let _ = fs::remove_dir_all(&self.home);
    }
}
