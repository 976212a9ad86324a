//! `kiln run`: a command in a new container of an image, in the foreground.

mod environment;
mod mounts;
mod streams;

use std::io;
use std::path::PathBuf;

use kiln_cache::KeyLock;
use kiln_executor::container::{self, Keep, Receiver, RunEnd, RunOptions};
use kiln_executor::images::{self, StoredImage};
use kiln_executor::sandbox::terminal::{Pty, RawMode};
use kiln_executor::sandbox::{MountSpec, SandboxError, Stdio};
use kiln_executor::{BuildError, Cause};
use kiln_image::{Platform, Reference};

use crate::args::{KeyValue, ProgressMode};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::resources::ResourceFlags;
use crate::session::Session;
use crate::step_flags::StepFlags;
use crate::stored;
use environment::environment;
use mounts::{Mount, Volume};
use streams::streams;

/// What a container is called inside.
const HOSTNAME: &str = "kiln";

/// Run a command in a new container, in the foreground
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help; `-h` is the host name, as Docker has it
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Pass stdin on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal, with stdin
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment variable; KEY alone takes it from the environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<KeyValue>,
    /// Make a folder or file of this machine visible
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volumes: Vec<Volume>,
    /// File with a variable a line, KEY[=VALUE]; may be repeated
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// type=bind,source=PATH,target=PATH[,readonly] or type=tmpfs,target=PATH[,tmpfs-size=BYTES][,tmpfs-mode=MODE]; may be repeated
    #[arg(long = "mount", value_name = "MOUNT")]
    pub(crate) mounts: Vec<Mount>,
    /// Directory in memory; may be repeated
    #[arg(long = "tmpfs", value_name = "PATH[:size=BYTES,mode=MODE]", value_parser = Mount::tmpfs)]
    pub(crate) tmpfs: Vec<Mount>,
    /// The root filesystem can't be written to; mounts can
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME", default_value = HOSTNAME, value_parser = hostname)]
    pub(crate) hostname: String,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Command instead of the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// How it is kept apart, see `kiln build --help` [env: KILN_SANDBOX]
    #[arg(long, value_name = "SANDBOX")]
    pub(crate) sandbox: Option<String>,
    /// Keep nothing of the container when it has ended; else `kiln ps` lists it, for commit, diff and export
    #[arg(long)]
    pub(crate) rm: bool,
    /// What the container is called when it is kept
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) steps: StepFlags,
    #[command(flatten)]
    pub(crate) resources: ResourceFlags,
    /// Name or id of an image
    pub(crate) image: String,
    /// Command and arguments instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// As Docker has it: what kiln itself could not do is told apart from all that the program may end with.
const KILN_FAILED: u8 = 125;

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<Exit, Failure> {
    run_container(&args, config).map_err(|failure| match failure.exit {
        Exit::Program(_) | Exit::Signal(_) | Exit::Done | Exit::Bug => failure,
        _ => Failure {
            exit: Exit::Program(KILN_FAILED),
            ..failure
        },
    })
}

