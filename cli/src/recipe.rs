//! What is built, as flags say it: the Dockerfile, the context, and all that changes what they mean. Shared by the
//! commands that build, or look at what a build would do. Clauses R-CLI-4, R-LABEL-2, R-SDE-1.

use std::path::PathBuf;

use kiln_executor::images::PullPolicy;
use kiln_executor::{ContextModes, ContextSource, Secrets, head_time};
use kiln_image::{Platform, PlatformError};
use kiln_planner::{NoCache, PlanOptions};

use crate::args::{KeyValue, ProgressMode};
use crate::build_context::{self, BuildContext};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{Input, Wanted};
use crate::session::LazySession;
use crate::step_flags::{Entitlement, StepFlags};

// No doc comment: clap would take it for the command's own.
#[derive(Debug, clap::Args)]
pub(crate) struct Recipe {
    /// The Dockerfile, `-` for stdin, or its URL; within CONTEXT if that is no folder [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Stage to build; may be repeated, for an image of each [default: the last]
    #[arg(long = "target", value_name = "STAGE")]
    pub(crate) targets: Vec<String>,
    /// Stage to build besides the target, without an image of it: tests, say; its failure fails the build; may be repeated
    #[arg(long = "also-target", value_name = "STAGE")]
    pub(crate) also_targets: Vec<String>,
    /// Value of an ARG; KEY alone takes it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub(crate) build_args: Vec<KeyValue>,
    /// Label of the image
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    pub(crate) labels: Vec<KeyValue>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages again; names with commas between them, may be repeated
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "no_cache"
    )]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask registries for base images even if they are in the store
    #[arg(long)]
    pub(crate) pull: bool,
    /// Platforms to build for, `local` for this machine's; with commas between them, may be repeated. Several make an index
    /// [default: this machine's]
    #[arg(
        long = "platform",
        value_name = "OS/ARCH[/VARIANT]",
        value_delimiter = ',',
        value_parser = platform
    )]
    pub(crate) platforms: Vec<Platform>,
    /// What a name in the Dockerfile stands for: NAME=FOLDER, NAME=docker-image://IMAGE, NAME=oci-layout://PATH[:TAG][@DIGEST],
    /// NAME=URL of a git repository or file; may be repeated
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<BuildContext>,
    /// Mode bits of a folder's files: kept (as on disk), or canonical (0755 for folders and what is executable, else 0644), with which
    /// machines of different umasks agree [default: kept, with --reproducible canonical]
    #[arg(long, value_enum, value_name = "MODES")]
    pub(crate) context_modes: Option<Modes>,
    /// The same image for the same inputs, whenever and wherever it is built: dates of image and layers are that of the context's
    /// git commit, or 1970, unless SOURCE_DATE_EPOCH says another; and modes are canonical
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Permission that a step may ask for: network.host, security.insecure; may be repeated
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allowed: Vec<Entitlement>,
    #[command(flatten)]
    pub(crate) steps: StepFlags,
    /// What COPY and ADD take files from: a folder, `-` for a tar of it (or only a Dockerfile) on stdin, the URL of a git
    /// repository, or of a tar or Dockerfile
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
}

/// What `--context-modes` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Modes {
    Kept,
    Canonical,
}

impl From<Modes> for ContextModes {
    fn from(modes: Modes) -> Self {
        match modes {
            Modes::Kept => ContextModes::Kept,
            Modes::Canonical => ContextModes::Canonical,
        }
    }
}

impl Recipe {
    /// Reads the Dockerfile and its ignore file, and a context that comes as a stream.
    pub(crate) fn read(
        &self,
        secrets: &Secrets,
        progress: ProgressMode,
        session: &LazySession<'_>,
        config: &Config,
    ) -> Result<Input, Failure> {
        let wanted = Wanted {
            context: &self.context,
            file: self.file.as_deref(),
            named: &self.build_contexts,
            progress,
            secrets,
            keep_git_dir: keeps_git_dir(&self.build_args),
            has_epoch: self.reproducible || has_epoch(&self.build_args, config),
            session,
        };
        let mut input = Input::read(&wanted)?;
        let modes = self.context_modes.unwrap_or(match self.reproducible {
            true => Modes::Canonical,
            false => Modes::Kept,
        });
        input.contexts.set_modes(modes.into());
        Ok(input)
    }

    /// What the plan depends on besides the Dockerfile, for each image that is asked for.
    ///
    /// # Errors
    /// Several platforms where an index is forbidden.
    pub(crate) fn images(&self, config: &Config) -> Result<Vec<PlanOptions>, Failure> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &self.platforms {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        let mut options = self.plan_options(config);
        options.multi_platform = multi_platform(&options, platforms.len())?;
        if platforms.is_empty() {
            platforms.push(options.target_platform.clone());
        }
        let mut targets: Vec<Option<String>> = self.each_target().into_iter().map(Some).collect();
        if targets.is_empty() {
            targets.push(None);
        }
        let mut images = Vec::new();
        for target in targets {
            images.extend(platforms.iter().map(|platform| PlanOptions {
                target: target.clone(),
                target_platform: platform.clone(),
                ..options.clone()
            }));
        }
        Ok(images)
    }

