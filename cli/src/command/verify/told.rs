//! What is said of a build that was done again.

use std::io::Write;

use kiln_cache::builds::BuildRecord;
use kiln_executor::FileDifference;
use serde_json::Value;

use super::compare::Compared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::shown;

/// So many differences of files are listed.
const LISTED: usize = 20;

/// Says it, and how the command ends.
pub(super) fn tell(
    compared: &Compared,
    record: &BuildRecord,
    ignore_times: bool,
) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    let build = &record.header.id;
    match compared {
        Compared::Same => {
            writeln!(out, "Build {build} was done again and gave the same image")?;
            Ok(Exit::Done)
        }
        Compared::Changed { step, why } => Err(Failure::new(
            Exit::Failed,
            "changed-since",
            format!("build {build} can't be verified: what it reads has changed since"),
        )
        .note(format!("{}: {why}", shown(step).replace('\n', " ")))
        .help("bring it back to what it was, or build again and verify that")),
        Compared::Config { image, then, now } => {
            let names = differing(then.as_ref(), now.as_ref());
            let is_dates = is_dates(&names);
            if ignore_times && is_dates {
                writeln!(
                    out,
                    "Build {build} was done again and gave the same layers; only dates in the image's config differ"
                )?;
                return Ok(Exit::Done);
            }
            let which = match is_dates && !names.is_empty() {
                true => "dates in the config".to_owned(),
                false => format!("the config ({})", names.join(", ")),
            };
            let of = image.as_ref().map(|image| format!(" of {image}"));
            let of = of.unwrap_or_default();
            writeln!(
                out,
                "Build {build} was done again and gave the same layers, but another image{of}: {which}"
            )?;
            if is_dates {
                writeln!(
                    out,
                    "    built with `--reproducible` they are the same every time"
                )?;
            }
            Ok(Exit::Check)
        }
        Compared::Step { name, line, files } => {
            let line = line.map_or_else(String::new, |line| format!("{line}: "));
            let name = shown(name).replace('\n', " ");
            let is_times = files
                .as_ref()
                .is_some_and(|files| files.iter().all(FileDifference::is_time));
            if is_times && ignore_times {
                writeln!(
                    out,
                    "Build {build} was done again and gave the same files; only times differ"
                )?;
                return Ok(Exit::Done);
            }
            let what = if is_times {
                "other times"
            } else {
                "something else"
            };
            writeln!(
                out,
                "Build {build} was done again, and a step gave {what}:\n"
            )?;
            writeln!(out, "{line}{name}")?;
            match files {
                None => writeln!(out, "    its layer of then is no longer in the store")?,
                Some(files) => list(&mut out, files)?,
            }
            Ok(Exit::Check)
        }
    }
}

fn list(out: &mut impl Write, files: &[FileDifference]) -> std::io::Result<()> {
    let (times, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_time());
    for file in others.iter().chain(&times).take(LISTED) {
        writeln!(out, "    {}", shown(&file.to_string()))?;
    }
    match files.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more"),
    }
}

/// Whether configs that differ in these names differ in dates alone.
pub(super) fn is_dates(names: &[&str]) -> bool {
    let mut names = names.iter();
    names.all(|name| matches!(*name, "created" | "history"))
}

/// The names in which two configs differ.
pub(super) fn differing<'v>(then: Option<&'v Value>, now: Option<&'v Value>) -> Vec<&'v str> {
    let (Some(Value::Object(then)), Some(Value::Object(now))) = (then, now) else {
        return vec!["which is no longer in the store"];
    };
    let mut names: Vec<&str> = then.keys().chain(now.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| {
        *name != "created" && without_dates(then.get(*name)) != without_dates(now.get(*name))
    });
    if names.is_empty() {
        names = vec!["created", "history"];
    }
    names
}

/// History entries without when they were made.
fn without_dates(value: Option<&Value>) -> Option<Value> {
    match value? {
        Value::Array(entries) => {
            let mut entries = entries.clone();
            for entry in &mut entries {
                if let Value::Object(entry) = entry {
                    entry.remove("created");
                }
            }
            Some(Value::Array(entries))
        }
        other => Some(other.clone()),
    }
}
