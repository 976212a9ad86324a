//! WORKDIR: a directory and its missing parents (R-WORKDIR-4, R-WORKDIR-6).

use kiln_image::{Change, Changeset, ImagePath, Metadata, Node, ResolveError, Timestamp, Tree};
use kiln_planner::MkdirOp;

use super::{Owner, OwnerError, ReadFile};

const SETGID: u32 = 0o2000;

/// Why a working directory can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MkdirError {
    /// Something else is in the way.
    #[error("mkdir `{path}`: not a directory")]
    NotADirectory {
        /// The path as asked for.
        path: String,
    },
    /// The path's links lead in a circle.
    #[error("mkdir `{path}`")]
    Links {
        /// The path as asked for.
        path: String,
        /// What is wrong with it.
        #[source]
        cause: ResolveError,
    },
    /// The owner can't be found out.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// The changes that make the directory; none if it is there. New directories are 0755, owned by the operation's owner,
/// dated `created`; parents that were there come along as layers have them.
pub fn mkdir(
    op: &MkdirOp,
    tree: &Tree,
    read: &ReadFile<'_>,
    created: Timestamp,
) -> Result<Changeset, MkdirError> {
    let not_a_directory = || MkdirError::NotADirectory {
        path: op.path.clone(),
    };
    let resolved = match tree.resolve(&ImagePath::root(), op.path.as_bytes(), true) {
        Ok(resolved) => resolved,
        Err(ResolveError::NotADirectory { .. }) => return Err(not_a_directory()),
        Err(cause) => {
            return Err(MkdirError::Links {
                path: op.path.clone(),
                cause,
            });
        }
    };
    if resolved.exists {
        let is_directory = tree.directory(&resolved.path).is_some();
        return if is_directory {
            Ok(Changeset::new())
        } else {
            Err(not_a_directory())
        };
    }
    let owner = match op.owner.as_str() {
        "" => Owner::ROOT,
        owner => Owner::lookup(owner, tree, read)?,
    };
    let path = &resolved.path;
    let mut metadata = Metadata::directory();
    inherit_group(&mut metadata, path, tree);
    metadata.mtime = created;
    if !op.owner.is_empty() {
        (metadata.uid, metadata.gid) = (owner.uid, owner.gid);
    }
    let missing = path
        .ancestors()
        .chain([path.clone()])
        .filter(|path| tree.lookup(path).is_none());
    let made = |path| (path, Change::Put(Node::directory(metadata.clone())));
    let mut changes: Changeset = missing.map(made).collect();
    changes.normalise(tree);
    Ok(changes)
}

/// Gives a directory that is made at `path` what mkdir(2) does where the nearest one above is setgid: its group, and the
/// bit. Debian's `/var/local` is one of these.
pub(super) fn inherit_group(metadata: &mut Metadata, path: &ImagePath, tree: &Tree) {
    let above = path
        .ancestors()
        .filter_map(|above| tree.directory(&above))
        .last();
    if let Some(above) = above.filter(|above| above.metadata.mode & SETGID != 0) {
        metadata.mode |= SETGID;
        metadata.gid = above.metadata.gid;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{listing, tree};
    use super::*;

    fn made(path: &str, owner: &str, base: &str) -> Result<Changeset, MkdirError> {
        let op = MkdirOp {
            path: path.to_owned(),
            owner: owner.to_owned(),
            date: None,
        };
        let read = |_: &ImagePath, _: kiln_image::NodeRef<'_>| Ok(b"me:x:5:6::/:\n".to_vec());
        mkdir(&op, &tree(base), &read, Timestamp::from_secs(7))
    }

    #[test]
    fn missing_directories_are_made_and_existing_ones_left_alone() {
        // R-WORKDIR-4, R-WORKDIR-6
        let list = |path, owner, base| listing(&made(path, owner, base).unwrap());
        assert_eq!(list("/a/b", "", ""), ["a/ 755 0:0", "a/b/ 755 0:0"]);
        assert_eq!(
            list("/a/b", "", "a/ 700 1:1"),
            ["a/ 700 1:1", "a/b/ 755 0:0"]
        );
        assert!(list("/a", "", "a/ 700 1:1").is_empty());
        // R-WORKDIR-9
        let dated = made("/a/b", "", "").unwrap();
        let mut dates = dated.iter().filter_map(|(_, change)| change.node());
        assert!(dates.all(|node| node.metadata.mtime == Timestamp::from_secs(7)));
        assert_eq!(
            list("/l/b", "", "l ->../a; a/"),
            ["a/ 755 0:0", "a/b/ 755 0:0"]
        );
        assert_eq!(
            list("/l", "", "l ->new/er"),
            ["new/ 755 0:0", "new/er/ 755 0:0"]
        );
        for (owner, expected) in [
            ("me", "5:6"),
            ("nosuch", "0:0"),
            ("12", "12:12"),
            ("12:13", "12:13"),
            ("root", "0:0"),
        ] {
            assert_eq!(
                list("/a", owner, "etc/passwd"),
                [format!("a/ 755 {expected}")],
                "{owner}"
            );
        }
        // As mkdir(2) does, and BuildKit by it.
        for (owner, expected) in [("", "0:6"), ("7", "7:7")] {
            assert_eq!(
                list("/a/b/c", owner, "a/ 2775 5:6"),
                [
                    "a/ 2775 5:6".to_owned(),
                    format!("a/b/ 2755 {expected}"),
                    format!("a/b/c/ 2755 {expected}")
                ]
            );
        }
        let time = made("/a", "", "")
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .1
            .node()
            .unwrap()
            .metadata
            .mtime;
        assert_eq!(time, Timestamp::from_secs(7));
    }

    #[test]
    fn a_file_in_the_way() {
        // R-WORKDIR-6
        for (path, base) in [("/e", "e"), ("/e/f", "e"), ("/l", "l ->e; e")] {
            let message = made(path, "", base).unwrap_err().to_string();
            assert_eq!(message, format!("mkdir `{path}`: not a directory"));
        }
        assert!(matches!(
            made("/l", "", "l ->l"),
            Err(MkdirError::Links { .. })
        ));
    }
}
