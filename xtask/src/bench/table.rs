//! What was measured, as a table.

use std::time::Duration;

use super::builder::Cost;

/// A row of the table: one thing to do, and what it took everybody.
pub(super) struct Row {
    pub(super) case: String,
    /// The loop that does the least there is to do, where there is one.
    pub(super) bare: Option<Cost>,
    /// As many as there are builders; nothing of one that can't do it.
    pub(super) builders: Vec<Option<Cost>>,
}

impl Row {
    pub(super) fn new(case: impl Into<String>, builders: usize) -> Self {
        Row {
            case: case.into(),
            bare: None,
            builders: vec![None; builders],
        }
    }
}

/// Keeps the better of two.
pub(super) fn improve(best: &mut Option<Cost>, other: Cost) {
    match best {
        Some(best) => best.improve(other),
        None => *best = Some(other),
    }
}

pub(super) fn print_table(names: &[&str], rows: &[Row]) {
    print!("\n{:34} {:>9}", "milliseconds", "bare");
    names.iter().for_each(|name| print!(" {name:>9}"));
    println!(" {:>10} {:>10} {:>8}", "kiln/bare", "peer/kiln", "kiln MB");
    for row in rows {
        print!("{:34} {:>9}", row.case, shown(row.bare));
        row.builders
            .iter()
            .for_each(|cost| print!(" {:>9}", shown(*cost)));
        let (kiln, peers) = row.builders.split_first().expect("kiln is always there");
        let fastest = peers.iter().flatten().min_by_key(|peer| peer.time).copied();
        let memory = kiln.map_or(0, |kiln| kiln.memory >> 20);
        println!(
            " {:>10} {:>10} {memory:>8}",
            ratio(*kiln, row.bare),
            ratio(fastest, *kiln),
        );
    }
    println!(
        "\nbare, of steps: a loop over new namespaces, an overlay mount, pivot_root and exec, and nothing else\n\
         bare, of untouched files: a walk with lstat; of other files: a tar of them with a sha256 over it"
    );
}

fn shown(cost: Option<Cost>) -> String {
    cost.map_or_else(
        || "-".to_owned(),
        |cost| match milliseconds(cost.time) {
            short if short < 100.0 => format!("{short:.1}"),
            long => format!("{long:.0}"),
        },
    )
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(one: Option<Cost>, other: Option<Cost>) -> String {
    let (Some(one), Some(other)) = (one, other) else {
        return "-".to_owned();
    };
    let ratio = one.time.as_secs_f64() / other.time.as_secs_f64().max(f64::MIN_POSITIVE);
    format!("{ratio:.2}")
}
