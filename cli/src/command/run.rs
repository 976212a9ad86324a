//! `kiln run`: a command in a new container of an image, of a stage or of where a step failed, in the foreground.

mod cidfile;
mod environment;
mod mounts;
mod rights;
mod stage;
mod streams;
pub(crate) mod subject;

use std::io;
use std::path::{Path, PathBuf};

use kiln_cache::{FailedStep, KeyLock};
use kiln_executor::container::{self, Keep, Receiver, RunEnd, RunOptions};
use kiln_executor::sandbox::terminal::{Pty, RawMode};
use kiln_executor::sandbox::{MountSpec, SandboxError, Stdio};
use kiln_executor::{BuildError, Cause, Resources};
use kiln_image::Platform;
use kiln_parser::Severity;
use kiln_planner::Network;
use rustix::termios::isatty;

use crate::args::{KeyValue, ProgressMode};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::{Failure, Report};
use crate::render;
use crate::resources::ResourceFlags;
use crate::session::{LazySession, Session};
use crate::step_flags::StepFlags;
use cidfile::CidFile;
use environment::environment;
use mounts::{Mount, Volume, mounts_of_step};
use rights::RightsFlags;
pub(crate) use stage::StageFlags;
use streams::streams;
use subject::Chosen;

/// What a container is called inside.
const HOSTNAME: &str = "kiln";

/// Run a command in a new container, in the foreground
///
/// Of an image; of a stage of a Dockerfile (--target STAGE CONTEXT); or where a step failed (--step).
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help; `-h` is the host name, as Docker has it
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Pass stdin on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Command instead of the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Keep nothing of the container when it has ended; else `kiln ps` lists it, for commit, diff and export
    #[arg(long)]
    pub(crate) rm: bool,
    /// What the container is called when it is kept
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub(crate) name: Option<String>,
    /// File to write the container's id to, where there is none yet
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// A step that failed in the place of an image, as the failure names it: without a command, its own is run again
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    #[command(flatten)]
    pub(crate) flags: ContainerFlags,
    #[command(flatten)]
    pub(crate) stage: StageFlags,
    /// An image's name or id (with --target or --file the build's context, with --step nothing), then a command with its arguments
    /// instead of the image's CMD
    #[arg(value_name = "IMAGE [COMMAND]", trailing_var_arg = true)]
    pub(crate) words: Vec<String>,
}

impl Args {
    /// What stands before the command, and the command.
    fn parts(&self) -> (Option<&str>, Vec<String>) {
        let mut words = self.words.iter();
        let what = match self.step {
            Some(_) => None,
            None => words.next().map(String::as_str),
        };
        let mut command: Vec<String> = words.cloned().collect();
        // That flags end here goes without saying.
        if what.is_some() && command.first().is_some_and(|word| word == "--") {
            command.remove(0);
        }
        (what, command)
    }
}

// No doc comment: clap would take it for the command's own.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainerFlags {
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
    #[arg(long = "tmpfs", value_name = "PATH[:size=BYTES,mode=MODE,uid=ID,gid=ID,noexec]", value_parser = Mount::tmpfs)]
    pub(crate) tmpfs: Vec<Mount>,
    /// The root filesystem can't be written to; mounts can
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Host name [default: kiln]
    #[arg(short = 'h', long, value_name = "NAME", value_parser = hostname)]
    pub(crate) hostname: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    pub(crate) workdir: Option<String>,
    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// A further group of the user, by name or number; may be repeated
    #[arg(long = "group-add", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Let process 1 be one that passes signals on and reaps orphans, instead of the command
    #[arg(long)]
    pub(crate) init: bool,
    #[command(flatten)]
    pub(crate) rights: RightsFlags,
    /// Processors' time, in processors: 1.5; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = cpus, conflicts_with_all = ["cpu_quota", "cpu_period"])]
    pub(crate) cpus: Option<f64>,
    /// How gladly the kernel ends it where there is no memory left, -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i16>,
    /// Which platform of the image, or of the stage [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// When to ask the image's registry: missing, if it isn't in the store; always; or never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) pull: Pull,
    /// Do not show how an image is pulled or a stage is built
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How it is kept apart, see `kiln build --help` [env: KILN_SANDBOX]
    #[arg(long, value_name = "SANDBOX")]
    pub(crate) sandbox: Option<String>,
    #[command(flatten)]
    pub(crate) steps: StepFlags,
    #[command(flatten)]
    pub(crate) resources: ResourceFlags,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Pull {
    #[default]
    Missing,
    Always,
    Never,
}

