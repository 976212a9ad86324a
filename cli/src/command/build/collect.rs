//! Makes room in the store after a build, where the cache has grown beyond its limits.

use std::time::SystemTime;

use kiln_cache::{Budget, Store};

use super::report;
use crate::args::ProgressMode;
use crate::gc_budget::GcBudget;
use crate::human;

/// Brings the cache within its limits, and says so if anything went. That it can't is no failure of the build: it is told, and
/// the next build tries again.
pub(super) fn keep_within(
    limits: Option<GcBudget>,
    asked: bool,
    began: SystemTime,
    mode: ProgressMode,
    store: &Store,
) {
    let budget = match limits {
        Some(GcBudget::Off) => return,
        Some(GcBudget::Within(budget)) => budget,
        None => Budget::default(),
    };
    let said = match store.keep_within(&budget, began, asked) {
        Ok(None) => return,
        Ok(Some(freed)) => format!(
            "removed {} of the cache to keep within its limits\n",
            human::size(freed.bytes)
        ),
        Err(error) => format!("warning: the cache could not be kept within its limits: {error}\n"),
    };
    if report::is_for_people(mode) {
        crate::say(&said);
    }
}
