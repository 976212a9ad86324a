//! Packages, as each kind of manager or compiler writes them down.

mod apk;
mod cargo;
mod dpkg;
mod go;
mod npm;
mod python;

use std::collections::HashSet;

use kiln_image::{ImagePath, NodeRef};

use super::files::Files;
use super::release::Release;
use crate::attest::statement::escaped;
use crate::error::Cause;

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// Its address as a package: `pkg:deb/debian/bash@5.2.15-2+b7?arch=amd64`.
    pub(super) purl: String,
    pub(super) name: String,
    pub(super) version: String,
    /// The file that tells of it, with a slash in front.
    pub(super) found_in: String,
    /// As its author has written it; it may be no SPDX expression.
    pub(super) license: Option<String>,
    pub(super) homepage: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Sorted; each once for each place.
    pub(super) packages: Vec<Package>,
    /// What is there and can't be read.
    pub(super) missed: Vec<&'static str>,
}

/// Where RPM keeps its database.
const RPM: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// Looks everywhere.
pub(super) fn find(files: &Files<'_>, release: &Release) -> Result<Found, Cause> {
    let mut found = Found::default();
    if RPM.iter().any(|path| files.has(path)) {
        let missed = "the packages of the RPM database are not in the SBOM";
        found.missed.push(missed);
    }
    let mut programs = Programs::default();
    for (path, node) in files.tree.walk(&ImagePath::root()) {
        let place = format!("/{path}");
        let Some(kind) = kind(&place) else {
            if node.metadata.mode & EXECUTABLE != 0 && programs.is_asked(node.layer, node.link) {
                let packages = of_program(files, &path, node, &place)?;
                found.packages.extend(programs.told(packages));
            }
            continue;
        };
        let Some(text) = files.text_of(&path, node)? else {
            continue;
        };
        match kind {
            Kind::Dpkg => found.packages.extend(dpkg::parse(&text, &place, release)),
            Kind::Apk => found.packages.extend(apk::parse(&text, &place, release)),
            Kind::Python => found.packages.extend(python::parse(&text, &place)),
            Kind::Npm => found.packages.extend(npm::parse(&text, &place)),
        }
    }
    if programs.packages >= MOST {
        let missed = "programs name more packages than the SBOM tells of";
        found.missed.push(missed);
    }
    found.packages.sort();
    found.packages.dedup();
    Ok(found)
}

/// So many packages of programs are told of at most: a program of a few thousand bytes can name a million.
const MOST: usize = 200_000;

/// What is known of the programs so far.
#[derive(Default)]
struct Programs {
    /// Those with several names, by layer and number there.
    linked: HashSet<(u32, u64)>,
    packages: usize,
}

impl Programs {
    /// Whether a program is one more, and not another name of one. If enough was told, none is.
    fn is_asked(&mut self, layer: u32, link: Option<u64>) -> bool {
        let is_new = link.is_none_or(|link| self.linked.insert((layer, link)));
        is_new && self.packages < MOST
    }

    /// As many of these packages as may be told of.
    fn told(&mut self, packages: impl Iterator<Item = Package>) -> impl Iterator<Item = Package> {
        let left = MOST.saturating_sub(self.packages);
        packages.take(left).inspect(|_| self.packages += 1)
    }
}

/// Permission bits of whoever may execute a file.
const EXECUTABLE: u32 = 0o111;

/// What a program, if it is one, says that it is made of.
fn of_program(
    files: &Files<'_>,
    path: &ImagePath,
    node: NodeRef<'_>,
    place: &str,
) -> Result<impl Iterator<Item = Package>, Cause> {
    let [go, cargo] = files.sections(path, node, [go::SECTION, cargo::SECTION])?;
    let go = go.map(|section| go::parse(&section, place));
    let cargo = cargo.map(|section| cargo::parse(&section, place));
    Ok(go.into_iter().chain(cargo).flatten())
}

