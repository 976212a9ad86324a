//! Hosts of a registry as containerd has them: a file `hosts.toml` in the folder `certs.d/REGISTRY`, or in `certs.d/_default` for
//! registries without one of their own. It names who is asked in place of the registry, for what, and how.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml_edit::{Document, Item, Table, Value};

use crate::certificates::HostCertificates;
use crate::host::{Scheme, Url};
use crate::registries::RulesError;

/// For registries that no other folder is for.
const DEFAULT: &str = "_default";

/// One host of a file.
#[derive(Debug)]
pub(crate) struct Host {
    /// File and host: what connections to it are known by.
    pub(crate) name: String,
    /// The root of its API: `https://mirror.example/v2`. None: the registry itself, where it is by its name.
    pub(crate) base: Option<Url>,
    pub(crate) capabilities: Capabilities,
    /// Whether any certificate will do; `None` if the file doesn't say.
    pub(crate) skip_verify: Option<bool>,
    pub(crate) certificates: Option<Arc<HostCertificates>>,
    /// Sent with each request.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) connect_timeout: Option<Duration>,
    /// In place of the environment's.
    pub(crate) proxy: Option<String>,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// What has a digest.
    pub(crate) pull: bool,
    /// What a tag stands for.
    pub(crate) resolve: bool,
    pub(crate) push: bool,
}

