//! Docker's `config.json` as far as it is about credentials; everything else in it is kept as it is.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value, json};

use super::helper::{self, Patience};
use super::{Credential, CredentialsError};

/// What Docker calls its hub in configurations and to helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

/// Most links that are followed to a file that is to be written.
const MOST_LINKS: usize = 16;

/// A configuration.
#[derive(Debug)]
pub(super) struct ConfigFile {
    members: Map<String, Value>,
    origin: String,
}

impl ConfigFile {
    /// Reads one; an empty text is an empty configuration. `origin` is what messages call it.
    pub(super) fn parse(bytes: &[u8], origin: &str) -> Result<Self, CredentialsError> {
        let broken = |problem: String| CredentialsError::Format {
            origin: origin.to_owned(),
            problem,
        };
        let members = if bytes.trim_ascii().is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(bytes)
                .map_err(|error| broken(format!("not a Docker configuration: {error}")))?
        };
        for name in ["auths", "credHelpers"] {
            if !matches!(
                members.get(name),
                None | Some(Value::Null | Value::Object(_))
            ) {
                return Err(broken(format!("`{name}` is not an object")));
            }
        }
        Ok(ConfigFile {
            members,
            origin: origin.to_owned(),
        })
    }

    /// The credential for a repository: by what is named most closely, there from the helper for it, else from `auths`; else
    /// from the store for all.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
        patience: &Patience,
    ) -> Result<Option<Credential>, CredentialsError> {
        for name in names(registry, repository) {
            if let Some(helper) = self.helper_for(&name) {
                for server in servers(&name) {
                    if let Some(found) = helper::get(helper, server, patience)? {
                        return Ok(Some(found));
                    }
                }
            }
            for entry in self.entries(&name) {
                if let Some(found) = credential_of(entry).map_err(|problem| self.broken(problem))? {
                    return Ok(Some(found));
                }
            }
        }
        if let Some(store) = self.store_for_all() {
            for server in servers(&normal(registry)) {
                if let Some(found) = helper::get(store, server, patience)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Takes a credential in, or hands it to the helper, whose name is given back.
    pub(super) fn store(
        &mut self,
        registry: &str,
        credential: &Credential,
    ) -> Result<Option<String>, CredentialsError> {
        let name = normal(registry);
        let helper = self.helper_for(&name).or(self.store_for_all());
        let helper = helper.map(str::to_owned);
        self.remove_entries(&name);
        let key = servers(&name).next().unwrap_or(&name).to_owned();
        let entry = match &helper {
            Some(helper) => {
                helper::store(helper, &key, credential)?;
                json!({})
            }
            None => entry_of(credential),
        };
        self.auths_mut().insert(key, entry);
        Ok(helper)
    }

    /// Drops what is known of a registry, here and with the helper. Tells whether there was anything.
    pub(super) fn erase(&mut self, registry: &str) -> Result<bool, CredentialsError> {
        let name = normal(registry);
        let mut erased = false;
        if let Some(helper) = self.helper_for(&name).or(self.store_for_all()) {
            for server in servers(&name) {
                // Helpers differ in whether they complain about what they don't have.
                let known = helper::get(helper, server, &Patience::default())?.is_some();
                erased |= known && helper::erase(helper, server)?;
            }
        }
        Ok(self.remove_entries(&name) || erased)
    }

    /// Replaces the file at `path`, or what a link there leads to, as a whole. Nobody but its owner can read it.
    pub(super) fn write(&self, path: &Path) -> Result<(), CredentialsError> {
        let failed = |source: io::Error| CredentialsError::Write {
            path: path.to_owned(),
            source,
        };
        let target = target_of(path);
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700);
        make.create(folder).map_err(failed)?;
        let mut text = Vec::new();
        let format = PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, format);
        let written = self.members.serialize(&mut writer);
        written.map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        // Its permissions are 0600 from the start.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        if let Ok(before) = fs::metadata(&target) {
            // Root writes a user's file; anybody else can't give files away, and has no need to.
            let _ = fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn helper_for(&self, name: &str) -> Option<&str> {
        let helpers = self.members.get("credHelpers")?.as_object()?;
        let mut matching = helpers.iter().filter(|(key, _)| normal(key) == name);
        let (_, helper) = matching.next()?;
        helper.as_str().filter(|helper| !helper.is_empty())
    }

    fn store_for_all(&self) -> Option<&str> {
        let store = self.members.get("credsStore")?.as_str()?;
        (!store.is_empty()).then_some(store)
    }

    fn entries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        let auths = self.members.get("auths").and_then(Value::as_object);
        let auths = auths.into_iter().flatten();
        auths
            .filter(move |(key, _)| normal(key) == name)
            .map(|(_, entry)| entry)
    }

    fn remove_entries(&mut self, name: &str) -> bool {
        let Some(auths) = self.members.get_mut("auths").and_then(Value::as_object_mut) else {
            return false;
        };
        let before = auths.len();
        auths.retain(|key, _| normal(key) != name);
        auths.len() < before
    }

    fn auths_mut(&mut self) -> &mut Map<String, Value> {
        let auths = self.members.entry("auths").or_insert(Value::Null);
        if !auths.is_object() {
            *auths = json!({});
        }
        auths.as_object_mut().expect("it was made an object")
    }

    fn broken(&self, problem: &str) -> CredentialsError {
        CredentialsError::Format {
            origin: self.origin.clone(),
            problem: problem.to_owned(),
        }
    }
}

