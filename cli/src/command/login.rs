//! `kiln login`: credentials that a registry takes, kept for pulls and pushes.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use kiln_registry::{Client, Credential, CredentialSource, Kept, RegistryError, TransportError};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt;

/// What `kiln login` means without a name.
pub(super) const HUB: &str = "docker.io";

/// Longest password, in bytes: tokens of some registries are documents of a few kilobytes.
const SECRET_LIMIT: u64 = 1024 * 1024;

/// Log in to a registry, and keep the credentials if it takes them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password or token; other users of this machine can see it
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password or token from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// HOST[:PORT], or with a namespace behind it for its images alone [default: docker.io]
    #[arg(value_name = "REGISTRY", value_parser = registry_name)]
    registry: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let name = args.registry.as_deref().unwrap_or(HUB);
    let file = file(config)?;
    let client = Client::new(config.registry());
    if args.username.is_none()
        && args.password.is_none()
        && let Some(known) = known(name, config)?
    {
        say("Authenticating with existing credentials...\n");
        match client.log_in(host_of(name), &known) {
            Ok(_) => return succeeded(),
            Err(error) if prompt::can_ask() => {
                let failure = refused(&error);
                let reports = failure.reports.iter().map(|report| &report.message);
                reports.for_each(|message| say(&format!("Login did not succeed: {message}\n")));
            }
            Err(error) => return Err(refused(&error)),
        }
    }
    let credential = ask(args, name)?;
    let better = client
        .log_in(host_of(name), &credential)
        .map_err(|error| refused(&error))?;
    let credential = better.unwrap_or(credential);
    let credentials = config.registry().credentials;
    let kept = credentials.store(&file, name, &credential);
    let kept = kept.map_err(|error| Failure::from_error(Exit::Environment, None, &error))?;
    if let Kept::InFile(path) = kept {
        say(&format!(
            "WARNING! The credentials are stored unencrypted in `{}`; a credential helper (`credsStore`) would not.\n",
            path.display()
        ));
    }
    succeeded()
}

/// A registry as people name it: a host, perhaps with a namespace; of an address only the host counts.
pub(super) fn registry_name(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let name = match bare {
        Some(bare) => bare.split('/').next().unwrap_or(bare),
        None => text.trim_end_matches('/'),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:/[]".contains(c);
    if name.is_empty() || name.starts_with('/') || name.contains("//") || !name.chars().all(allowed)
    {
        return Err("it is no registry; an example is `registry.example.com:5000`".to_owned());
    }
    Ok(match name {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        name => name.to_owned(),
    })
}

/// Where credentials are kept.
pub(super) fn file(config: &Config) -> Result<PathBuf, Failure> {
    config.login_file().ok_or_else(|| {
        Failure::environment("there is no folder for credentials: HOME is not set")
            .help("name a file with `--authfile FILE` or `REGISTRY_AUTH_FILE`")
    })
}

fn host_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// What is known of the registry already.
fn known(name: &str, config: &Config) -> Result<Option<Credential>, Failure> {
    let (host, namespace) = name.split_once('/').unwrap_or((name, ""));
    let mut credentials = config.registry().credentials;
    // The file that is about to be made.
    let is_new = |source: &CredentialSource| matches!(source, CredentialSource::Named(path) if !path.exists());
    credentials.sources.retain(|source| !is_new(source));
    credentials
        .find(host, namespace)
        .map_err(|error| Failure::from_error(Exit::Environment, None, &error))
}

/// The credential, from the command line, stdin, or whoever sits at the terminal.
fn ask(args: &Args, name: &str) -> Result<Credential, Failure> {
    let must_ask = args.username.is_none() || !(args.password_stdin || args.password.is_some());
    if must_ask && !prompt::can_ask() {
        return Err(
            Failure::usage("there is no terminal to ask for user name and password on")
                .help("use `kiln login -u NAME --password-stdin REGISTRY`"),
        );
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => prompt::line(&format!("Username for {name}: ")).map_err(unanswered)?,
    };
    let password = match &args.password {
        Some(password) => {
            say(
                "WARNING! Others can see a password on the command line; use `--password-stdin`.\n",
            );
            password.clone()
        }
        None if args.password_stdin => from_stdin()?,
        None => prompt::secret("Password: ").map_err(unanswered)?,
    };
    for (what, text) in [("user name", &username), ("password", &password)] {
        if text.is_empty() {
            return Err(Failure::usage(format!("the {what} is empty")));
        }
    }
    if username.contains(':') {
        return Err(Failure::usage("a user name can't have a colon in it"));
    }
    Ok(Credential::Password { username, password })
}

/// All of stdin but the end of its last line.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(SECRET_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("could not read the password: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn unanswered(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::interrupted(rustix::process::Signal::INT.as_raw()),
        _ => Failure::usage("there was no answer"),
    }
}

fn refused(error: &RegistryError) -> Failure {
    let failure = Failure::from_error(Exit::Registry, Some("registry"), error);
    match error {
        RegistryError::Unauthorized { .. } => {
            failure.help("some registries want an access token in the place of the password")
        }
        RegistryError::Unreachable {
            source: TransportError::Tls(problem),
            ..
        } => failure.help(problem.remedy()),
        _ => failure,
    }
}

fn succeeded() -> Result<Exit, Failure> {
    writeln!(io::stdout(), "Login Succeeded")?;
    Ok(Exit::Done)
}

/// A word to the user. A stderr that is gone leaves nobody to tell.
pub(super) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_many_ways() {
        for (text, expected) in [
            ("r.example:5000", Some("r.example:5000")),
            ("https://r.example/v1/", Some("r.example")),
            ("quay.io/team", Some("quay.io/team")),
            ("quay.io/", Some("quay.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("", None),
            ("https://", None),
            ("a b", None),
            ("me@r.example", None),
        ] {
            assert_eq!(registry_name(text).ok().as_deref(), expected, "{text}");
        }
    }
}
