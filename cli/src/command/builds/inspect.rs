//! `kiln builds inspect`: all that is kept of a build but its log.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use kiln_cache::builds::{BuildOutcome, BuildRecord, KnownBuild, StepRecord, StepState};

use super::{find, header, ls, status};
use crate::command::explain::Picture;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::render::shown;
use crate::session::Session;

/// Show what a build was and what its steps came to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Id of the build or the beginning of it, or `^N` for the one N before the last [default: the last]
    build: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One object: the record, with the reasons and what each key was made of
    Json,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let entry = find(&session.store, args.build.as_deref())?;
    let builds = session.store.builds();
    let build = builds
        .read(&entry)
        .ok_or_else(|| Failure::new(Exit::Failed, "build-not-found", "its record is damaged"))?;
    let text = match (args.format, &build) {
        (Format::Json, _) => json(&session, &entry, &build)?,
        (Format::Text, KnownBuild::Ended(record)) => {
            let earlier = builds.before(&entry, super::super::explain::COMPARED_BUILDS);
            let picture = Picture::of(record, &earlier, &session.store);
            in_words(&build) + &steps(record, &picture)
        }
        (Format::Text, _) => in_words(&build),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn json(
    session: &Session,
    entry: &kiln_cache::builds::BuildEntry,
    build: &KnownBuild,
) -> Result<String, Failure> {
    let failed = |error: serde_json::Error| Failure::from_error(Exit::Failed, None, &error);
    let mut object = match build {
        KnownBuild::Ended(record) => serde_json::to_value(record),
        _ => serde_json::to_value(header(build)),
    }
    .map_err(failed)?;
    object["status"] = status(build).into();
    if let KnownBuild::Ended(record) = build {
        let builds = session.store.builds();
        let earlier = builds.before(entry, super::super::explain::COMPARED_BUILDS);
        let picture = Picture::of(record, &earlier, &session.store);
        for (at, step) in record.steps().iter().enumerate() {
            let target = &mut object["graph"]["steps"][at];
            if let Some(told) = picture.step(at) {
                target["reason"] = told.message.clone().into();
            }
            let preimage = step
                .key()
                .and_then(|key| session.store.actions().preimage(&key));
            if let Some(preimage) = preimage {
                target["preimage"] = serde_json::to_value(preimage.fields).map_err(failed)?;
            }
        }
    }
    Ok(format!("{object:#}\n"))
}

fn in_words(build: &KnownBuild) -> String {
    let header = header(build);
    let mut rows: Vec<(&str, String)> = vec![
        ("Build", header.id.to_string()),
        ("Name", ls::name(header)),
        ("Context", header.context.clone()),
        ("Dockerfile", header.dockerfile.clone()),
    ];
    rows.extend(header.target.clone().map(|target| ("Target", target)));
    rows.push(("Status", status(build).to_owned()));
    rows.push(("Started", header.started.to_string()));
    if let KnownBuild::Ended(record) = build {
        let took = Duration::try_from(record.ended.duration_since(header.started));
        rows.push(("Duration", human::elapsed(took.unwrap_or_default())));
        rows.extend(
            record
                .graph
                .as_ref()
                .map(|graph| ("Platform", graph.platform.clone())),
        );
        match &record.outcome {
            BuildOutcome::Done { image, others } => {
                let ids = std::iter::once(image).chain(others);
                rows.extend(ids.map(|id| ("Image", id.to_string())));
            }
            BuildOutcome::Failed { message } => rows.push(("Error", message.clone())),
            BuildOutcome::Canceled => {}
        }
    }
    let mut text = String::new();
    for (name, value) in rows {
        writeln!(
            text,
            "{:<13}{}",
            format!("{name}:"),
            shown(&value).replace('\n', " ")
        )
        .expect("writing to a string never fails");
    }
    text
}

/// A line a step: how it ended, how long it took, what it is, and below it why it was done.
fn steps(record: &BuildRecord, picture: &Picture) -> String {
    let mut text = String::from("\n");
    for (at, step) in record.steps().iter().enumerate() {
        if step.kind == "scratch" {
            continue;
        }
        let took = step
            .end
            .as_ref()
            .map(|end| Duration::from_millis(end.took_ms));
        writeln!(
            text,
            "{:<9}{:>8}  {}",
            state(step),
            took.map_or_else(String::new, human::elapsed),
            shown(&step.name).replace('\n', " ")
        )
        .expect("writing to a string never fails");
        if let Some(told) = picture.step(at).filter(|told| told.state != "hit") {
            writeln!(text, "{:19}{}", "", told.message).expect("writing to a string never fails");
        }
    }
    text
}

fn state(step: &StepRecord) -> &'static str {
    match step.end.as_ref().map(|end| &end.state) {
        None => "-",
        Some(StepState::Read) => "",
        Some(StepState::Hit { .. }) => "CACHED",
        Some(StepState::Rebuilt {
            same_output: true, ..
        }) => "SAME",
        Some(StepState::Rebuilt { .. }) => "DONE",
        Some(StepState::Failed { .. }) => "ERROR",
        Some(StepState::Canceled) => "CANCELED",
    }
}
