//! `kiln builds logs`: what the steps of a build printed, as `--progress=plain` shows it.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use kiln_cache::builds::LogEntry;

use super::{find, not_found};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::shown;
use crate::session::Session;

/// Show what the steps of a build printed
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
    /// One object a line, as it was kept
    Json,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let entry = find(&session.store, args.build.as_deref())?;
    let log = session.store.builds().log(&entry);
    let Some(log) = log.map_err(|error| Failure::from_store(&error))? else {
        return match session.store.builds().read(&entry) {
            // Nothing was printed: all was cached.
            Some(_) => Ok(Exit::Done),
            None => Err(not_found(args.build.as_deref())),
        };
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut last = None;
    let mut names = HashMap::new();
    for entry in log {
        if args.format == Format::Json {
            serde_json::to_writer(&mut out, &entry).map_err(io::Error::from)?;
            writeln!(out)?;
            continue;
        }
        match entry {
            LogEntry::Begun(_) => {}
            LogEntry::Started { vertex, name, .. } => {
                names.insert(vertex, name);
            }
            LogEntry::Line { vertex, text, .. } => {
                take_floor(&mut out, &mut last, vertex, &names)?;
                writeln!(
                    out,
                    "#{vertex} {}",
                    shown(text.trim_end_matches(['\r', '\n']))
                )?;
            }
            LogEntry::Ended { vertex, error, .. } => {
                if let Some(error) = error {
                    take_floor(&mut out, &mut last, vertex, &names)?;
                    writeln!(out, "#{vertex} ERROR: {}", shown(&error))?;
                }
            }
            LogEntry::Cut => writeln!(out, "(more was printed than is kept)")?,
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Says whose line comes, where another one's came before.
fn take_floor(
    out: &mut impl Write,
    last: &mut Option<u32>,
    vertex: u32,
    names: &HashMap<u32, String>,
) -> io::Result<()> {
    if *last == Some(vertex) {
        return Ok(());
    }
    if last.is_some() {
        writeln!(out)?;
    }
    *last = Some(vertex);
    let name = names.get(&vertex).map_or("", String::as_str);
    writeln!(out, "#{vertex} {}", shown(name))
}
