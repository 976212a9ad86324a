//! ARG and ENV, which share one namespace (R-ARG-9).

use kiln_parser::{Arg, Env, Spanned, Variables, Word};

use super::Evaluator;
use crate::{Argument, ArgumentOrigin};

/// ARGs that are read from where they stand and enter no environment (R-ARG-11).
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Evaluator<'_, '_> {
    /// `ARG A=1 B`: earlier pairs are seen by later defaults (R-ARG-4).
    pub(super) fn arg(&mut self, arg: &Arg) {
        let mut shown = Vec::with_capacity(arg.pairs.len());
        for pair in &arg.pairs {
            let name = pair.name.value.as_str();
            let value = self.arg_value(name, pair.default.as_ref());
            self.note_argument(&pair.name, &value);
            let Ok((value, _)) = value else { continue };
            self.declare(name, value.as_deref());
            shown.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
        }
        self.metadata(format!("ARG {}", shown.join(" ")));
    }

    /// An ARG of one of the names of R-ARG-11 steers kiln and is no variable.
    fn declare(&mut self, name: &str, value: Option<&str>) {
        let args = &mut self.state.args;
        let text = value.unwrap_or_default().to_owned();
        match args.iter_mut().find(|declared| declared.0 == name) {
            Some(declared) => declared.1 = text,
            None => args.push((name.to_owned(), text)),
        }
        if let Some(value) = value.filter(|_| !NO_VARIABLES.contains(&name)) {
            self.state.environment.set(name, value);
        }
    }

    /// Build argument, else default, else global (R-ARG-3).
    fn arg_value(
        &mut self,
        name: &str,
        default: Option<&Spanned<Word>>,
    ) -> Result<(Option<String>, ArgumentOrigin), Told> {
        if let Some(value) = self.builder.options.build_arg(name) {
            return Ok((Some(value.to_owned()), ArgumentOrigin::BuildArg));
        }
        if let Some(default) = default {
            let value = self.expand(default).ok_or(Told)?;
            return Ok((Some(value), ArgumentOrigin::Default));
        }
        let globals = &self.builder.resolution.globals;
        Ok(match globals.values.lookup(name) {
            Some(value) => (Some(value.to_owned()), globals.origin_in_stages(name)),
            None if self.state.environment.lookup(name).is_some() => {
                (None, ArgumentOrigin::Environment)
            }
            None => (None, ArgumentOrigin::Unset),
        })
    }

    /// Remembers what an ARG came to.
    fn note_argument(
        &mut self,
        name: &Spanned<String>,
        value: &Result<(Option<String>, ArgumentOrigin), Told>,
    ) {
        let (value, origin) = match value {
            Ok((None, origin)) => (
                self.state.environment.lookup(name).map(str::to_owned),
                *origin,
            ),
            Ok((value, origin)) => (value.clone(), *origin),
            Err(Told) => (None, ArgumentOrigin::Default),
        };
        let argument = Argument {
            name: name.value.clone(),
            value,
            origin,
            span: self.place(name.span),
        };
        self.builder.arguments[self.index].push(argument);
    }

    /// `ENV A=1 B=2`: all see the variables from before (R-ENV-4).
    pub(super) fn env(&mut self, env: &Env) {
        let Some(pairs) = self.expand_pairs(&env.pairs) else {
            return;
        };
        for (name, value) in &pairs {
            self.state.environment.set(name, value);
            set_config_env(&mut self.state.config.config.env, name, value);
        }
        self.metadata(format!("ENV {}", joined(&pairs)));
    }

    pub(super) fn expand_pairs(
        &mut self,
        pairs: &[(Spanned<Word>, Spanned<Word>)],
    ) -> Option<Vec<(String, String)>> {
        let expanded: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (self.expand(key), self.expand(value)))
            .collect();
        expanded
            .into_iter()
            .map(|(key, value)| Some((key?, value?)))
            .collect()
    }
}

/// The error of an expansion was told.
struct Told;

/// Replaces a variable in place, or appends it (R-ENV-5).
fn set_config_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let is_same = |other: &&mut String| {
        other
            .split_once('=')
            .map_or(other.as_str(), |(other, _)| other)
            == name
    };
    match env.iter_mut().find(is_same) {
        Some(other) => *other = entry,
        None => env.push(entry),
    }
}

/// `A=1 B=2`
pub(super) fn joined(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}
