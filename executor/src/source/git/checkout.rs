//! From a commit to a layer (R-ADD-11).
//!
//! Files are checked out by git into a directory that becomes the layer's unpacked form. What git and the umask leave to
//! chance is then made the same everywhere: modes, owners, and `.git`, which is there only if it was asked for.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_cache::LayerStaging;
use kiln_image::contents::DirContents;
use kiln_image::scan::{Draft, scan_directory};
use kiln_image::tar::{TarSummary, write_draft};
use kiln_image::{Change, Changeset, Timestamp, Tree};
use kiln_planner::{GitSource, GitTimes, Remote};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::program::{At, GitProgram};
use super::repository::{Repository, kept_ref};
use super::{GitError, Resolved};
use crate::error::Cause;

/// Checks a commit out into the `fs` of `staging`, and says what is there.
pub(super) fn into_layer(
    source: &GitSource,
    resolved: &Resolved,
    repository: &Repository,
    program: &GitProgram<'_>,
    staging: &LayerStaging<'_>,
) -> Result<(Changeset, TarSummary), Cause> {
    let checkout = Checkout {
        source,
        resolved,
        repository,
        program,
        tree: staging.path().join("checkout"),
        scratch: staging.path().to_owned(),
    };
    checkout.make()?;
    let fs = staging.path().join("fs");
    let top = checkout.top()?;
    fs::rename(&top, &fs).map_err(Cause::file("rename", &top))?;
    let time = match source.times {
        GitTimes::Checkout => None,
        GitTimes::Commit => Some(checkout.commit_time()?),
    };
    settle(&fs, time).map_err(Cause::file("set the modes of", &fs))?;
    read(&fs)
}

/// A checkout being made.
struct Checkout<'a> {
    source: &'a GitSource,
    resolved: &'a Resolved,
    repository: &'a Repository,
    program: &'a GitProgram<'a>,
    /// Where the files go.
    tree: PathBuf,
    /// A directory for what is needed meanwhile.
    scratch: PathBuf,
}