/// The file that a path leads to, which need not be there.
fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&target) else {
            break;
        };
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    target
}

/// A key of `auths` without what only looks different: `https://index.docker.io/v1/` is `docker.io`, `https://r.example/v2/`
/// is `r.example`; `quay.io/team` is what it says.
pub(super) fn normal(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let name = match bare {
        Some(bare) => bare.split('/').next().unwrap_or(bare),
        None => key.trim_end_matches('/'),
    };
    match name.split_once('/') {
        None if is_hub(name) => HUB.to_owned(),
        Some((host, rest)) if is_hub(host) => format!("{HUB}/{rest}"),
        _ => name.to_owned(),
    }
}

fn is_hub(host: &str) -> bool {
    matches!(
        host,
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    )
}

/// What a normal name is called to helpers and in files, the usual one first.
pub(super) fn servers(name: &str) -> impl Iterator<Item = &str> {
    let hub = (name == HUB).then_some(HUB_KEY);
    hub.into_iter().chain([name])
}

/// The repository, the folders above it, the registry.
fn names(registry: &str, repository: &str) -> Vec<String> {
    let whole = normal(&format!("{registry}/{repository}"));
    let ends = whole.match_indices('/').map(|(at, _)| at);
    let mut names: Vec<String> = ends
        .chain([whole.len()])
        .map(|end| whole[..end].to_owned())
        .collect();
    names.reverse();
    names
}

/// `None` for an entry that says nothing, as Docker leaves them behind when a helper has the secret.
fn credential_of(entry: &Value) -> Result<Option<Credential>, &'static str> {
    let text = |name: &str| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::RegistryToken(token.to_owned())));
    }
    if let Some(auth) = text("auth") {
        return decoded(auth).map(Some);
    }
    Ok(match (text("username"), text("password")) {
        (Some(username), Some(password)) => Some(Credential::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        }),
        _ => None,
    })
}

