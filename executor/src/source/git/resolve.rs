//! From a ref to a commit: one question to the remote, or none (R-ADD-12).

use kiln_planner::GitSource;

use super::program::At;
use super::{GitError, GitProgram};
use crate::error::Cause;
use crate::lock::Say;
use crate::source::remote::Fetcher;

/// What a source names at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The object's id: a commit, or the tag that names one.
    pub(crate) object: String,
    /// The id of the commit behind an annotated tag.
    pub(crate) peeled: Option<String>,
    /// The whole name of the ref; the object's id where there is none.
    pub(crate) reference: String,
}

impl Resolved {
    fn commit(id: &str) -> Self {
        Resolved {
            object: id.to_owned(),
            peeled: None,
            reference: id.to_owned(),
        }
    }

    /// What the files are known by. With `.git` the tag itself belongs to them.
    pub(crate) fn identity(&self, source: &GitSource) -> &str {
        match &self.peeled {
            Some(commit) if !source.keep_git_dir => commit,
            _ => &self.object,
        }
    }

    /// The ref's whole name, where there is one.
    pub(crate) fn reference_name(&self) -> Option<&str> {
        (self.reference != self.object).then_some(&self.reference)
    }
}

/// Finds out which commit a source names. Within one build the same ref is always the same commit.
pub(super) fn resolve(
    source: &GitSource,
    program: &GitProgram<'_>,
    fetcher: &Fetcher<'_>,
) -> Result<Resolved, Cause> {
    let resolved = match known(source)? {
        Some(known) => known,
        None => {
            let name = source.reference.as_deref().unwrap_or_default();
            let services = fetcher.services;
            let resolved = match services.hold.commit(source)? {
                Say::Is(locked) => locked,
                Say::Ask | Say::Note => services
                    .resolved_refs
                    .get(&source.remote, name, || ask(source, program))?,
            };
            services.hold.note_commit(source, &resolved);
            resolved
        }
    };
    check(source, &resolved)?;
    fetcher.services.hold.saw_commit(source, &resolved);
    Ok(resolved)
}

/// What the address says by itself.
fn known(source: &GitSource) -> Result<Option<Resolved>, GitError> {
    let reference = source.reference.as_deref().unwrap_or_default();
    if is_commit_id(reference) {
        return Ok(Some(Resolved::commit(reference)));
    }
    if !source.fetch_by_commit {
        return Ok(None);
    }
    let checksum = source.checksum.as_deref();
    let commit = checksum.ok_or(GitError::FetchByCommit("a checksum or a commit SHA ref"))?;
    if !is_commit_id(commit) {
        return Err(GitError::FetchByCommit("a full commit SHA checksum"));
    }
    let reference = match reference {
        "" => commit.to_owned(),
        whole if whole.starts_with("refs/") => whole.to_owned(),
        branch => format!("refs/heads/{branch}"),
    };
    Ok(Some(Resolved {
        reference,
        ..Resolved::commit(commit)
    }))
}

/// Asks the remote.
fn ask(source: &GitSource, program: &GitProgram<'_>) -> Result<Resolved, Cause> {
    let list = |arguments: &[&str]| {
        let arguments = [&["ls-remote"], arguments].concat();
        program
            .run(At::default(), arguments)
            .map(|output| String::from_utf8_lossy(&output).into_owned())
            .map_err(|trouble| program.remote_failed("list the refs of", trouble))
    };
    let remote = &source.remote;
    let found = match &source.reference {
        None => default_branch(&list(&["--symref", "--", remote, "HEAD"])?)
            .ok_or_else(|| GitError::NoDefaultBranch(remote.clone()))?,
        Some(name) => {
            let peeled = format!("{name}^{{}}");
            let listed = list(&["--", remote, name, &peeled])?;
            named(&listed, name).ok_or_else(|| GitError::NoRef {
                remote: remote.clone(),
                reference: name.clone(),
            })?
        }
    };
    match is_commit_id(&found.object) {
        true => Ok(found),
        false => Err(program.nonsense(&found.object)),
    }
}

