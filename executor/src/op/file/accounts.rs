//! The users and groups of a root filesystem: `/etc/passwd` and `/etc/group`, and who a RUN runs as.
//!
//! The files are the image's, and paths are resolved inside its tree. They are read as the runtimes of containers do it: a field
//! that is missing or no number is empty or 0, the first line that fits counts, and only `/etc/group` has comments. What is
//! a number in a USER is never looked up as a name.

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
    /// May be empty.
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
    /// Home directory of the uid as its line has it; `/` without a line (R-RT-1).
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
    #[error("user or group {number}: uids and gids must be in range 0-{MAX_ID}")]
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

    /// Who `user[:group]`, a USER, is (R-RT-9, R-RT-10). What follows a second `:` means nothing.
    pub fn run_user(&self, spec: &str) -> Result<RunUser, UserError> {
        let mut parts = spec.split(':');
        let user = parts.next().unwrap_or_default();
        let group = parts.next().filter(|group| !group.is_empty());
        if let Some((uid, gid)) = numeric_pair(user, group) {
            return Ok(self.known_by_numbers(uid, gid));
        }
        let number = number(user)?;
        let known = match number {
            Some(uid) => self.user_numbered(uid),
            None if user.is_empty() => self.user_numbered(0),
            None => self.user_named(user),
        };
        let (uid, primary) = match (known, number) {
            (Some(known), _) => (known.uid, known.gid),
            (None, Some(uid)) => (uid, 0),
            (None, None) if user.is_empty() => (0, 0),
            (None, None) => {
                return Err(UserError::UnknownUser {
                    name: user.to_owned(),
                });
            }
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
            groups,
            ..self.known_by_numbers(uid, gid)
        })
    }

    /// The same in more groups, by name or number.
    pub fn with_groups(&self, user: RunUser, more: &[String]) -> Result<RunUser, UserError> {
        let mut groups = user.groups;
        for group in more {
            let gid = self.group_known_as(group)?;
            if !groups.contains(&gid) {
                groups.push(gid);
            }
        }
        Ok(RunUser { groups, ..user })
    }

    fn known_by_numbers(&self, uid: u32, gid: u32) -> RunUser {
        let home = self.user_numbered(uid).map(|user| user.home.as_str());
        RunUser {
            uid,
            gid,
            groups: vec![gid],
            home: home.unwrap_or("/").to_owned(),
        }
    }

    fn user_numbered(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
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

    fn group_known_as(&self, group: &str) -> Result<u32, UserError> {
        let unknown = || UserError::UnknownGroup {
            name: group.to_owned(),
        };
        match number(group)? {
            Some(gid) => Ok(gid),
            None => self.group_named(group).ok_or_else(unknown),
        }
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let listing = self
            .groups
            .iter()
            .filter(|group| group.members.iter().any(|member| member == user));
        let mut numbers = Vec::new();
        for group in listing {
            if !numbers.contains(&group.gid) {
                numbers.push(group.gid); // several may share one
            }
        }
        numbers
    }
}

/// `uid:gid`, where `root` is a number too. Needs no files.
fn numeric_pair(user: &str, group: Option<&str>) -> Option<(u32, u32)> {
    let number = |text| match text {
        "root" => Some(0),
        text => number(text).ok().flatten(),
    };
    Some((number(user)?, number(group?)?))
}

/// `None` if it isn't a number at all. A sign is allowed.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse::<i64>().ok();
    let number = number.and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| *number <= MAX_ID) {
        Some(number) => Ok(Some(number)),
        None => Err(UserError::OutOfRange {
            number: text.to_owned(),
        }),
    }
}

/// A number of one of the files: 0 if it is none. What no identity can be is no line.
fn listed(text: Option<&str>) -> Option<u32> {
    let number = text.unwrap_or_default().parse::<i64>().unwrap_or(0);
    u32::try_from(number).ok()
}

impl User {
    /// `name:password:uid:gid:comment:home:shell`
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let fields: Vec<&str> = line.split(':').collect();
        let text = |number: usize| fields.get(number).copied();
        (!line.is_empty()).then_some(())?;
        Some(Self {
            name: text(0).unwrap_or_default().to_owned(),
            uid: listed(text(2))?,
            gid: listed(text(3))?,
            home: text(5).unwrap_or_default().to_owned(),
        })
    }
}

