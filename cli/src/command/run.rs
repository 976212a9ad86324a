//! `kiln run`: a command in a new container of an image, in the foreground.

mod process;

use crate::args::KeyValue;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// What a container is called inside.
const HOSTNAME: &str = "kiln";

/// Run a command in a new container, in the foreground
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment variable; KEY alone takes it from the environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<KeyValue>,
    /// Make a folder or file of this machine visible
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volumes: Vec<Volume>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Command instead of the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Remove the container's files afterwards (always done; there is no list of containers to keep them in)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Name or id of an image
    pub(crate) image: String,
    /// Command and arguments instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}

/// `-v SOURCE:TARGET[:ro]`: something of this machine made visible in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) writable: bool,
}

impl std::str::FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, target, writable) = match *text.split(':').collect::<Vec<_>>() {
            [source, target] | [source, target, "rw"] => (source, target, true),
            [source, target, "ro"] => (source, target, false),
            [_, _, mode] => return Err(format!("its mode is `{mode}`, not `ro` or `rw`")),
            _ => return Err("it is not SOURCE:TARGET[:ro]".to_owned()),
        };
        if !source.contains('/') && source != "." {
            return Err(format!(
                "`{source}` is the name of a volume; kiln has none, give a path such as `./{source}`"
            ));
        }
        if !target.starts_with('/') {
            return Err(format!("`{target}` is not an absolute path"));
        }
        Ok(Self {
            source: source.to_owned(),
            target: target.to_owned(),
            writable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths() {
        let volume = |source: &str, target: &str, writable| Volume {
            source: source.into(),
            target: target.into(),
            writable,
        };
        let cases = [
            ("/a:/b", Some(volume("/a", "/b", true))),
            ("./a:/b:ro", Some(volume("./a", "/b", false))),
            (".:/b:rw", Some(volume(".", "/b", true))),
            ("name:/b", None),
            ("/a:b", None),
            ("/a:/b:z", None),
            ("/a", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