/// `user:password` in Base64, padded or not.
fn decoded(auth: &str) -> Result<Credential, &'static str> {
    const EITHER: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let problem = "an `auth` is not a user name and password in Base64";
    let bytes = EITHER.decode(auth).map_err(|_| problem)?;
    let text = String::from_utf8(bytes).map_err(|_| problem)?;
    let (username, password) = text.split_once(':').ok_or(problem)?;
    Ok(Credential::Password {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

fn entry_of(credential: &Credential) -> Value {
    match credential {
        Credential::Password { username, password } => {
            json!({ "auth": STANDARD.encode(format!("{username}:{password}")) })
        }
        Credential::IdentityToken(token) => json!({ "identitytoken": token }),
        Credential::RegistryToken(token) => json!({ "registrytoken": token }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CONFIG: &str = r#"{ "auths": {
        "https://index.docker.io/v1/": { "auth": "aHViOnMx" },
        "docker.io/team": { "auth": "aHVidGVhbTpzMQ==" },
        "quay.io": { "auth": "cXVheTpzMg" },
        "quay.io/team/secret": { "auth": "dGVhbTpzMw==" },
        "https://old.example/v1/": { "username": "old", "password": "s4" },
        "empty.example": {},
        "token.example": { "auth": "dTo=", "identitytoken": "refresh" },
        "ready.example": { "registrytoken": "ready" }
    }, "proxies": { "default": { "httpProxy": "http://p" } } }"#;

    fn parsed(text: &str) -> ConfigFile {
        ConfigFile::parse(text.as_bytes(), "the test").unwrap()
    }

    fn find(
        config: &ConfigFile,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        config.find(registry, repository, &Patience::default())
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn the_best_entry_wins() {
        let config = parsed(CONFIG);
        for (registry, repository, expected) in [
            ("docker.io", "library/alpine", password("hub", "s1")),
            ("docker.io", "team/app", password("hubteam", "s1")),
            ("quay.io", "other", password("quay", "s2")),
            ("quay.io", "team/secret/app", password("team", "s3")),
            ("quay.io", "team/secret", password("team", "s3")),
            ("quay.io", "team/secretive", password("quay", "s2")),
            ("old.example", "x", password("old", "s4")),
            ("empty.example", "x", None),
            ("unknown.example", "x", None),
            // Another port is another registry.
            ("quay.io:8443", "x", None),
            (
                "token.example",
                "x",
                Some(Credential::IdentityToken("refresh".to_owned())),
            ),
            (
                "ready.example",
                "x",
                Some(Credential::RegistryToken("ready".to_owned())),
            ),
        ] {
            let found = find(&config, registry, repository).unwrap();
            assert_eq!(found, expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_said_so() {
        for text in ["[]", "{", r#"{"auths":[]}"#, r#"{"credHelpers":"x"}"#] {
            ConfigFile::parse(text.as_bytes(), "o").unwrap_err();
        }
        let config = parsed(r#"{"auths":{"a.example":{"auth":"no colon"}}}"#);
        let error = find(&config, "a.example", "x").unwrap_err().to_string();
        assert!(error.starts_with("the test: an `auth` is not"), "{error}");
        // Docker leaves such files behind.
        assert_eq!(find(&parsed(""), "a.example", "x").unwrap(), None);
        assert_eq!(find(&parsed(r#"{"auths":null}"#), "a", "x").unwrap(), None);
    }

    #[test]
    fn what_was_stored_is_found_and_erased_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        let mut config = parsed(CONFIG);
        let new = password("new", "pass:word").unwrap();
        for registry in ["docker.io", "quay.io", "new.example:5000", "quay.io/team"] {
            assert_eq!(config.store(registry, &new).unwrap(), None);
        }
        config.write(&path).unwrap();
        let permissions = fs::metadata(&path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        let mut config = parsed(&fs::read_to_string(&path).unwrap());
        for (registry, repository) in [
            ("docker.io", "library/alpine"),
            ("quay.io", "x"),
            ("quay.io", "team/x"),
            ("new.example:5000", "x"),
        ] {
            let found = find(&config, registry, repository).unwrap();
            assert_eq!(found.as_ref(), Some(&new), "{registry}/{repository}");
        }
        assert!(config.members["auths"].get(HUB_KEY).is_some());
        assert!(config.members.get("proxies").is_some());
        assert!(config.erase("docker.io").unwrap());
        assert!(!config.erase("docker.io").unwrap());
        assert_eq!(find(&config, "docker.io", "library/alpine").unwrap(), None);
        assert_eq!(
            find(&config, "old.example", "x").unwrap(),
            password("old", "s4")
        );
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let mut config = parsed("{}");
        config
            .store("a.example", &password("u", "p").unwrap())
            .unwrap();
        config.write(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("a.example"));
        // To what isn't there yet, by way of another.
        let other = folder.path().join("other");
        std::os::unix::fs::symlink("new/config", folder.path().join("way")).unwrap();
        std::os::unix::fs::symlink("way", &other).unwrap();
        config.write(&other).unwrap();
        assert!(fs::symlink_metadata(&other).unwrap().is_symlink());
        assert!(folder.path().join("new/config").is_file());
    }

    #[test]
    fn what_is_written_is_for_its_owner_alone_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for mode in [0o644, 0o600, 0o400] {
            fs::write(&path, r#"{"psFormat":"x","auths":null}"#).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut config = parsed(&fs::read_to_string(&path).unwrap());
            let new = password("u", "p").unwrap();
            config.store("a.example", &new).unwrap();
            config.write(&path).unwrap();
            let written = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(written & 0o777, 0o600, "{mode:o}");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("psFormat"), "{text}");
            fs::remove_file(&path).unwrap();
        }
        // Nothing else is left behind.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
