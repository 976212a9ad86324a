//! `kiln ps`: containers that ended and were kept.

use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::ContainerRecord;
use serde::Serialize;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::render::shown;
use crate::session::Session;

/// Commands are shortened to this many characters.
const COMMAND_WIDTH: usize = 20;

/// List containers. They run in the foreground, so these are the ones that ended and were not run with `--rm`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all, which is done without it too
    #[arg(short, long)]
    all: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show only the latest
    #[arg(short, long)]
    latest: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
}

/// A line of the list, with Docker's names for its fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    command: String,
    created_at: String,
    #[serde(rename = "ID")]
    id: String,
    image: String,
    names: String,
    running_for: String,
    state: &'static str,
    status: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let containers = session.store.containers().list();
    let mut containers = containers.map_err(|error| Failure::from_store(&error))?;
    if args.latest {
        containers.truncate(1);
    }
    let rows = containers.iter().map(|container| row(args, container));
    let mut out = io::stdout().lock();
    match args.quiet {
        true => {
            for row in rows {
                writeln!(out, "{}", row.id)?;
            }
        }
        false => format::print(&args.format, &COLUMNS, rows, &mut out)?,
    }
    Ok(Exit::Done)
}

fn row(args: &Args, container: &ContainerRecord) -> Row {
    let now = Timestamp::now();
    let command = container.argv.join(" ");
    let command = match command.chars().count() > COMMAND_WIDTH && !args.no_trunc {
        true => command
            .chars()
            .take(COMMAND_WIDTH - 1)
            .chain(['…'])
            .collect(),
        false => command,
    };
    Row {
        command: format!("\"{command}\""),
        created_at: container
            .started
            .strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
            .to_string(),
        id: match args.no_trunc {
            true => container.id.clone(),
            false => container.id.chars().take(12).collect(),
        },
        image: container.image_name.clone(),
        names: container.name.clone(),
        running_for: human::age(container.started, now),
        state: "exited",
        status: format!(
            "Exited ({}) {}",
            container.status,
            human::age(container.ended, now)
        ),
    }
}

const COLUMNS: [Column<Row>; 6] = [
    Column::new("CONTAINER ID", "ID", |row| row.id.clone()),
    Column::new("IMAGE", "Image", |row| row.image.clone()),
    Column::new("COMMAND", "Command", |row| shown(&row.command)),
    Column::new("CREATED", "RunningFor", |row| row.running_for.clone()),
    Column::new("STATUS", "Status", |row| row.status.clone()),
    Column::new("NAMES", "Names", |row| row.names.clone()),
];
