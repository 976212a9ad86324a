//! `--call`: what to do with a Dockerfile besides building it (R-CLI-7).

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use kiln_parser::{Source, Span};
use kiln_planner::{Outline, OutlineMount, PlanOptions, Target, outline, targets};
use serde_json::{Value, json};

use super::plan::parse;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;

/// The value of `--call` of `kiln build`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Make the image.
    Build,
    /// Look for what is likely not meant (R-CHK).
    Check {
        /// `format=json`
        json: bool,
    },
    /// Answer a question.
    Print(Question),
}

/// Something smaller than a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) about: About,
    /// `format=json`
    pub(crate) json: bool,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// What the target takes from outside.
    Outline,
    /// What can be built.
    Targets,
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match fields(text)? {
            ("build", _) => Ok(Self::Build),
            ("check", json) => Ok(Self::Check { json }),
            ("outline" | "targets", _) => text.parse().map(Self::Print),
            _ => Err("it is one of build, check, outline, targets".to_owned()),
        }
    }
}

impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, json) = fields(text)?;
        let about = match name {
            "outline" => About::Outline,
            "targets" => About::Targets,
            _ => return Err("it is one of outline, targets".to_owned()),
        };
        Ok(Self { about, json })
    }
}

/// The method's name, and whether JSON is wanted.
fn fields(text: &str) -> Result<(&str, bool), String> {
    let mut fields = text.split(',');
    let name = fields.next().unwrap_or_default();
    let mut json = false;
    for field in fields {
        json = match field {
            "format=json" => true,
            "format=text" => false,
            _ => {
                return Err(format!(
                    "`{field}` is neither `format=json` nor `format=text`"
                ));
            }
        };
    }
    Ok((name.strip_prefix("method=").unwrap_or(name), json))
}

/// Prints the answer.
pub(crate) fn run(
    question: Question,
    source: &Arc<Source>,
    options: &PlanOptions,
) -> Result<Exit, Failure> {
    let parsed = parse(source)?;
    let text = match question.about {
        About::Targets => {
            let targets = targets(&parsed.dockerfile);
            match question.json {
                true => document(&targets_json(&targets, source)),
                false => targets_text(&targets),
            }
        }
        About::Outline => {
            let outline = outline(&parsed, options)
                .map_err(|errors| Failure::from_diagnostics(Exit::Usage, source, &errors))?;
            match question.json {
                true => document(&outline_json(&outline, source)),
                false => outline_text(&outline),
            }
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Only stages with a name, and the last one, can be asked for (R-STG-1).
fn targets_text(targets: &[Target]) -> String {
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]).without_minimum();
    for target in targets {
        let name = match (&target.name, target.is_default) {
            (Some(name), false) => name.clone(),
            (Some(name), true) => format!("{name} (default)"),
            (None, true) => "(default)".to_owned(),
            (None, false) => continue,
        };
        table.row([name, target.description.clone().unwrap_or_default()]);
    }
    table.to_string()
}

fn targets_json(targets: &[Target], source: &Source) -> Value {
    let target = |target: &Target| {
        without_nulls(json!({
            "name": target.name,
            "default": target.is_default.then_some(true),
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "line": source.line_of(target.span),
        }))
    };
    json!({ "targets": targets.iter().map(target).collect::<Vec<_>>() })
}

fn outline_text(outline: &Outline) -> String {
    let name = outline.name.as_deref().unwrap_or("(default)");
    let mut sections = vec![match &outline.description {
        Some(description) => format!("TARGET:        {name}\nDESCRIPTION:   {description}\n"),
        None => format!("TARGET:   {name}\n"),
    }];
    if !outline.arguments.is_empty() {
        let mut table = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]).without_minimum();
        for argument in &outline.arguments {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            table.row([
                argument.name.clone(),
                text(&argument.value),
                text(&argument.description),
            ]);
        }
        sections.push(table.to_string());
    }
    for (heading, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            sections.push(mounts_text(heading, mounts));
        }
    }
    sections.join("\n")
}

fn mounts_text(heading: &str, mounts: &[OutlineMount]) -> String {
    let mut table = Table::new(&[heading, "REQUIRED"]).without_minimum();
    for mount in mounts {
        let required = if mount.required { "true" } else { "" };
        table.row([mount.name.clone(), required.to_owned()]);
    }
    table.to_string()
}

fn outline_json(outline: &Outline, source: &Source) -> Value {
    let line = |span: Option<Span>| span.map(|span| source.line_of(span));
    let mounts = |mounts: &[OutlineMount]| -> Value {
        let mount = |mount: &OutlineMount| {
            without_nulls(json!({
                "name": mount.name,
                "required": mount.required.then_some(true),
                "line": line(mount.span),
            }))
        };
        mounts.iter().map(mount).collect()
    };
    let arguments = outline.arguments.iter().map(|argument| {
        without_nulls(json!({
            "name": argument.name,
            "value": argument.value,
            "description": argument.description,
            "line": line(Some(argument.span)),
        }))
    });
    without_nulls(json!({
        "name": outline.name,
        "description": outline.description,
        "args": arguments.collect::<Vec<_>>(),
        "secrets": mounts(&outline.secrets),
        "ssh": mounts(&outline.ssh),
    }))
}

/// An object without the fields that have nothing to say.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_buildx_reads_them() {
        // R-CLI-4, R-CLI-7
        let print = |about, json| Question { about, json };
        let outline = print(About::Outline, false);
        let targets = print(About::Targets, true);
        assert_eq!("build".parse(), Ok(Call::Build));
        let check = Call::Check { json: true };
        assert_eq!("check,format=json".parse(), Ok(check));
        assert_eq!("outline".parse(), Ok(Call::Print(outline)));
        assert_eq!("method=outline".parse(), Ok(outline));
        assert_eq!("targets,format=json".parse(), Ok(targets));
        for text in ["", "build", "lint", "targets,format=yaml", "targets,x"] {
            assert!(text.parse::<Question>().is_err(), "{text}");
        }
    }
}
