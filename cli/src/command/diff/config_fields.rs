//! Two configs field by field: variables and labels each by themselves, everything else as a whole.

use std::collections::BTreeMap;

use kiln_image::ImageConfig;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::render::shown;

/// A field that is different.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FieldChange {
    /// `Cmd`, `Env.PATH`, `Labels.team`, `architecture`.
    field: String,
    /// `null` where it is not there.
    old: Value,
    new: Value,
}

impl FieldChange {
    /// `C Cmd ["a"] -> ["b"]`
    pub(super) fn line(&self) -> String {
        let Self { field, old, new } = self;
        let value = |value: &Value| match value {
            Value::String(text) => shown(text),
            other => shown(&other.to_string()),
        };
        let field = shown(field);
        match (old, new) {
            (Value::Null, new) => format!("A {field} = {}", value(new)),
            (old, Value::Null) => format!("D {field} = {}", value(old)),
            (old, new) => format!("C {field} = {} -> {}", value(old), value(new)),
        }
    }
}

/// What of two configs differs but for layers, history and dates.
pub(super) fn config_changes(old: &ImageConfig, new: &ImageConfig) -> Vec<FieldChange> {
    let mut fields: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    for (name, value) in flat(old) {
        fields.entry(name).or_default().0 = value;
    }
    for (name, value) in flat(new) {
        fields.entry(name).or_default().1 = value;
    }
    let different = fields.into_iter().filter(|(_, (old, new))| old != new);
    different
        .map(|(field, (old, new))| FieldChange { field, old, new })
        .collect()
}

fn flat(config: &ImageConfig) -> Vec<(String, Value)> {
    let bytes = config.to_json().unwrap_or_default();
    let mut whole: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut fields = Vec::new();
    if let Some(Value::Object(run)) = whole.remove("config") {
        for (name, value) in run {
            match (name.as_str(), value) {
                ("Env", Value::Array(pairs)) => fields.extend(pairs.iter().filter_map(variable)),
                ("Labels", Value::Object(labels)) => {
                    let labels = labels.into_iter();
                    fields.extend(labels.map(|(key, value)| (format!("Labels.{key}"), value)));
                }
                (_, value) => fields.push((name, value)),
            }
        }
    }
    let told = |name: &str| !matches!(name, "rootfs" | "history" | "created");
    fields.extend(whole.into_iter().filter(|(name, _)| told(name)));
    fields
}

fn variable(pair: &Value) -> Option<(String, Value)> {
    let (name, value) = pair.as_str()?.split_once('=')?;
    Some((format!("Env.{name}"), value.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kiln_image::Platform;

    #[test]
    fn each_field_is_told_once() {
        let mut old = ImageConfig::for_platform(&Platform::new("linux", "amd64", None));
        old.config.env = vec!["A=1".to_owned(), "B=2".to_owned()];
        old.config.cmd = Some(vec!["a".to_owned()]);
        let mut new = old.clone();
        assert_eq!(config_changes(&old, &new), []);
        new.created = Some("2020-01-01T00:00:00Z".to_owned());
        new.architecture = "arm64".to_owned();
        new.config.env = vec!["A=1".to_owned(), "C=3".to_owned()];
        new.config.cmd = Some(vec!["b".to_owned()]);
        new.config.labels.insert("x".to_owned(), "y".to_owned());
        let changes = config_changes(&old, &new);
        let lines: Vec<String> = changes.iter().map(FieldChange::line).collect();
        let expected = [
            "C Cmd = [\"a\"] -> [\"b\"]",
            "D Env.B = 2",
            "A Env.C = 3",
            "A Labels.x = y",
            "C architecture = amd64 -> arm64",
        ];
        assert_eq!(lines, expected);
    }
}
