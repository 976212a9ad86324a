//! What progress calls the steps (R-PROG-2).

use kiln_image::Platform;
use kiln_parser::{Heredoc, Instruction, Statement, Variables};

use crate::resolve::{Base, Resolution, ResolvedStage};
use crate::{PlanOptions, names_a_secret};

/// Numbers the steps of a stage.
#[derive(Debug)]
pub(super) struct Naming {
    /// The platform, where there are several.
    platform: Option<Platform>,
    /// The stage, where it is shown.
    stage: String,
    index: usize,
    total: usize,
}

impl Naming {
    pub(super) fn of(
        index: usize,
        stage: &ResolvedStage<'_>,
        resolution: &Resolution<'_>,
        options: &PlanOptions,
    ) -> Naming {
        let shown = match stage.stage.name() {
            // The only stage goes without saying, as long as it reads nothing from elsewhere.
            _ if resolution.stages.len() == 1 && !stage.statements().iter().any(has_source) => {
                String::new()
            }
            Some(name) => format!("{name} "),
            None => format!("stage-{index} "),
        };
        let from = usize::from(matches!(stage.base, Base::Image(_) | Base::Files(_)));
        let steps = stage
            .statements()
            .iter()
            .filter(|statement| is_step(statement))
            .count();
        Naming {
            platform: options.multi_platform.then(|| stage.platform.clone()),
            stage: shown,
            index: 0,
            // All triggers count, those that make no step too.
            total: from + stage.triggers.len() + steps,
        }
    }

    /// The name of the next step, which knows these variables.
    pub(super) fn next(&mut self, shown: &str, triggered: bool, env: &dyn Variables) -> String {
        self.index += 1;
        let width = self.total.to_string().len();
        let trigger = if triggered { "ONBUILD " } else { "" };
        let platform = self.platform.as_ref();
        let platform = platform.map_or_else(String::new, |platform| {
            format!("{platform}{} ", arrow(platform, env))
        });
        format!(
            "[{platform}{}{:>width$}/{}] {trigger}{shown}",
            self.stage, self.index, self.total
        )
    }
}

/// `->arm64` in a stage that runs on one platform and knows that it is for another.
fn arrow(runs_on: &Platform, env: &dyn Variables) -> String {
    let whole = env.lookup("TARGETPLATFORM");
    let target = whole.and_then(|whole| whole.parse().ok());
    let parts = ["TARGETOS", "TARGETARCH", "TARGETVARIANT"].map(|name| env.lookup(name));
    let target = target.or_else(|| {
        let [os, architecture, variant] = parts;
        os.or(architecture).or(variant)?;
        let os = os.unwrap_or(&runs_on.os);
        let architecture = architecture.unwrap_or(&runs_on.architecture);
        Some(Platform::new(os, architecture, variant))
    });
    match target {
        Some(target) if target.os != runs_on.os => format!("->{target}"),
        Some(target) if target.architecture != runs_on.architecture => {
            let variant = target.variant.map(|variant| format!("/{variant}"));
            format!("->{}{}", target.architecture, variant.unwrap_or_default())
        }
        _ => String::new(),
    }
}

fn is_step(statement: &Statement) -> bool {
    matches!(
        statement.instruction,
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
    )
}

/// Whether it names a stage or an image. A mount counts even without, as it does for BuildKit.
fn has_source(statement: &Statement) -> bool {
    match &statement.instruction {
        Instruction::Run(run) => !run.mounts.is_empty(),
        Instruction::Copy(copy) => copy.from.is_some(),
        _ => false,
    }
}

/// An instruction's text with its keyword in upper case.
pub(super) fn shown(text: &str) -> String {
    let (keyword, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    keyword.to_uppercase() + rest
}

/// An instruction's text with the values of variables that are set. Quotes stay as written: it is for reading.
pub(super) fn shown_expanded(text: &str, variables: &dyn Variables) -> String {
    let text = shown(text);
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['$', '\\', '\'']) {
        expanded.push_str(&rest[..at]);
        let (taken, replacement) = match rest.as_bytes()[at] {
            b'$' => reference(&rest[at..], variables),
            b'\\' => (
                1 + rest[at + 1..].chars().next().map_or(0, char::len_utf8),
                None,
            ),
            _ => (
                rest[at + 1..]
                    .find('\'')
                    .map_or(rest.len() - at, |end| end + 2),
                None,
            ),
        };
        expanded.push_str(replacement.unwrap_or(&rest[at..at + taken]));
        rest = &rest[at + taken..];
    }
    expanded + rest
}

/// A `$name` or `${name}` at the start of a text: how long it is, and its value. Forms with modifiers stay as they are.
fn reference<'v>(text: &str, variables: &'v dyn Variables) -> (usize, Option<&'v str>) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (name, length) = match text.strip_prefix("${") {
        Some(braced) => match braced.find('}') {
            Some(end) => (&braced[..end], end + 3),
            None => return (1, None),
        },
        None => {
            let name = &text[1..];
            let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
            (&name[..end], end + 1)
        }
    };
    if name.is_empty() || !name.chars().all(is_name) {
        return (1, None);
    }
    // What is secret stays a name.
    let value = variables.lookup(name).filter(|_| !names_a_secret(name));
    (length, value)
}

/// The variables that a text names, with the values of those that have one; each once, in order.
pub(crate) fn mentioned(text: &str, variables: &dyn Variables) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found: Vec<(String, String)> = Vec::new();
    for after in text.split('$').skip(1) {
        let after = after.strip_prefix('{').unwrap_or(after);
        let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let name = &after[..end];
        if let Some(value) = variables.lookup(name)
            && found.iter().all(|(known, _)| known != name)
        {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// The first line of a script, for `RUN <<EOF (first line...)`.
pub(super) fn summary(heredoc: &Heredoc) -> String {
    let content = heredoc.content();
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!("{first}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_text_are_found_once() {
        let variables = vec![
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "2".to_owned()),
        ];
        let found = mentioned("COPY $A ${B:-x}/$A $C /d$", &variables);
        assert_eq!(found, variables);
    }

    // R-PROG-2
    #[test]
    fn names_show_values_where_the_engine_expands() {
        let variables = vec![
            ("V".to_owned(), "1.2".to_owned()),
            ("API_TOKEN".to_owned(), "secret".to_owned()),
        ];
        for (text, expected) in [
            (
                "ADD https://h/$V?t=$API_TOKEN /",
                "ADD https://h/1.2?t=$API_TOKEN /",
            ),
            ("copy a-$V.tar /", "COPY a-1.2.tar /"),
            (
                "COPY \"a ${V}\" '$V' \\$V $N ${N:-x} $",
                "COPY \"a 1.2\" '$V' \\$V $N ${N:-x} $",
            ),
            ("COPY ${V 'é \\", "COPY ${V 'é \\"),
        ] {
            assert_eq!(shown_expanded(text, &variables), expected);
        }
    }
}