    /// The targets, each once, as they were given.
    pub(crate) fn each_target(&self) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for target in &self.targets {
            if !targets
                .iter()
                .any(|known| known.eq_ignore_ascii_case(target))
            {
                targets.push(target.clone()); // R-STG-1
            }
        }
        targets
    }

    /// What the plan depends on besides the Dockerfile: for the first of the platforms.
    pub(crate) fn plan_options(&self, config: &Config) -> PlanOptions {
        let machine = Platform::host();
        let first = self.platforms.first();
        let mut options = PlanOptions::new(first.unwrap_or(&machine).clone());
        options.target = self.targets.first().cloned();
        options.also_targets = self.also_targets.clone();
        options.build_args = build_args(&self.build_args, |name| config.variable(name));
        options.labels = labels(&self.labels);
        options.contexts = build_context::kinds(&self.build_contexts);
        options.platform_requested = !self.platforms.is_empty();
        options.build_platform = machine;
        options.no_cache = self.what_is_not_cached();
        options.extra_hosts = self.steps.extra_hosts();
        options.network = self.steps.network();
        options.entitlements = self.steps.entitlements(&self.allowed);
        options.limits = self.steps.limits();
        options
    }

    /// Dates images as `--reproducible` wants it: by the commit of the build context, or 1970. A date that is given goes before.
    ///
    /// # Errors
    /// When the context is in a repository, and its commit can't be read.
    pub(crate) fn date(
        &self,
        images: &mut [PlanOptions],
        input: &Input,
        config: &Config,
    ) -> Result<(), Failure> {
        if !self.reproducible || has_epoch(&self.build_args, config) {
            return Ok(());
        }
        let of_folder = || match &input.contexts.main {
            Some(ContextSource::Folder(_)) if self.context.is_dir() => {
                head_time(&self.context, &config.git())
            }
            _ => Ok(None),
        };
        let time = match input.commit_time {
            Some(time) => Some(time),
            None => of_folder().map_err(|error| {
                Failure::from_error(Exit::Environment, None, &error)
                    .help("give the date with `SOURCE_DATE_EPOCH=SECONDS`")
            })?,
        };
        for image in images {
            image.source_date_epoch = Some(time.unwrap_or(0));
        }
        Ok(())
    }

    /// R-CACHE-22, R-CACHE-23
    fn what_is_not_cached(&self) -> NoCache {
        match self.no_cache_filter.as_slice() {
            _ if self.no_cache => NoCache::All,
            [] => NoCache::None,
            stages => NoCache::Stages(stages.to_vec()),
        }
    }

    /// When registries are asked.
    pub(crate) fn pull_policy(&self) -> PullPolicy {
        match self.pull {
            true => PullPolicy::Always,
            false => PullPolicy::Missing,
        }
    }
}

/// `os/architecture/variant`, or `local`.
fn platform(text: &str) -> Result<Platform, PlatformError> {
    match text {
        "local" => Ok(Platform::host()),
        text => text.trim().parse(),
    }
}

/// Whether an index is made: for several platforms, or as the build argument says (R-ARG-11, R-MAN-6).
fn multi_platform(options: &PlanOptions, platforms: usize) -> Result<bool, Failure> {
    const NAME: &str = "BUILDKIT_MULTI_PLATFORM";
    match options.build_arg(NAME).map(go_bool) {
        None => Ok(platforms > 1),
        Some(Some(false)) if platforms > 1 => Err(Failure::usage(format!(
            "the build argument `{NAME}` forbids an index, which several platforms need"
        ))),
        Some(Some(asked)) => Ok(asked),
        Some(None) => Err(Failure::usage(format!(
            "the build argument `{NAME}` is neither true nor false"
        ))),
    }
}

/// As Go's `strconv.ParseBool` reads it; nothing means no.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether `.git` of a build context stays (R-CTX-8).
pub(crate) fn keeps_git_dir(given: &[KeyValue]) -> bool {
    let last = given
        .iter()
        .rev()
        .find(|arg| arg.key == "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let value = last.and_then(|arg| arg.value.as_deref());
    value.and_then(go_bool) == Some(true)
}

/// Whether a date is given for all of the result.
pub(crate) fn has_epoch(given: &[KeyValue], config: &Config) -> bool {
    let args = build_args(given, |name| config.variable(name));
    args.iter()
        .any(|(name, value)| name == "SOURCE_DATE_EPOCH" && !value.is_empty())
}

/// `K=V` as it is, `K` with the environment's value if it has one. `SOURCE_DATE_EPOCH` of the environment is passed on
/// unless it was given.
pub(crate) fn build_args(
    given: &[KeyValue],
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    const EPOCH: &str = "SOURCE_DATE_EPOCH";
    let value = |arg: &KeyValue| arg.value.clone().or_else(|| environment(&arg.key));
    let mut all: Vec<_> = given
        .iter()
        .filter_map(|arg| Some((arg.key.clone(), value(arg)?)))
        .collect();
    if !given.iter().any(|arg| arg.key == EPOCH) {
        all.extend(environment(EPOCH).map(|value| (EPOCH.to_owned(), value)));
    }
    all
}

/// `K` alone is a label with an empty value.
fn labels(given: &[KeyValue]) -> Vec<(String, String)> {
    given
        .iter()
        .map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str, value: Option<&str>) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_name_alone_takes_the_environment() {
        // R-CLI-4, R-SDE-1
        let environment = |name: &str| match name {
            "HERE" => Some("there".to_owned()),
            "SOURCE_DATE_EPOCH" => Some("7".to_owned()),
            _ => None,
        };
        let args = [
            given("A", Some("1")),
            given("HERE", None),
            given("GONE", None),
            given("E", Some("")),
        ];
        let expected = [
            pair("A", "1"),
            pair("HERE", "there"),
            pair("E", ""),
            pair("SOURCE_DATE_EPOCH", "7"),
        ];
        assert_eq!(build_args(&args, environment), expected);
        let epoch = [given("SOURCE_DATE_EPOCH", Some("0"))];
        assert_eq!(
            build_args(&epoch, environment),
            [pair("SOURCE_DATE_EPOCH", "0")]
        );
    }

    #[test]
    fn a_label_alone_is_empty() {
        assert_eq!(
            labels(&[given("a", None), given("b", Some("=c"))]),
            [pair("a", ""), pair("b", "=c")]
        );
    }
}
