//! `kiln check`, `kiln build --check`: what a Dockerfile says that is likely not meant. Clauses R-CHK-1..9.

mod buildkit;
pub(super) mod github;
mod json;
mod sarif;
mod text;

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use kiln_executor::attest::Attest;
use kiln_executor::event::Reporter;
use kiln_executor::images::PullPolicy;
use kiln_executor::{BuildError, BuildRequest, Secrets, StepOptions, resolve_known_bases};
use kiln_image::Platform;
use kiln_parser::{Diagnostic, Parsed, Severity, Source};
use kiln_planner::lint::{self, CheckConfig, ContextView, Finding, Subject};
use kiln_planner::{Bases, PlanOptions, survey};
use tempfile::NamedTempFile;

use crate::args::{KeyValue, ProgressMode};
use crate::build_context::{self, BuildContext};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::{Failure, Report};
use crate::input::{Input, Wanted};
use crate::recipe::{self, Recipe};
use crate::session::{LazySession, Session};

/// Check a Dockerfile without building it
///
/// Exit code 5 tells of warnings, 2 of errors; advice alone is 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Dockerfile, `-` for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Stage to check, with those it needs [default: all]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Value of an ARG; KEY alone takes it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    build_args: Vec<KeyValue>,
    /// Platform to check for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Folder, image or layout that a name in the Dockerfile stands for, as for a build; may be repeated
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    build_contexts: Vec<BuildContext>,
    /// How to print what is found
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Change the Dockerfile where that is mechanical
    #[arg(long)]
    fix: bool,
    /// Ask no registry about base images
    #[arg(long)]
    offline: bool,
    /// Print what a rule is about
    #[arg(long, value_name = "RULE", exclusive = true)]
    explain: Option<String>,
    /// Folder that COPY and ADD take files from, or `-` as for a build
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: PathBuf,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// The object that BuildKit gives
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub's workflows
    Github,
}

/// All that was found.
struct Checked {
    source: Arc<Source>,
    findings: Vec<Finding>,
    /// What keeps the Dockerfile from being built.
    errors: Vec<Diagnostic>,
    /// Base images that could not be had.
    unresolved: Vec<BuildError>,
    /// Why there is no store to look for base images in.
    unopened: Option<Failure>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    if let Some(rule) = &args.explain {
        return explain(rule);
    }
    let machine = Platform::host();
    let platform = args.platform.clone();
    let mut options = PlanOptions::new(platform.clone().unwrap_or_else(|| machine.clone()));
    options.target = args.target.clone();
    options.build_args = recipe::build_args(&args.build_args, |name| config.variable(name));
    options.contexts = build_context::kinds(&args.build_contexts);
    options.platform_requested = platform.is_some();
    options.build_platform = machine;
    let wanted = Wanted {
        context: &args.context,
        file: args.file.as_deref(),
        named: &args.build_contexts,
        progress: ProgressMode::None,
        secrets: &Secrets::default(),
        keep_git_dir: recipe::keeps_git_dir(&args.build_args),
        has_epoch: false,
        session: &LazySession::new(|| Session::open_with_files(config, None)),
    };
    let request = Request {
        input: Input::read(&wanted)?,
        options,
        pull: PullPolicy::Missing,
        offline: args.offline,
        fix: args.fix,
    };
    let checked = request.check(config)?;
    // Who asks no registry knows that some images are not known.
    let failed = checked.unresolved.iter().map(|error| &error.cause);
    let failed = failed.map(|cause| not_looked_up(&format!("a base image is not known: {cause}")));
    let unopened = checked.unopened.iter().flat_map(|failure| &failure.reports);
    let unopened = unopened
        .map(|report| not_looked_up(&format!("base images are not known: {}", report.message)));
    for report in failed.chain(unopened).filter(|_| !args.offline) {
        crate::say(&crate::render::reports(&[report], config.color));
    }
    print(&checked, args.format, config)?;
    checked.verdict(Exit::Check, checked.warnings())
}

