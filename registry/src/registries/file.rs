//! Files of rules about registries: the format of `containers-registries.conf(5)`, version 2, and of the main file also version 1,
//! which knows lists of insecure and blocked registries only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Table};

use super::{Mirror, MirrorPulls, Rule, RuleFile, Rules, RulesError};

/// Which versions of the format a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Any,
    Second,
}

/// The rules of a main file, if it is there.
pub(super) fn main(file: &RuleFile) -> Result<Option<Rules>, RulesError> {
    read(&file.path, file.named, Version::Any)
}

/// The rules of a file that adds to others, if it is there.
pub(super) fn further(path: &Path) -> Result<Option<Rules>, RulesError> {
    read(path, false, Version::Second)
}

fn read(path: &Path, is_needed: bool, version: Version) -> Result<Option<Rules>, RulesError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) && !is_needed => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(RulesError::Read { path, source });
        }
    };
    let rules = parse(path, &text, version).map_err(|problem| RulesError::Format {
        path: path.to_owned(),
        problem,
    })?;
    Ok(Some(rules))
}

/// The `*.conf` of a folder, sorted; none if there is no such folder.
pub(super) fn confs(folder: &Path) -> Result<Vec<PathBuf>, RulesError> {
    let failed = |source| RulesError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

const OLD: &str = "it is in the old format, version 1; write `[[registry]]` tables";

/// The rules of one file; else what is wrong with it.
pub(super) fn parse(path: &Path, text: &str, version: Version) -> Result<Rules, String> {
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text[..span.start.min(text.len())].matches('\n').count() + 1
        });
        let message = error.message().lines().next().unwrap_or("not TOML");
        format!("line {line}: {message}")
    })?;
    if let Some(lists) = document.get("registries") {
        return match version {
            Version::Any if document.get("registry").is_none() => Ok(Rules {
                list: first_version(path, lists)?,
                helpers: None,
            }),
            _ => Err(OLD.to_owned()),
        };
    }
    let helpers = document.get("credential-helpers");
    let helpers = helpers.map(credential_helpers).transpose()?;
    let mut rules: Vec<Rule> = Vec::new();
    let tables = document.get("registry").map(|item| {
        let tables = item.as_array_of_tables();
        tables.ok_or("`registry` has to be written as `[[registry]]`")
    });
    for table in tables.transpose()?.into_iter().flatten() {
        let rule = rule(path, table)?;
        // Of two for one prefix in one file the first counts, as podman has it.
        if rules.iter().all(|known| known.prefix != rule.prefix) {
            rules.push(rule);
        }
    }
    Ok(Rules {
        list: rules,
        helpers,
    })
}

/// The names in `credential-helpers`, of programs and of what stands for files.
fn credential_helpers(list: &Item) -> Result<Vec<String>, String> {
    let wrong = "`credential-helpers` has to be a list of names";
    let names = list.as_array().ok_or(wrong)?.iter();
    names
        .map(|name| Ok(name.as_str().ok_or(wrong)?.to_owned()))
        .collect()
}

/// The rules of `[registries.insecure]` and `[registries.block]`. `[registries.search]` is not followed in either version.
fn first_version(path: &Path, lists: &Item) -> Result<Vec<Rule>, String> {
    let mut rules: Vec<Rule> = Vec::new();
    for name in ["block", "insecure"] {
        for location in listed(lists, name)? {
            let known = rules.iter_mut().find(|rule| rule.prefix == location);
            let rule = match known {
                Some(rule) => rule,
                None => {
                    rules.push(Rule::of(path, location));
                    rules.last_mut().expect("it was just put there")
                }
            };
            match name {
                "block" => rule.blocked = true,
                _ => rule.insecure = true,
            }
        }
    }
    Ok(rules)
}

/// The `registries` of a table of version 1.
fn listed<'a>(lists: &'a Item, name: &str) -> Result<Vec<&'a str>, String> {
    let Some(item) = lists.get(name).and_then(|list| list.get("registries")) else {
        return Ok(Vec::new());
    };
    let wrong = || format!("`registries` of `[registries.{name}]` has to be a list of registries");
    let texts = item.as_array().ok_or_else(wrong)?.iter();
    texts
        .map(|value| {
            let text = value.as_str().map(|text| text.trim_end_matches('/'));
            text.filter(|text| is_location(text)).ok_or_else(wrong)
        })
        .collect()
}

