//! Reasons for people: a step a paragraph, each cause told once.

use std::collections::HashSet;
use std::fmt::Write;

use jiff::Timestamp;

use super::Picture;
use super::picture::Step;
use crate::human;
use crate::render::shown;

/// The steps that were done, and with `hits` the others too.
pub(super) fn of(picture: &Picture, hits: bool) -> String {
    let mut text = heading(picture);
    let mut told = HashSet::new();
    for step in &picture.steps {
        let is_done = !matches!(step.state, "hit" | "canceled");
        if is_done || hits {
            let name = shown(&step.name).replace('\n', " ");
            let line = step
                .line
                .map_or_else(String::new, |line| format!("{line}: "));
            write(&mut text, format_args!("\n{line}{name}\n"));
            write(&mut text, format_args!("    {}\n", reason(step, &mut told)));
        }
    }
    text
}

fn heading(picture: &Picture) -> String {
    let Picture { rebuilt, keyed, .. } = picture;
    let is_stopped = picture.steps.iter().any(|step| step.state == "canceled");
    let what = match (rebuilt, keyed) {
        (0, 0) => "it came to no steps".to_owned(),
        (0, _) if is_stopped => "it was stopped".to_owned(),
        (0, _) => "everything was cached".to_owned(),
        (rebuilt, keyed) if is_stopped => {
            format!("{rebuilt} of {keyed} steps were done, and it was stopped")
        }
        (rebuilt, keyed) => format!("{rebuilt} of {keyed} steps were done"),
    };
    format!(
        "Build {} of {}, {}: {what}\n",
        picture.build,
        shown(&picture.dockerfile),
        human::age(picture.started, Timestamp::now()),
    )
}

/// What was told of another step already is not told again.
fn reason(step: &Step, told: &mut HashSet<usize>) -> String {
    told.insert(step.step);
    let Some(other) = step
        .because_of
        .as_ref()
        .filter(|other| told.contains(&other.step))
    else {
        return step.message.clone();
    };
    let line = other
        .line
        .map_or_else(String::new, |line| format!(" (line {line}, above)"));
    let name = shown(&other.name).replace('\n', " ");
    let same = match step.state {
        "same-output" => "; same output, continuing from cache",
        _ => "",
    };
    let through: Vec<String> = step.through.iter().map(ToString::to_string).collect();
    match through.is_empty() {
        true => format!("because of {name}{line}{same}"),
        false => format!("{}, because of {name}{line}{same}", through.join("; ")),
    }
}

fn write(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args)
        .expect("writing to a string never fails");
}
