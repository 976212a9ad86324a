//! What the command line means here: flags joined with the environment and what kind of terminal this is.
//!
//! Every look at the environment is in this file; the rest of the crate is handed a [`Config`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kiln_executor::sandbox::Rung;

use crate::args::{ProgressMode, RegistryFlags};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::gc_budget::GcBudget;

/// Environment variables and terminals, as a value so that tests can make one up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: HashMap<OsString, OsString>,
    /// Whether the effective user is root.
    root_user: bool,
    stderr_is_terminal: bool,
}

/// What holds for the whole run of one command.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The store's folder.
    pub(crate) root: PathBuf,
    /// Whether text to stderr may carry colour.
    pub(crate) color: bool,
    /// Whether a flag names the store's folder.
    root_is_asked: bool,
    registry_flags: RegistryFlags,
    environment: Environment,
}

impl Environment {
    /// This process's own.
    pub(crate) fn current() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            root_user: rustix::process::geteuid().is_root(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A variable's value; an empty one counts as not set.
    fn os(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.os(name).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.os(name).and_then(OsStr::to_str)
    }

    /// Colour and live lines need a terminal that understands control sequences.
    fn has_live_terminal(&self) -> bool {
        self.stderr_is_terminal && self.text("TERM") != Some("dumb")
    }

    /// Under CI a terminal is an illusion: what is redrawn ends up in a log file.
    fn is_ci(&self) -> bool {
        self.text("CI")
            .is_some_and(|value| !matches!(value, "0" | "false"))
    }
}

impl Config {
    /// Joins `--root` with the environment.
    ///
    /// # Errors
    /// When no root was given and there is no home folder to put one in.
    pub(crate) fn resolve(
        root: Option<PathBuf>,
        environment: Environment,
    ) -> Result<Self, Failure> {
        let root_is_asked = root.is_some();
        let root = store_root(root, &environment)?;
        Ok(Self {
            root_is_asked,
            // Steps run with another working directory.
            root: std::path::absolute(&root).unwrap_or(root),
            color: environment.has_live_terminal() && environment.os("NO_COLOR").is_none(),
            registry_flags: RegistryFlags::default(),
            environment,
        })
    }

    /// The line that does something else with the same store, for the user to type.
    pub(crate) fn own_command(&self, words: &str) -> String {
        match self.root_is_asked {
            true => format!("kiln --root {} {words}", self.root.display()),
            false => format!("kiln {words}"),
        }
    }

    /// The same with what the command line says about registries.
    pub(crate) fn with_registry_flags(mut self, flags: RegistryFlags) -> Self {
        self.registry_flags = flags;
        self
    }

    /// The date that `SOURCE_DATE_EPOCH` gives to what is made, as RFC 3339 says it.
    pub(crate) fn source_date_epoch(&self) -> Result<Option<String>, Failure> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let Some(text) = self.variable(NAME).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let seconds = text.parse().ok();
        let date = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        match date {
            Some(date) => Ok(Some(date.to_string())),
            None => Err(Failure::usage(format!(
                "`{NAME}` is `{text}`, and no number of seconds since 1970"
            ))),
        }
    }

    /// How to show progress: the flag, else `KILN_PROGRESS`, else `BUILDKIT_PROGRESS`, else what fits the terminal.
    /// Never [`ProgressMode::Auto`].
    pub(crate) fn progress(
        &self,
        asked: Option<ProgressMode>,
        quiet: bool,
    ) -> Result<ProgressMode, Failure> {
        if quiet {
            return Ok(ProgressMode::Quiet);
        }
        let mode = match asked {
            Some(mode) => mode,
            None => self.progress_variable()?.unwrap_or(ProgressMode::Auto),
        };
        Ok(match mode {
            ProgressMode::Auto
                if self.environment.has_live_terminal() && !self.environment.is_ci() =>
            {
                ProgressMode::Tty
            }
            ProgressMode::Auto => ProgressMode::Plain,
            // Redrawing needs something to redraw on.
            ProgressMode::Tty if !self.environment.stderr_is_terminal => {
                return Err(
                    Failure::usage("progress mode `tty` needs a terminal on stderr")
                        .help("use `--progress plain`"),
                );
            }
            mode => mode,
        })
    }

