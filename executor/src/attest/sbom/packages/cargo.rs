//! Cargo's packages, by what `cargo auditable` writes into programs: the section `.dep-v0`, a compressed list.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::{Package, purl};

/// The section's name.
pub(super) const SECTION: &str = ".dep-v0";

/// Longer lists are none, in bytes.
const LONGEST: u64 = 8 << 20;

#[derive(Deserialize)]
struct List {
    packages: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
    #[serde(default)]
    kind: Kind,
}

/// What a package was needed for.
#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Runtime,
    #[serde(other)]
    Build,
}

/// Packages that a program is made of; those that only its build needed are left out.
pub(super) fn parse(section: &[u8], place: &str) -> Vec<Package> {
    let mut text = Vec::new();
    let read = ZlibDecoder::new(section)
        .take(LONGEST)
        .read_to_end(&mut text);
    let list = read
        .ok()
        .and_then(|_| serde_json::from_slice::<List>(&text).ok());
    let entries = list.map(|list| list.packages).unwrap_or_default();
    let is_in_it = |entry: &Entry| entry.kind == Kind::Runtime;
    let package = |entry: Entry| Package {
        purl: purl("cargo", "", &entry.name, &entry.version, &[]),
        name: entry.name,
        version: entry.version,
        found_in: place.to_owned(),
        license: None,
        homepage: None,
    };
    entries.into_iter().filter(is_in_it).map(package).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::Compression;
    use flate2::read::ZlibEncoder;

    fn section(text: &str) -> Vec<u8> {
        let mut section = Vec::new();
        let mut packed = ZlibEncoder::new(text.as_bytes(), Compression::fast());
        packed.read_to_end(&mut section).unwrap();
        section
    }

    #[test]
    fn what_is_only_for_the_build_is_not_in_it() {
        let text = r#"{"packages":[
            {"name":"adler","version":"1.0.2","source":"registry"},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
            {"name":"me","version":"0.1.0+x","source":"local","dependencies":[0],"root":true}]}"#;
        let found = parse(&section(text), "/me");
        let found: Vec<_> = found.iter().map(|found| &*found.purl).collect();
        assert_eq!(found, ["pkg:cargo/adler@1.0.2", "pkg:cargo/me@0.1.0%2Bx"]);
    }

    #[test]
    fn nonsense_and_bombs_tell_of_nothing() {
        assert_eq!(parse(b"nonsense", "/x"), []);
        assert_eq!(parse(&section("{}"), "/x"), []);
        let bomb = format!("{{\"packages\":[{}]}}", " ".repeat(LONGEST as usize));
        assert_eq!(parse(&section(&bomb), "/x"), []);
    }
}
