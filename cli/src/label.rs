//! What filters ask of labels.

use std::collections::BTreeMap;

/// `KEY`, with any value, or `KEY=VALUE`.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    key: String,
    value: Option<String>,
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self {
                key: key.to_owned(),
                value: Some(value.to_owned()),
            },
            None => Self {
                key: text.to_owned(),
                value: None,
            },
        }
    }
}

impl Label {
    pub(crate) fn is_among(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}