/// `kiln build --check`, as buildx does it: output and exit code are BuildKit's, and a base image that can't be had is an error, as
/// in a build.
pub(crate) fn run_for_build(
    recipe: &Recipe,
    secrets: &Secrets,
    json: bool,
    session: &LazySession<'_>,
    config: &Config,
) -> Result<Exit, Failure> {
    let request = Request {
        input: recipe.read(secrets, ProgressMode::None, session, config)?,
        options: recipe.plan_options(config),
        pull: recipe.pull_policy(),
        offline: false,
        fix: false,
    };
    let mut checked = request.check(config)?;
    if let Some(failure) = checked.unopened.take() {
        return Err(failure); // the build could not be
    }
    let text = match json {
        true => json::buildkit(&checked),
        false => buildkit::buildkit(&checked),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    match checked.unresolved.first() {
        Some(error) if checked.errors.is_empty() => {
            Err(Failure::from_build_error(Some(&checked.source), error))
        }
        // R-CHK-6, R-CLI-8
        _ => checked.verdict(Exit::Failed, checked.by_origin().0.len()),
    }
}

/// What to check, and how.
struct Request {
    input: Input,
    options: PlanOptions,
    pull: PullPolicy,
    offline: bool,
    fix: bool,
}

impl Request {
    fn check(mut self, config: &Config) -> Result<Checked, Failure> {
        // R-CHK-5
        self.options.all_stages = self.options.target.is_none();
        let mut source = Arc::clone(&self.input.dockerfile);
        let mut parsed = kiln_parser::parse(&source);
        let rules = rules(&parsed, &self.options)?;
        let mut unopened = None;
        let (bases, unresolved) = match self.bases(&source, &parsed, config) {
            Ok(known) => known,
            // A check needs no store; it only knows less.
            Err(failure) => {
                unopened = Some(failure);
                (Bases::new(), Vec::new())
            }
        };
        let visible = self.input.visible_names();
        let context = ContextView {
            ignore: &self.input.ignore,
            visible: &visible,
        };
        if self.fix && !self.input.is_file {
            return Err(Failure::usage(
                "only a Dockerfile that is a file here can be fixed; name one with `-f`",
            ));
        }
        if self.fix {
            let fixed = lint::fix_all(&source, &self.options, &bases, Some(context), &rules);
            source = write_fixed(&source, fixed)?;
            parsed = kiln_parser::parse(&source);
        }
        let survey = survey(&parsed, &self.options, &bases);
        let subject = Subject::new(&source, &parsed, &survey, Some(context));
        let findings = lint::check(&subject, &rules);
        let told = parsed.diagnostics.iter().chain(&survey.diagnostics);
        let errors = told.filter(|told| told.is_error()).cloned().collect();
        Ok(Checked {
            source,
            findings,
            errors,
            unresolved,
            unopened,
        })
    }

    /// The base images, as far as they can be had.
    fn bases(
        &self,
        source: &Source,
        parsed: &Parsed,
        config: &Config,
    ) -> Result<(Bases, Vec<BuildError>), Failure> {
        if parsed.has_errors() {
            return Ok((Bases::new(), Vec::new()));
        }
        let session = Session::open(config)?;
        let request = BuildRequest {
            source,
            parsed,
            images: vec![self.options.clone()],
            contexts: self.input.contexts.clone(),
            pull: self.pull,
            steps: StepOptions::default(),
            inline_cache: false,
            attest: Attest::default(),
            journal: None,
        };
        let silent = |_| {};
        let reporter = Reporter::new(&silent);
        let services = session.services()?;
        Ok(resolve_known_bases(
            &request,
            self.offline,
            &services,
            &reporter,
        ))
    }
}

impl Checked {
    fn warnings(&self) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.rule.severity == Severity::Warning)
            .count()
    }

    /// The findings of BuildKit's rules, by line, and those of kiln's own.
    fn by_origin(&self) -> (Vec<&Finding>, Vec<&Finding>) {
        self.findings
            .iter()
            .partition(|finding| finding.rule.is_buildkit())
    }

    /// What the command ends with, which is `found` when there are warnings.
    fn verdict(&self, found: Exit, warnings: usize) -> Result<Exit, Failure> {
        if !self.errors.is_empty() {
            let failure = Failure::from_diagnostics(Exit::Usage, &self.source, &self.errors);
            return Err(failure);
        }
        Ok(match warnings {
            0 => Exit::Done,
            _ => found,
        })
    }
}

