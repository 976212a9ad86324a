//! Alpine's packages: paragraphs of lines that begin with a letter.

use super::{Package, purl, told};
use crate::attest::sbom::release::Release;

/// Where they are, in older and newer releases.
pub(super) const INSTALLED: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// The packages that a file tells of.
pub(super) fn parse(text: &str, place: &str, release: &Release) -> Vec<Package> {
    let namespace = match &*release.id {
        "" => "alpine",
        id => id,
    };
    let distro = release.distro().unwrap_or_default();
    let paragraphs = text.split("\n\n");
    let packages = paragraphs.filter_map(|paragraph| {
        let field = |letter: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
        };
        let (name, version) = (field("P")?, field("V")?);
        Some(Package {
            purl: purl(
                "apk",
                namespace,
                name,
                version,
                &[
                    ("arch", field("A").unwrap_or_default()),
                    ("distro", &distro),
                ],
            ),
            name: name.to_owned(),
            version: version.to_owned(),
            found_in: place.to_owned(),
            license: told(field("L")),
            homepage: told(field("U")),
        })
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_fields() {
        let text = "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nU:https://musl\nL:MIT\nF:lib\nR:P:x\n\nP:broken\n\n";
        let found = parse(text, INSTALLED[0], &Release::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].purl, "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64");
        assert_eq!(found[0].license.as_deref(), Some("MIT"));
    }
}
