//! Rules about registries, as `containers-registries.conf(5)` has them: mirrors, other locations, insecure and blocked ones.
//!
//! A name's rules are those of the longest prefix that matches it. Mirrors and locations are for pulls; a push goes to the
//! registry by its own name. `unqualified-search-registries`, short-name modes and aliases are not followed: a name without a
//! registry means `docker.io`, so that the same Dockerfile builds from the same image everywhere.

mod file;

use std::io;
use std::path::{Path, PathBuf};

use kiln_image::Reference;
use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::host::host_of;

/// Which files have the rules. They are read when a registry is asked for the first time. A later rule for a prefix takes the
/// place of an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryRules {
    /// The first of these whose file is there counts, if none is, the last one's folders.
    pub main: Vec<RuleFile>,
    /// Files after that, if they are there.
    pub last: Vec<PathBuf>,
}

/// A file of rules, and what adds to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFile {
    /// The file.
    pub path: PathBuf,
    /// Whether somebody named it, so that it has to be there.
    pub named: bool,
    /// The `*.conf` of these folders come after it, by name within each.
    pub folders: Vec<PathBuf>,
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
pub(crate) struct Rules {
    list: Vec<Rule>,
    /// Who has credentials, where a file says it: programs, and [`AUTH_FILES`].
    pub(crate) helpers: Option<Vec<String>>,
}

/// What stands for files of credentials in `credential-helpers`.
pub(crate) const AUTH_FILES: &str = "containers-auth.json";

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

impl Rule {
    /// Just the registry itself.
    fn of(path: &Path, location: &str) -> Self {
        Rule {
            path: path.to_owned(),
            prefix: location.to_owned(),
            location: Some(location.to_owned()),
            insecure: false,
            blocked: false,
            mirrors: Vec::new(),
        }
    }
}

impl Rules {
    /// Reads all files.
    pub(crate) fn read(files: &RegistryRules) -> Result<Self, RulesError> {
        let mut rules = Rules::default();
        let mut folders = &[][..];
        for main in &files.main {
            folders = &main.folders;
            if rules.add(file::main(main)?) {
                break;
            }
        }
        for folder in folders {
            for path in file::confs(folder)? {
                rules.add(file::further(&path)?);
            }
        }
        for path in &files.last {
            rules.add(file::further(path)?);
        }
        Ok(rules)
    }

    /// Takes over the rules of a file, `false` if it isn't there.
    fn add(&mut self, found: Option<Rules>) -> bool {
        let Some(found) = found else {
            return false;
        };
        for rule in found.list {
            self.list.retain(|old| old.prefix != rule.prefix);
            self.list.push(rule);
        }
        if found.helpers.is_some() {
            self.helpers = found.helpers;
        }
        true
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
        let matching = self.list.iter().filter(|rule| {
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
        let matching = self.list.iter().filter_map(|rule| {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

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
        file::parse(Path::new("/r.conf"), text, file::Version::Second).unwrap()
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
        fs::create_dir(path("x")).unwrap();
        fs::write(path("x/99.conf"), "of a file that doesn't count").unwrap();
        let rule = |mirror: &str| {
            format!(
                "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n"
            )
        };
        fs::write(path("main"), rule("main")).unwrap();
        fs::write(path("ignored"), rule("ignored")).unwrap();
        let main = |name: &str, folder: &str| RuleFile {
            path: path(name),
            named: false,
            folders: vec![path("nowhere"), path(folder)],
        };
        let mut files = RegistryRules {
            main: vec![main("none", "x"), main("main", "d"), main("ignored", "x")],
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
    fn the_last_file_that_names_credential_helpers_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = RegistryRules {
            main: vec![RuleFile {
                path: path("main"),
                named: false,
                folders: vec![path("d")],
            }],
            last: vec![path("own")],
        };
        let helpers = || Rules::read(&files).unwrap().helpers;
        assert_eq!(helpers(), None);
        fs::create_dir(path("d")).unwrap();
        for (name, text, expected) in [
            (
                "main",
                "credential-helpers = [\"a\", \"b\"]",
                &["a", "b"][..],
            ),
            ("d/1.conf", "[[registry]]\nlocation = \"x\"", &["a", "b"]),
            ("d/2.conf", "credential-helpers = [\"c\"]", &["c"]),
            ("own", "credential-helpers = []", &[]),
        ] {
            fs::write(path(name), text).unwrap();
            assert_eq!(helpers().unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn of_no_main_file_the_last_ones_folders_count_unless_one_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["own", "system"] {
            fs::create_dir(path(name)).unwrap();
            let rule = format!("[[registry]]\nlocation = \"{name}.example\"\nblocked = true\n");
            fs::write(path(name).join("a.conf"), rule).unwrap();
        }
        let main = |folders: &[&str]| RuleFile {
            path: path("none"),
            named: false,
            folders: folders.iter().map(|name| path(name)).collect(),
        };
        let mut files = RegistryRules {
            main: vec![main(&["own"]), main(&["system", "own"])],
            last: Vec::new(),
        };
        let rules = Rules::read(&files).unwrap();
        for name in ["own", "system"] {
            let image = format!("{name}.example/x").parse().unwrap();
            rules.to_pull(&image).unwrap_err();
        }
        files.main[1].named = true;
        let error = Rules::read(&files).unwrap_err().to_string();
        assert!(error.starts_with("reading `"), "{error}");
    }

    #[test]
    fn the_first_version_blocks_and_calls_insecure() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[registries.search]\nregistries = [\"docker.io\"]\n\
            [registries.insecure]\nregistries = [\"a.example:5000\", \"b.example/\"]\n\
            [registries.block]\nregistries = [\"b.example\"]\n";
        let path = folder.path().join("registries.conf");
        fs::write(&path, text).unwrap();
        let mut files = RegistryRules {
            main: vec![RuleFile {
                path: path.clone(),
                ..RuleFile::default()
            }],
            last: Vec::new(),
        };
        let rules = Rules::read(&files).unwrap();
        let places = rules.to_pull(&"a.example:5000/x".parse().unwrap()).unwrap();
        assert_eq!(shown(&places[0]), "!a.example:5000/x");
        rules.to_pull(&"b.example/x".parse().unwrap()).unwrap_err();
        let places = rules.to_pull(&"alpine".parse().unwrap()).unwrap();
        assert_eq!(shown(&places[0]), "docker.io/library/alpine");
        // As podman has it, only there.
        files.last.push(path);
        let error = Rules::read(&files).unwrap_err().to_string();
        assert!(error.contains("it is in the old format"), "{error}");
    }
}