/// What the file for a registry (`host` or `host:port`) in the first of `folders` that has one says: who to ask, in that order.
pub(crate) fn find(folders: &[PathBuf], registry: &str) -> Result<Option<Vec<Host>>, RulesError> {
    // Names come from answers of registries, too.
    if registry.is_empty() || registry.contains('/') || registry.starts_with(['.', '_']) {
        return Ok(None);
    }
    let with_port = registry
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let own = [with_port.as_deref(), Some(registry)];
    let own = own.into_iter().flatten();
    let own = folders
        .iter()
        .flat_map(|folder| own.clone().map(|name| folder.join(name)));
    let default = folders.iter().map(|folder| folder.join(DEFAULT));
    for folder in own.chain(default) {
        let path = folder.join("hosts.toml");
        match fs::read_to_string(&path) {
            Ok(text) => {
                return parse(&folder, &path, &text)
                    .map(Some)
                    .map_err(|problem| RulesError::Format { path, problem });
            }
            Err(error) if is_absent(&error) => {}
            Err(source) => return Err(RulesError::Read { path, source }),
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn parse(folder: &Path, path: &Path, text: &str) -> Result<Vec<Host>, String> {
    let document: Document<&str> = Document::parse(text).map_err(|error| {
        let message = error.message().lines().next().unwrap_or("").to_owned();
        format!("it is not TOML: {message}")
    })?;
    let root = document.as_table();
    let mut hosts = Vec::new();
    if let Some(item) = root.get("host") {
        let tables = item.as_table().ok_or("`host` has to be a table")?;
        for (address, item) in tables {
            let table = item.as_table();
            let table = table.ok_or_else(|| format!("`host.\"{address}\"` has to be a table"))?;
            hosts.push(host(folder, path, Some(address), table)?);
        }
    }
    let server = match root.get("server") {
        None => None,
        Some(item) => Some(item.as_str().ok_or("`server` has to be a text")?),
    };
    let server = server.filter(|server| !server.is_empty());
    hosts.push(host(folder, path, server, root)?);
    Ok(hosts)
}

/// `address` is `None` for the registry itself.
fn host(folder: &Path, path: &Path, address: Option<&str>, table: &Table) -> Result<Host, String> {
    let override_path = flag(table, "override_path")?.unwrap_or(false);
    let base = address.map(|address| base(address, override_path));
    Ok(Host {
        name: format!("{} {}", path.display(), address.unwrap_or("")),
        base: base.transpose()?,
        capabilities: capabilities(table)?,
        skip_verify: flag(table, "skip_verify")?,
        certificates: certificates(folder, table)?,
        headers: headers(table)?,
        connect_timeout: dial_timeout(table)?,
        proxy: text(table, "proxy")?.map(str::to_owned),
    })
}

/// The root of a host's API. The path of the address is before `/v2`, or all there is.
fn base(address: &str, override_path: bool) -> Result<Url, String> {
    let full = match address.starts_with("http") {
        true => address.to_owned(),
        false => format!("https://{address}"),
    };
    let url = Url::parse(&full).ok_or_else(|| format!("`{address}` is no address of a host"))?;
    let path = url.path().trim_end_matches('/').to_owned();
    let path = match override_path || path.ends_with("/v2") {
        true => path,
        false => format!("{path}/v2"),
    };
    Ok(Url::new(url.scheme(), url.authority(), path))
}

fn capabilities(table: &Table) -> Result<Capabilities, String> {
    let named = match table.get("capabilities") {
        None => Vec::new(),
        Some(item) => texts(item, "capabilities")?,
    };
    let all = named.is_empty();
    let mut found = Capabilities {
        pull: all,
        resolve: all,
        push: all,
    };
    for name in named {
        match name.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => found.push = true,
            _ => {
                return Err(format!(
                    "a capability is `{name}`; it may be pull, resolve or push"
                ));
            }
        }
    }
    Ok(found)
}

fn certificates(folder: &Path, table: &Table) -> Result<Option<Arc<HostCertificates>>, String> {
    let (ca, client) = (table.get("ca"), table.get("client"));
    if ca.is_none() && client.is_none() {
        return Ok(None);
    }
    let mut found = HostCertificates::default();
    for path in ca
        .map(|item| texts(item, "ca"))
        .transpose()?
        .unwrap_or_default()
    {
        found.add_authority(&folder.join(path))?;
    }
    if let Some((certificate, key)) = client.map(client_files).transpose()?.flatten() {
        let certificate = folder.join(certificate);
        // Both may be in one file.
        let key = key.map_or_else(|| certificate.clone(), |key| folder.join(key));
        found.set_own(&certificate, &key)?;
    }
    Ok(Some(Arc::new(found)))
}

/// Certificate and key: a file with both, or a list of such files and of pairs. More than one can't be shown.
fn client_files(item: &Item) -> Result<Option<(String, Option<String>)>, String> {
    let wrong = || "`client` has to be a file, or a list of files and of pairs of them".to_owned();
    if let Some(file) = item.as_str() {
        return Ok(Some((file.to_owned(), None)));
    }
    let all = item.as_array().ok_or_else(wrong)?;
    if all.len() > 1 {
        return Err("`client` names several certificates; one can be shown".to_owned());
    }
    let Some(first) = all.get(0) else {
        return Ok(None);
    };
    if let Some(file) = first.as_str() {
        return Ok(Some((file.to_owned(), None)));
    }
    let pair: Option<Vec<&str>> = first
        .as_array()
        .and_then(|pair| pair.iter().map(Value::as_str).collect());
    match pair.as_deref() {
        Some([certificate, key]) => {
            let key = Some((*key).to_owned()).filter(|key| !key.is_empty());
            Ok(Some(((*certificate).to_owned(), key)))
        }
        _ => Err(wrong()),
    }
}

fn headers(table: &Table) -> Result<Vec<(String, String)>, String> {
    let Some(item) = table.get("header") else {
        return Ok(Vec::new());
    };
    let table = item.as_table().ok_or("`header` has to be a table")?;
    let mut headers = Vec::new();
    for (name, item) in table {
        let values = texts(item, &format!("header.{name}"))?;
        headers.extend(values.into_iter().map(|value| (name.to_owned(), value)));
    }
    Ok(headers)
}

/// A duration as Go writes it, of the units that make sense here.
fn dial_timeout(table: &Table) -> Result<Option<Duration>, String> {
    let Some(text) = text(table, "dial_timeout")? else {
        return Ok(None);
    };
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let found = units.into_iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    match found.filter(|timeout| !timeout.is_zero()) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(format!("`dial_timeout` is `{text}`; an example is `1s`")),
    }
}

/// A text, or a list of them.
fn texts(item: &Item, name: &str) -> Result<Vec<String>, String> {
    if let Some(text) = item.as_str() {
        return Ok(vec![text.to_owned()]);
    }
    let list = item.as_array().map(|list| {
        let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<String>>>()
    });
    list.flatten()
        .ok_or_else(|| format!("`{name}` has to be a text or a list of texts"))
}

fn text<'t>(table: &'t Table, name: &str) -> Result<Option<&'t str>, String> {
    let item = table.get(name);
    item.map(|item| {
        item.as_str()
            .ok_or_else(|| format!("`{name}` has to be a text"))
    })
    .transpose()
}

