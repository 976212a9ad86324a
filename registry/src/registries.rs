//! Rules about registries, as `containers-registries.conf(5)` has them: mirrors, other locations, insecure and blocked ones.
//!
//! A name's rules are those of the longest prefix that matches it. Mirrors and locations are for pulls; a push goes to the
//! registry by its own name. `unqualified-search-registries`, short-name modes and aliases are not followed: a name without a
//! registry means `docker.io`, so that the same Dockerfile builds from the same image everywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kiln_image::Reference;
use thiserror::Error;
use toml_edit::{Document, Table};

use crate::endpoint::Endpoint;
use crate::host::host_of;

/// Which files have the rules. They are read when a registry is asked for the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryRules {
    /// The first of these that is there counts.
    pub main: Vec<PathBuf>,
    /// The `*.conf` of these folders, by name within each. A later rule for a prefix takes the place of an earlier one.
    pub folders: Vec<PathBuf>,
    /// Files after all of those, if they are there.
    pub last: Vec<PathBuf>,
}

/// Rules that can't be used.
#[derive(Debug, Error)]
pub enum RulesError {
    /// A file is there and can't be read.
    #[error("reading `{}` failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is not in the format.
    #[error("`{}`: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, in one line.
        problem: String,
    },
    /// A file leaves nobody to ask.
    #[error("no host that `hosts.toml` names for `{registry}` may be asked for this")]
    Nobody {
        /// The registry.
        registry: String,
    },
    /// A rule forbids the registry.
    #[error("`{}` blocks `{prefix}`", path.display())]
    Blocked {
        /// The file that does.
        path: PathBuf,
        /// The rule's prefix.
        prefix: String,
    },
}

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    path: PathBuf,
    prefix: String,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug)]
struct Mirror {
    location: String,
    insecure: bool,
    pulls: MirrorPulls,
}

/// What a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MirrorPulls {
    All,
    ByDigest,
    ByTag,
}

impl Rules {
    /// Reads all files.
    pub(crate) fn read(files: &RegistryRules) -> Result<Self, RulesError> {
        let mut rules = Rules::default();
        for path in &files.main {
            if rules.take_file(path)? {
                break;
            }
        }
        for folder in &files.folders {
            for path in confs(folder)? {
                rules.take_file(&path)?;
            }
        }
        for path in &files.last {
            rules.take_file(path)?;
        }
        Ok(rules)
    }

    fn take_file(&mut self, path: &Path) -> Result<bool, RulesError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(source) => {
                let path = path.to_owned();
                return Err(RulesError::Read { path, source });
            }
        };
        let new = parse(path, &text).map_err(|problem| RulesError::Format {
            path: path.to_owned(),
            problem,
        })?;
        for rule in new {
            self.0.retain(|old| old.prefix != rule.prefix);
            self.0.push(rule);
        }
        Ok(true)
    }

    /// Where to ask for an image, in that order; the last one is the registry itself.
    pub(crate) fn to_pull(&self, image: &Reference) -> Result<Vec<Endpoint>, RulesError> {
        let Some((rule, length)) = self.of(image)? else {
            return Ok(vec![Endpoint::of(image)]);
        };
        let by_digest = image.digest().is_some();
        let rest = &image.name()[length.min(image.name().len())..];
        let mirrors = rule.mirrors.iter().filter(|mirror| match mirror.pulls {
            MirrorPulls::All => true,
            MirrorPulls::ByDigest => by_digest,
            MirrorPulls::ByTag => !by_digest,
        });
        let mut endpoints: Vec<Endpoint> = mirrors
            .filter_map(|mirror| located(&mirror.location, rest, mirror.insecure))
            .collect();
        let own = match &rule.location {
            Some(location) => located(location, rest, rule.insecure),
            None => None,
        };
        endpoints.push(own.unwrap_or(Endpoint {
            insecure: rule.insecure,
            ..Endpoint::of(image)
        }));
        Ok(endpoints)
    }

    /// Where to send an image.
    pub(crate) fn to_push(&self, image: &Reference) -> Result<Endpoint, RulesError> {
        let rule = self.of(image)?;
        Ok(Endpoint {
            insecure: rule.is_some_and(|(rule, _)| rule.insecure),
            ..Endpoint::of(image)
        })
    }

    /// The registry as such.
    pub(crate) fn registry(&self, host: &str) -> Endpoint {
        let matching = self.0.iter().filter(|rule| {
            rule.prefix == host || (is_subdomain(host, &rule.prefix) && fits(rule, host))
        });
        let rule = closest(matching.map(|rule| (rule, host.len())));
        Endpoint {
            insecure: rule.is_some_and(|(rule, _)| rule.insecure),
            ..Endpoint::registry(host)
        }
    }

    /// The rule for an image, and how much of its name the prefix covers.
    fn of(&self, image: &Reference) -> Result<Option<(&Rule, usize)>, RulesError> {
        let matching = self.0.iter().filter_map(|rule| {
            let length = matched(rule, image)?;
            Some((rule, length))
        });
        let Some((rule, length)) = closest(matching) else {
            return Ok(None);
        };
        if rule.blocked {
            return Err(RulesError::Blocked {
                path: rule.path.clone(),
                prefix: rule.prefix.clone(),
            });
        }
        Ok(Some((rule, length)))
    }
}

