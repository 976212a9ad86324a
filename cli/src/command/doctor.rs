//! `kiln doctor`: which sandboxes work here, what stops the others, and what would unlock them.

use std::io::{self, Write};

use clap::ValueEnum;
use kiln_executor::sandbox::{Rung, Survey, Tried, Unavailable, survey};
use serde::Serialize;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Find out which sandboxes work here, and what would unlock better ones
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask about this one, as `kiln build --sandbox` does [env: KILN_SANDBOX] [default: the best that works]
    #[arg(long, value_name = "NAME")]
    sandbox: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// The findings as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings<'a> {
    sandbox: Option<&'static str>,
    rungs: Vec<Finding<'a>>,
    facts: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Finding<'a> {
    name: &'static str,
    works: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlock: Option<&'a str>,
}

/// Runs the command. Its exit code tells whether any RUN is possible.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let asked = config.sandbox(args.sandbox.as_deref())?;
    let survey = survey(&config.root, asked)
        .map_err(|error| Failure::from_error(Exit::Environment, None, &error))?;
    let mut out = io::stdout().lock();
    match args.format {
        Format::Text => out.write_all(text(&survey, asked).as_bytes())?,
        Format::Json => writeln!(out, "{}", json(&survey).map_err(io::Error::from)?)?,
    }
    Ok(match survey.chosen {
        Ok(_) => Exit::Done,
        Err(_) => Exit::Environment,
    })
}

/// The chosen rung, then all of them with what stops them, then the facts.
fn text(survey: &Survey, asked: Option<Rung>) -> String {
    let mut text = match (&survey.chosen, asked) {
        (Ok(rung), None) => format!("RUN uses the sandbox `{rung}`\n"),
        (Ok(rung), Some(_)) => format!("RUN uses the sandbox `{rung}`, as asked for\n"),
        (Err(why), None) => format!("no RUN is possible here: {why}\n  unlock: {}\n", why.remedy),
        (Err(why), Some(rung)) => {
            let remedy = &why.remedy;
            format!(
                "no RUN is possible in the sandbox `{rung}`, as asked for: {why}\n  unlock: {remedy}\n"
            )
        }
    };
    text.push('\n');
    let chosen = survey.chosen.as_ref().ok();
    for Tried { rung, verdict } in &survey.rungs {
        text += &match verdict {
            Ok(()) if Some(rung) == chosen => format!("{:<14} chosen\n", rung.name()),
            Ok(()) => format!("{:<14} works\n", rung.name()),
            Err(Unavailable { reason, remedy }) => {
                format!(
                    "{:<14} no: {reason}\n{:<14} unlock: {remedy}\n",
                    rung.name(),
                    ""
                )
            }
        };
    }
    text.push('\n');
    let widest = survey.facts.iter().map(|(name, _)| name.len()).max();
    let width = widest.unwrap_or(0);
    for (name, value) in &survey.facts {
        text += &format!("{name:<width$}  {value}\n");
    }
    text
}

fn json(survey: &Survey) -> serde_json::Result<String> {
    let facts = survey.facts.iter();
    serde_json::to_string_pretty(&Findings {
        sandbox: survey.chosen.as_ref().ok().map(|rung| rung.name()),
        rungs: survey.rungs.iter().map(finding).collect(),
        facts: facts
            .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
            .collect(),
    })
}

fn finding(tried: &Tried) -> Finding<'_> {
    let why = tried.verdict.as_ref().err();
    Finding {
        name: tried.rung.name(),
        works: why.is_none(),
        reason: why.map(|why| why.reason.as_str()),
        unlock: why.map(|why| why.remedy.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_a_rung_and_what_unlocks_it_is_told() {
        let stopped = Unavailable {
            reason: "no newuidmap".to_owned(),
            remedy: "install it".to_owned(),
        };
        let tried = |rung, verdict| Tried { rung, verdict };
        let survey = Survey {
            chosen: Ok(Rung::UsernsSingle),
            rungs: vec![
                tried(Rung::UsernsRange, Err(stopped)),
                tried(Rung::UsernsSingle, Ok(())),
            ],
            facts: vec![("kernel", "6.1".to_owned())],
        };
        let expected = "RUN uses the sandbox `userns-single`\n\nuserns-range   no: no newuidmap\n               unlock: install it\n\
                        userns-single  chosen\n\nkernel  6.1\n";
        assert_eq!(text(&survey, None), expected);
        let asked = text(&survey, Some(Rung::UsernsSingle));
        assert!(asked.starts_with("RUN uses the sandbox `userns-single`, as asked for\n"));
        let json: serde_json::Value = json(&survey)
            .and_then(|text| serde_json::from_str(&text))
            .expect("it is JSON");
        assert_eq!(json["sandbox"], "userns-single");
        assert_eq!(json["rungs"][0]["unlock"], "install it");
        assert_eq!(json["rungs"][1]["works"], true);
    }
}
