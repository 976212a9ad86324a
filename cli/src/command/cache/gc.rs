//! `kiln cache gc`: remove what has not been used for longest, as far as limits ask for it.

use std::io::{self, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use kiln_cache::{Budget, Detail, Entry, Plan, Policy, Verdict, budget};
use serde::Serialize;

use super::Filter;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, FORMAT_HELP, Format};
use crate::gc_budget::{GcBudget, Share};
use crate::human;
use crate::quantity::Span;
use crate::session::Session;
use crate::table::Table;

/// Remove what was not used for longest, until the limits are kept; without limits those of KILN_GC, or the ones that builds keep
/// to by themselves. Images with a name and what is in use stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep what was used within this time
    #[arg(long, value_name = "DURATION")]
    keep_duration: Option<Span>,
    /// Keep so much in any case; the only limit on space, or the least that others leave: 10g, 20%
    #[arg(long, value_name = "SIZE")]
    keep_storage: Option<Share>,
    /// Take no more space than this: 50g, 30%
    #[arg(long, value_name = "SIZE")]
    max_used: Option<Share>,
    /// Leave so much of the disk free: 20g, 10%
    #[arg(long, value_name = "SIZE")]
    min_free: Option<Share>,
    /// As for `kiln cache ls`; all else stays
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Remove nothing, say what would go and what would stay, and why
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type")]
    kind: &'static str,
    description: &'a str,
    /// Bytes.
    size: u64,
    last_used_at: Timestamp,
    removed: bool,
    reason: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let budget = args.budget(config)?;
    let session = Session::open_with_files(config, None)?;
    let store = &session.store;
    let takes = |entry: &Entry| Filter::all_take(&args.filters, entry);
    let disk = store.disk().map_err(|error| Failure::from_store(&error))?;
    let policy = Policy {
        takes: &takes,
        limits: budget.on(disk),
        memory_since: Some(budget::memory_limit(SystemTime::now())),
    };
    let plan = match args.dry_run {
        true => store
            .plan_collection(&policy, Detail::Descriptions)
            .map(Some),
        false => store.collect(&policy, Detail::Descriptions),
    };
    let plan = plan
        .map_err(|error| Failure::from_store(&error))?
        .ok_or_else(super::in_use)?;
    args.print(&plan, &mut io::stdout().lock())?;
    Ok(Exit::Done)
}

impl Args {
    fn budget(&self, config: &Config) -> Result<Budget, Failure> {
        let given = Budget {
            keep_duration: self.keep_duration.map(|span| span.0),
            keep_storage: self.keep_storage.map(|share| share.0),
            max_used: self.max_used.map(|share| share.0),
            min_free: self.min_free.map(|share| share.0),
        };
        if given != NOTHING {
            return Ok(given);
        }
        Ok(match config.gc(None)? {
            Some(GcBudget::Within(budget)) => budget,
            Some(GcBudget::Off) | None => Budget::default(),
        })
    }

    /// A dry run tells of everything, a real one of what went.
    fn print(&self, plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
        let entries = plan.inventory.entries.iter().zip(&plan.verdicts);
        let mut told: Vec<_> = entries
            .filter(|(_, verdict)| self.dry_run || verdict.removes())
            .collect();
        told.sort_by_key(|(entry, verdict)| (!verdict.removes(), entry.last_used));
        match &self.format {
            format @ (Format::Json | Format::Template(_) | Format::TableOf(_)) => {
                let rows = told.iter().map(|(entry, verdict)| row(entry, **verdict));
                format::print(format, &[], rows, out)
            }
            Format::Table => {
                if !told.is_empty() {
                    table(&told).write(out)?;
                }
                let done = if self.dry_run {
                    "Would remove"
                } else {
                    "Removed"
                };
                let words = super::told(&plan.freed);
                let words = match self.dry_run {
                    true => words.replace("Reclaimed", "Would reclaim"),
                    false => words,
                };
                Ok(writeln!(out, "{done} {words}")?)
            }
        }
    }
}

const NOTHING: Budget = Budget {
    keep_duration: None,
    keep_storage: None,
    max_used: None,
    min_free: None,
};

fn row(entry: &Entry, verdict: Verdict) -> Row<'_> {
    Row {
        id: &entry.id,
        kind: entry.kind.name(),
        description: &entry.description,
        size: entry.size,
        last_used_at: super::last_used(entry),
        removed: verdict.removes(),
        reason: reason(verdict),
    }
}

fn table(told: &[(&Entry, &Verdict)]) -> Table {
    let mut table = Table::new(&["ID", "TYPE", "SIZE", "", "REASON", "DESCRIPTION"]);
    for (entry, verdict) in told {
        let goes = if verdict.removes() { "remove" } else { "keep" };
        table.row([
            super::id(entry, false),
            entry.kind.name().to_owned(),
            human::size(entry.size),
            goes.to_owned(),
            reason(**verdict),
            super::shortened(&entry.description, false),
        ]);
    }
    table
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Named => "it has a name".to_owned(),
        Verdict::InUse => "something that runs uses it".to_owned(),
        Verdict::NotAsked => "the filter leaves it out".to_owned(),
        Verdict::Recent(age) => format!("used {}", ago(age)),
        Verdict::Fits => "within the limits".to_owned(),
        Verdict::Unreferenced => "nothing refers to it".to_owned(),
        Verdict::Asked => "no limit keeps it".to_owned(),
        Verdict::Old(age) => format!("last used {}", ago(age)),
        Verdict::TooMuch { used, limit } => {
            format!("{} used of {}", human::size(used), human::size(limit))
        }
    }
}

fn ago(age: std::time::Duration) -> String {
    let now = Timestamp::now();
    let then = now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
    human::age(then, now).to_lowercase()
}
