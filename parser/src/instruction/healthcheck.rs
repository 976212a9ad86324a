//! HEALTHCHECK (R-HC).

use std::time::Duration;

use nom::Parser;
use nom::bytes::complete::{take_till, take_while};

use crate::duration::go_duration;
use crate::flag::{Flags, Known, Takes};
use crate::instruction::CommandLine;
use crate::request::Request;
use crate::{Diagnostic, code, suggest};

/// `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD <command>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even an inherited one.
    None,
    /// A command to run. Times and retries are `None` when not given or zero (R-HC-4, R-HC-5).
    Check {
        /// The command.
        command: CommandLine,
        /// `--interval`
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}

const FLAGS: &Known = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

/// The shortest time that is not zero (R-HC-4).
const SHORTEST: Duration = Duration::from_millis(1);

/// `"HEALTHCHECK" ( "NONE" | flags "CMD" command )`
pub(super) fn parse(
    mut request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Healthcheck> {
    let (kind, rest) = kind(request.text);
    if kind.eq_ignore_ascii_case("NONE") {
        return none(&request, rest, diagnostics);
    }
    let flags = request.flags(FLAGS, diagnostics);
    if kind.is_empty() {
        diagnostics.push(request.missing("`CMD` and a command, or `NONE`"));
        return None;
    }
    if !kind.eq_ignore_ascii_case("CMD") {
        let near = suggest(&kind.to_uppercase(), ["CMD", "NONE"]);
        let message = format!("HEALTHCHECK is followed by `CMD` or `NONE`, not `{kind}`");
        let diagnostic =
            Diagnostic::error(code::UNKNOWN_HEALTHCHECK, message, request.line.place(kind));
        diagnostics.push(diagnostic.did_you_mean(near));
        return None;
    }
    let command = request.command(rest, diagnostics)?;
    if command.is_empty() {
        let message = "HEALTHCHECK CMD needs a command";
        diagnostics.push(Diagnostic::error(
            code::EMPTY_COMMAND,
            message,
            request.line.place(request.text),
        ));
        return None;
    }
    let mut time = |name| time(&flags, name, diagnostics);
    let (interval, timeout) = (time("interval"), time("timeout"));
    let (start_period, start_interval) = (time("start-period"), time("start-interval"));
    let retries = retries(&flags, diagnostics);
    Some(Healthcheck::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    })
}

/// `kind *space rest`
fn kind(text: &str) -> (&str, &str) {
    let kind = take_till::<_, &str, nom::error::Error<&str>>(char::is_whitespace);
    let split = (kind, take_while(char::is_whitespace)).parse(text);
    split.map_or((text, &text[text.len()..]), |(rest, (kind, _))| {
        (kind, rest)
    })
}

/// R-HC-1; flags are swallowed.
fn none(
    request: &Request<'_>,
    rest: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Healthcheck> {
    if rest.is_empty() {
        return Some(Healthcheck::None);
    }
    let message = "nothing may follow HEALTHCHECK NONE";
    diagnostics.push(Diagnostic::error(
        code::HEALTHCHECK_NONE_ARGUMENTS,
        message,
        request.line.place(rest),
    ));
    None
}

/// R-HC-4
fn time(flags: &Flags, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Duration> {
    let value = flags.value(name).filter(|value| !value.is_empty())?;
    match go_duration(&value) {
        Some(time) if time.is_zero() => None,
        Some(time) if time >= SHORTEST => Some(time),
        known => {
            let message = match known {
                Some(_) => format!("`--{name}` can't be less than 1ms"),
                None => format!("`{}` is no duration for `--{name}`", value.value),
            };
            let help = "write numbers with units, such as `500ms`, `30s` or `1m30s`";
            diagnostics
                .push(Diagnostic::error(code::INVALID_DURATION, message, value.span).help(help));
            None
        }
    }
}

/// R-HC-5
fn retries(flags: &Flags, diagnostics: &mut Vec<Diagnostic>) -> Option<u32> {
    let value = flags.value("retries").filter(|value| !value.is_empty())?;
    match value.parse::<i32>().map(u32::try_from) {
        Ok(Ok(retries)) => Some(retries).filter(|retries| *retries > 0),
        _ => {
            let message = format!("`--retries` is a number from 0, not `{}`", value.value);
            diagnostics.push(Diagnostic::error(
                code::INVALID_RETRIES,
                message,
                value.span,
            ));
            None
        }
    }
}