/// What is to run, and how.
pub(crate) struct Asked<'a> {
    pub(crate) flags: &'a ContainerFlags,
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    pub(crate) entrypoint: Option<String>,
    pub(crate) command: Vec<String>,
    /// The container's name if it is kept, if it has one.
    pub(crate) keep: Option<Option<String>>,
    /// Where its id is to be written.
    pub(crate) cidfile: Option<&'a Path>,
}

/// As Docker has it: what kiln itself could not do is told apart from all that the program may end with.
pub(crate) const KILN_FAILED: u8 = 125;

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    exit_as_docker(run_container(args, config))
}

pub(crate) fn exit_as_docker(ended: Result<Exit, Failure>) -> Result<Exit, Failure> {
    ended.map_err(|failure| match failure.exit {
        Exit::Program(_) | Exit::Signal(_) | Exit::Done | Exit::Bug => failure,
        _ => Failure {
            exit: Exit::Program(KILN_FAILED),
            ..failure
        },
    })
}

fn run_container(args: &Args, config: &Config) -> Result<Exit, Failure> {
    refuse_no_terminal(args)?;
    let sandbox = args.flags.sandbox.as_deref();
    let session = LazySession::new(|| Session::open_with_files(config, sandbox));
    let name = args.name.as_ref().filter(|_| !args.rm);
    let _name = match name {
        Some(name) => Some(hold_name(name, session.opened()?)?),
        None => None,
    };
    let (what, command) = args.parts();
    let chosen = match (&args.step, args.stage.is_asked(), what) {
        _ if args.stage.stray().is_some() => return Err(stray(&args.stage)),
        (Some(_), true, _) => return Err(Failure::usage("a stage and a step are two things")),
        (Some(step), false, _) => subject::failed_step(session.opened()?, Some(step))?,
        (None, true, Some(context)) => args.stage.build(context, &args.flags, &session, config)?,
        (None, true, None) => {
            return Err(Failure::usage("the stage's CONTEXT is missing").help("`.` is this folder"));
        }
        (None, false, Some(image)) => {
            subject::find_or_pull(session.opened()?, config, image, &args.flags)?
        }
        (None, false, None) => {
            return Err(Failure::usage("there is nothing to run")
                .help("name an image, or a stage with --target, or a failed step with --step"));
        }
    };
    let asked = Asked {
        flags: &args.flags,
        interactive: args.interactive,
        tty: args.tty,
        entrypoint: args.entrypoint.clone(),
        command,
        keep: (!args.rm).then(|| args.name.clone()),
        cidfile: args.cidfile.as_deref(),
    };
    start(chosen, &asked, session.opened()?, config)
}

/// A flag about a stage without one.
pub(crate) fn stray(flags: &StageFlags) -> Failure {
    let flag = flags.stray().unwrap_or_default();
    Failure::usage(format!(
        "`{flag}` is about building a stage, and none is asked for"
    ))
    .help("name one with --target, or its Dockerfile with --file")
}

/// As Docker has it: keys can't be read from what is no keyboard.
fn refuse_no_terminal(args: &Args) -> Result<(), Failure> {
    match args.interactive && args.tty && !isatty(rustix::stdio::stdin()) {
        true => Err(Failure {
            exit: Exit::Program(1),
            ..Failure::usage("the input device is not a TTY")
                .help("`-i` alone passes on what comes from a pipe or a file")
        }),
        false => Ok(()),
    }
}

