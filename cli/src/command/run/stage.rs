//! `kiln run --target`: a stage of a Dockerfile, built for it, from the cache as far as that goes.

use std::path::{Path, PathBuf};

use clap::Parser;
use kiln_executor::container::{self, Subject};
use kiln_executor::{BuildFailure, BuildRequest, build};

use super::subject::Chosen;
use super::{ContainerFlags, Pull};
use crate::args::{Cli, Command, ProgressMode};
use crate::command::build::{self as build_command, failed_step_help, secret, ssh};
use crate::command::plan;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::LazySession;

// No doc comment: clap would take it for the command's own.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Stages")]
pub(crate) struct StageFlags {
    /// A stage of a Dockerfile in the place of an image, which is then CONTEXT; it is built if it isn't yet
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The Dockerfile of the stage, the last one without --target [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Value of an ARG of the Dockerfile, as for `kiln build`; may be repeated
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    build_args: Vec<String>,
    /// What a name in the Dockerfile stands for, as for `kiln build`; may be repeated
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    build_contexts: Vec<String>,
    /// Secret for the stage's steps, as for `kiln build`; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// SSH agent for the stage's steps, as for `kiln build`; may be repeated
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<String>,
    /// How to show the progress of building it [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressMode>,
}

impl StageFlags {
    /// Whether a stage is asked for, and no image.
    pub(crate) fn is_asked(&self) -> bool {
        self.target.is_some() || self.file.is_some()
    }

    /// The flag that only makes sense with a stage, if one is there without.
    pub(crate) fn stray(&self) -> Option<&'static str> {
        let given = [
            ("--build-arg", !self.build_args.is_empty()),
            ("--build-context", !self.build_contexts.is_empty()),
            ("--secret", !self.secrets.is_empty()),
            ("--ssh", !self.agents.is_empty()),
            ("--progress", self.progress.is_some()),
        ];
        let stray = given.iter().find(|(_, given)| *given && !self.is_asked());
        stray.map(|(flag, _)| *flag)
    }

    /// The words that ask `kiln build` for it.
    fn build_words(&self, context: &str) -> Vec<String> {
        let mut words = vec!["kiln".to_owned(), "build".to_owned()];
        let mut add = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
        let target: Vec<String> = self.target.iter().cloned().collect();
        let lists = [
            ("--target", &target),
            ("--build-arg", &self.build_args),
            ("--build-context", &self.build_contexts),
            ("--secret", &self.secrets),
            ("--ssh", &self.agents),
        ];
        for (flag, values) in lists {
            values.iter().for_each(|value| add(flag, value));
        }
        words.extend(["--".to_owned(), context.to_owned()]);
        words
    }

    fn asked(&self, context: &str) -> Result<build_command::Args, Failure> {
        let parsed = Cli::try_parse_from(self.build_words(context));
        let parsed = parsed.map_err(|error| {
            let message = error.to_string();
            let line = message.lines().next().unwrap_or_default();
            Failure::usage(line.trim_start_matches("error: "))
        })?;
        match parsed.command {
            Command::Build(mut asked) => {
                asked.recipe.file.clone_from(&self.file);
                Ok(*asked)
            }
            _ => Err(Failure::usage("the stage can't be built as asked")),
        }
    }

    /// Builds it.
    pub(crate) fn build(
        &self,
        context: &str,
        flags: &ContainerFlags,
        session: &LazySession<'_>,
        config: &Config,
    ) -> Result<Chosen, Failure> {
        let mut asked = self.asked(context)?;
        asked.recipe.platforms.extend(flags.platform.clone());
        asked.recipe.pull = flags.pull == Pull::Always;
        let sandbox = flags.sandbox.as_deref();
        if [Some(Path::new("-")), Some(Path::new(context))].contains(&self.file.as_deref())
            || context == "-"
        {
            return Err(Failure::usage("stdin is for what is run, not for a build")
                .help("give the Dockerfile and the context as files"));
        }
        let secrets = secret::secrets(&asked.secrets, |name| config.variable(name))?;
        let agents = ssh::agents(&asked.agents, |name| config.variable(name))?;
        let mode = config.progress(self.progress, flags.quiet)?;
        let input = asked.recipe.read(&secrets, mode, session, config)?;
        let source = &input.dockerfile;
        let parsed = plan::parse(source)?;
        let mut images = asked.recipe.images(config)?;
        asked.recipe.date(&mut images, &input, config)?;
        let request = BuildRequest {
            source,
            parsed: &parsed,
            images,
            contexts: input.contexts.clone(),
            pull: asked.recipe.pull_policy(),
            steps: build_command::steps(&asked, config, secrets, &agents)?,
            inline_cache: false,
            attest: kiln_executor::attest::Attest::default(),
            journal: None,
        };
        let (built, _) = session.opened()?.watch(mode, |watched| {
            let (services, reporter) = (&watched.services, &watched.reporter);
            let made = build(&request, services, reporter, &watched.interrupt.cancel);
            let made = made.map_err(|failure| match failure {
                BuildFailure::Dockerfile(wrong) => {
                    Failure::from_diagnostics(Exit::Usage, source, &wrong)
                }
                BuildFailure::Failed(error) => {
                    let failure = Failure::from_build_error(Some(source), &error);
                    failed_step_help(failure, &error, sandbox, config)
                }
            })?;
            let subject = Subject::of_stage(made[0].first());
            watched.task("preparing the stage".to_owned(), |task| {
                container::fetch(services, &subject, task).map_err(Failure::from_engine)
            })?;
            Ok(subject)
        });
        Ok(Chosen {
            subject: built?,
            name: self.target.clone().unwrap_or_else(|| context.to_owned()),
            step: None,
        })
    }
}