impl Checkout<'_> {
    fn make(&self) -> Result<(), Cause> {
        fs::create_dir(&self.tree).map_err(Cause::file("create", &self.tree))?;
        // A directory alone is no work tree of anything.
        let keeps_git_dir = self.source.keep_git_dir && self.source.subdir.is_none();
        let with_submodules = self.source.submodules && self.has_submodules()?;
        if keeps_git_dir {
            self.clone_kept()?;
        } else {
            self.check_out(with_submodules)?;
        }
        if !keeps_git_dir {
            remove_git_dirs(&self.tree).map_err(Cause::file("tidy", &self.tree))?;
        }
        Ok(())
    }

    fn commit(&self) -> String {
        format!("{}^{{commit}}", kept_ref(&self.resolved.object))
    }

    fn has_submodules(&self) -> Result<bool, Cause> {
        let listed = self.program.run_here(
            "check out",
            self.repository.at(),
            [
                "ls-tree",
                "--name-only",
                &self.commit(),
                "--",
                ".gitmodules",
            ],
        )?;
        Ok(!listed.is_empty())
    }

    /// The files alone, and those of submodules. The bare repository stays as it is: the index, and the repositories of
    /// submodules, whose names another commit may give to others, are for this checkout only.
    fn check_out(&self, with_submodules: bool) -> Result<(), Cause> {
        let index = self.scratch.join("index");
        if !with_submodules {
            let at = At {
                work_tree: Some(&self.tree),
                index: Some(&index),
                ..self.repository.at()
            };
            return self.read_tree(at);
        }
        let git_dir = self.scratch.join("repository");
        self.init(At::default(), &[OsStr::new("--bare"), git_dir.as_os_str()])?;
        self.borrow_objects(&git_dir)?;
        let at = At {
            git_dir: Some(&git_dir),
            work_tree: Some(&self.tree),
            index: None,
        };
        self.set_origin(at, &self.source.remote)?;
        self.read_tree(at)?;
        self.update_submodules(at)
    }

    fn read_tree(&self, at: At<'_>) -> Result<(), Cause> {
        let commit = self.resolved_commit()?;
        let arguments = ["read-tree", "-u", "--reset", &commit];
        self.program
            .run_here("check out", at, arguments)
            .map(|_| ())
    }

    fn resolved_commit(&self) -> Result<String, Cause> {
        let arguments = ["rev-parse", "--verify", "--quiet", &self.commit()];
        let at = self.repository.at();
        let id = self.program.run_here("check out", at, arguments)?;
        Ok(String::from_utf8_lossy(&id).trim().to_owned())
    }

    /// A repository of its own below the files, that knows its remote and one commit.
    fn clone_kept(&self) -> Result<(), Cause> {
        let git_dir = self.tree.join(".git");
        self.init(At::default(), &[self.tree.as_os_str()])?;
        let at = At {
            git_dir: Some(&git_dir),
            work_tree: Some(&self.tree),
            index: None,
        };
        self.take_objects(at)?;
        let arguments = ["checkout", "--quiet", "--detach", &self.resolved_commit()?];
        self.program.run_here("check out", at, arguments)?;
        self.set_origin(at, &Remote::redacted(&self.source.remote))?;
        if self.source.submodules && self.has_submodules()? {
            self.update_submodules(at)?;
        }
        let expire = ["reflog", "expire", "--all", "--expire=now"];
        self.program.run_here("check out", at, expire)?;
        for name in ["FETCH_HEAD", "ORIG_HEAD"] {
            // Mostly it isn't there.
            let _ = fs::remove_file(git_dir.join(name));
        }
        Ok(())
    }

    /// Copies the commit into the repository at `at`, under the name it was asked for by.
    fn take_objects(&self, at: At<'_>) -> Result<(), Cause> {
        let mut from = std::ffi::OsString::from("file://");
        from.push(&self.repository.path);
        let kept = kept_ref(&self.resolved.object);
        let name = self.resolved.reference_name().unwrap_or(&kept);
        let what = format!("+{kept}:{name}");
        let words = [
            "-c",
            "protocol.file.allow=always",
            "fetch",
            "--quiet",
            "--no-tags",
        ];
        let more = ["--depth=1", "--update-head-ok", "--"];
        let arguments = words.iter().chain(&more).map(|word| OsStr::new(*word));
        let arguments = arguments.chain([from.as_os_str(), OsStr::new(&what)]);
        self.program.run_here("check out", at, arguments)?;
        if name == kept {
            // The commit is HEAD soon, and needs no other name.
            let arguments = ["update-ref", "--no-deref", "HEAD", &self.resolved.object];
            self.program.run_here("check out", at, arguments)?;
            let forget = ["update-ref", "-d", &kept];
            self.program.run_here("check out", at, forget)?;
        }
        Ok(())
    }

    fn init(&self, at: At<'_>, arguments: &[&OsStr]) -> Result<(), Cause> {
        let format = match self.resolved.object.len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let words = ["init", "--quiet", format].map(OsStr::new);
        let arguments = words.into_iter().chain(arguments.iter().copied());
        self.program
            .run_here("check out", at, arguments)
            .map(|_| ())
    }

    /// Lets a repository read the objects of the bare one.
    fn borrow_objects(&self, git_dir: &Path) -> Result<(), Cause> {
        use std::os::unix::ffi::OsStrExt;
        let objects = self.repository.path.join("objects");
        let alternates = git_dir.join("objects/info/alternates");
        let mut line = objects.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        fs::create_dir_all(git_dir.join("objects/info"))
            .and_then(|()| fs::write(&alternates, line))
            .map_err(Cause::file("write", &alternates))?;
        let shallow = self.repository.path.join("shallow");
        match fs::copy(&shallow, git_dir.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Cause::file("copy", shallow)(error))
            }
            _ => Ok(()),
        }
    }

    /// What addresses of submodules that begin with `../` are relative to.
    fn set_origin(&self, at: At<'_>, remote: &str) -> Result<(), Cause> {
        let arguments = ["config", "remote.origin.url", remote];
        self.program.run_here("check out", at, arguments)?;
        let refs = [
            "config",
            "remote.origin.fetch",
            "+refs/heads/*:refs/remotes/origin/*",
        ];
        self.program.run_here("check out", at, refs).map(|_| ())
    }

    fn update_submodules(&self, at: At<'_>) -> Result<(), Cause> {
        let shallow = [
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        self.program
            .run(at, shallow)
            .map(|_| ())
            .map_err(|trouble| {
                self.program
                    .remote_failed("fetch the submodules of", trouble)
            })
    }

    /// The directory that is wanted. No link leads there, and none out.
    fn top(&self) -> Result<PathBuf, Cause> {
        let Some(subdir) = &self.source.subdir else {
            return Ok(self.tree.clone());
        };
        let mut path = self.tree.clone();
        for name in subdir.split('/') {
            path.push(name);
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            if !is_directory {
                return Err(GitError::Subdir {
                    remote: self.source.remote.clone(),
                    subdir: subdir.clone(),
                }
                .into());
            }
        }
        Ok(path)
    }

    /// When the commit was made, in seconds since 1970.
    fn commit_time(&self) -> Result<i64, Cause> {
        let arguments = ["log", "-1", "--format=%ct", &self.commit()];
        let at = self.repository.at();
        let text = self.program.run_here("check out", at, arguments)?;
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map_err(|_| {
            let words = format!("its commit has no time but {:?}", text.trim());
            GitError::Local {
                act: "check out",
                remote: self.source.remote.clone(),
                words,
            }
            .into()
        })
    }
}

