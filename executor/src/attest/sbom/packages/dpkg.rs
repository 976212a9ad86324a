//! Debian's packages: paragraphs of fields (deb-control(5)), one for each package that dpkg knows.

use super::{Package, purl, told};
use crate::attest::sbom::release::Release;

/// All packages of an ordinary system.
pub(super) const STATUS: &str = "/var/lib/dpkg/status";
/// One file for each package, as images without dpkg have it.
pub(super) const STATUS_FOLDER: &str = "/var/lib/dpkg/status.d";

/// The installed packages that a file tells of.
pub(super) fn parse(text: &str, place: &str, release: &Release) -> Vec<Package> {
    let namespace = match &*release.id {
        "" => "debian",
        id => id,
    };
    let distro = release.distro().unwrap_or_default();
    let paragraphs = text.split("\n\n");
    let packages = paragraphs.filter_map(|paragraph| {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            let value = lines.find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then_some(value.trim())
            });
            value.filter(|value| !value.is_empty())
        };
        // What was removed may have left its configuration, and so its paragraph.
        let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        let (name, version) = (field("Package")?, field("Version")?);
        is_installed.then(|| Package {
            purl: purl(
                "deb",
                namespace,
                name,
                version,
                &[
                    ("arch", field("Architecture").unwrap_or_default()),
                    ("distro", &distro),
                ],
            ),
            name: name.to_owned(),
            version: version.to_owned(),
            found_in: place.to_owned(),
            license: None,
            homepage: told(field("Homepage")),
        })
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nHomepage: https://a\nDescription: x\n Version: 9\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: half\nStatus: install ok half-installed\nVersion: 1\n\n\
            Package: b\nVersion: 2\n";
        let release = Release {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            name: String::new(),
        };
        let found = parse(text, STATUS, &release);
        let purls: Vec<&str> = found.iter().map(|package| &*package.purl).collect();
        assert_eq!(
            purls,
            [
                "pkg:deb/debian/a@1:2-3?arch=amd64&distro=debian-12",
                "pkg:deb/debian/b@2?distro=debian-12"
            ]
        );
        assert_eq!(found[0].homepage.as_deref(), Some("https://a"));
    }
}