impl Group {
    /// `name:password:gid:member,member`
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let fields: Vec<&str> = line.split(':').collect();
        let text = |number: usize| fields.get(number).copied();
        (!line.is_empty() && !line.starts_with('#')).then_some(())?;
        let members = text(3).unwrap_or_default().split(',');
        let members = members
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect();
        Some(Self {
            name: text(0).unwrap_or_default().to_owned(),
            gid: listed(text(2))?,
            members,
        })
    }
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

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nme:x:1000:1001:Me:/home/me:/bin/sh\n\
        12:x:7:8::/seven:\nodd:x:y:z\nshort:x:60\n  cr:x:61:61::/cr:/bin/sh\r\nme:x:1:1::/second:\nnohome:x:50:51\n\
        # no comment\nneg:x:-5:-5::/neg:\n";
    const GROUP: &str = "# comment\nroot:x:0:root\nstaff:x:20:me,other\nwheel:x:10:root,me\nagain:x:20:me\nempty:x:30:\n55:x:66:me\nodd:x:z:cr\n";

    fn run(user: &str) -> Result<RunUser, UserError> {
        Accounts::parse(PASSWD.as_bytes(), GROUP.as_bytes()).run_user(user)
    }

    #[test]
    fn who_a_run_runs_as() {
        // R-RT-9, R-RT-10, R-RT-1: USER | uid, gid, groups, home, all compared with BuildKit
        let cases: [(&str, u32, u32, &[u32], &str); 27] = [
            ("", 0, 0, &[0, 10], "/root"),
            ("root", 0, 0, &[0, 10], "/root"),
            ("0", 0, 0, &[0, 10], "/root"),
            ("00", 0, 0, &[0, 10], "/root"),
            ("me", 1000, 1001, &[1001, 20, 10, 66], "/home/me"),
            ("1000", 1000, 1001, &[1001, 20, 10, 66], "/home/me"),
            ("me:staff", 1000, 20, &[20], "/home/me"),
            ("me:staff:more", 1000, 20, &[20], "/home/me"),
            ("me:77", 1000, 77, &[77], "/home/me"),
            ("1000:1", 1000, 1, &[1], "/home/me"),
            ("me:", 1000, 1001, &[1001, 20, 10, 66], "/home/me"),
            ("4242", 4242, 0, &[0], "/"),
            ("+5", 5, 0, &[0], "/"),
            ("4242:4343", 4242, 4343, &[4343], "/"),
            ("4242:staff", 4242, 20, &[20], "/"),
            ("::", 0, 0, &[0, 10], "/root"),
            (":staff", 0, 20, &[20], "/root"),
            ("root:root", 0, 0, &[0], "/root"),
            ("2147483647", 2_147_483_647, 0, &[0], "/"),
            // A number is a number, whoever is named so.
            ("12", 12, 0, &[0], "/"),
            ("me:55", 1000, 55, &[55], "/home/me"),
            // What a line lacks is empty or 0.
            ("nohome", 50, 51, &[51], ""),
            ("short", 60, 0, &[0], ""),
            ("cr", 61, 61, &[61, 0], "/cr"),
            ("odd", 0, 0, &[0], "/root"),
            ("me:odd", 1000, 0, &[0], "/home/me"),
            ("# no comment", 0, 0, &[0], "/root"),
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
    fn further_groups_are_added_once() {
        let accounts = Accounts {
            groups: vec![Group {
                name: "staff".to_owned(),
                gid: 20,
                members: Vec::new(),
            }],
            ..Accounts::default()
        };
        let with = |more: &[&str]| {
            let more: Vec<String> = more.iter().map(ToString::to_string).collect();
            accounts.with_groups(accounts.run_user("5:6").unwrap(), &more)
        };
        assert_eq!(
            with(&["staff", "6", "77", "20"]).unwrap().groups,
            [6, 20, 77]
        );
        assert!(with(&["none"]).is_err());
    }

    #[test]
    fn nobody() {
        // R-RT-9
        let message = |user| run(user).unwrap_err().to_string();
        for (user, kind, name) in [
            ("nosuch", "user", "nosuch"),
            ("nosuch:staff", "user", "nosuch"),
            ("ROOT", "user", "ROOT"),
            ("0x10", "user", "0x10"),
            ("1.5", "user", "1.5"),
            ("me me", "user", "me me"),
            ("neg", "user", "neg"),
            ("me:nosuch", "group", "nosuch"),
        ] {
            let file = if kind == "user" { "passwd" } else { kind };
            let expected =
                format!("unable to find {kind} {name}: no matching entries in {file} file");
            assert_eq!(message(user), expected);
        }
        for user in ["-1", "4294967296", "2147483648", "99999999999999999999"] {
            let expected =
                format!("user or group {user}: uids and gids must be in range 0-2147483647");
            assert_eq!(message(user), expected);
        }
    }

    #[test]
    fn without_files_only_numbers_are_known() {
        // R-RT-10
        let accounts = Accounts::default();
        assert_eq!(accounts.run_user("").unwrap().uid, 0);
        assert_eq!(accounts.run_user("0").unwrap().home, "/");
        assert_eq!(accounts.run_user("root:6").unwrap().gid, 6);
        assert!(accounts.run_user("root").is_err());
        assert!(accounts.run_user("me").is_err());
    }
}