fn flag(table: &Table, name: &str) -> Result<Option<bool>, String> {
    let item = table.get(name);
    item.map(|item| {
        item.as_bool()
            .ok_or_else(|| format!("`{name}` has to be true or false"))
    })
    .transpose()
}

impl Host {
    /// Whether its file lets it be spoken to in the clear.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        let base = self.base.as_ref();
        base.is_some_and(|base| base.scheme() == Scheme::Http)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = r#"
server = "https://registry-1.docker.io"

[host."https://z.example/team"]
  capabilities = ["pull"]
[host."http://a.example:5000"]
  capabilities = ["Pull", "resolve"]
  skip_verify = true
  dial_timeout = "1.5s"
  proxy = "http://p:3128"
  [host."http://a.example:5000".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."plain.example/v2"]
[host."https://own.example/root"]
  override_path = true
"#;

    fn parsed(text: &str) -> Result<Vec<Host>, String> {
        parse(
            Path::new("/nowhere"),
            Path::new("/nowhere/hosts.toml"),
            text,
        )
    }

    #[test]
    fn hosts_are_asked_in_the_order_of_the_file_and_the_server_last() {
        let hosts = parsed(FILE).unwrap();
        let bases: Vec<String> = hosts
            .iter()
            .map(|host| host.base.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(
            bases,
            [
                "https://z.example/team/v2",
                "http://a.example:5000/v2",
                "https://plain.example/v2",
                "https://own.example/root",
                "https://registry-1.docker.io/v2",
            ]
        );
        let can = |host: &Host| {
            let can = host.capabilities;
            (can.pull, can.resolve, can.push)
        };
        let all: Vec<_> = hosts.iter().map(can).collect();
        assert_eq!(
            all[..3],
            [
                (true, false, false),
                (true, true, false),
                (true, true, true)
            ]
        );
        assert_eq!(hosts[1].skip_verify, Some(true));
        assert_eq!(hosts[1].connect_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(hosts[1].proxy.as_deref(), Some("http://p:3128"));
        let headers: Vec<_> = hosts[1]
            .headers
            .iter()
            .map(|(n, v)| format!("{n}: {v}"))
            .collect();
        assert_eq!(headers, ["x-one: 1", "x-two: 2", "x-two: 3"]);
        assert!(parsed("").unwrap()[0].base.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("a = [", "it is not TOML"),
            ("server = 1", "`server` has to be"),
            (
                "[host]\n\"https://a\" = 1",
                "`host.\"https://a\"` has to be",
            ),
            ("[host.\"https://u:p@a\"]", "`https://u:p@a` is no address"),
            ("capabilities = [\"fly\"]", "a capability is `fly`"),
            ("ca = [1]", "`ca` has to be"),
            ("ca = \"none.crt\"", "reading `/nowhere/none.crt` failed"),
            ("client = [[\"a\"]]", "`client` has to be"),
            ("client = [\"a\", \"b\"]", "`client` names several"),
            ("skip_verify = \"x\"", "`skip_verify` has to be"),
            ("dial_timeout = \"soon\"", "`dial_timeout` is `soon`"),
            ("header = 1", "`header` has to be"),
        ] {
            let problem = parsed(text).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn a_registrys_own_file_comes_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().join("none"), folder.path().to_owned()];
        let write = |name: &str| {
            let folder = folder.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("hosts.toml"), format!("server = \"{name}\"")).unwrap();
        };
        let server = |registry: &str| {
            let hosts = find(&folders, registry).unwrap()?;
            hosts[0]
                .base
                .as_ref()
                .map(|base| base.authority().to_owned())
        };
        assert_eq!(server("r.example:5000"), None);
        write("_default");
        assert_eq!(server("r.example:5000").as_deref(), Some("_default"));
        write("r.example:5000");
        assert_eq!(server("r.example:5000").as_deref(), Some("r.example:5000"));
        write("r.example_5000_");
        assert_eq!(server("r.example:5000").as_deref(), Some("r.example_5000_"));
        for refused in ["..", "_default", "", "a/b"] {
            assert!(find(&folders, refused).unwrap().is_none(), "{refused}");
        }
    }
}