/// The rule with the longest prefix; among those the first, as podman has it. A `*` is one character, whatever it stands for.
fn closest<'r>(rules: impl Iterator<Item = (&'r Rule, usize)>) -> Option<(&'r Rule, usize)> {
    rules.reduce(
        |best, rule| match rule.0.prefix.len() > best.0.prefix.len() {
            true => rule,
            false => best,
        },
    )
}

/// Whether `host` is what `*.example.com` stands for, on any port.
fn is_subdomain(host: &str, prefix: &str) -> bool {
    let (host, domain) = (host_of(host), prefix.strip_prefix('*'));
    domain.is_some_and(|domain| host.len() > domain.len() && host.ends_with(domain))
}

/// Whether nothing would have to be put in the place of a host with a port by a rule that knows none.
fn fits(rule: &Rule, host: &str) -> bool {
    host_of(host) == host || (rule.location.is_none() && rule.mirrors.is_empty())
}

/// How much of an image's name a rule's prefix covers.
fn matched(rule: &Rule, image: &Reference) -> Option<usize> {
    let (prefix, whole) = (&*rule.prefix, image.to_string());
    let host = image.registry();
    if prefix.starts_with('*') {
        return (is_subdomain(host, prefix) && fits(rule, host)).then_some(host.len());
    }
    let rest = whole.strip_prefix(prefix)?;
    let ends = rest.is_empty() || rest.starts_with(['/', ':', '@']);
    // `host` is no prefix of `host:port`.
    let cuts_port = !prefix.contains('/') && !rest.starts_with('/');
    (ends && !cuts_port).then_some(prefix.len())
}

/// `location` with the rest of a name behind it.
fn located(location: &str, rest: &str, insecure: bool) -> Option<Endpoint> {
    let name = format!("{}{rest}", location.trim_end_matches('/'));
    let (host, repository) = name.split_once('/')?;
    Some(Endpoint {
        host: host.to_owned(),
        repository: repository.to_owned(),
        insecure,
        host_entry: None,
        stands_for: None,
    })
}

/// The `*.conf` of a folder, sorted; none if there is no such folder.
fn confs(folder: &Path) -> Result<Vec<PathBuf>, RulesError> {
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

/// The rules of one file; else what is wrong with it.
fn parse(path: &Path, text: &str) -> Result<Vec<Rule>, String> {
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text[..span.start.min(text.len())].matches('\n').count() + 1
        });
        let message = error.message().lines().next().unwrap_or("not TOML");
        format!("line {line}: {message}")
    })?;
    if document.get("registries").is_some() {
        return Err("it is in the old format, version 1; write `[[registry]]` tables".to_owned());
    }
    let Some(item) = document.get("registry") else {
        return Ok(Vec::new());
    };
    let tables = item
        .as_array_of_tables()
        .ok_or("`registry` has to be written as `[[registry]]`")?;
    let mut rules: Vec<Rule> = Vec::new();
    for table in tables {
        let rule = rule(path, table)?;
        // Of two for one prefix in one file the first counts, as podman has it.
        if rules.iter().all(|known| known.prefix != rule.prefix) {
            rules.push(rule);
        }
    }
    Ok(rules)
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

    const CONF: &str = r#"
unqualified-search-registries = ["example.org"]
short-name-mode = "enforcing"

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/team"
location = "own.example/moved"

[[registry]]
location = "bad.example"
blocked = true

[[registry]]
prefix = "*.lab.example"
insecure = true

[[registry]]
prefix = "*.east.lab.example"
location = "east.example/all"

[[registry]]
location = "b.east.lab.example"

[[registry]]
prefix = "c.lab.example/team"
location = "team.example"