    /// The sandbox that the flag asks for, else `KILN_SANDBOX`.
    pub(crate) fn sandbox(&self, asked: Option<&str>) -> Result<Option<Rung>, Failure> {
        let name = asked.or_else(|| self.environment.text("KILN_SANDBOX"));
        name.map(str::parse).transpose().map_err(|unknown| {
            Failure::from_error(Exit::Usage, None, &unknown)
                .help("`kiln doctor` tells which there are here; without `--sandbox` and `KILN_SANDBOX` the best is taken")
        })
    }

    /// How much space the cache may take: the flag, else `KILN_GC`.
    pub(crate) fn gc(&self, asked: Option<GcBudget>) -> Result<Option<GcBudget>, Failure> {
        let Some(text) = self.environment.text("KILN_GC").filter(|_| asked.is_none()) else {
            return Ok(asked);
        };
        text.parse().map(Some).map_err(|reason: String| {
            Failure::usage(format!("`KILN_GC` is `{text}`: {reason}"))
                .help("it may be off, or limits such as `max-used=50%,min-free=10g`")
        })
    }

    /// Whether text to stdout may carry colour.
    pub(crate) fn colors_stdout(&self) -> bool {
        self.color && std::io::stdout().is_terminal()
    }

    /// A variable of the client's environment, for `--build-arg K` and `-e K`.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.environment
            .variables
            .get(OsStr::new(name))
            .map(|value| value.to_string_lossy().into_owned())
    }

    /// How to speak to registries, as flags and the environment say.
    pub(crate) fn registry(&self) -> kiln_registry::Options {
        kiln_registry::Options {
            credentials: self.credentials(),
            proxy: self.proxy(),
            rules: self.rules(),
            certificates: self.certificates(),
            tls_verify: self.registry_flags.tls_verify,
            ..Default::default()
        }
    }

    /// What the `git` program may know: where it is, the proxies, the authorities that are trusted. Programs differ in the
    /// spelling of the latter.
    pub(crate) fn git(&self) -> kiln_executor::GitSettings {
        const PASSED_ON: [(&str, &str); 12] = [
            ("http_proxy", "http_proxy"),
            ("HTTP_PROXY", "HTTP_PROXY"),
            ("https_proxy", "https_proxy"),
            ("HTTPS_PROXY", "HTTPS_PROXY"),
            ("no_proxy", "no_proxy"),
            ("NO_PROXY", "NO_PROXY"),
            ("all_proxy", "all_proxy"),
            ("ALL_PROXY", "ALL_PROXY"),
            ("SSL_CERT_FILE", "SSL_CERT_FILE"),
            ("SSL_CERT_DIR", "SSL_CERT_DIR"),
            ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
            ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
        ];
        let variables = PASSED_ON.iter().filter_map(|(name, passed_as)| {
            let value = self.environment.os(name)?;
            Some((OsString::from(passed_as), value.to_owned()))
        });
        kiln_executor::GitSettings {
            path: self.environment.os("PATH").map(OsStr::to_owned),
            variables: variables.collect(),
            ssh_agent: None,
        }
    }

    /// What `--authfile` names, and nothing else; or `$REGISTRY_AUTH_FILE`, `$DOCKER_AUTH_CONFIG` itself,
    /// `$DOCKER_CONFIG/config.json` (or `~/.docker/config.json`) and podman's `$XDG_RUNTIME_DIR/containers/auth.json` and
    /// `~/.config/containers/auth.json`.
    fn credentials(&self) -> kiln_registry::Credentials {
        use kiln_registry::CredentialSource;
        let file = |path: Option<PathBuf>| path.map(CredentialSource::File);
        let sources = if let Some(path) = &self.registry_flags.authfile {
            vec![CredentialSource::Named(path.clone())]
        } else {
            let text = self.environment.text("DOCKER_AUTH_CONFIG");
            let text = text.map(|text| CredentialSource::Text {
                name: "`$DOCKER_AUTH_CONFIG`".to_owned(),
                text: text.to_owned(),
            });
            let runtime = self.environment.path("XDG_RUNTIME_DIR");
            let runtime = match runtime.map(|folder| folder.join("containers")) {
                None if self.environment.root_user => Some("/run/containers/0".into()),
                runtime => runtime,
            };
            let own = self.config_folder();
            let sources = [
                file(self.environment.path("REGISTRY_AUTH_FILE")),
                text,
                file(self.docker_config()),
                file(runtime.map(|folder| folder.join("auth.json"))),
                file(own.map(|folder| folder.join("containers/auth.json"))),
            ];
            sources.into_iter().flatten().collect()
        };
        // A file that is named is meant to be asked, and nothing else.
        let rules = match self.registry_flags.authfile {
            Some(_) => kiln_registry::RegistryRules::default(),
            None => self.rules(),
        };
        kiln_registry::Credentials {
            sources,
            rules,
            ..Default::default()
        }
    }

    /// Where `kiln login` puts what it learns; `None` if there is no home folder.
    pub(crate) fn login_file(&self) -> Option<PathBuf> {
        let asked = self.registry_flags.authfile.clone();
        asked
            .or_else(|| self.environment.path("REGISTRY_AUTH_FILE"))
            .or_else(|| self.docker_config())
    }

    fn docker_config(&self) -> Option<PathBuf> {
        let folder = self.environment.path("DOCKER_CONFIG").or_else(|| {
            let home = self.environment.path("HOME")?;
            Some(home.join(".docker"))
        });
        folder.map(|folder| folder.join("config.json"))
    }

    /// `$XDG_CONFIG_HOME`, `~/.config`.
    fn config_folder(&self) -> Option<PathBuf> {
        self.environment.path("XDG_CONFIG_HOME").or_else(|| {
            let home = self.environment.path("HOME")?;
            Some(home.join(".config"))
        })
    }

    /// The files of podman and its kin, as podman takes them, and then kiln's own in the same format.
    fn rules(&self) -> kiln_registry::RegistryRules {
        let own = self.config_folder();
        let own = |rest: &str| own.as_ref().map(|folder| folder.join(rest));
        let own_folder = own("containers/registries.conf.d");
        let folders = [
            Some(PathBuf::from("/etc/containers/registries.conf.d")),
            own_folder.clone(),
        ];
        let system = |path: &Path, named| kiln_registry::RuleFile {
            path: path.to_owned(),
            named,
            folders: folders.iter().flatten().cloned().collect(),
        };
        let main = match self.environment.path("CONTAINERS_REGISTRIES_CONF") {
            Some(only) => vec![system(&only, true)],
            None => {
                let users = own("containers/registries.conf");
                let users = users.map(|path| kiln_registry::RuleFile {
                    path,
                    named: false,
                    folders: own_folder.into_iter().collect(),
                });
                let shared = system(Path::new("/etc/containers/registries.conf"), false);
                users.into_iter().chain([shared]).collect()
            }
        };
        let last = [
            Some(PathBuf::from("/etc/kiln/registries.conf")),
            own("kiln/registries.conf"),
        ];
        kiln_registry::RegistryRules {
            main,
            last: last.into_iter().flatten().collect(),
        }
    }

    /// Folders with certificates and files of hosts, kiln's own first, then podman's, Docker's and containerd's.
    fn certificates(&self) -> Vec<PathBuf> {
        let own = self.config_folder();
        let own = |rest: &str| own.as_ref().map(|folder| folder.join(rest));
        let folders = [
            own("kiln/certs.d"),
            Some(PathBuf::from("/etc/kiln/certs.d")),
            own("containers/certs.d"),
            Some(PathBuf::from("/etc/containers/certs.d")),
            own("docker/certs.d"),
            Some(PathBuf::from("/etc/docker/certs.d")),
            own("containerd/certs.d"),
            Some(PathBuf::from("/etc/containerd/certs.d")),
        ];
        folders.into_iter().flatten().collect()
    }

    fn proxy(&self) -> kiln_registry::Proxy {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| self.environment.text(name))
                .map(str::to_owned)
        };
        let for_all = first(&["all_proxy", "ALL_PROXY"]);
        let bypass = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let bypass = bypass
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        kiln_registry::Proxy {
            http: first(&["http_proxy", "HTTP_PROXY"]).or_else(|| for_all.clone()),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or(for_all),
            bypass,
        }
    }

    fn progress_variable(&self) -> Result<Option<ProgressMode>, Failure> {
        let found = ["KILN_PROGRESS", "BUILDKIT_PROGRESS"]
            .into_iter()
            .find_map(|name| self.environment.text(name).map(|value| (name, value)));
        let Some((name, value)) = found else {
            return Ok(None);
        };
        clap::ValueEnum::from_str(value, true)
            .map(Some)
            .map_err(|_| {
                Failure::usage(format!("`{name}` is `{value}`, which is no progress mode"))
                    .help("it may be auto, tty, plain, rawjson, quiet or none")
            })
    }
}

