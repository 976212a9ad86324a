//! npm's packages, by the `package.json` of what is installed. Lock files tell of more than is there, so they are not asked.

use serde::Deserialize;

use super::{Package, purl, told};

#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    license: serde_json::Value,
    #[serde(default)]
    homepage: serde_json::Value,
}

/// Whether a folder is that of an installed package.
pub(super) fn is_installed(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let (_, above) = (parts.next(), parts.next());
    match above {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

/// The package that a file tells of.
pub(super) fn parse(text: &str, place: &str) -> Option<Package> {
    let manifest: Manifest = serde_json::from_str(text).ok()?;
    let (scope, name) = match manifest.name.split_once('/') {
        Some((scope, name)) => (scope, name),
        None => ("", manifest.name.as_str()),
    };
    Some(Package {
        purl: purl("npm", scope, name, &manifest.version, &[]),
        found_in: place.to_owned(),
        license: told(manifest.license.as_str()),
        homepage: told(manifest.homepage.as_str()),
        name: manifest.name,
        version: manifest.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_namespaces() {
        let text =
            r#"{"name": "@s/a", "version": "1.0.0", "license": "MIT", "homepage": {"x": 1}}"#;
        let found = parse(text, "/x");
        let found = found.as_ref();
        assert_eq!(
            found.map(|found| &*found.purl),
            Some("pkg:npm/%40s/a@1.0.0")
        );
        assert_eq!(
            found.and_then(|found| found.license.as_deref()),
            Some("MIT")
        );
        assert_eq!(parse("{}", "/x"), None);
    }
}