/// The branch that HEAD is, from `ref: refs/heads/main<TAB>HEAD` and `<id><TAB>HEAD`.
fn default_branch(listed: &str) -> Option<Resolved> {
    let of_head = || {
        listed
            .lines()
            .filter_map(|line| line.strip_suffix("\tHEAD"))
    };
    let branch = of_head().find_map(|line| line.strip_prefix("ref: "))?;
    let object = of_head().find(|line| !line.starts_with("ref: "))?;
    branch.starts_with("refs/heads/").then(|| Resolved {
        object: object.to_owned(),
        peeled: None,
        reference: branch.to_owned(),
    })
}

/// A name as git takes it: `refs/<name>` first, then a branch, then a tag.
fn named(listed: &str, name: &str) -> Option<Resolved> {
    let find = |wanted: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find_map(|(id, reference)| (reference == wanted).then(|| id.to_owned()))
    };
    let without = |prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let whole = format!("refs/{}", without("refs/"));
    let branch = format!("refs/heads/{}", without("refs/heads/"));
    let tag = format!("refs/tags/{}", without("refs/tags/"));
    let plain = [whole, branch]
        .into_iter()
        .find_map(|reference| Some((find(&reference)?, reference)));
    let (object, reference) = match plain {
        Some(found) => found,
        None => (find(&tag)?, tag.clone()),
    };
    let peeled = match reference.starts_with("refs/tags/") {
        true => find(&format!("{reference}^{{}}")),
        false => None,
    };
    Some(Resolved {
        object,
        peeled,
        reference,
    })
}

/// R-ADD-8
fn check(source: &GitSource, resolved: &Resolved) -> Result<(), GitError> {
    let Some(expected) = &source.checksum else {
        return Ok(());
    };
    let peeled = resolved.peeled.as_ref();
    if resolved.object.starts_with(expected)
        || peeled.is_some_and(|peeled| peeled.starts_with(expected))
    {
        return Ok(());
    }
    let found = match peeled {
        Some(peeled) => format!("{} or {peeled}", resolved.object),
        None => resolved.object.clone(),
    };
    Err(GitError::Checksum {
        expected: expected.clone(),
        found,
    })
}

/// Whether a text is the whole id of an object, by SHA-1 or SHA-256.
pub(super) fn is_commit_id(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    matches!(text.len(), 40 | 64) && text.bytes().all(is_digit)
}

impl GitProgram<'_> {
    fn nonsense(&self, id: &str) -> Cause {
        GitError::Remote {
            act: "list the refs of",
            remote: self.remote.clone(),
            words: format!("invalid commit sha {id:?}"),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(resolved: Option<Resolved>) -> String {
        resolved.map_or_else(String::new, |found| {
            let peeled = found.peeled.unwrap_or_default();
            format!("{} {} {peeled}", found.object, found.reference)
                .trim_end()
                .to_owned()
        })
    }

    // R-ADD-10, R-ADD-12
    #[test]
    fn a_name_is_a_ref_then_a_branch_then_a_tag() {
        let listed = "1\trefs/heads/v1\n2\trefs/heads/x/v1\n3\trefs/tags/v1\n4\trefs/tags/v1^{}\n\
                      5\trefs/tags/v2\n6\trefs/tags/v2^{}\n7\trefs/pull/9/head\n8\trefs/tags/light\n";
        for (name, expected) in [
            ("v1", "1 refs/heads/v1"),
            ("refs/heads/v1", "1 refs/heads/v1"),
            ("refs/tags/v1", "3 refs/tags/v1 4"),
            ("tags/v1", "3 refs/tags/v1 4"),
            ("v2", "5 refs/tags/v2 6"),
            ("light", "8 refs/tags/light"),
            ("pull/9/head", "7 refs/pull/9/head"),
            ("x", ""),
            ("HEAD", ""),
        ] {
            assert_eq!(shown(named(listed, name)), expected, "{name}");
        }
    }

    #[test]
    fn the_default_branch_is_what_head_is() {
        let listed = "ref: refs/heads/trunk\tHEAD\nabc\tHEAD\n";
        assert_eq!(shown(default_branch(listed)), "abc refs/heads/trunk");
        assert_eq!(shown(default_branch("abc\tHEAD\n")), "");
        assert_eq!(shown(default_branch("")), "");
    }

    #[test]
    fn ids_are_whole_and_in_small_letters() {
        assert!(is_commit_id(&"0a".repeat(20)) && is_commit_id(&"f".repeat(64)));
        for other in ["abc", &"A".repeat(40), &"g".repeat(40), &"0".repeat(41)] {
            assert!(!is_commit_id(other), "{other}");
        }
    }
}
