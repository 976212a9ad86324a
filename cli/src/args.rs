//! What was typed: the command line as clap reads it, with no look at files or the environment. What it means is
//! [`crate::config`]'s matter.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::command;

/// Build container images from Dockerfiles: one binary, no daemon.
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    version,
    arg_required_else_help = true,
    args_override_self = true, // of a flag that is given again the last one counts, as Docker has it
    disable_help_subcommand = true
)]
pub(crate) struct CliOf<C: Subcommand> {
    /// Folder of images, layers and cache [env: KILN_ROOT] [default: /var/lib/kiln for root, else
    /// $XDG_DATA_HOME/kiln]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: RegistryFlags,
    #[command(subcommand)]
    pub(crate) command: C,
}

/// With all commands.
pub(crate) type Cli = CliOf<Command>;

/// With none.
#[derive(Debug, Subcommand)]
enum Nothing {}

impl Cli {
    /// Reads this process's command line. To know all commands takes as long as a small step, so only the one that is asked for is looked at,
    /// unless there is something wrong, or help is asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        Self::read_from(&std::env::args_os().collect::<Vec<_>>())
    }

    fn read_from(words: &[OsString]) -> Result<Self, clap::Error> {
        let asked = words.get(1).and_then(|word| word.to_str());
        match asked.and_then(alone).map(|line| Self::read_by(line, words)) {
            Some(Ok(cli)) => Ok(cli),
            Some(Err(error)) if error.kind() == ErrorKind::DisplayVersion => Err(error),
            _ => Self::try_parse_from(words),
        }
    }

    fn read_by(line: clap::Command, words: &[OsString]) -> Result<Self, clap::Error> {
        let mut matches = line.try_get_matches_from(words)?;
        Self::from_arg_matches_mut(&mut matches)
    }
}

/// The command line if its first word is this one, without the other commands; `None` if it has to be known in full.
fn alone(word: &str) -> Option<clap::Command> {
    let line = CliOf::<Nothing>::command();
    if matches!(word, "--version" | "-V") {
        return Some(line);
    }
    let (name, arguments) = COMMANDS.iter().find(|(name, _)| *name == word)?;
    Some(line.subcommand(arguments(clap::Command::new(*name))))
}

/// How to speak to registries; commands that don't are not changed by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct RegistryFlags {
    /// File with credentials for registries, instead of the usual places
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub(crate) authfile: Option<PathBuf>,
    /// Whether registries must speak HTTPS and show certificates that can be trusted [default: true,
    /// but for loopback and what registries.conf calls insecure]
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Registries")]
    pub(crate) tls_verify: Option<bool>,
}

/// Each variant is a file in `command/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Box<command::build::Args>),
    Builds(command::builds::Args),
    Check(command::check::Args),
    Context(command::context::Args),
    Plan(command::plan::Args),
    Lock(Box<command::lock::Args>),
    Explain(command::explain::Args),
    Verify(command::verify::Args),
    Run(Box<command::run::Args>),
    Shell(Box<command::shell::Args>),
    Ps(command::ps::Args),
    Rm(command::rm::Args),
    Commit(command::commit::Args),
    Diff(command::diff::Args),
    Export(command::export::Args),
    Squash(command::squash::Args),
    Images(command::images::Args),
    History(command::history::Args),
    Inspect(command::inspect::Args),
    Tag(command::tag::Args),
    Rmi(command::rmi::Args),
    Cache(command::cache::Args),
    Prune(command::prune::Args),
    Pull(command::pull::Args),
    Push(command::push::Args),
    Save(command::save::Args),
    Load(command::load::Args),
    Login(command::login::Args),
    Logout(command::logout::Args),
    Import(command::import::Args),
    Doctor(command::doctor::Args),
}

/// Gives a command its arguments.
type Augment = fn(clap::Command) -> clap::Command;

/// The arguments of each command. One that were not here would be read all the same, only later.
const COMMANDS: [(&str, Augment); 31] = [
    ("build", command::build::Args::augment_args),
    ("builds", command::builds::Args::augment_args),
    ("check", command::check::Args::augment_args),
    ("context", command::context::Args::augment_args),
    ("plan", command::plan::Args::augment_args),
    ("lock", command::lock::Args::augment_args),
    ("explain", command::explain::Args::augment_args),
    ("verify", command::verify::Args::augment_args),
    ("run", command::run::Args::augment_args),
    ("shell", command::shell::Args::augment_args),
    ("ps", command::ps::Args::augment_args),
    ("rm", command::rm::Args::augment_args),
    ("commit", command::commit::Args::augment_args),
    ("diff", command::diff::Args::augment_args),
    ("export", command::export::Args::augment_args),
    ("squash", command::squash::Args::augment_args),
    ("images", command::images::Args::augment_args),
    ("history", command::history::Args::augment_args),
    ("inspect", command::inspect::Args::augment_args),
    ("tag", command::tag::Args::augment_args),
    ("rmi", command::rmi::Args::augment_args),
    ("cache", command::cache::Args::augment_args),
    ("prune", command::prune::Args::augment_args),
    ("pull", command::pull::Args::augment_args),
    ("push", command::push::Args::augment_args),
    ("save", command::save::Args::augment_args),
    ("load", command::load::Args::augment_args),
    ("login", command::login::Args::augment_args),
    ("logout", command::logout::Args::augment_args),
    ("import", command::import::Args::augment_args),
    ("doctor", command::doctor::Args::augment_args),
];

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// tty on a terminal outside CI, plain elsewhere
    Auto,
    /// One live line a step
    Tty,
    /// Every event as a line of text
    Plain,
    /// One JSON object a line
    Rawjson,
    /// Nothing; the image id on stdout
    Quiet,
    /// Nothing at all
    None,
}

