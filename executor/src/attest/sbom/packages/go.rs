//! Go's modules, by what the linker writes into programs: the section `.go.buildinfo` (`debug/buildinfo`), as it is from Go 1.18 on.

use super::{Package, escaped};

/// The section's name.
pub(super) const SECTION: &str = ".go.buildinfo";

/// What it begins with; the size of a pointer and marks follow.
const MAGIC: &[u8] = b"\xff Go buildinf:";

/// Where the mark is that texts stand in the section itself, and where these begin.
const MARKS: usize = 15;
const IS_INLINE: u8 = 2;
const TEXTS: usize = 32;

/// How much is around the list of modules, to be found by programs that look for it.
const SENTINEL: usize = 16;

/// What a program says of its version that wasn't built from a released one.
const UNRELEASED: &str = "(devel)";

/// Modules that a program is made of, the standard library among them.
pub(super) fn parse(section: &[u8], place: &str) -> Vec<Package> {
    let Some((version, list)) = texts(section) else {
        return Vec::new();
    };
    let mut modules: Vec<(&str, String)> = Vec::new();
    let mut main = None;
    for line in list.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["mod", path, version, ..] => {
                main = Some(modules.len());
                modules.push((path, version.to_owned()));
            }
            ["dep", path, version, ..] => modules.push((path, version.to_owned())),
            // In the place of the one before. A folder is that module, changed.
            ["=>", path, version, ..] if !path.starts_with(['.', '/']) => {
                modules.pop();
                modules.push((path, version.to_owned()));
            }
            _ => {}
        }
    }
    if let Some(main) = main.and_then(|at| modules.get_mut(at))
        && main.1 == UNRELEASED
        && let Some(version) = version_of_commit(&list)
    {
        main.1 = version;
    }
    let library = version
        .strip_prefix("go")
        .and_then(|text| text.split(' ').next());
    let library = library.map(|version| ("stdlib", version.to_owned()));
    let modules = modules.into_iter().chain(library);
    modules
        .filter(|(path, _)| !path.is_empty())
        .map(|(path, version)| package(path, version, place))
        .collect()
}

/// The version of Go, and the list of modules.
fn texts(section: &[u8]) -> Option<(String, String)> {
    if !section.starts_with(MAGIC) || section.get(MARKS)? & IS_INLINE == 0 {
        return None;
    }
    let (version, rest) = text(section.get(TEXTS..)?)?;
    let (list, _) = text(rest)?;
    let list = list.get(SENTINEL..list.len().checked_sub(SENTINEL)?);
    let read = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((read(version), read(list.unwrap_or_default())))
}

/// A text with its length in front, seven bits a byte, the lowest first.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// As Go numbers a commit without a version: `v0.0.0-20240131235959-0123456789ab`.
fn version_of_commit(list: &str) -> Option<String> {
    let setting = |name: &str| {
        let mut settings = list.lines().filter_map(|line| line.strip_prefix("build\t"));
        settings.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let commit = setting("vcs.revision")?.get(..12)?;
    let time: jiff::Timestamp = setting("vcs.time")?.parse().ok()?;
    Some(format!("v0.0.0-{}-{commit}", time.strftime("%Y%m%d%H%M%S")))
}

fn package(path: &str, version: String, place: &str) -> Package {
    Package {
        purl: purl(path, &version),
        name: path.to_owned(),
        version,
        found_in: place.to_owned(),
        license: None,
        homepage: None,
    }
}

/// The module `host/owner/name/v2` is the folder `v2` of `host/owner/name`, and the kind's names are in lower case.
fn purl(path: &str, version: &str) -> String {
    let parts: Vec<String> = path.split('/').map(escaped).collect();
    let (module, below) = parts.split_at(parts.len().min(3));
    let mut purl = format!("pkg:golang/{}", module.join("/").to_lowercase());
    if version != UNRELEASED && !version.is_empty() {
        purl += &format!("@{}", escaped(version));
    }
    if !below.is_empty() {
        purl += &format!("#{}", below.join("/"));
    }
    purl
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section as Go writes it.
    fn section(version: &str, list: &str) -> Vec<u8> {
        let mut section = MAGIC.to_vec();
        section.extend([8, IS_INLINE]);
        section.resize(TEXTS, 0);
        let list = format!("{0}{list}{0}", "s".repeat(SENTINEL));
        for text in [version, &list] {
            let length = text.len();
            section.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
            section.extend(text.bytes());
        }
        section
    }

    #[test]
    fn modules_are_packages() {
        let list = "path\texample.com/me/tool/cmd\nmod\texample.com/me/tool\t(devel)\t\n\
            dep\tgithub.com/BurntSushi/toml\tv1.4.0\th1:x=\n\
            dep\tgithub.com/a/b/v2\tv2.0.1+incompatible\th1:x=\n\
            dep\tgopkg.in/old\tv1.0.0\n=>\tgolang.org/x/new\tv1.0.1\th1:y=\n\
            dep\ta.b/here\tv1.1.0\n=>\t./here\t(devel)\t\n\
            build\t-compiler=gc\nbuild\tvcs.revision=0123456789abcdef\nbuild\tvcs.time=2024-01-31T23:59:59Z\n";
        let found = parse(&section("go1.22.1 X:boringcrypto", list), "/tool");
        let found: Vec<_> = found
            .iter()
            .map(|found| (&*found.name, &*found.purl))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "example.com/me/tool",
                    "pkg:golang/example.com/me/tool@v0.0.0-20240131235959-0123456789ab"
                ),
                (
                    "github.com/BurntSushi/toml",
                    "pkg:golang/github.com/burntsushi/toml@v1.4.0"
                ),
                (
                    "github.com/a/b/v2",
                    "pkg:golang/github.com/a/b@v2.0.1%2Bincompatible#v2"
                ),
                ("golang.org/x/new", "pkg:golang/golang.org/x/new@v1.0.1"),
                ("a.b/here", "pkg:golang/a.b/here@v1.1.0"),
                ("stdlib", "pkg:golang/stdlib@1.22.1"),
            ]
        );
    }

    #[test]
    fn what_is_cut_off_tells_of_nothing() {
        let whole = section("go1.22.1", "mod\tx\tv1\n");
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], "/x"), [], "{length}");
        }
        let mut endless = whole;
        endless[TEXTS..TEXTS + 8].fill(0xff);
        assert_eq!(parse(&endless, "/x"), []);
        assert_eq!(purl("x", UNRELEASED), "pkg:golang/x");
    }
}
