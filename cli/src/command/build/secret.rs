//! `--secret` (R-CLI-4): where the value of a secret is. Values stay out of `Debug` and of messages.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_executor::{SecretSource, Secrets};

use crate::failure::Failure;

/// One flag, as typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecretFlag {
    id: String,
    file: Option<PathBuf>,
    variable: Option<String>,
}

impl FromStr for SecretFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut flag = Self::default();
        let mut is_variable = false;
        for field in text.split(',') {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
            match (key.to_lowercase().as_str(), value) {
                ("type", "file") => is_variable = false,
                ("type", "env") => is_variable = true,
                ("type", _) => return Err(format!("unsupported secret type {value:?}")),
                ("id", _) => value.clone_into(&mut flag.id),
                ("source" | "src", _) => flag.file = Some(value.into()),
                ("env", _) => flag.variable = Some(value.to_owned()),
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        if is_variable && flag.variable.is_none() {
            let name = flag.file.take();
            flag.variable = name.map(|name| name.to_string_lossy().into_owned());
        }
        match flag.id.is_empty() {
            true => Err("a secret needs an `id`".to_owned()),
            false => Ok(flag),
        }
    }
}

/// The secrets of a build. Without a source, an id is a variable if there is one of that name, else a file.
///
/// # Errors
/// A file that is not there.
pub(crate) fn secrets(
    flags: &[SecretFlag],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Secrets, Failure> {
    let source = |flag: &SecretFlag| {
        let source = source(flag, &environment);
        if let SecretSource::File(path) = &source {
            std::fs::metadata(path).map_err(|error| Failure::unreadable(path, &error))?;
        }
        Ok((flag.id.clone(), source))
    };
    flags.iter().map(source).collect()
}

fn source(flag: &SecretFlag, environment: impl Fn(&str) -> Option<String>) -> SecretSource {
    let value = |text: String| SecretSource::Value(text.into_bytes());
    match (&flag.variable, &flag.file) {
        (Some(name), _) => value(environment(name).unwrap_or_default()),
        (None, Some(path)) => SecretSource::File(path.clone()),
        (None, None) => match environment(&flag.id) {
            Some(text) => value(text),
            None => SecretSource::File(flag.id.clone().into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_value_is() {
        // R-CLI-4
        let environment = |name: &str| (name == "TOKEN").then(|| "from env".to_owned());
        let cases = [
            ("id=x,src=f", Ok("file f")),
            ("id=x,source=f,type=file", Ok("file f")),
            ("id=x,env=TOKEN", Ok("from env")),
            ("type=env,id=x,src=TOKEN", Ok("from env")),
            ("id=x,env=GONE", Ok("")),
            ("id=TOKEN", Ok("from env")),
            ("id=other", Ok("file other")),
            ("src=f", Err("a secret needs an `id`")),
            ("x", Err("invalid field 'x' must be a key=value pair")),
            ("id=x,type=y", Err("unsupported secret type \"y\"")),
            ("id=x,y=z", Err("unexpected key 'y' in 'y=z'")),
        ];
        for (text, expected) in cases {
            let found = text.parse().map(|flag| match source(&flag, environment) {
                SecretSource::File(path) => format!("file {}", path.display()),
                SecretSource::Value(value) => String::from_utf8_lossy(&value).into_owned(),
            });
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
    }
}
