//! `kiln builds ls`: one line a build, the newest first.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use kiln_cache::builds::{BuildEntry, KnownBuild, StepState};
use serde::Serialize;

use super::{all, header, record, status};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::render::shown;
use crate::session::Session;

/// List builds
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    context: String,
    dockerfile: String,
    target: String,
    tags: Vec<String>,
    status: &'static str,
    created_at: String,
    created_since: String,
    /// In seconds; none while it is running.
    duration: Option<f64>,
    steps: usize,
    cached: usize,
    image: Option<String>,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let mut entries = all(&session.store)?;
    entries.reverse();
    let mut out = io::stdout().lock();
    if args.quiet {
        let mut ids = entries.iter().map(BuildEntry::id);
        ids.try_for_each(|id| writeln!(out, "{id}"))?;
        return Ok(Exit::Done);
    }
    let builds = entries
        .iter()
        .filter_map(|entry| session.store.builds().read(entry));
    let rows = builds.map(|build| Row::of(&build));
    format::print(&args.format, &COLUMNS, rows, &mut out)?;
    Ok(Exit::Done)
}

impl Row {
    fn of(build: &KnownBuild) -> Self {
        let header = header(build);
        let record = record(build);
        let steps = record.map_or(&[][..], |record| record.steps());
        let ends = || steps.iter().filter_map(|step| step.end.as_ref());
        let is_cached = |state: &StepState| matches!(state, StepState::Hit { .. });
        let keyed = ends().filter(|end| !matches!(end.state, StepState::Read));
        Self {
            id: header.id.to_string(),
            name: name(header),
            context: header.context.clone(),
            dockerfile: header.dockerfile.clone(),
            target: header.target.clone().unwrap_or_default(),
            tags: header.tags.clone(),
            status: status(build),
            created_at: header.started.to_string(),
            created_since: human::age(header.started, Timestamp::now()),
            duration: record.map(|record| {
                let span = record.ended.duration_since(header.started);
                Duration::try_from(span).unwrap_or_default().as_secs_f64()
            }),
            steps: keyed.count(),
            cached: ends().filter(|end| is_cached(&end.state)).count(),
            image: record.and_then(|record| match &record.outcome {
                kiln_cache::builds::BuildOutcome::Done { image, .. } => Some(image.to_string()),
                _ => None,
            }),
        }
    }
}

/// What a person would call it: its first tag, else its context's last name; with the target.
pub(super) fn name(header: &kiln_cache::builds::BuildHeader) -> String {
    let folder = header.context.rsplit('/').find(|part| !part.is_empty());
    let name = match header.tags.first() {
        Some(tag) => tag.clone(),
        None => folder.unwrap_or("-").to_owned(),
    };
    match &header.target {
        Some(target) => format!("{name} ({target})"),
        None => name,
    }
}

const COLUMNS: [Column<Row>; 6] = [
    Column::new("BUILD ID", "ID", |row| row.id.clone()),
    Column::new("NAME", "Name", |row| shown(&row.name)),
    Column::new("STATUS", "Status", |row| row.status.to_owned()),
    Column::new("CREATED", "CreatedSince", |row| row.created_since.clone()),
    Column::new("DURATION", "Duration", |row| {
        let duration = row.duration.map(Duration::from_secs_f64);
        duration.map_or_else(String::new, human::elapsed)
    }),
    Column::new("CACHED", "Cached", |row| {
        format!("{}/{}", row.cached, row.steps)
    }),
];
