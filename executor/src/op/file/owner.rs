//! `--chown` and the owner of a working directory (R-COPY-22..25, R-WORKDIR-4).

use std::io;

use kiln_image::Tree;

use super::{Accounts, ReadFile};

/// Who owns what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why an owner can't be found out. An unknown name is no reason: it stands for root (R-COPY-24).
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// A name where there is no file to look it up in (R-COPY-25).
    #[error("invalid user index: -1")]
    NowhereToLookUp {
        /// The owner as written.
        owner: String,
    },
    /// The root filesystem's files could not be read.
    #[error("could not look up `{owner}` in the image's user files")]
    Read {
        /// The owner as written.
        owner: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// One side of `user:group`.
enum Name<'a> {
    Number(u32),
    Text(&'a str),
}

impl Owner {
    /// `0:0`.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Resolves `user[:group]`; names are looked up in the files of `tree`, which are read only if there is a name.
    pub fn lookup(owner: &str, tree: &Tree, read: &ReadFile<'_>) -> Result<Self, OwnerError> {
        if let Ok(owner) = Self::numeric(owner) {
            return Ok(owner);
        }
        let failed = |source| OwnerError::Read {
            owner: owner.to_owned(),
            source,
        };
        Ok(Self::among(
            owner,
            &Accounts::read(tree, read).map_err(failed)?,
        ))
    }

    /// Resolves `user[:group]` of numbers and `root` only.
    pub fn numeric(owner: &str) -> Result<Self, OwnerError> {
        let (user, group) = split(owner);
        match (user, group) {
            (Name::Number(uid), None) => Ok(Self { uid, gid: uid }),
            (Name::Number(uid), Some(Name::Number(gid))) => Ok(Self { uid, gid }),
            _ => Err(OwnerError::NowhereToLookUp {
                owner: owner.to_owned(),
            }),
        }
    }

    fn among(owner: &str, accounts: &Accounts) -> Self {
        let (user, group) = split(owner);
        let user = match user {
            Name::Number(uid) => Self { uid, gid: uid },
            Name::Text(name) => {
                let known = accounts.user_named(name);
                known.map_or(Self::ROOT, |user| Self {
                    uid: user.uid,
                    gid: user.gid,
                })
            }
        };
        match group {
            Some(Name::Number(gid)) => Self { gid, ..user },
            Some(Name::Text(name)) => Self {
                gid: accounts.group_named(name).unwrap_or(user.gid),
                ..user
            },
            None => user,
        }
    }
}

fn split(owner: &str) -> (Name<'_>, Option<Name<'_>>) {
    match owner.split_once(':') {
        Some((user, group)) => (name(user), Some(name(group))),
        None => (name(owner), None),
    }
}

/// Nothing and `root` are 0 without a look-up (R-COPY-22), and so is `-1`, with which chown(2) leaves the owner as it is.
/// A number above what Linux has room for is a name that nobody has.
fn name(text: &str) -> Name<'_> {
    match text {
        "" | "root" => Name::Number(0),
        text => match text.parse::<i32>() {
            Ok(-1) => Name::Number(0),
            Ok(number) => Name::Number(number.cast_unsigned()),
            Err(_) => Name::Text(text),
        },
    }
}