fn rule(path: &Path, table: &Table) -> Result<Rule, String> {
    let location = text(table, "location")?;
    let prefix = text(table, "prefix")?;
    let prefix = prefix
        .or_else(|| location.clone())
        .ok_or("a `[[registry]]` has neither `prefix` nor `location`")?;
    let wildcard = prefix.starts_with('*');
    if location.is_none() && !wildcard {
        return Err(format!("`{prefix}` has no `location`"));
    }
    if prefix.contains('*') && (!prefix.starts_with("*.") || prefix[2..].contains(['*', '/'])) {
        return Err(format!(
            "`{prefix}`: a `*` may only stand for subdomains, as in `*.example.com`"
        ));
    }
    if let Some(location) = location.iter().find(|text| !is_location(text)) {
        return Err(format!("`{location}` is not a registry"));
    }
    if table.contains_key("pull-from-mirror") {
        return Err(format!(
            "`pull-from-mirror` of `{prefix}` belongs to one of its mirrors"
        ));
    }
    let only_digests = flag(table, "mirror-by-digest-only")?;
    let mut mirrors = Vec::new();
    if let Some(item) = table.get("mirror") {
        let tables = item
            .as_array_of_tables()
            .ok_or("`mirror` has to be written as `[[registry.mirror]]`")?;
        for table in tables {
            mirrors.push(mirror(table, only_digests)?);
        }
    }
    Ok(Rule {
        path: path.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        location,
        insecure: flag(table, "insecure")?,
        blocked: flag(table, "blocked")?,
        mirrors,
    })
}

fn mirror(table: &Table, only_digests: bool) -> Result<Mirror, String> {
    let location = text(table, "location")?.ok_or("a mirror has no `location`")?;
    if !is_location(&location) {
        return Err(format!("`{location}` is not a registry"));
    }
    let pulls = match text(table, "pull-from-mirror")?.as_deref() {
        None | Some("") if only_digests => MirrorPulls::ByDigest,
        Some(_) if only_digests => {
            return Err("`pull-from-mirror` and `mirror-by-digest-only` exclude each other".into());
        }
        None | Some("" | "all") => MirrorPulls::All,
        Some("digest-only") => MirrorPulls::ByDigest,
        Some("tag-only") => MirrorPulls::ByTag,
        Some(other) => {
            return Err(format!(
                "`pull-from-mirror` is `{other}`; it may be all, digest-only or tag-only"
            ));
        }
    };
    Ok(Mirror {
        location,
        insecure: flag(table, "insecure")?,
        pulls,
    })
}

/// `host`, `host:port`, `host/namespace`: no scheme, no spaces.
fn is_location(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:/[]".contains(c);
    !text.is_empty() && !text.contains("//") && !text.starts_with('/') && text.chars().all(allowed)
}

fn text(table: &Table, name: &str) -> Result<Option<String>, String> {
    match table.get(name) {
        None => Ok(None),
        Some(item) => match item.as_str() {
            Some("") => Ok(None),
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("`{name}` has to be a text")),
        },
    }
}

fn flag(table: &Table, name: &str) -> Result<bool, String> {
    match table.get(name) {
        None => Ok(false),
        Some(item) => item
            .as_bool()
            .ok_or_else(|| format!("`{name}` has to be true or false")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("a = [", "line 1: "),
            (
                "[registries.block]\nregistries = []\n[[registry]]\nlocation = \"a\"",
                "it is in the old format",
            ),
            (
                "[registries.block]\nregistries = [\"https://a\"]",
                "`registries` of `[registries.block]`",
            ),
            (
                "[[registry]]\nlocation = \"a\"\npull-from-mirror = \"all\"",
                "`pull-from-mirror` of `a` belongs",
            ),
            ("registry = 1", "`registry` has to be written as"),
            (
                "credential-helpers = \"a\"",
                "`credential-helpers` has to be",
            ),
            ("credential-helpers = [1]", "`credential-helpers` has to be"),
            ("[[registry]]", "a `[[registry]]` has neither"),
            ("[[registry]]\nprefix = \"a\"", "`a` has no `location`"),
            ("[[registry]]\nlocation = 1", "`location` has to be a text"),
            (
                "[[registry]]\nlocation = \"https://a\"",
                "`https://a` is not a registry",
            ),
            (
                "[[registry]]\nlocation = \"a\"\ninsecure = 1",
                "`insecure` has to be",
            ),
            (
                "[[registry]]\nprefix = \"a.*\"\nlocation = \"a\"",
                "`a.*`: a `*` may only",
            ),
            (
                "[[registry]]\nlocation=\"a\"\n[[registry.mirror]]",
                "a mirror has no",
            ),
            (
                "[[registry]]\nlocation=\"a\"\n[[registry.mirror]]\nlocation=\"b\"\npull-from-mirror=\"no\"",
                "`pull-from-mirror` is `no`",
            ),
        ] {
            let problem = parse(Path::new("/r"), text, Version::Any).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }
}
