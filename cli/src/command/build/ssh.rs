//! `--ssh` (R-CLI-4): the SSH agent that git may ask for the keys of repositories.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::failure::Failure;

/// One flag, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshFlag {
    socket: Option<PathBuf>,
}

impl FromStr for SshFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(PathBuf::from(socket))),
            None => (text, None),
        };
        match id {
            "default" => Ok(Self { socket }),
            _ => Err(format!(
                "`{id}` would be for `RUN --mount=type=ssh`, which kiln does not have yet; it may be `default`"
            )),
        }
    }
}

/// The socket of the agent: the one named, else that of the environment.
///
/// # Errors
/// If there is no such socket.
pub(super) fn agent(
    flags: &[SshFlag],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<PathBuf>, Failure> {
    let Some(flag) = flags.last() else {
        return Ok(None);
    };
    let of_environment = || {
        let socket = environment("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
        socket.map(PathBuf::from)
    };
    let socket = flag.socket.clone().or_else(of_environment).ok_or_else(|| {
        Failure::usage("`--ssh default` needs an SSH agent, and `SSH_AUTH_SOCK` is not set")
            .help("start one with `eval $(ssh-agent)` and `ssh-add`, or name its socket: `--ssh default=SOCKET`")
    })?;
    let found = std::fs::metadata(&socket).map_err(|error| Failure::unreadable(&socket, &error))?;
    match found.file_type().is_socket() {
        true => Ok(Some(std::path::absolute(&socket).unwrap_or(socket))),
        false => Err(Failure::usage(format!(
            "`{}` is not the socket of an SSH agent",
            socket.display()
        ))
        .help("add the key to an agent with `ssh-add`, and give that agent")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agent_is_named_or_of_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("agent"), dir.path().join("key"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "").unwrap();
        let flag = |text: &str| text.parse::<SshFlag>();
        let named = |path: &PathBuf| [flag(&format!("default={}", path.display())).unwrap()];
        let nothing = |_: &str| None;
        assert_eq!(agent(&[], nothing).unwrap(), None);
        assert_eq!(
            agent(&named(&socket), nothing).unwrap(),
            Some(socket.clone())
        );
        assert!(agent(&named(&file), nothing).is_err());
        let default = [flag("default").unwrap()];
        assert!(agent(&default, nothing).is_err());
        let set =
            |name: &str| (name == "SSH_AUTH_SOCK").then(|| socket.to_string_lossy().into_owned());
        assert_eq!(agent(&default, set).unwrap(), Some(socket.clone()));
        assert!(flag("other=/s").unwrap_err().contains("type=ssh"));
    }
}