/// `KEY=VALUE`, or `KEY` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

impl std::str::FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        match key.is_empty() {
            true => Err("the name before `=` is empty".to_owned()),
            false => Ok(Self {
                key: key.to_owned(),
                value,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_alone_is_read_as_among_all() {
        let cli = Cli::command();
        let among_all: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(COMMANDS.map(|(name, _)| name), *among_all);
        for name in among_all {
            let usage = |mut command: clap::Command| {
                command.build();
                let of_it = command.find_subcommand_mut(name).unwrap();
                of_it.render_long_help().to_string()
            };
            let alone = alone(name).unwrap();
            alone.clone().debug_assert();
            assert_eq!(usage(alone), usage(Cli::command()), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_all_commands_known() {
        let lines = [
            "kiln",
            "kiln --version",
            "kiln -V build",
            "kiln --help",
            "kiln images --help",
            "kiln images --nonsense",
            "kiln images --no-cache",
            "kiln build",
            "kiln builds lst",
            "kiln imagse",
            "kiln --root",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let told = Cli::read_from(&words).unwrap_err();
            let expected = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(told.to_string(), expected.to_string(), "{line}");
            assert_eq!(told.exit_code(), expected.exit_code(), "{line}");
        }
        let cli =
            Cli::read_from(&["kiln", "cache", "du", "--root", "/r"].map(OsString::from)).unwrap();
        assert!(matches!(cli.command, Command::Cache(_)));
        assert_eq!(cli.root.as_deref(), Some(std::path::Path::new("/r")));
    }

    fn build(line: &str) -> command::build::Args {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        match cli.command {
            Command::Build(args) => *args,
            other => panic!("not a build: {other:?}"),
        }
    }

    #[test]
    fn build_takes_repeated_flags() {
        // R-CLI-4
        let args = build(
            "kiln build -t a -t b:1 -f D --target S --build-arg K=V --build-arg E --label l=1 --label m --no-cache --pull \
             --platform linux/arm64 --progress plain -o out -o type=oci,dest=x.tar --iidfile i --metadata-file m .",
        );
        assert_eq!(
            args.tags
                .iter()
                .map(|tag| tag.name.to_string())
                .collect::<Vec<_>>()
                .len(),
            2
        );
        assert_eq!(
            args.recipe.build_args[0],
            KeyValue {
                key: "K".into(),
                value: Some("V".into())
            }
        );
        assert_eq!(
            args.recipe.build_args[1],
            KeyValue {
                key: "E".into(),
                value: None
            }
        );
        assert_eq!(args.outputs.len(), 2);
        assert_eq!(args.progress, Some(ProgressMode::Plain));
        assert!(args.recipe.no_cache && args.recipe.pull && !args.quiet);
        assert_eq!(args.recipe.context.as_os_str(), ".");
    }

    #[test]
    fn stages_without_cache_are_listed_or_repeated() {
        // R-CLI-4, R-CACHE-23
        let args = build("kiln build --no-cache-filter a,b --no-cache-filter c .");
        assert_eq!(args.recipe.no_cache_filter, ["a", "b", "c"]);
    }

    #[test]
    fn root_is_taken_before_and_after_the_command() {
        for line in ["kiln --root /r images", "kiln images --root /r"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(
                cli.root.as_deref(),
                Some(std::path::Path::new("/r")),
                "{line}"
            );
        }
    }

    #[test]
    fn run_leaves_flags_after_the_image_to_the_program() {
        let cli = Cli::try_parse_from(
            "kiln run -it --rm -e A=1 -v /a:/b:ro -w /w -u 1:2 img ls -la --rm".split(' '),
        )
        .unwrap();
        let Command::Run(args) = cli.command else {
            panic!("not a run")
        };
        assert_eq!(args.words, ["img", "ls", "-la", "--rm"]);
        assert!(args.interactive && args.tty && args.rm);
        let cli = Cli::try_parse_from("kiln run img -c x --rm".split(' ')).unwrap();
        let Command::Run(args) = cli.command else {
            panic!("not a run")
        };
        assert_eq!(args.words, ["img", "-c", "x", "--rm"]);
        assert!(!args.rm);
    }

    #[test]
    fn bad_lines_are_usage_errors() {
        // R-CLI-1: exactly one context
        let lines = [
            "kiln build",
            "kiln build a b",
            "kiln build --build-arg =x .",
            "kiln build --progress fancy .",
            "kiln build -o type=nope,dest=x .",
            "kiln build -t UPPER! .",
            "kiln build --no-cache --no-cache-filter a .",
            "kiln build --no-cache-filter= .",
            "kiln bild .",
            "kiln tag a",
        ];
        for line in lines {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
