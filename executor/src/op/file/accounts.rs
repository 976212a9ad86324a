//! The users and groups of a root filesystem: `/etc/passwd` and `/etc/group`, and who a RUN runs as.
//!
//! The files are the image's: lines that don't parse are skipped, the first line of a name counts, and a path is
//! resolved inside the image's tree.

use std::io;

use kiln_image::{ImagePath, Kind, NodeRef, Tree};

/// Reads a regular file of a tree: its path, links followed, and the object with the layer it is in.
pub type ReadFile<'a> = dyn Fn(&ImagePath, NodeRef<'_>) -> io::Result<Vec<u8>> + 'a;

/// Longest user file that is read, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// The highest user or group number that Linux has room for.
const MAX_ID: u32 = i32::MAX as u32;

/// The users and groups of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    home: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunUser {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups; the primary one is always among them.
    pub groups: Vec<u32>,
    /// Home directory of the uid, `/` if it has none (R-RT-1).
    pub home: String,
}

/// Why nobody can be run as (R-RT-9).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error("unable to find group {name}: no matching entries in group file")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A number that no user can have.
    #[error("the user or group number {number} is out of range")]
    OutOfRange {
        /// The number as written.
        number: String,
    },
}

impl Accounts {
    /// Reads both files of a root filesystem; a missing one, and one that isn't a regular file, is empty.
    pub fn read(tree: &Tree, read: &ReadFile<'_>) -> io::Result<Self> {
        let passwd = read_file(tree, read, "etc/passwd")?;
        let group = read_file(tree, read, "etc/group")?;
        Ok(Self::parse(&passwd, &group))
    }

    /// Reads the text of both files.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let (passwd, group) = (
            String::from_utf8_lossy(passwd),
            String::from_utf8_lossy(group),
        );
        let users = passwd.lines().filter_map(User::parse).collect();
        Self {
            users,
            groups: group.lines().filter_map(Group::parse).collect(),
        }
    }

    /// Who `user[:group]`, a USER, is (R-RT-9, R-RT-10).
    pub fn run_user(&self, user: &str) -> Result<RunUser, UserError> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (user, None),
        };
        let known = self.user_known_as(user);
        let (uid, primary) = match known {
            Some(user) => (user.uid, user.gid),
            None => (unlisted_user(user)?, 0),
        };
        let (gid, mut groups) = match group {
            Some(group) => (self.group_known_as(group)?, Vec::new()),
            None => (
                primary,
                known
                    .map(|user| self.groups_of(&user.name))
                    .unwrap_or_default(),
            ),
        };
        // As in containerd: a file that denies its own group access must not open up to whoever is in no other group.
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        Ok(RunUser {
            uid,
            gid,
            groups,
            home: self.home_of(uid).to_owned(),
        })
    }

    /// The home directory of a user number; `/` if it has none.
    pub fn home_of(&self, uid: u32) -> &str {
        let known = self.users.iter().find(|user| user.uid == uid);
        known
            .map(|user| user.home.as_str())
            .filter(|home| !home.is_empty())
            .unwrap_or("/")
    }

    pub(super) fn user_named(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    pub(super) fn group_named(&self, name: &str) -> Option<u32> {
        self.groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid)
    }

    /// A number is tried as a name first.
    fn user_known_as(&self, user: &str) -> Option<&User> {
        let user = if user.is_empty() { "0" } else { user };
        let by_number = || {
            self.users
                .iter()
                .find(|known| Some(known.uid) == user.parse().ok())
        };
        self.user_named(user).or_else(by_number)
    }

    fn group_known_as(&self, group: &str) -> Result<u32, UserError> {
        match self.group_named(group) {
            Some(gid) => Ok(gid),
            None => number(group).ok_or_else(|| UserError::UnknownGroup {
                name: group.to_owned(),
            })?,
        }
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let listing = self
            .groups
            .iter()
            .filter(|group| group.members.iter().any(|member| member == user));
        listing.map(|group| group.gid).collect()
    }
}

/// Somebody that no line of the file is about: root, or a number.
fn unlisted_user(user: &str) -> Result<u32, UserError> {
    match user {
        "" | "root" => Ok(0),
        _ => number(user).ok_or_else(|| UserError::UnknownUser {
            name: user.to_owned(),
        })?,
    }
}

/// `None` if it isn't a number at all.
fn number(text: &str) -> Option<Result<u32, UserError>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = text.parse().ok().filter(|number| *number <= MAX_ID);
    Some(number.ok_or_else(|| UserError::OutOfRange {
        number: text.to_owned(),
    }))
}