/// `--root`, `KILN_ROOT`, `/var/lib/kiln` for root, `$XDG_DATA_HOME/kiln`, `~/.local/share/kiln`.
fn store_root(asked: Option<PathBuf>, environment: &Environment) -> Result<PathBuf, Failure> {
    let given = asked.or_else(|| environment.os("KILN_ROOT").map(PathBuf::from));
    if let Some(root) = given {
        return Ok(root);
    }
    if environment.root_user {
        return Ok("/var/lib/kiln".into());
    }
    let data = environment.os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || {
        environment
            .os("HOME")
            .map(|home| PathBuf::from(home).join(".local/share"))
    };
    data.or_else(home)
        .map(|data| data.join("kiln"))
        .ok_or_else(|| {
            Failure::environment(
                "there is no folder for kiln's store: neither HOME nor XDG_DATA_HOME is set",
            )
            .help("name one with `--root DIR` or `KILN_ROOT`")
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Environment {
        /// A made-up environment without a terminal.
        pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            Self {
                variables,
                ..Self::default()
            }
        }

        fn with_terminal(mut self) -> Self {
            self.stderr_is_terminal = true;
            self
        }

        fn for_root_user(mut self) -> Self {
            self.root_user = true;
            self
        }
    }

    fn root(flag: Option<&str>, environment: Environment) -> Option<String> {
        let config = Config::resolve(flag.map(PathBuf::from), environment).ok()?;
        Some(config.root.to_string_lossy().into_owned())
    }

    #[test]
    fn the_root_is_the_most_specific_one() {
        let all = Environment::of(&[("KILN_ROOT", "/k"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(root(Some("/flag"), all.clone()).as_deref(), Some("/flag"));
        assert_eq!(root(None, all.clone()).as_deref(), Some("/k"));
        assert_eq!(
            root(
                None,
                Environment::of(&[("XDG_DATA_HOME", "/x")]).for_root_user()
            )
            .as_deref(),
            Some("/var/lib/kiln")
        );
        assert_eq!(
            root(None, Environment::of(&[("XDG_DATA_HOME", "/x")])).as_deref(),
            Some("/x/kiln")
        );
        assert_eq!(
            root(None, Environment::of(&[("HOME", "/h")])).as_deref(),
            Some("/h/.local/share/kiln")
        );
        assert_eq!(root(None, Environment::of(&[])), None);
        assert_eq!(
            root(None, Environment::of(&[("KILN_ROOT", ""), ("HOME", "/h")])).as_deref(),
            Some("/h/.local/share/kiln")
        );
    }

    fn mode(asked: Option<ProgressMode>, environment: Environment) -> Option<ProgressMode> {
        Config::resolve(Some("/r".into()), environment)
            .ok()?
            .progress(asked, false)
            .ok()
    }

    #[test]
    fn progress_follows_flag_then_variable_then_terminal() {
        let none = Environment::of(&[]);
        let variable = Environment::of(&[("BUILDKIT_PROGRESS", "rawjson")]);
        assert_eq!(mode(None, none.clone()), Some(ProgressMode::Plain));
        assert_eq!(
            mode(None, none.clone().with_terminal()),
            Some(ProgressMode::Tty)
        );
        assert_eq!(
            mode(None, Environment::of(&[("CI", "true")]).with_terminal()),
            Some(ProgressMode::Plain)
        );
        assert_eq!(
            mode(None, Environment::of(&[("TERM", "dumb")]).with_terminal()),
            Some(ProgressMode::Plain)
        );
        assert_eq!(mode(None, variable.clone()), Some(ProgressMode::Rawjson));
        assert_eq!(
            mode(Some(ProgressMode::Plain), variable),
            Some(ProgressMode::Plain)
        );
        assert_eq!(
            mode(None, Environment::of(&[("BUILDKIT_PROGRESS", "fancy")])),
            None
        );
        assert_eq!(mode(Some(ProgressMode::Tty), none), None);
    }

    #[test]
    fn proxies_come_from_the_environment() {
        let variables = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "a, .b")];
        let options = Config::resolve(Some("/r".into()), Environment::of(&variables))
            .map(|config| config.registry());
        let options = options.unwrap_or_default();
        let proxy = kiln_registry::Proxy {
            http: None,
            https: Some("http://p:3128".into()),
            bypass: vec!["a".into(), ".b".into()],
        };
        assert_eq!(options.proxy, proxy);
    }

    /// The places of credentials, in the order they are asked.
    fn places(authfile: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        use kiln_registry::CredentialSource;
        let flags = RegistryFlags {
            authfile: authfile.map(PathBuf::from),
            ..RegistryFlags::default()
        };
        let config = Config::resolve(Some("/r".into()), Environment::of(variables));
        let options = config.map(|config| config.with_registry_flags(flags).registry());
        let sources = options.unwrap_or_default().credentials.sources;
        let place = |source: CredentialSource| match source {
            CredentialSource::File(path) | CredentialSource::Named(path) => {
                path.display().to_string()
            }
            CredentialSource::Text { name, .. } => name,
        };
        sources.into_iter().map(place).collect()
    }

    #[test]
    fn credentials_come_from_the_most_specific_place() {
        let all = [
            ("REGISTRY_AUTH_FILE", "/auth"),
            ("DOCKER_AUTH_CONFIG", "{}"),
            ("DOCKER_CONFIG", "/d"),
            ("XDG_RUNTIME_DIR", "/run/me"),
            ("HOME", "/h"),
        ];
        assert_eq!(
            places(None, &all),
            [
                "/auth",
                "`$DOCKER_AUTH_CONFIG`",
                "/d/config.json",
                "/run/me/containers/auth.json",
                "/h/.config/containers/auth.json"
            ]
        );
        assert_eq!(places(Some("/flag"), &all), ["/flag"]);
        assert_eq!(
            places(None, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]),
            ["/h/.docker/config.json", "/c/containers/auth.json"]
        );
        assert!(places(None, &[]).is_empty());
    }

    #[test]
    fn rules_come_from_where_podman_has_them() {
        let rules = |variables: &[(&str, &str)]| {
            let config = Config::resolve(Some("/r".into()), Environment::of(variables)).ok();
            let rules = config.map(|config| config.rules()).unwrap_or_default();
            let shown = rules.main.iter().map(|file| {
                let folders = file
                    .folders
                    .iter()
                    .map(|folder| folder.display().to_string());
                let mark = if file.named { "!" } else { "" };
                let folders: Vec<String> = folders.collect();
                format!("{mark}{} {}", file.path.display(), folders.join(" "))
            });
            shown.collect::<Vec<String>>()
        };
        let (own, system) = ("/h/.config/containers", "/etc/containers");
        let both = format!("{system}/registries.conf.d {own}/registries.conf.d");
        assert_eq!(
            rules(&[("HOME", "/h")]),
            [
                format!("{own}/registries.conf {own}/registries.conf.d"),
                format!("{system}/registries.conf {both}"),
            ]
        );
        assert_eq!(
            rules(&[("HOME", "/h"), ("CONTAINERS_REGISTRIES_CONF", "/c")]),
            [format!("!/c {both}")]
        );
        assert_eq!(
            rules(&[]),
            [format!(
                "{system}/registries.conf {system}/registries.conf.d"
            )]
        );
    }

    #[test]
    fn no_color_is_kept() {
        let color = |environment: Environment| {
            Config::resolve(Some("/r".into()), environment)
                .map(|c| c.color)
                .ok()
        };
        assert_eq!(color(Environment::of(&[]).with_terminal()), Some(true));
        assert_eq!(
            color(Environment::of(&[("NO_COLOR", "1")]).with_terminal()),
            Some(false)
        );
        assert_eq!(color(Environment::of(&[])), Some(false));
    }
}
