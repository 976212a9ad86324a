//! A build's place in the history: what is known of it before, and what is written and told at its end.

use std::path::Path;

use kiln_cache::builds::{BuildHeader, BuildOutcome, Invocation};
use kiln_cache::key::is_secret;
use kiln_executor::{Journal, Product, Redactor, Secrets};
use kiln_parser::{Severity, Source};
use kiln_planner::PlanOptions;

use super::results::Results;
use super::{Args, report};
use crate::args::ProgressMode;
use crate::command::explain;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::{Failure, Report, causes};
use crate::recorder::{self, Recorder};
use crate::render;

/// A longer Dockerfile is not kept with its build, in bytes.
const LONGEST_DOCKERFILE: usize = 256 << 10;

/// What is known before.
pub(super) fn header(args: &Args) -> BuildHeader {
    let context = &args.recipe.context;
    let dockerfile = match &args.recipe.file {
        Some(file) if file.exists() => file.clone(),
        Some(file) if context.is_dir() => file.clone(),
        Some(file) => context.join(file),
        None => explain::default_dockerfile(context),
    };
    let tags = args.tags.iter().map(|tag| tag.name.familiar());
    let targets = args.recipe.each_target().join(",");
    recorder::header(
        context,
        Path::new(&dockerfile),
        Some(targets.as_str()).filter(|targets| !targets.is_empty()),
        tags.collect(),
    )
}

/// How the build was asked for: what was typed but for the build arguments, whose values are those they came to have.
pub(super) fn invocation(options: &PlanOptions, source: &Source) -> Invocation {
    let directory = std::env::current_dir().unwrap_or_default();
    let typed = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let value = |(name, value): &(String, String)| {
        let value = (!is_secret(name, value)).then(|| value.clone());
        (name.clone(), value)
    };
    Invocation {
        directory: directory.to_string_lossy().into_owned(),
        words: without_build_args(typed),
        build_args: options.build_args.iter().map(value).collect(),
        dockerfile: Some(source.text().to_owned()).filter(|text| text.len() <= LONGEST_DOCKERFILE),
    }
}

/// What comes after `build`, without what is told otherwise or is about caches.
fn without_build_args(typed: impl Iterator<Item = String>) -> Vec<String> {
    let mut words = typed.skip_while(|word| word != "build").skip(1);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" => {
                kept.push(word);
                kept.extend(words.by_ref());
            }
            "--build-arg" => drop(words.next()),
            _ if word.starts_with("--build-arg=") => {}
            // Where the cache is doesn't change what is made; the key to a bucket is nobody's business.
            "--cache-to" | "--cache-from" => drop(words.next()),
            _ if is_cache(&word) => {}
            _ => kept.push(word),
        }
    }
    kept
}

fn is_cache(word: &str) -> bool {
    ["--cache-to=", "--cache-from="]
        .iter()
        .any(|flag| word.starts_with(flag))
}

/// Makes what hides secrets, and build arguments that are some by their names or values.
pub(super) fn redactor(
    secrets: &Secrets,
    options: &PlanOptions,
) -> impl Fn() -> Redactor + Send + Sync + 'static {
    let secrets = secrets.clone();
    let arguments = options.build_args.iter();
    let arguments = arguments.filter(|(name, value)| is_secret(name, value));
    let values: Vec<String> = arguments.map(|(_, value)| value.clone()).collect();
    move || Redactor::new(&secrets, values.iter().cloned())
}

/// Writes what came of the build, and says why its steps were done if that is asked for.
pub(super) fn keep(
    recorder: Recorder<'_>,
    journal: Journal,
    result: &Result<(Vec<Product>, Vec<Results>), Failure>,
    explained: Option<explain::Format>,
    mode: ProgressMode,
    config: &Config,
) -> Result<(), Failure> {
    let outcome = match result {
        Ok((products, results)) => {
            let of_each = products.iter().zip(results);
            let mut ids = of_each.flat_map(|(product, results)| results.image_ids(product));
            BuildOutcome::Done {
                image: ids.next().unwrap_or(products[0].first().id),
                others: ids.collect(),
            }
        }
        Err(failure) if matches!(failure.exit, Exit::Signal(_)) => BuildOutcome::Canceled,
        Err(failure) => BuildOutcome::Failed {
            message: failure
                .reports
                .first()
                .map_or_else(String::new, |report| report.message.clone()),
        },
    };
    let store = recorder.store();
    let earlier = explained.map(|_| recorder.earlier(explain::COMPARED_BUILDS));
    let (record, written) = recorder.finish(journal, outcome);
    if let Err(error) = written
        && report::is_for_people(mode)
    {
        let warning = Report {
            severity: Severity::Warning,
            causes: causes(&error),
            ..Report::error(None, format!("the build is not in the history: {error}"))
        };
        crate::say(&render::reports(&[warning], config.color));
    }
    if let (Some(format), Some(earlier)) = (explained, earlier) {
        let text = explain::after_build(&record, &earlier, store, format)?;
        match format {
            explain::Format::Text => crate::say(&text),
            _ => std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?,
        }
    }
    Ok(())
}
