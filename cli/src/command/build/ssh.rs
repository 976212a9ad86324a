//! `--ssh` (R-CLI-4): agents that steps may ask for, and git the default one, by their socket or as keys in files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_executor::{Agent, Agents, Key, KeyAgent};

use crate::failure::Failure;

/// What an agent is called that nobody gave a name (R-MNT-16).
const DEFAULT_ID: &str = "default";

/// One flag, as typed: `default`, `ID=SOCKET`, `ID=KEY,KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshFlag {
    id: String,
    /// Sockets or keys; none for the agent of the environment.
    paths: Vec<PathBuf>,
}

impl FromStr for SshFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, paths) = match text.split_once('=') {
            Some((id, paths)) => (id, paths),
            None => (text, ""),
        };
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        if id.contains(',') {
            return Err(format!(
                "`{id}` can't be an id: several are given by repeating the flag"
            ));
        }
        let paths = paths.split(',').filter(|path| !path.is_empty());
        Ok(Self {
            id: id.to_owned(),
            paths: paths.map(PathBuf::from).collect(),
        })
    }
}

/// The longest key file that is read, in bytes.
const LONGEST_KEY: u64 = 100 << 10;

/// The agents of a build; for keys one is started.
///
/// # Errors
/// No agent in the environment where one is asked for, a path that is neither socket nor usable key, an id given twice.
pub(crate) fn agents(
    flags: &[SshFlag],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Agents, Failure> {
    let mut ids = BTreeSet::new();
    let agent = |flag: &SshFlag| {
        if !ids.insert(flag.id.clone()) {
            return Err(Failure::usage(format!("duplicate agent ID `{}`", flag.id)));
        }
        Ok((flag.id.clone(), agent(flag, &environment)?))
    };
    flags.iter().map(agent).collect()
}

/// Where git finds the default agent, if there is one.
///
/// # Errors
/// The agent for keys in files can't be started.
pub(crate) fn default_socket(agents: &Agents) -> Result<Option<PathBuf>, Failure> {
    let socket = agents.socket(DEFAULT_ID);
    let failed = |error| Failure::usage(format!("could not start an SSH agent: {error}"));
    Ok(socket.map_err(failed)?.map(PathBuf::from))
}

fn agent(flag: &SshFlag, environment: impl Fn(&str) -> Option<String>) -> Result<Agent, Failure> {
    let given = match &flag.paths[..] {
        [] => vec![of_environment(flag, environment)?],
        given => given.to_vec(),
    };
    let mut keys = Vec::new();
    for path in &given {
        let found = std::fs::metadata(path).map_err(|error| Failure::unreadable(path, &error))?;
        match found.file_type().is_socket() {
            true if given.len() == 1 => {
                return Ok(Agent::Socket(
                    std::path::absolute(path).unwrap_or_else(|_| path.clone()),
                ));
            }
            true => {
                return Err(Failure::usage(format!(
                    "`--ssh {}` has the socket `{}` among others: an id is one socket, or keys",
                    flag.id,
                    path.display()
                )));
            }
            false => keys.push(key(&flag.id, path)?),
        }
    }
    Ok(Agent::Keys(KeyAgent::new(keys)))
}

fn of_environment(
    flag: &SshFlag,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<PathBuf, Failure> {
    environment("SSH_AUTH_SOCK")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| {
            let message = format!("`--ssh {}` needs an SSH agent, and `SSH_AUTH_SOCK` is not set", flag.id);
            Failure::usage(message)
                .help("start one with `eval $(ssh-agent)` and `ssh-add`, or name its socket or keys: `--ssh ID=SOCKET`, `--ssh ID=KEY,KEY`")
        })
}

fn key(id: &str, path: &Path) -> Result<Key, Failure> {
    let unreadable = |error| Failure::unreadable(path, &error);
    let mut contents = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(LONGEST_KEY).read_to_end(&mut contents);
    read.map_err(unreadable)?;
    let shown = path.display();
    Key::parse(&contents, &shown.to_string()).map_err(|error| {
        let message = format!("`{shown}` is of no use to `--ssh {id}`: {error}");
        Failure::usage(message).help(format!(
            "put the key into an agent: `eval $(ssh-agent); ssh-add {shown}`, then `--ssh {id}`"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_flag_has_an_id_and_a_socket() {
        // R-CLI-4
        let cases = [
            ("default", Ok(("default", vec![]))),
            ("", Ok(("default", vec![]))),
            ("git", Ok(("git", vec![]))),
            ("git=/run/a", Ok(("git", vec!["/run/a"]))),
            ("=/run/a", Ok(("default", vec!["/run/a"]))),
            ("git=a,b", Ok(("git", vec!["a", "b"]))),
            ("a,b=c", Err(())),
        ];
        for (text, expected) in cases {
            let found: Result<SshFlag, _> = text.parse();
            let expected = expected.map(|(id, paths)| SshFlag {
                id: id.to_owned(),
                paths: paths.into_iter().map(PathBuf::from).collect(),
            });
            assert_eq!(found.map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn agents_are_sockets_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        let key = dir.path().join("id_ed25519");
        std::fs::write(&key, "key").unwrap();
        let environment = |_: &str| Some(socket.to_string_lossy().into_owned());
        let nothing = |_: &str| None;
        let flags = |texts: &[String]| -> Vec<SshFlag> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = |path: &Path| flags(&[format!("a={}", path.display())]);
        assert!(agents(&flags(&["default".into()]), environment).is_ok());
        assert!(agents(&given(&socket), nothing).is_ok());
        let message = |flags: &[SshFlag]| {
            agents(flags, nothing).unwrap_err().reports[0]
                .message
                .clone()
        };
        assert_eq!(
            message(&flags(&["default".into()])),
            "`--ssh default` needs an SSH agent, and `SSH_AUTH_SOCK` is not set"
        );
        assert_eq!(
            message(&given(&key)),
            format!(
                "`{}` is of no use to `--ssh a`: there is no private key in it",
                key.display()
            )
        );
        let twice = [given(&socket), given(&socket)].concat();
        assert_eq!(message(&twice), "duplicate agent ID `a`");
    }
}