[[registry]]
prefix = "c.lab.example/team"
location = "second.example"

[[registry]]
prefix = "one.example/app:1"
location = "two.example/app:2"
"#;

    fn rules(text: &str) -> Rules {
        Rules(parse(Path::new("/r.conf"), text).unwrap())
    }

    fn shown(endpoint: &Endpoint) -> String {
        let mark = if endpoint.insecure { "!" } else { "" };
        format!("{mark}{}/{}", endpoint.host, endpoint.repository)
    }

    #[test]
    fn images_are_asked_for_where_the_rules_say() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let rules = rules(CONF);
        for (image, expected) in [
            (
                "alpine:3",
                "!mirror.example:5000/hub/library/alpine tags.example/library/alpine docker.io/library/alpine",
            ),
            (
                &format!("alpine@{digest}"),
                "!mirror.example:5000/hub/library/alpine digests.example/library/alpine docker.io/library/alpine",
            ),
            ("team/app", "own.example/moved/app"),
            (
                "teams/app",
                "!mirror.example:5000/hub/teams/app tags.example/teams/app docker.io/teams/app",
            ),
            ("docker.io.example/x/y", "docker.io.example/x/y"),
            ("a.lab.example/x", "!a.lab.example/x"),
            ("lab.example/x", "lab.example/x"),
            ("a.east.lab.example/x/y", "east.example/all/x/y"),
            ("a.lab.example:5000/x", "!a.lab.example:5000/x"),
            // Its rule is for another place, which has no such port.
            ("a.east.lab.example:5000/x", "!a.east.lab.example:5000/x"),
            // As long as the prefix with the `*`, and after it.
            ("b.east.lab.example/x", "east.example/all/x"),
            ("c.lab.example/team/x", "team.example/x"),
            ("quay.io/x", "quay.io/x"),
        ] {
            let endpoints = rules.to_pull(&image.parse().unwrap()).unwrap();
            let found: Vec<String> = endpoints.iter().map(shown).collect();
            assert_eq!(found.join(" "), expected, "{image}");
        }
        // To push there is one place.
        let push = rules.to_push(&"alpine:3".parse().unwrap()).unwrap();
        assert_eq!(shown(&push), "docker.io/library/alpine");
        let push = rules.to_push(&"a.lab.example/x".parse().unwrap()).unwrap();
        assert_eq!(shown(&push), "!a.lab.example/x");
        assert!(!rules.registry("docker.io").insecure);
        assert!(rules.registry("a.lab.example:5000").insecure);
        assert!(!rules.registry("a.east.lab.example").insecure);
    }

    #[test]
    fn a_blocked_registry_is_neither_pulled_from_nor_pushed_to() {
        let image = "bad.example/x".parse().unwrap();
        let rules = rules(CONF);
        let error = rules.to_pull(&image).unwrap_err();
        assert_eq!(error.to_string(), "`/r.conf` blocks `bad.example`");
        rules.to_push(&image).unwrap_err();
    }

    #[test]
    fn later_files_replace_rules_prefix_by_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("d")).unwrap();
        let rule = |mirror: &str| {
            format!(
                "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n"
            )
        };
        fs::write(path("main"), rule("main")).unwrap();
        fs::write(path("ignored"), rule("ignored")).unwrap();
        let mut files = RegistryRules {
            main: vec![path("none"), path("main"), path("ignored")],
            folders: vec![path("nowhere"), path("d")],
            last: vec![path("own")],
        };
        let first = |files: &RegistryRules| {
            let rules = Rules::read(files).unwrap();
            rules.to_pull(&"r.example/x".parse().unwrap()).unwrap()[0]
                .host
                .clone()
        };
        assert_eq!(first(&files), "main");
        fs::write(path("d/20.conf"), rule("second")).unwrap();
        fs::write(path("d/10.conf"), rule("first")).unwrap();
        fs::write(path("d/30.txt"), rule("other")).unwrap();
        assert_eq!(first(&files), "second");
        fs::write(path("own"), rule("own")).unwrap();
        assert_eq!(first(&files), "own");
        files.last.push(folder.path().to_owned());
        let error = Rules::read(&files).unwrap_err().to_string();
        assert!(error.starts_with("reading `"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("a = [", "line 1: "),
            (
                "[registries.search]\nregistries = []",
                "it is in the old format",
            ),
            ("registry = 1", "`registry` has to be written as"),
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
            let problem = parse(Path::new("/r"), text).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }
}