fn run_container(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, args.sandbox.as_deref())?;
    let _name = hold_name(args, &session)?;
    let image = find_or_pull(&session, config, &args.image)?;
    let options = options(args, config, &image)?;
    let (ended, _) = session.watch(ProgressMode::None, |watched| {
        let receiver = Receiver::default();
        let taker = receiver.clone();
        let handed = watched.interrupt.hand_to(move |signal| taker.take(signal));
        handed.map_err(no_terminal)?;
        let start = |stdio| {
            let cancel = &watched.interrupt.cancel;
            container::run(
                &image,
                &options,
                stdio,
                &watched.services,
                &watched.reporter,
                cancel,
                &receiver,
            )
            .map_err(|error| could_not_run(&error))
        };
        if args.tty {
            return in_terminal(start);
        }
        let (stdio, relays) = streams(args.interactive).map_err(no_terminal)?;
        let ended = start(stdio);
        relays.finish();
        ended
    });
    let ended = ended?;
    if let Some(warning) = &ended.warning {
        crate::say(warning);
    }
    if let Some(out_of_memory) = &ended.out_of_memory {
        crate::say(&format!("kiln: {out_of_memory}\n"));
    }
    let status = ended.status.shell_code();
    Ok(Exit::Program(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// No two containers have one name, be they kept or running.
fn hold_name(args: &Args, session: &Session) -> Result<Option<KeyLock>, Failure> {
    let Some(name) = args.name.as_ref().filter(|_| !args.rm) else {
        return Ok(None);
    };
    let taken = |message, help| Err(Failure::new(Exit::Failed, "container", message).help(help));
    let held = session.store.try_lock_container_name(name);
    let Some(held) = held.map_err(|error| Failure::from_store(&error))? else {
        return taken(
            format!("a container `{name}` is running"),
            "choose another name, or wait for its end".to_owned(),
        );
    };
    let kept = session.store.containers().list();
    let kept = kept.map_err(|error| Failure::from_store(&error))?;
    match kept.iter().any(|container| container.name == *name) {
        true => taken(
            format!("there is a container `{name}` already"),
            format!("`kiln rm {name}` removes it"),
        ),
        false => Ok(Some(held)),
    }
}

/// Runs `start` with a pseudo-terminal, passing on keys and output until the program has ended. Errors are shown after
/// the user's own terminal is itself again.
fn in_terminal(start: impl FnOnce(Stdio) -> Result<RunEnd, Failure>) -> Result<RunEnd, Failure> {
    let (stdio, master) = Pty::open().and_then(Pty::split).map_err(no_terminal)?;
    let _raw = RawMode::enter().map_err(no_terminal)?;
    std::thread::scope(|scope| {
        let relay = scope.spawn(move || master.relay());
        let ended = start(stdio);
        // Ends with the program. What could not be shown after it is lost with the terminal it was for.
        let _ = relay.join();
        ended
    })
}

fn no_terminal(error: io::Error) -> Failure {
    Failure::from_error(Exit::Environment, None, &error)
        .note("while preparing the container's streams")
}

/// The image in the store, or else from its registry.
fn find_or_pull(session: &Session, config: &Config, text: &str) -> Result<StoredImage, Failure> {
    let missing = match stored::find(&session.services()?, text) {
        Err(failure) if failure.exit == Exit::Failed => failure,
        found => return found,
    };
    let Ok(reference) = text.parse::<Reference>() else {
        return Err(missing);
    };
    let mode = config.progress(None, false)?;
    let (pulled, _) = session.watch(mode, |watched| {
        images::pull(
            &watched.services,
            &reference,
            &Platform::host(),
            &watched.reporter,
        )
        .map_err(Failure::from_engine)
    });
    pulled.map_err(|failure| {
        failure.note(format!(
            "`{text}` is not in the store, so its registry was asked"
        ))
    })
}

fn options(args: &Args, config: &Config, image: &StoredImage) -> Result<RunOptions, Failure> {
    let own = &image.config.config;
    let has_program = args
        .entrypoint
        .as_ref()
        .is_some_and(|program| !program.is_empty());
    let has_default = args.entrypoint.is_none()
        && [&own.entrypoint, &own.cmd]
            .into_iter()
            .flatten()
            .any(|words| !words.is_empty());
    if args.command.is_empty() && !has_program && !has_default {
        return Err(
            Failure::usage(format!("image `{}` has no CMD or ENTRYPOINT", args.image))
                .help("give a command after the image"),
        );
    }
    Ok(RunOptions {
        entrypoint: args.entrypoint.as_ref().map(|program| {
            Some(program.clone())
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect()
        }),
        command: args.command.clone(),
        env: environment(&args.env_files, &args.env, |name| config.variable(name))?,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        mounts: mounts(args)?,
        read_only: args.read_only,
        hostname: args.hostname.clone(),
        terminal: args.tty,
        extra_hosts: args.steps.extra_hosts(),
        network: args.steps.network(),
        limits: args.steps.limits(),
        resources: args.resources.resources().map_err(Failure::usage)?,
        keep: (!args.rm).then(|| Keep {
            name: args.name.clone(),
            image_name: args.image.clone(),
        }),
    })
}

/// Those of all flags, each below the ones that it may be in.
fn mounts(args: &Args) -> Result<Vec<MountSpec>, Failure> {
    let volumes = args.volumes.iter().map(Volume::mount);
    let others = args.mounts.iter().chain(&args.tmpfs).map(Mount::mount);
    let mut mounts = volumes.chain(others).collect::<Result<Vec<_>, _>>()?;
    mounts.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(mounts)
}

fn hostname(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("a host name has up to 64 letters, digits, `-` and `.`".to_owned()),
    }
}

/// As Docker has it: letters, digits and `_.-`, more than one character.
fn container_name(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && text.len() > 1 && text.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(
            "a name has letters, digits, `_`, `.` and `-`, and begins with a letter or a digit"
                .to_owned(),
        ),
    }
}

/// As a shell has it: 127 for a program that is not there, 126 for one that cannot be started.
fn could_not_run(error: &BuildError) -> Failure {
    let failure = Failure::from_build_error(None, error);
    match &*error.cause {
        Cause::Sandbox(SandboxError::ProgramNotFound { .. }) => Failure {
            exit: Exit::Program(127),
            ..failure
        },
        Cause::Sandbox(SandboxError::ProgramNotExecutable { .. }) => Failure {
            exit: Exit::Program(126),
            ..failure
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_host_names_are_checked() {
        for (text, good) in [
            ("a1", true),
            ("a", false),
            ("-a", false),
            ("a b", false),
            ("x_.-y", true),
        ] {
            assert_eq!(container_name(text).is_ok(), good, "{text}");
        }
        for (text, good) in [
            ("web", true),
            ("", false),
            ("a.b-c", true),
            ("a b", false),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(hostname(text).is_ok(), good, "{text}");
        }
    }
}
