//! When a folder's commit was made.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::GitSettings;

/// Where git is, if nobody says so.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why it is not known when a folder's commit was made.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The program.
    #[error("could not run `git`, which knows when the commit of the context was made")]
    Start(#[source] io::Error),
    /// Git says no.
    #[error("could not find out when the commit of the context was made: {0}")]
    Refused(String),
}

/// When the commit was made that the folder, or one above it, has checked out: the committer's date, in seconds since 1970.
/// `None` if it is in no repository, or in one without a commit. The commit's text is read and nothing else, so that nothing
/// that the repository's own configuration names is run.
///
/// # Errors
/// [`HeadError`], if there is a repository and git can't say.
pub fn head_time(folder: &Path, settings: &GitSettings) -> Result<Option<i64>, HeadError> {
    if !is_in_repository(folder) {
        return Ok(None);
    }
    let path = settings.path.as_deref();
    let said = Command::new("git")
        .env_clear()
        .env("PATH", path.unwrap_or(OsStr::new(DEFAULT_PATH)))
        .env("LC_ALL", "C")
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_NO_LAZY_FETCH", "1")
        .args(["cat-file", "commit", "HEAD"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(HeadError::Start)?;
    if said.status.success() {
        let time = committed(&said.stdout);
        let unknown = || HeadError::Refused("the commit has no date".to_owned());
        return time.ok_or_else(unknown).map(Some);
    }
    let words = String::from_utf8_lossy(&said.stderr);
    match words.contains("Not a valid object name") {
        true => Ok(None),
        false => Err(HeadError::Refused(words.trim().to_owned())),
    }
}

fn is_in_repository(folder: &Path) -> bool {
    let whole = folder.canonicalize();
    let whole = whole.as_deref().unwrap_or(folder);
    whole.ancestors().any(|above| above.join(".git").exists())
}

/// The date in a commit's text: `committer NAME <ADDRESS> SECONDS ZONE`.
fn committed(commit: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(commit);
    let mut headers = text.lines().take_while(|line| !line.is_empty());
    let line = headers.find_map(|line| line.strip_prefix("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committers_date_is_the_commits() {
        let commit = b"tree 1\nauthor A <a@b> 5 +0000\ncommitter C > D <c@d> 1700000000 -0130\n\ncommitter x 7 +0000\n";
        assert_eq!(committed(commit), Some(1_700_000_000));
        assert_eq!(committed(b"tree 1\n\ncommitter C <c@d> 7 +0000\n"), None);
    }

    #[test]
    fn a_folder_outside_of_repositories_has_no_commit() {
        let folder = tempfile::tempdir().expect("there is room");
        let time = head_time(folder.path(), &GitSettings::default());
        assert!(matches!(time, Ok(None)));
    }
}
