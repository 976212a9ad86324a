//! The image config: how to run an image, and how it came to be.
//!
//! Our own types and not `oci_spec`'s, because a config is named by the digest of its bytes: order of keys,
//! what is left out when empty, and keys nobody knows must come out as the reference engine writes them
//! (R-CFG-1..7).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{DiffId, Digest, Platform, json};

/// The config of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Processor, as in [`Platform`].
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// Who made the image (MAINTAINER); empty if nobody said.
    #[serde(deserialize_with = "nullable")]
    pub author: String,
    /// How to run it.
    #[serde(deserialize_with = "nullable")]
    pub config: RunConfig,
    /// When its last layer was made: RFC 3339, UTC.
    pub created: Option<String>,
    /// One entry for each instruction; `None` is written as null (R-CFG-6).
    pub history: Option<Vec<History>>,
    /// Operating system.
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    /// Features of the operating system that are needed.
    #[serde(rename = "os.features", deserialize_with = "nullable")]
    pub os_features: Vec<String>,
    /// Version of the operating system; empty if none.
    #[serde(rename = "os.version", deserialize_with = "nullable")]
    pub os_version: String,
    /// The layers.
    #[serde(deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// Variant of the processor; empty if none.
    #[serde(deserialize_with = "nullable")]
    pub variant: String,
    /// Top-level keys that aren't ours, kept as they are.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What a container of this image starts with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// USER.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// EXPOSE: `80/tcp`.
    #[serde(with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// ENV in order: `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// ENTRYPOINT.
    #[serde(skip_serializing_if = "none_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    /// CMD.
    #[serde(skip_serializing_if = "none_or_empty")]
    pub cmd: Option<Vec<String>>,
    /// VOLUME.
    #[serde(with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// WORKDIR.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// LABEL.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// STOPSIGNAL.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Whether the command is one string with its arguments already escaped (Windows).
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// HEALTHCHECK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// ONBUILD.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// SHELL.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// How to find out whether a container is well. Zeros and empty lists are left to the runtime (R-CFG-4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub interval: i64,
    /// Nanoseconds after which a check has failed.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// Nanoseconds in which failures don't count.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Nanoseconds between two checks in the start period.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// How many failures in a row make a container unwell.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub retries: i64,
}

/// One instruction of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// The builder's mark.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// Whether the instruction made no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub empty_layer: bool,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Lowest first; `None` is written as null (R-CFG-6).
    pub diff_ids: Option<Vec<DiffId>>,
}

/// Why bytes are not an image config, or can't become one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not of a config's shape.
    #[error("could not read an image config")]
    Read(#[source] serde_json::Error),
    /// Could not be written.
    #[error("could not write an image config")]
    Write(#[source] serde_json::Error),
}

impl ImageConfig {
    /// The config of an image for this platform, empty otherwise.
    pub fn for_platform(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone().unwrap_or_default(),
            variant: platform.variant.clone().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The platform it runs on.
    pub fn platform(&self) -> Platform {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let platform = Platform::new(&self.os, &self.architecture, some(&self.variant).as_deref());
        Platform {
            os_version: some(&self.os_version),
            ..platform
        }
    }

    /// The diff ids of its layers, lowest first.
    pub fn diff_ids(&self) -> &[DiffId] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    /// Its bytes: compact, top-level keys in alphabetical order (R-CFG-1).
    pub fn to_json(&self) -> Result<Vec<u8>, ConfigError> {
        json::compact(self).map_err(ConfigError::Write)
    }

    /// Its bytes' digest: the image id (R-CFG-8).
    pub fn id(&self) -> Result<Digest, ConfigError> {
        self.to_json().map(|bytes| Digest::of(&bytes))
    }

    /// Reads a config; null stands for an absent value everywhere, invalid UTF-8 for U+FFFD (R-CFG-3).
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_str(&String::from_utf8_lossy(bytes)).map_err(ConfigError::Read)
    }

    /// Every top-level key that is written, in alphabetical order.
    fn top_level(&self) -> Result<BTreeMap<&str, Value>, serde_json::Error> {
        let mut keys: BTreeMap<&str, Value> = self
            .other
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let texts = [
            ("author", &self.author),
            ("os.version", &self.os_version),
            ("variant", &self.variant),
        ];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            keys.insert(key, Value::from(text.as_str()));
        }
        if !self.os_features.is_empty() {
            keys.insert("os.features", Value::from(self.os_features.clone()));
        }
        keys.insert("architecture", Value::from(self.architecture.as_str()));
        keys.insert("config", serde_json::to_value(&self.config)?);
        keys.insert("created", Value::from(self.created.clone()));
        keys.insert("history", serde_json::to_value(&self.history)?);
        keys.insert("os", Value::from(self.os.as_str()));
        keys.insert("rootfs", serde_json::to_value(&self.rootfs)?);
        Ok(keys)
    }
}