/// The first line of what people read.
fn verdict(warnings: usize) -> String {
    match warnings {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        several => format!("Check complete, {several} warnings have been found!\n"),
    }
}

/// What the file and the build argument say about checks (R-CHK-2).
pub(super) fn rules(parsed: &Parsed, options: &PlanOptions) -> Result<CheckConfig, Failure> {
    const NAME: &str = "BUILDKIT_DOCKERFILE_CHECK";
    CheckConfig::of(&parsed.dockerfile, options.build_arg(NAME)).map_err(|problem| {
        Failure::usage(format!("the build argument `{NAME}` is wrong: {problem}"))
    })
}

fn write_fixed(source: &Source, fixed: String) -> Result<Arc<Source>, Failure> {
    let path = Path::new(source.name());
    let bytes = std::fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
    if bytes != source.text().as_bytes() {
        return Err(Failure::usage(format!(
            "`{}` is not valid UTF-8, or it changed just now; it was left as it is",
            source.name()
        )));
    }
    if fixed != source.text() {
        replace(path, &fixed).map_err(|error| Failure::unwritable(path, &error))?;
        crate::say(&format!("mended `{}`\n", source.name()));
    }
    Ok(Arc::new(Source::new(source.name(), fixed)))
}

/// Gives a file other content, whole or not at all; it keeps its mode and owner, and a link to it stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let metadata = path.metadata()?;
    let mut new = NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    new.write_all(text.as_bytes())?;
    if (metadata.uid(), metadata.gid()) != owner(&new)? {
        fchown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    new.as_file().set_permissions(metadata.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    Ok(())
}

fn owner(file: &NamedTempFile) -> io::Result<(u32, u32)> {
    let metadata = file.as_file().metadata()?;
    Ok((metadata.uid(), metadata.gid()))
}

fn not_looked_up(why: &str) -> Report {
    Report {
        severity: Severity::Advice,
        notes: vec!["checks that depend on what the image sets say nothing".to_owned()],
        ..Report::error(None, why)
    }
}

fn print(checked: &Checked, format: Format, config: &Config) -> Result<(), Failure> {
    let text = match format {
        Format::Text => text::text(checked, config.colors_stdout()),
        Format::Json => json::json(checked),
        Format::Sarif => sarif::sarif(checked),
        Format::Github => github::github(checked),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn explain(name: &str) -> Result<Exit, Failure> {
    let Some(rule) = lint::find(name) else {
        let ids = lint::rules().iter().map(|rule| rule.id);
        let failure = Failure::usage(format!("there is no rule `{name}`"));
        return Err(match kiln_parser::suggest(name, ids.clone()) {
            Some(near) => failure.help(format!("did you mean `{near}`?")),
            None => failure.help(format!(
                "the rules are {}",
                ids.collect::<Vec<_>>().join(", ")
            )),
        });
    };
    std::io::stdout().write_all(rule.page.as_bytes())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_counts() {
        // R-CHK-6
        assert_eq!(verdict(0), "Check complete, no warnings found.\n");
        assert_eq!(verdict(1), "Check complete, 1 warning has been found!\n");
        assert_eq!(verdict(2), "Check complete, 2 warnings have been found!\n");
    }
}
