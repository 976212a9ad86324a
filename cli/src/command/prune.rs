//! `kiln prune`: give back the space of what nothing refers to.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use kiln_cache::{Detail, Entry, EntryKind, Limits, Policy, Store, StoreError};
use kiln_executor::images;

use crate::command::cache::{self, Filter};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::label::Label;
use crate::session::Session;

/// Remove images without a name, containers, and layers that nothing refers to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the build cache too, with its cache mounts: the next build does every step again
    #[arg(short, long)]
    all: bool,
    /// Don't ask first, which is not done without it either
    #[arg(short, long)]
    force: bool,
    /// As for `kiln cache ls`, or label=KEY[=VALUE] and label!=KEY[=VALUE] of images and containers; all else stays
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<PruneFilter>,
}

/// One condition.
#[derive(Debug, Clone)]
enum PruneFilter {
    /// Whether an image or container has a label, and with which value.
    Label { label: Label, wanted: bool },
    /// What holds of entries of all kinds.
    Entry(Filter),
}

impl FromStr for PruneFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, wanted) = match text.strip_prefix("label!=") {
            Some(label) => (Some(label), false),
            None => (text.strip_prefix("label="), true),
        };
        let Some(label) = label else {
            return text.parse().map(Self::Entry);
        };
        let label = label.into();
        Ok(Self::Label { label, wanted })
    }
}

impl PruneFilter {
    fn takes(&self, entry: &Entry, labels: &Labels) -> bool {
        match self {
            Self::Entry(filter) => filter.takes(entry),
            Self::Label { label, wanted } => labels
                .get(&entry.id)
                .is_some_and(|labels| label.is_among(labels) == *wanted),
        }
    }
}

/// The labels of images and containers, by their ids; nothing else has any.
type Labels = HashMap<String, BTreeMap<String, String>>;

/// Reads them, if a condition is about them. That has to be before the collection, for which the store is locked.
fn labels(filters: &[PruneFilter], store: &Store) -> Result<Labels, StoreError> {
    let mut labels = Labels::new();
    let is_asked = |filter: &PruneFilter| matches!(filter, PruneFilter::Label { .. });
    if !filters.iter().any(is_asked) {
        return Ok(labels);
    }
    for image in store.refs().images()? {
        // One that is damaged has none.
        let config = images::stored_config(store, &image).ok();
        labels.extend(config.map(|config| (image.config.hex().to_owned(), config.config.labels)));
    }
    for container in store.containers().list()? {
        labels.insert(container.id, container.config.labels);
    }
    Ok(labels)
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let labels = labels(&args.filters, &session.store);
    let labels = labels.map_err(|error| Failure::from_store(&error))?;
    let takes = |entry: &Entry| {
        let dangling = matches!(
            entry.kind,
            EntryKind::Image | EntryKind::Container | EntryKind::Stray
        );
        (args.all || dangling)
            && args
                .filters
                .iter()
                .all(|filter| filter.takes(entry, &labels))
    };
    let everything = args.all && args.filters.is_empty();
    let policy = Policy {
        takes: &takes,
        limits: Limits::default(),
        memory_since: everything.then(|| SystemTime::now() + Duration::from_secs(1)),
    };
    let plan = session
        .store
        .collect(&policy, Detail::Descriptions)
        .map_err(|error| Failure::from_store(&error))?
        .ok_or_else(cache::in_use)?;
    writeln!(std::io::stdout(), "Removed {}", cache::told(&plan.freed))?;
    Ok(Exit::Done)
}
