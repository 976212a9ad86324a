//! `--call`: what to do with a Dockerfile besides building it, with buildx's output to the letter (R-CLI-7).

mod aligned;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_parser::{Source, Span};
use kiln_planner::{Outline, OutlineMount, PlanOptions, Target, outline, targets};
use serde_json::{Value, json};

use super::plan::parse;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location;
use aligned::aligned;

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

fn targets_text(targets: &[Target]) -> String {
    let name = |target: &Target| match (&target.name, target.is_default) {
        (Some(name), false) => name.clone(),
        (Some(name), true) => format!("{name} (default)"),
        (None, true) => "(default)".to_owned(),
        (None, false) => String::new(),
    };
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned)];
    rows.extend(
        targets
            .iter()
            .map(|target| [name(target), shown(&target.description)]),
    );
    aligned(&rows, 1)
}

fn targets_json(targets: &[Target], source: &Source) -> Value {
    let target = |target: &Target| {
        without_empty(json!({
            "name": target.name,
            "default": target.is_default.then_some(true),
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "location": location::lines(source, target.span),
        }))
    };
    json!({
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "sources": [STANDARD.encode(source.text())],
    })
}

/// Each part ends with an empty line.
fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    if let Some(name) = &outline.name {
        let mut head = vec![["TARGET:".to_owned(), name.clone()]];
        let description = outline.description.iter();
        head.extend(description.map(|text| ["DESCRIPTION:".to_owned(), text.clone()]));
        parts.push(aligned(&head, 1));
    }
    if !outline.arguments.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        rows.extend(outline.arguments.iter().map(|argument| {
            let name = argument.name.clone();
            [name, shown(&argument.value), shown(&argument.description)]
        }));
        parts.push(aligned(&rows, 3));
    }
    for (heading, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            parts.push(mounts_text(heading, mounts));
        }
    }
    parts.iter().map(|part| format!("{part}\n")).collect()
}

fn mounts_text(heading: &str, mounts: &[OutlineMount]) -> String {
    let mut rows = vec![[heading, "REQUIRED"].map(str::to_owned)];
    rows.extend(mounts.iter().map(|mount| {
        let required = if mount.required { "true" } else { "" };
        [mount.name.clone(), required.to_owned()]
    }));
    aligned(&rows, 3)
}

fn shown(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn outline_json(outline: &Outline, source: &Source) -> Value {
    let place = |span: Option<Span>| span.map(|span| location::lines(source, span));
    let mounts = |mounts: &[OutlineMount]| -> Value {
        let mount = |mount: &OutlineMount| {
            without_empty(json!({
                "name": mount.name,
                "required": mount.required.then_some(true),
                "location": place(mount.span),
            }))
        };
        mounts.iter().map(mount).collect()
    };
    let arguments = outline.arguments.iter().map(|argument| {
        without_empty(json!({
            "name": argument.name,
            "value": argument.value,
            "description": argument.description,
            "location": place(Some(argument.span)),
        }))
    });
    without_empty(json!({
        "name": outline.name,
        "description": outline.description,
        "args": arguments.collect::<Vec<_>>(),
        "secrets": mounts(&outline.secrets),
        "ssh": mounts(&outline.ssh),
        "sources": [STANDARD.encode(source.text())],
    }))
}

/// An object without the members that have nothing to say, as Go's `omitempty` leaves them out.
fn without_empty(mut value: Value) -> Value {
    let is_empty = |member: &Value| match member {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !is_empty(member));
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