impl Serialize for ImageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.top_level()
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl Serialize for RootFs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            r#type: &'static str,
            diff_ids: Option<&'a [DiffId]>,
        }

        Written {
            r#type: "layers",
            diff_ids: self.diff_ids.as_deref(),
        }
        .serialize(serializer)
    }
}

/// Null as the default value, as Go's decoder has it.
fn nullable<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn none_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A set written as an object with empty objects as values.
mod keys {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            set.iter()
                .map(|key| (key, BTreeMap::<String, String>::new())),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn written(config: &ImageConfig) -> String {
        String::from_utf8(config.to_json().unwrap()).unwrap()
    }

    #[test]
    fn a_bare_scratch_image_has_nulls() {
        // R-CFG-6, R-FROM-10
        let mut config = ImageConfig::for_platform(&"linux/amd64".parse().unwrap());
        config.config.env = vec!["PATH=/bin".to_owned()];
        config.config.working_dir = "/".to_owned();
        let expected = r#"{"architecture":"amd64","config":{"Env":["PATH=/bin"],"WorkingDir":"/"},"created":null,"history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
        assert_eq!(written(&config), expected);
    }

    #[test]
    fn keys_have_the_reference_order() {
        // R-CFG-1, R-CFG-2, R-CFG-4, R-CFG-5
        let text = concat!(
            r#"{"architecture":"arm64","author":"me","config":{"User":"u","ExposedPorts":{"443/tcp":{},"80/tcp":{}},"#,
            r#""Env":["A=\u003c1\u003e"],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{"/a":{}},"WorkingDir":"/w","#,
            r#""Labels":{"a":"1","b":"2"},"StopSignal":"9","ArgsEscaped":true,"#,
            r#""Healthcheck":{"Test":["NONE"],"Interval":1,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5},"#,
            r#""OnBuild":["RUN x"],"Shell":["/bin/sh","-c"]},"container":"x","created":"2024-01-01T00:00:00Z","#,
            r#""history":[{"created":"2024-01-01T00:00:00Z","created_by":"RUN x","author":"me","comment":"c","empty_layer":true}],"#,
            r#""moby.buildkit.cache.v0":"AA==","os":"linux","os.features":["f"],"os.version":"1","#,
            r#""rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"#,
            r#""variant":"v8"}"#
        );
        let config = ImageConfig::from_json(text.as_bytes()).unwrap();
        assert_eq!(written(&config), text);
        assert_eq!(config.id().unwrap(), Digest::of(text.as_bytes()));
        assert_eq!(config.platform().to_string(), "linux(1)/arm64");
    }

    #[test]
    fn null_and_unknown_config_keys_are_left_out() {
        // R-CFG-2
        let text = br#"{"config":{"Hostname":"","Env":null,"Cmd":[],"Volumes":null,"Labels":null,"OnBuild":null},"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;
        let config = ImageConfig::from_json(text).unwrap();
        let expected = r#"{"architecture":"amd64","config":{},"created":null,"history":[],"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(written(&config), expected);
        let bare = ImageConfig::from_json(br#"{"config":null,"rootfs":null}"#).unwrap();
        assert_eq!(bare.diff_ids(), []);
        assert!(matches!(
            ImageConfig::from_json(b"[]"),
            Err(ConfigError::Read(_))
        ));
    }
}
