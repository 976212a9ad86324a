//! Python's packages: the core metadata that installers leave.

use super::{Package, purl, told};

/// The package that a file tells of.
pub(super) fn parse(text: &str, place: &str) -> Option<Package> {
    // Fields end with the first empty line; the description is below.
    let head = text.lines().take_while(|line| !line.trim().is_empty());
    let fields: Vec<(&str, &str)> = head
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':'))
        .collect();
    let field = |name: &str| {
        let mut fields = fields.iter();
        let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let (name, version) = (field("Name")?, field("Version")?);
    Some(Package {
        purl: purl("pypi", "", &normalised(name), version, &[]),
        name: name.to_owned(),
        version: version.to_owned(),
        found_in: place.to_owned(),
        license: told(field("License-Expression")).or_else(|| told(field("License"))),
        homepage: told(field("Home-page")),
    })
}

/// As the index calls it: in lower case, a hyphen for each run of hyphens, dots and underscores.
fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_no_fields() {
        let text =
            "Metadata-Version: 2.1\nName: Foo.Bar_x\nVersion: 1.0\nLicense: MIT\n\nName: other\n";
        let found = parse(text, "/x");
        let found = found.as_ref();
        assert_eq!(
            found.map(|found| &*found.purl),
            Some("pkg:pypi/foo-bar-x@1.0")
        );
        assert_eq!(parse("Name: a\n", "/x"), None);
    }
}
