//! `-e` and `--env-file` of `kiln run`.

use std::path::{Path, PathBuf};

use crate::args::KeyValue;
use crate::failure::Failure;

/// The variables of files, then those of flags, so that these go before. A name alone has the environment's value, if that has one.
pub(super) fn environment(
    files: &[PathBuf],
    given: &[KeyValue],
    client: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Failure::unreadable(path, &error))?;
        all.extend(lines(path, &text)?);
    }
    all.extend(given.iter().cloned());
    let value = |variable: &KeyValue| variable.value.clone().or_else(|| client(&variable.key));
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in &all {
        let Some(value) = value(variable) else {
            continue;
        };
        // Programs take the first of a name.
        env.retain(|(name, _)| *name != variable.key);
        env.push((variable.key.clone(), value));
    }
    Ok(env)
}

/// A variable a line, as Docker has it: `#` begins a comment, values are taken as they are, quotes included.
fn lines(path: &Path, text: &str) -> Result<Vec<KeyValue>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim_start).enumerate();
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let variable = |(at, line): (usize, &str)| {
        let wrong =
            |why: &str| Failure::usage(format!("line {} of `{}`: {why}", at + 1, path.display()));
        let variable: KeyValue = line.parse().map_err(|why: String| wrong(&why))?;
        match variable.key.contains(char::is_whitespace) {
            true => Err(wrong("the name of a variable has no blanks")),
            false => Ok(variable),
        }
    };
    said.map(variable).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(key: &str, value: Option<&str>) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn a_name_alone_takes_the_environment() {
        let client = |name: &str| (name == "HERE").then(|| "there".to_owned());
        let flags = [
            given("A", Some("")),
            given("HERE", None),
            given("GONE", None),
            given("HERE", Some("not")),
            given("HERE", None),
        ];
        let env = environment(&[], &flags, client).unwrap();
        assert_eq!(
            env,
            [
                ("A".to_owned(), String::new()),
                ("HERE".to_owned(), "there".to_owned())
            ]
        );
    }

    #[test]
    fn files_have_a_variable_a_line() {
        let path = Path::new("env");
        let text = "\u{feff}A=1\n\n # no\n  B=\"two words\" \nC\nD=\n";
        let expected = [
            given("A", Some("1")),
            given("B", Some("\"two words\" ")),
            given("C", None),
            given("D", Some("")),
        ];
        assert_eq!(lines(path, text).unwrap(), expected);
        for wrong in ["a b=c", "=x"] {
            assert!(lines(path, wrong).is_err(), "{wrong}");
        }
    }
}