impl User {
    /// `name:password:uid:gid:comment:home:shell`
    fn parse(line: &str) -> Option<Self> {
        let fields = fields(line)?;
        let [name, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        let home = fields.get(5).copied().unwrap_or_default().to_owned();
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    }
}

impl Group {
    /// `name:password:gid:member,member`
    fn parse(line: &str) -> Option<Self> {
        let fields = fields(line)?;
        let [name, _, gid, ..] = fields[..] else {
            return None;
        };
        let members = fields.get(3).copied().unwrap_or_default().split(',');
        let members = members
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect();
        Some(Self {
            name: name.to_owned(),
            gid: gid.parse().ok()?,
            members,
        })
    }
}

fn fields(line: &str) -> Option<Vec<&str>> {
    let line = line.trim();
    let is_entry = !line.is_empty() && !line.starts_with('#');
    is_entry.then(|| line.split(':').collect())
}

fn read_file(tree: &Tree, read: &ReadFile<'_>, path: &str) -> io::Result<Vec<u8>> {
    let Ok(resolved) = tree.resolve(&ImagePath::root(), path.as_bytes(), true) else {
        return Ok(Vec::new());
    };
    match tree.lookup(&resolved.path) {
        Some(node) => match node.kind {
            Kind::File { size, .. } if *size <= MAX_SIZE => read(&resolved.path, node),
            Kind::File { .. } => Err(io::Error::other(format!(
                "/{} is larger than {MAX_SIZE} bytes",
                resolved.path
            ))),
            _ => Ok(Vec::new()),
        },
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSWD: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\n\nme:x:1000:1001:Me:/home/me:/bin/sh\n\
        12:x:7:8::/seven:\nbroken:x:y:z\nshort:x\nme:x:1:1::/second:\nnohome:x:50:51\n";
    const GROUP: &str = "root:x:0:root\nstaff:x:20:me,other\nwheel:x:10:root,me\nempty:x:30:\n";

    fn run(user: &str) -> Result<RunUser, UserError> {
        Accounts::parse(PASSWD.as_bytes(), GROUP.as_bytes()).run_user(user)
    }

    #[test]
    fn who_a_run_runs_as() {
        // R-RT-9, R-RT-10, R-RT-1: USER | uid, gid, groups, home
        let cases: [(&str, u32, u32, &[u32], &str); 14] = [
            ("", 0, 0, &[0, 10], "/root"),
            ("root", 0, 0, &[0, 10], "/root"),
            ("0", 0, 0, &[0, 10], "/root"),
            ("me", 1000, 1001, &[1001, 20, 10], "/home/me"),
            ("1000", 1000, 1001, &[1001, 20, 10], "/home/me"),
            ("me:staff", 1000, 20, &[20], "/home/me"),
            ("me:77", 1000, 77, &[77], "/home/me"),
            ("1000:1", 1000, 1, &[1], "/home/me"),
            ("me:", 1000, 1001, &[1001, 20, 10], "/home/me"),
            ("4242", 4242, 0, &[0], "/"),
            ("4242:4343", 4242, 4343, &[4343], "/"),
            // A number is tried as a name first.
            ("12", 7, 8, &[8], "/seven"),
            ("nohome", 50, 51, &[51], "/"),
            (":staff", 0, 20, &[20], "/root"),
        ];
        for (user, uid, gid, groups, home) in cases {
            let expected = RunUser {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
            };
            assert_eq!(run(user).unwrap(), expected, "{user}");
        }
    }

    #[test]
    fn nobody() {
        let message = |user| run(user).unwrap_err().to_string();
        assert_eq!(
            message("nosuch"),
            "unable to find user nosuch: no matching entries in passwd file"
        );
        assert_eq!(
            message("broken"),
            "unable to find user broken: no matching entries in passwd file"
        );
        assert_eq!(
            message("me:nosuch"),
            "unable to find group nosuch: no matching entries in group file"
        );
        assert!(matches!(
            run("4294967296"),
            Err(UserError::OutOfRange { .. })
        ));
        assert!(matches!(
            run("2147483648"),
            Err(UserError::OutOfRange { .. })
        ));
    }

    #[test]
    fn without_files_root_and_numbers_are_known() {
        let accounts = Accounts::default();
        assert_eq!(accounts.run_user("root").unwrap().uid, 0);
        assert_eq!(accounts.run_user("5:6").unwrap().gid, 6);
        assert!(accounts.run_user("me").is_err());
    }
}
