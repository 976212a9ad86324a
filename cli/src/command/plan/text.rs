//! A plan for people: tables of stages, arguments and images, then the steps with why each would be done.

use std::fmt::Write;

use super::picture::{Argument, Image, NeededBy, Picture, Stage, Step, printable};
use crate::table::Table;

/// The whole text.
pub(super) fn of(picture: &Picture) -> String {
    let mut sections = vec![
        head(picture),
        table(&["STAGE", "FROM", "NEEDED BY"], &picture.stages, stage_row),
    ];
    if !picture.arguments.is_empty() {
        let heading = ["ARG", "VALUE", "FROM", "SCOPE"];
        sections.push(table(&heading, &picture.arguments, argument_row));
    }
    if !picture.images.is_empty() {
        let heading = ["IMAGE", "PLATFORM", "LAYERS", "DIGEST"];
        sections.push(table(&heading, &picture.images, image_row));
    }
    sections.push(steps(&picture.steps));
    sections.join("\n")
}

fn head(picture: &Picture) -> String {
    let mut text = format!(
        "{} of {} for {}\n",
        printable(&picture.target),
        printable(&picture.dockerfile),
        picture.platform
    );
    for name in &picture.unused_build_args {
        line(
            &mut text,
            format_args!("no ARG declares build argument {}", printable(name)),
        );
    }
    text
}

fn table<T>(heading: &[&str], rows: &[T], row: impl Fn(&T) -> Vec<String>) -> String {
    let mut table = Table::new(heading);
    rows.iter().for_each(|one| table.row(row(one)));
    table.to_string()
}

fn stage_row(stage: &Stage) -> Vec<String> {
    let needed_by = match stage.needed_by.as_slice() {
        [] => "nothing: left out".to_owned(),
        needs => needs.iter().map(need).collect::<Vec<_>>().join(", "),
    };
    vec![stage.name.clone(), printable(&stage.base), needed_by]
}

fn need(need: &NeededBy) -> String {
    let (Some(stage), Some(line)) = (&need.stage, need.line) else {
        return "it is the target".to_owned();
    };
    let how = match need.reason {
        "base" => "FROM",
        "mount" => "RUN --mount",
        _ => "COPY --from",
    };
    format!("{stage} ({how}, line {line})")
}

fn argument_row(argument: &Argument) -> Vec<String> {
    let origin = match argument.origin {
        "build-arg" => "--build-arg",
        "global" => "global ARG",
        "environment" => "ENV, ARG or base above",
        "unset" => "nowhere",
        origin => origin,
    };
    let scope = argument.stage.as_deref().unwrap_or("global");
    vec![
        printable(&argument.name),
        argument
            .value
            .as_deref()
            .map_or_else(|| "-".to_owned(), printable),
        origin.to_owned(),
        format!("{scope}, line {}", argument.line),
    ]
}

fn image_row(image: &Image) -> Vec<String> {
    vec![
        image.name.clone(),
        image.platform.clone(),
        image.layers.to_string(),
        image
            .digest
            .clone()
            .unwrap_or_else(|| "made here".to_owned()),
    ]
}

fn steps(steps: &[Step]) -> String {
    let mut text = "STEPS\n".to_owned();
    let digits = steps.len().to_string().len();
    for step in steps {
        let state = step.state.unwrap_or("source");
        let name = printable(&step.name);
        line(
            &mut text,
            format_args!("{:>digits$}  {state:<7}  {name}", step.id),
        );
        let about = about(step);
        if !about.is_empty() {
            line(&mut text, format_args!("{:digits$}           {about}", ""));
        }
    }
    let count = |state| {
        steps
            .iter()
            .filter(|step| step.state == Some(state))
            .count()
    };
    let (hits, misses, unknown) = (count("hit"), count("miss"), count("unknown"));
    line(
        &mut text,
        format_args!("\n{hits} cached, {misses} to do, {unknown} not known yet"),
    );
    text
}

/// What it reads, and why it is not cached.
fn about(step: &Step) -> String {
    let mut about = Vec::new();
    if !step.inputs.is_empty() {
        let inputs: Vec<_> = step.inputs.iter().map(ToString::to_string).collect();
        about.push(format!("{} over {}", step.kind, inputs.join(", ")));
    }
    about.extend(step.reason.as_deref().map(printable));
    about.extend(step.waits_for.map(|other| format!("waits for {other}")));
    about.join("; ")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string never fails");
}