/// Runs it in the foreground to its end.
pub(crate) fn start(
    chosen: Chosen,
    asked: &Asked<'_>,
    session: &Session,
    config: &Config,
) -> Result<Exit, Failure> {
    let id = container::new_id(&chosen.name);
    let options = options(asked, config, &chosen, &id)?;
    let cidfile = asked.cidfile.map(|path| CidFile::write(path, &id));
    let cidfile = cidfile.transpose()?;
    if let Some(step) = &chosen.step {
        crate::say(&about(step, config));
    }
    let (ended, _) = session.watch(ProgressMode::None, |watched| {
        let receiver = Receiver::default();
        let taker = receiver.clone();
        let handed = watched.interrupt.hand_to(move |signal| taker.take(signal));
        handed.map_err(no_terminal)?;
        let start = |stdio| {
            let cancel = &watched.interrupt.cancel;
            container::run(
                &chosen.subject,
                &options,
                stdio,
                &watched.services,
                &watched.reporter,
                cancel,
                &receiver,
            )
            .map_err(|error| could_not_run(&error))
        };
        if asked.tty {
            // Without -i what is no keyboard is somebody else's: a loop's list, say.
            let reads = asked.interactive || isatty(rustix::stdio::stdin());
            return in_terminal(reads, start);
        }
        let (stdio, relays) = streams(asked.interactive).map_err(no_terminal)?;
        let ended = start(stdio);
        relays.finish();
        ended
    });
    let ended = ended?;
    if let Some(cidfile) = cidfile {
        cidfile.keep();
    }
    if let Some(warning) = &ended.warning {
        crate::say(warning);
    }
    if let Some(shortage) = &ended.shortage {
        crate::say(&format!("kiln: {shortage}\n"));
    }
    let status = ended.status.shell_code();
    Ok(Exit::Program(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// Which step it was, and what of it is not there.
fn about(step: &FailedStep, config: &Config) -> String {
    let lacks = step.lacks.iter().map(|what| format!("not here: {what}"));
    let report = Report {
        severity: Severity::Advice,
        notes: lacks.collect(),
        ..Report::error(None, format!("where `{}` failed", step.name))
    };
    render::reports(&[report], config.color)
}

/// No two containers have one name, be they kept or running.
fn hold_name(name: &str, session: &Session) -> Result<KeyLock, Failure> {
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
        false => Ok(held),
    }
}

/// Runs `start` with a pseudo-terminal, passing on keys and output until the program has ended. Errors are shown after
/// the user's own terminal is itself again.
fn in_terminal(
    reads: bool,
    start: impl FnOnce(Stdio) -> Result<RunEnd, Failure>,
) -> Result<RunEnd, Failure> {
    let (stdio, master) = Pty::open().and_then(Pty::split).map_err(no_terminal)?;
    let _raw = RawMode::enter().map_err(no_terminal)?;
    std::thread::scope(|scope| {
        let relay = scope.spawn(move || master.relay(reads));
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

fn options(
    asked: &Asked<'_>,
    config: &Config,
    chosen: &Chosen,
    id: &str,
) -> Result<RunOptions, Failure> {
    let own = &chosen.subject.config.config;
    let flags = asked.flags;
    let has_program = asked
        .entrypoint
        .as_ref()
        .is_some_and(|program| !program.is_empty());
    let has_default = asked.entrypoint.is_none()
        && [&own.entrypoint, &own.cmd]
            .into_iter()
            .flatten()
            .any(|words| !words.is_empty());
    if asked.command.is_empty() && !has_program && !has_default {
        return Err(
            Failure::usage(format!("image `{}` has no CMD or ENTRYPOINT", chosen.name))
                .help("give a command after the image"),
        );
    }
    let step = chosen.step.as_ref();
    let hostname = flags.hostname.clone();
    let hostname = hostname.or_else(|| Some(step?.hostname.clone()));
    let hosts = step.map_or(&[][..], |step| &step.hosts);
    let network = match flags.steps.network() {
        Network::Default if step.is_some_and(|step| step.offline) => Network::None,
        asked => asked,
    };
    Ok(RunOptions {
        entrypoint: asked.entrypoint.as_ref().map(|program| {
            Some(program.clone())
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect()
        }),
        command: asked.command.clone(),
        env: environment(&flags.env_files, &flags.env, |name| config.variable(name))?,
        workdir: flags.workdir.clone().filter(|dir| !dir.is_empty()),
        user: flags.user.clone(),
        groups: flags.groups.clone(),
        mounts: mounts(flags, step)?,
        read_only: flags.read_only,
        hostname: hostname.unwrap_or_else(|| HOSTNAME.to_owned()),
        terminal: asked.tty,
        init: flags.init,
        rights: flags.rights.rights(),
        extra_hosts: [hosts, &flags.steps.extra_hosts()].concat(),
        network,
        limits: flags.steps.limits(),
        resources: resources(flags)?,
        oom_score_adj: flags.oom_score_adj,
        keep: asked.keep.as_ref().map(|name| Keep {
            id: id.to_owned(),
            name: name.clone(),
            image_name: chosen.name.clone(),
        }),
    })
}

/// `--cpus` is a quota of time.
fn resources(flags: &ContainerFlags) -> Result<Resources, Failure> {
    /// Of the quota, in microseconds; Docker's.
    const PERIOD: u64 = 100_000;
    /// Of memory, in bytes; Docker's, too.
    const LEAST: u64 = 6 << 20;
    let mut asked = flags.resources.clone();
    if let Some(cpus) = flags.cpus.filter(|cpus| *cpus > 0.0) {
        asked.cpu_period = Some(PERIOD);
        asked.cpu_quota = Some((cpus * PERIOD as f64) as i64);
    }
    let resources = asked.resources().map_err(Failure::usage)?;
    match resources.memory {
        Some(bytes) if bytes < LEAST => Err(Failure::usage("a container takes 6 MiB at least")
            .note("with less its set-up itself is killed")),
        _ => Ok(resources),
    }
}

/// A number of processors that the kernel can measure out; as Docker has it, zero is no limit.
fn cpus(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    number
        .filter(|number| *number == 0.0 || (0.01..=4096.0).contains(number))
        .ok_or_else(|| "it is no number of processors, such as `1.5`".to_owned())
}

/// Those of all flags, each below the ones that it may be in, and what a step had of its own.
fn mounts(flags: &ContainerFlags, step: Option<&FailedStep>) -> Result<Vec<MountSpec>, Failure> {
    let volumes = flags.volumes.iter().map(Volume::mount);
    let others = flags.mounts.iter().chain(&flags.tmpfs).map(Mount::mount);
    let mut mounts = volumes.chain(others).collect::<Result<Vec<_>, _>>()?;
    let own: Vec<MountSpec> = step.into_iter().flat_map(mounts_of_step).collect();
    let is_taken = |own: &MountSpec| mounts.iter().any(|mount| mount.target == own.target);
    let own: Vec<MountSpec> = own.into_iter().filter(|own| !is_taken(own)).collect();
    mounts.extend(own);
    mounts.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(mounts)
}

/// As Docker has it, an empty one is the image's own: a script's variable that isn't set.
fn workdir(text: &str) -> Result<String, String> {
    match text.starts_with('/') || text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("it is not an absolute path".to_owned()),
    }
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
            ("1.5", true),
            ("0", true),
            ("0.001", false),
            ("-1", false),
            ("x", false),
        ] {
            assert_eq!(cpus(text).is_ok(), good, "{text}");
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
