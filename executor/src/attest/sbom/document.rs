//! The document: SPDX 2.3 as JSON. The same image gives the same bytes, but for the date.

use kiln_image::Digest;
use serde_json::{Map, Value, json};

use super::packages::{Found, Package};
use super::release::Release;
use crate::attest::Facts;

const IMAGE: &str = "SPDXRef-Image";
const SYSTEM: &str = "SPDXRef-OperatingSystem";
const NOBODY_SAYS: &str = "NOASSERTION";

/// Writes it.
pub(super) fn write(facts: &Facts<'_>, release: &Release, found: &Found) -> Value {
    let id = facts.id;
    let name = facts.options.target.clone();
    let name = name.unwrap_or_else(|| "image".to_owned());
    let mut packages = vec![image(&name)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    if let Some(distro) = release.distro() {
        packages.push(system(release, &distro));
        relations.push(relation(IMAGE, "CONTAINS", SYSTEM));
    }
    for package in &found.packages {
        let id = package_id(package);
        packages.push(written(package, &id));
        relations.push(relation(IMAGE, "CONTAINS", &id));
    }
    let mut comment = "Packages of dpkg, apk, Python and npm, as they are recorded in the image, and what programs say that they are made of: \
        Go's modules, and Cargo's packages where `cargo auditable` made them. What else was built from source or copied in is not among them."
        .to_owned();
    for missed in &found.missed {
        comment += &format!(" Not complete: {missed}.");
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/kiln-{}", id.hex()),
        "comment": comment,
        "creationInfo": {
            "created": seconds(facts),
            "creators": [format!("Tool: kiln-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relations,
    })
}

/// The format has no fractions of a second.
fn seconds(facts: &Facts<'_>) -> String {
    let second = jiff::Timestamp::from_second(facts.ended.as_second());
    second.unwrap_or(facts.ended).to_string()
}

fn relation(of: &str, kind: &str, to: &str) -> Value {
    json!({
        "spdxElementId": of,
        "relationshipType": kind,
        "relatedSpdxElement": to,
    })
}

fn image(name: &str) -> Value {
    json!({
        "name": name,
        "SPDXID": IMAGE,
        "downloadLocation": NOBODY_SAYS,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": NOBODY_SAYS,
        "licenseDeclared": NOBODY_SAYS,
        "copyrightText": NOBODY_SAYS,
    })
}

fn system(release: &Release, distro: &str) -> Value {
    let mut system = json!({
        "name": distro,
        "SPDXID": SYSTEM,
        "downloadLocation": NOBODY_SAYS,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "licenseConcluded": NOBODY_SAYS,
        "licenseDeclared": NOBODY_SAYS,
        "copyrightText": NOBODY_SAYS,
    });
    if !release.version.is_empty() {
        system["versionInfo"] = release.version.clone().into();
    }
    if !release.name.is_empty() {
        system["summary"] = release.name.clone().into();
    }
    system
}

fn written(package: &Package, id: &str) -> Value {
    let mut written = Map::new();
    let mut field = |name: &str, value: Value| {
        written.insert(name.to_owned(), value);
    };
    field("name", package.name.clone().into());
    field("SPDXID", id.into());
    field("versionInfo", package.version.clone().into());
    field("downloadLocation", NOBODY_SAYS.into());
    field("filesAnalyzed", false.into());
    if let Some(homepage) = package.homepage.as_ref().filter(|page| is_address(page)) {
        field("homepage", homepage.clone().into());
    }
    field(
        "sourceInfo",
        format!("found in {}", package.found_in).into(),
    );
    field("licenseConcluded", NOBODY_SAYS.into());
    // What people write there is often no expression of SPDX, so it is told as a comment.
    field("licenseDeclared", NOBODY_SAYS.into());
    if let Some(license) = &package.license {
        field("licenseComments", format!("declared as: {license}").into());
    }
    field("copyrightText", NOBODY_SAYS.into());
    let purl = json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": package.purl,
    }]);
    field("externalRefs", purl);
    written.into()
}

fn is_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next());
    host.is_some_and(|host| host.contains('.')) && !text.contains(' ')
}

/// A name of letters, digits, dots and hyphens that no other package of the image has.
fn package_id(package: &Package) -> String {
    let kind = package.purl.trim_start_matches("pkg:");
    let kind = kind.split('/').next().unwrap_or_default();
    let plain = |c: char| match c.is_ascii_alphanumeric() || c == '.' || c == '-' {
        true => c,
        false => '-',
    };
    let name: String = package.name.chars().map(plain).collect();
    let place = format!("{}\0{}", package.purl, package.found_in);
    let unique = Digest::of(place.as_bytes());
    format!("SPDXRef-Package-{kind}-{name}-{}", &unique.hex()[..16])
}
