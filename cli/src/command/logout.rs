//! `kiln logout`: credentials are forgotten.

use std::io::Write;

use kiln_registry::{CredentialSource, Credentials};

use super::login::{self, HUB};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Forget the credentials for a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HOST[:PORT], perhaps with a namespace behind it [default: docker.io]
    #[arg(value_name = "REGISTRY", value_parser = login::registry_name)]
    registry: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let name = args.registry.as_deref().unwrap_or(HUB);
    let failed = |error: kiln_registry::CredentialsError| {
        Failure::from_error(Exit::Environment, None, &error)
    };
    let credentials = config.registry().credentials;
    let file = login::file(config)?;
    let erased = credentials.erase(&file, name).map_err(failed)?;
    let mut stdout = std::io::stdout();
    match erased {
        true => writeln!(stdout, "Removing login credentials for {name}")?,
        false => writeln!(stdout, "Not logged in to {name}")?,
    }
    let (host, namespace) = name.split_once('/').unwrap_or((name, ""));
    for source in credentials.sources {
        let place = match &source {
            CredentialSource::File(path) | CredentialSource::Named(path) => {
                format!("`{}`", path.display())
            }
            CredentialSource::Text { name, .. } => name.clone(),
        };
        let one = Credentials {
            sources: vec![source],
            ..Credentials::default()
        };
        // A place that can't be read is told of when it is needed.
        if let Ok(Some(_)) = one.find(host, namespace) {
            login::say(&format!("note: {place} still has credentials for {name}\n"));
        }
    }
    Ok(Exit::Done)
}
