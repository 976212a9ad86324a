//! ARG and ENV, which share one namespace (R-ARG-9).

use kiln_parser::{Arg, Env, Spanned, Variables, Word};

use super::Evaluator;

impl Evaluator<'_, '_> {
    /// `ARG A=1 B`: earlier pairs are seen by later defaults (R-ARG-4).
    pub(super) fn arg(&mut self, arg: &Arg) {
        let mut shown = Vec::with_capacity(arg.pairs.len());
        for pair in &arg.pairs {
            let name = pair.name.value.as_str();
            let value = match self.arg_value(name, pair.default.as_ref()) {
                Ok(value) => value,
                Err(Told) => continue,
            };
            if !self.state.args.iter().any(|declared| declared == name) {
                self.state.args.push(name.to_owned());
            }
            if let Some(value) = &value {
                self.state.environment.set(name, value);
            }
            shown.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
        }
        self.metadata(format!("ARG {}", shown.join(" ")));
    }

    /// Build argument, else default, else global (R-ARG-3).
    fn arg_value(
        &mut self,
        name: &str,
        default: Option<&Spanned<Word>>,
    ) -> Result<Option<String>, Told> {
        if let Some(value) = self.builder.options.build_arg(name) {
            return Ok(Some(value.to_owned()));
        }
        match default {
            Some(default) => self.expand(default).map(Some).ok_or(Told),
            None => Ok(self
                .builder
                .resolution
                .globals
                .values
                .lookup(name)
                .map(str::to_owned)),
        }
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
