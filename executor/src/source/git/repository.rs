//! The store's bare repository of a remote: what was fetched from it once need not come again.
//!
//! Each object that was asked for has a ref of its own, `refs/kiln/<id>`, written when all of it has come. So what a killed
//! process left half done is never taken for whole, and names that the remote moves, deletes or turns into directories
//! disturb nothing. Whoever works here holds the remote's lock.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_planner::GitSource;

use super::program::{At, Failure, GitProgram, Trouble};
use super::{GitError, Resolved};
use crate::error::Cause;
use crate::source::remote::Fetcher;

/// What a server says that only gives what its refs name.
const NOT_BY_ID: &[&str] = &[
    "not our ref",
    "unadvertised object",
    "couldn't find remote ref",
];
/// What a server, or git for it, says that can't leave history out.
const NOT_SHALLOW: &[&str] = &["shallow", "--depth"];

/// A bare repository that has the commit.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) path: PathBuf,
}

/// Makes sure that the store has the commit's files, and says where.
pub(super) fn with(
    source: &GitSource,
    resolved: &Resolved,
    program: &GitProgram<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<Repository, Cause> {
    let remotes = fetcher.services.store.remotes();
    let path = remotes.repository(&source.remote)?;
    let repository = Repository { path };
    let is_new = !repository.path.join("HEAD").exists();
    match repository.bring(resolved, program) {
        Ok(()) => Ok(repository),
        Err(cause) if is_new || !may_be_our_fault(&cause) => Err(cause),
        // What is here may be damaged. Without it all has to come again.
        Err(_) => {
            remotes.remove_repository(&source.remote)?;
            let path = remotes.repository(&source.remote)?;
            let repository = Repository { path };
            repository.bring(resolved, program)?;
            Ok(repository)
        }
    }
}

fn may_be_our_fault(cause: &Cause) -> bool {
    match cause {
        Cause::Git(GitError::Local { .. }) => true,
        Cause::Git(GitError::Remote { words, .. }) => {
            let signs = [
                "object", "pack", "shallow", "lock", "index", "corrupt", "config",
            ];
            signs.iter().any(|sign| words.contains(sign))
        }
        _ => false,
    }
}

/// The ref that says an object is here with all that belongs to it.
pub(super) fn kept_ref(object: &str) -> String {
    format!("refs/kiln/{object}")
}

impl Repository {
    pub(super) fn at(&self) -> At<'_> {
        At {
            git_dir: Some(&self.path),
            ..At::default()
        }
    }

    fn bring(&self, resolved: &Resolved, program: &GitProgram<'_>) -> Result<(), Cause> {
        if self.has(&resolved.object, program)? {
            return Ok(());
        }
        self.prepare(resolved, program)?;
        self.fetch(resolved, program)?;
        let kept = kept_ref(&resolved.object);
        let keep = ["update-ref", &kept, &resolved.object];
        program.run_here("fetch", self.at(), keep)?;
        match self.has(&resolved.object, program)? {
            true => Ok(()),
            false => Err(gone(resolved, program)),
        }
    }

    /// Whether a commit, or a tag of one, came whole.
    fn has(&self, object: &str, program: &GitProgram<'_>) -> Result<bool, Cause> {
        if !self.path.join("HEAD").exists() {
            return Ok(false);
        }
        let kept = format!("{}^{{commit}}", kept_ref(object));
        self.knows(&kept, program)
    }

    fn knows(&self, revision: &str, program: &GitProgram<'_>) -> Result<bool, Cause> {
        match program.run(self.at(), ["cat-file", "-e", revision]) {
            Ok(_) => Ok(true),
            Err(Trouble::Failed(_)) => Ok(false),
            Err(Trouble::Cause(cause)) => Err(cause),
        }
    }

    /// Makes the repository, or clears away what a process left that was killed here.
    fn prepare(&self, resolved: &Resolved, program: &GitProgram<'_>) -> Result<(), Cause> {
        remove_leftovers(&self.path);
        let format = match resolved.object.len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let path = self.path.as_os_str();
        let words = ["init", "--quiet", "--bare", format].map(AsRef::as_ref);
        let arguments = words.into_iter().chain([path]);
        program.run_here("make a repository for", At::default(), arguments)?;
        Ok(())
    }

    /// Fetches an object: alone, else by its ref, else with all there is. Without its history where that can be had.
    fn fetch(&self, resolved: &Resolved, program: &GitProgram<'_>) -> Result<(), Cause> {
        let kept = kept_ref(&resolved.object);
        let by_id = format!("+{}:{kept}", resolved.object);
        let mut last = match self.try_fetch(&[&by_id], program) {
            Ok(()) => return Ok(()),
            Err(trouble) => only_if(trouble, NOT_BY_ID)
                .map_err(|trouble| program.remote_failed("fetch", trouble))?,
        };
        if let Some(name) = resolved.reference_name() {
            let by_name = format!("+{name}:{kept}");
            match self.try_fetch(&[&by_name], program) {
                Ok(()) if self.knows(&resolved.object, program)? => return Ok(()),
                Ok(()) => {}
                Err(trouble) => {
                    last = only_if(trouble, NOT_BY_ID)
                        .map_err(|trouble| program.remote_failed("fetch", trouble))?;
                }
            }
        }
        self.fetch_all(program)
            .map_err(|trouble| program.remote_failed("fetch", trouble))?;
        match self.knows(&resolved.object, program)? {
            true => Ok(()),
            false => Err(program.remote_failed("fetch", Trouble::Failed(last))),
        }
    }

    /// Fetches without history, or with it if the server can't otherwise.
    fn try_fetch(&self, what: &[&str], program: &GitProgram<'_>) -> Result<(), Trouble> {
        let words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
        let tail = [&["--", &*program.remote], what].concat();
        let shallow = [&words[..], &["--depth=1"], &tail].concat();
        match program.run(self.at(), shallow) {
            Ok(_) => Ok(()),
            Err(Trouble::Failed(failure))
                if failure.says(NOT_SHALLOW) && !failure.says(NOT_BY_ID) =>
            {
                let whole = [&words[..], &tail].concat();
                program.run(self.at(), whole).map(|_| ())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// All branches and tags with all of their history.
    fn fetch_all(&self, program: &GitProgram<'_>) -> Result<(), Trouble> {
        let words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
        let deepen: &[&str] = match self.path.join("shallow").exists() {
            true => &["--unshallow"],
            false => &[],
        };
        let tail = [
            "--",
            &program.remote,
            "+refs/heads/*:refs/kiln-all/heads/*",
            "+refs/tags/*:refs/kiln-all/tags/*",
        ];
        let arguments = [&words[..], deepen, &tail].concat();
        program.run(self.at(), arguments).map(|_| ())
    }
}

/// A failure that another way may not have; others are final.
fn only_if(trouble: Trouble, signs: &[&str]) -> Result<Failure, Trouble> {
    match trouble {
        Trouble::Failed(failure) if failure.says(signs) => Ok(failure),
        other => Err(other),
    }
}

fn gone(resolved: &Resolved, program: &GitProgram<'_>) -> Cause {
    GitError::Local {
        act: "fetch",
        remote: program.remote.clone(),
        words: format!("what came is not the commit {}", resolved.object),
    }
    .into()
}

/// Locks and half written packs. Nobody else is at work here.
fn remove_leftovers(repository: &Path) {
    let is_leftover = |name: &str| {
        name.ends_with(".lock") || name.starts_with("tmp_") || name.starts_with("incoming-")
    };
    for directory in ["", "refs", "refs/kiln", "objects", "objects/pack"] {
        let entries = fs::read_dir(repository.join(directory));
        for entry in entries.into_iter().flatten().flatten() {
            if is_leftover(&entry.file_name().to_string_lossy()) {
                // What can't be removed will be told by git.
                let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
        }
    }
}