/// What tells of a package by its name.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Dpkg,
    Apk,
    Python,
    Npm,
}

fn kind(path: &str) -> Option<Kind> {
    match path {
        dpkg::STATUS => return Some(Kind::Dpkg),
        _ if apk::INSTALLED.contains(&path) => return Some(Kind::Apk),
        _ => {}
    }
    let (folder, name) = path.rsplit_once('/')?;
    let above = folder.rsplit('/').next().unwrap_or_default();
    match name {
        "METADATA" if above.ends_with(".dist-info") => Some(Kind::Python),
        "PKG-INFO" if above.ends_with(".egg-info") => Some(Kind::Python),
        "package.json" if npm::is_installed(folder) => Some(Kind::Npm),
        _ if folder == dpkg::STATUS_FOLDER && !name.ends_with(".md5sums") => Some(Kind::Dpkg),
        _ => None,
    }
}

/// `pkg:TYPE/NAMESPACE/NAME@VERSION?QUALIFIERS`, without what is empty.
fn purl(
    kind: &str,
    namespace: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let mut purl = format!("pkg:{kind}/");
    if !namespace.is_empty() {
        purl += &escaped(namespace);
        purl.push('/');
    }
    purl += &escaped(name);
    if !version.is_empty() {
        purl += &format!("@{}", escaped(version));
    }
    let given = qualifiers.iter().filter(|(_, value)| !value.is_empty());
    for (at, (key, value)) in given.enumerate() {
        let separator = if at == 0 { '?' } else { '&' };
        purl += &format!("{separator}{key}={}", escaped(value));
    }
    purl
}

/// Not empty, not too long, on one line.
fn told(text: Option<&str>) -> Option<String> {
    const LONGEST: usize = 200;
    let text = text?.trim();
    let is_fine = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
    is_fine.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_once_and_not_for_ever() {
        let mut programs = Programs::default();
        assert!(programs.is_asked(0, Some(1)));
        assert!(!programs.is_asked(0, Some(1)));
        for (layer, link) in [(1, Some(1)), (0, Some(2)), (0, None), (0, None)] {
            assert!(programs.is_asked(layer, link));
        }
        let one = Package {
            purl: String::new(),
            name: String::new(),
            version: String::new(),
            found_in: String::new(),
            license: None,
            homepage: None,
        };
        let many = |count| std::iter::repeat_n(one.clone(), count);
        assert_eq!(programs.told(many(MOST - 1)).count(), MOST - 1);
        assert!(programs.is_asked(0, None));
        assert_eq!(programs.told(many(5)).count(), 1);
        assert!(!programs.is_asked(0, None));
    }

    #[test]
    fn names_tell_what_a_file_is() {
        let cases = [
            (
                "/usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
                Some(Kind::Python),
            ),
            ("/x.egg-info/PKG-INFO", Some(Kind::Python)),
            ("/app/node_modules/a/package.json", Some(Kind::Npm)),
            ("/app/node_modules/@s/a/package.json", Some(Kind::Npm)),
            ("/app/node_modules/a/test/package.json", None),
            ("/app/package.json", None),
            ("/var/lib/dpkg/status.d/base", Some(Kind::Dpkg)),
            ("/var/lib/dpkg/status.d/base.md5sums", None),
            ("/var/lib/dpkg/status", Some(Kind::Dpkg)),
            ("/usr/lib/apk/db/installed", Some(Kind::Apk)),
            ("/METADATA", None),
        ];
        for (path, expected) in cases {
            assert_eq!(kind(path), expected, "{path}");
        }
    }

    #[test]
    fn addresses_are_escaped() {
        let found = purl(
            "deb",
            "debian",
            "libstdc++6",
            "12.2.0-14+deb12u1",
            &[("arch", "amd64"), ("x", "")],
        );
        assert_eq!(
            found,
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64"
        );
        assert_eq!(purl("npm", "@s", "a", "1", &[]), "pkg:npm/%40s/a@1");
    }
}