/// Removes every `.git`: no commit can have a file of that name, so they are git's own.
fn remove_git_dirs(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        match (entry.file_name() == ".git", is_directory) {
            (true, true) => fs::remove_dir_all(entry.path())?,
            (true, false) => fs::remove_file(entry.path())?,
            (false, true) => remove_git_dirs(&entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// Gives everything the mode it has under the usual umask, and the time that is wanted; a directory after what is in it.
fn settle(path: &Path, time: Option<i64>) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
    }
    if !found.is_symlink() {
        let mode = found.permissions().mode() & 0o7777;
        let usual = usual_mode(mode, found.is_dir());
        if mode != usual {
            fs::set_permissions(path, Permissions::from_mode(usual))?;
        }
    }
    if let Some(secs) = time {
        let time = Timespec {
            tv_sec: secs,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// A mode as umask 022 makes it: the owner's bits for all, but nobody else writes.
fn usual_mode(mode: u32, is_directory: bool) -> u32 {
    if is_directory {
        return 0o755;
    }
    let owner = (mode >> 6) & 0o7;
    let others = owner & 0o5;
    owner << 6 | others << 3 | others
}

/// What is in the directory, as a layer says it: owned by root, whole seconds.
fn read(fs: &Path) -> Result<(Changeset, TarSummary), Cause> {
    let failed = "of a repository";
    let contents = DirContents::open(fs).map_err(Cause::file("open", fs))?;
    let found = scan_directory(fs).map_err(Cause::layer("read", failed))?;
    let plain = |(path, change): (&kiln_image::ImagePath, &Change)| {
        let mut change = change.clone();
        if let Change::Put(node) = &mut change {
            let metadata = &mut node.metadata;
            (metadata.uid, metadata.gid) = (0, 0);
            metadata.xattrs.clear();
            metadata.mtime = Timestamp::from_secs(metadata.mtime.secs);
        }
        (path.clone(), change)
    };
    let draft: Draft = found.iter().map(plain).collect();
    let draft = draft
        .normalise(&Tree::new(), &contents)
        .map_err(Cause::layer("read", failed))?;
    write_draft(draft, &contents, io::sink()).map_err(Cause::layer("write", failed))
}

#[cfg(test)]
mod tests {
    use super::usual_mode;

    // R-ADD-11
    #[test]
    fn modes_do_not_depend_on_the_umask() {
        for (mode, expected) in [
            (0o644, 0o644),
            (0o600, 0o644),
            (0o666, 0o644),
            (0o700, 0o755),
            (0o777, 0o755),
            (0o4755, 0o755),
            (0o400, 0o444),
        ] {
            assert_eq!(usual_mode(mode, false), expected, "{mode:o}");
        }
        assert_eq!(usual_mode(0o2700, true), 0o755);
    }
}
