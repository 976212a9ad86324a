//! `--ssh` (R-CLI-4): where agents listen that steps may ask for, and git the default one.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_executor::Agents;

use crate::failure::Failure;

/// What an agent is called that nobody gave a name (R-MNT-16).
pub(super) const DEFAULT_ID: &str = "default";

/// One flag, as typed: `default`, `ID=SOCKET`.
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

/// The agents of a build.
///
/// # Errors
/// No agent in the environment where one is asked for, a path that is no socket, an id given twice.
pub(super) fn agents(
    flags: &[SshFlag],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Agents, Failure> {
    let mut ids = BTreeSet::new();
    let agent = |flag: &SshFlag| {
        if !ids.insert(flag.id.clone()) {
            return Err(Failure::usage(format!("duplicate agent ID `{}`", flag.id)));
        }
        Ok((flag.id.clone(), socket(flag, &environment)?))
    };
    flags.iter().map(agent).collect()
}

fn socket(
    flag: &SshFlag,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<PathBuf, Failure> {
    let path = match &flag.paths[..] {
        [] => environment("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| {
                Failure::usage(format!("`--ssh {}` needs an SSH agent, and `SSH_AUTH_SOCK` is not set", flag.id))
                    .help("start one with `eval $(ssh-agent)` and `ssh-add`, or name its socket: `--ssh ID=SOCKET`")
            })?,
        [one] => one.clone(),
        [first, ..] => return Err(key_file(&flag.id, first)),
    };
    let found = std::fs::metadata(&path).map_err(|error| Failure::unreadable(&path, &error))?;
    match found.file_type().is_socket() {
        true => Ok(std::path::absolute(&path).unwrap_or(path)),
        false => Err(key_file(&flag.id, &path)),
    }
}

fn key_file(id: &str, path: &Path) -> Failure {
    let shown = path.display();
    Failure::usage(format!("`{shown}` is not the socket of an SSH agent"))
        .note("kiln forwards agents; it does not read keys itself")
        .help(format!(
            "put the key into an agent: `eval $(ssh-agent); ssh-add {shown}`, then `--ssh {id}`"
        ))
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
            format!("`{}` is not the socket of an SSH agent", key.display())
        );
        let twice = [given(&socket), given(&socket)].concat();
        assert_eq!(message(&twice), "duplicate agent ID `a`");
    }
}
