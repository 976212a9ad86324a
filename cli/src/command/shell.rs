//! `kiln shell`: a shell where a step failed, or in an image or a stage.

use kiln_executor::container;
use rustix::termios::isatty;

use super::run::{self, Asked, ContainerFlags, StageFlags, subject};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::{LazySession, Session};
use crate::stored;

/// Shells that images have, in the order in which people want them.
const SHELLS: [&str; 5] = [
    "/bin/bash",
    "/usr/bin/bash",
    "/bin/sh",
    "/usr/bin/sh",
    "/busybox/sh",
];

/// Open a shell where a step failed, or in an image or a stage; what it changes is not kept
///
/// Without a name: where the latest step failed that is kept. What the step had written is there, and its variables, user and working directory;
/// what was mounted is not, and can be given with -v.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help; `-h` is the host name, as for `kiln run`
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    flags: ContainerFlags,
    #[command(flatten)]
    stage: StageFlags,
    /// A failed step, as the failure names it; a container that ended; an image; or with --target or --file the build's context
    #[arg(value_name = "STEP|IMAGE|CONTEXT")]
    what: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    run::exit_as_docker(open(args, config))
}

fn open(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let sandbox = args.flags.sandbox.as_deref();
    let session = LazySession::new(|| Session::open_with_files(config, sandbox));
    let chosen = match (&args.what, args.stage.is_asked()) {
        _ if args.stage.stray().is_some() => return Err(run::stray(&args.stage)),
        (Some(context), true) => args.stage.build(context, &args.flags, &session, config)?,
        (None, true) => {
            return Err(Failure::usage("the stage's CONTEXT is missing").help("`.` is this folder"));
        }
        (None, false) => subject::failed_step(session.opened()?, None)?,
        (Some(name), false) => match stored::container(&session.opened()?.services()?, name) {
            Ok(container) => subject::Chosen::container(container),
            Err(missing) if container::is_name_of_failed(name) => {
                return Err(missing.help("where a step failed is kept until its Dockerfile can be built, or `kiln prune`; a build that fails again keeps it anew"));
            }
            Err(missing) if missing.exit == Exit::Failed => {
                subject::find_or_pull(session.opened()?, config, name, &args.flags)?
            }
            Err(failure) => return Err(failure),
        },
    };
    let session = session.opened()?;
    let shells = SHELLS.iter().map(|shell| (*shell).to_owned());
    let own = own_shell(&chosen);
    let wanted: Vec<String> = own.into_iter().chain(shells).collect();
    let (shell, _) = session.watch(crate::args::ProgressMode::None, |watched| {
        watched.task("looking for a shell".to_owned(), |task| {
            container::find_program(&watched.services, &chosen.subject, &wanted, task)
                .map_err(Failure::from_engine)
        })
    });
    let Some(shell) = shell? else {
        let message = format!("there is no shell in `{}`", chosen.name);
        return Err(Failure::new(Exit::Failed, "no-shell", message)
            .help("`-v /bin/busybox:/bin/sh:ro`, say, puts a static one there"));
    };
    let asked = Asked {
        flags: &args.flags,
        interactive: true,
        tty: isatty(rustix::stdio::stdin()),
        entrypoint: Some(shell),
        command: Vec::new(),
        keep: None,
        cidfile: None,
    };
    run::start(chosen, &asked, session, config)
}

/// The shell that the failed step's command was for, or SHELL names.
fn own_shell(chosen: &subject::Chosen) -> Option<String> {
    let own = &chosen.subject.config.config;
    let of_step = || {
        let argv = own.cmd.as_ref().filter(|_| chosen.step.is_some())?;
        match &argv[..] {
            [shell, flag, .., _] if flag.starts_with('-') => Some(shell.clone()),
            _ => None,
        }
    };
    let of_image = || own.shell.first().cloned();
    of_step()
        .or_else(of_image)
        .filter(|shell| shell.starts_with('/'))
}
