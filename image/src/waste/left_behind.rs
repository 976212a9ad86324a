//! Which directories are caches that an image needs nothing of.

use crate::ImagePath;

/// Directories from the root on.
const PLACES: [(&str, &str); 18] = [
    ("etc/apk/cache", "apk cache"),
    ("tmp", "temporary files"),
    ("usr/local/bundle/cache", "bundler cache"),
    ("usr/local/cargo/git/db", "cargo registry"),
    ("usr/local/cargo/registry", "cargo registry"),
    ("usr/local/share/.cache/yarn", "yarn cache"),
    ("var/cache/apk", "apk cache"),
    ("var/cache/apt", "apt cache"),
    ("var/cache/debconf", "debconf cache"),
    ("var/cache/dnf", "dnf cache"),
    ("var/cache/libdnf5", "dnf cache"),
    ("var/cache/man", "man cache"),
    ("var/cache/pacman/pkg", "pacman cache"),
    ("var/cache/yum", "yum cache"),
    ("var/cache/zypp", "zypper cache"),
    ("var/lib/apt/lists", "apt lists"),
    ("var/log", "logs"),
    ("var/tmp", "temporary files"),
];

/// Directories of somebody's home, wherever that is.
const OF_USERS: [(&str, &str); 13] = [
    (".bundle/cache", "bundler cache"),
    (".cache/composer", "composer cache"),
    (".cache/go-build", "go build cache"),
    (".cache/pip", "pip cache"),
    (".cache/pypoetry", "poetry cache"),
    (".cache/uv", "uv cache"),
    (".cache/yarn", "yarn cache"),
    (".cargo/registry", "cargo registry"),
    (".composer/cache", "composer cache"),
    (".gradle/caches", "gradle cache"),
    (".npm/_cacache", "npm cache"),
    (".yarn/cache", "yarn cache"),
    ("go/pkg/mod/cache", "go module cache"),
];

/// The cache that a file is in, and what it is a cache of.
pub(super) fn cache_of(file: &ImagePath) -> Option<(ImagePath, &'static str)> {
    let path = file.as_bytes();
    for (place, kind) in PLACES {
        if is_below(path, place.as_bytes()) {
            return Some((ImagePath::clean(place.as_bytes()), kind));
        }
    }
    OF_USERS.into_iter().find_map(|(place, kind)| {
        let end = end_of(path, place.as_bytes())?;
        Some((ImagePath::clean(&path[..end]), kind))
    })
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with(b"/"))
}

/// Where `place` ends in `path`, as whole names with something below.
fn end_of(path: &[u8], place: &[u8]) -> Option<usize> {
    let starts = std::iter::once(0).chain(
        path.iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at + 1),
    );
    starts
        .into_iter()
        .find(|start| is_below(&path[*start..], place))
        .map(|start| start + place.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_known_by_whole_names() {
        let cases = [
            (
                "var/lib/apt/lists/x_Packages",
                Some(("var/lib/apt/lists", "apt lists")),
            ),
            ("var/lib/apt/lists", None),
            ("var/lib/apt/listsx/y", None),
            (
                "home/u/.npm/_cacache/a/b",
                Some(("home/u/.npm/_cacache", "npm cache")),
            ),
            (".cache/pip/x", Some((".cache/pip", "pip cache"))),
            ("srv/x.cache/pip/x", None),
            ("tmp/x", Some(("tmp", "temporary files"))),
            ("srv/tmp/x", None),
        ];
        for (path, expected) in cases {
            let found = cache_of(&ImagePath::clean(path.as_bytes()));
            let found = found.map(|(directory, kind)| (directory.to_string(), kind));
            let expected = expected.map(|(directory, kind)| (directory.to_owned(), kind));
            assert_eq!(found, expected, "{path}");
        }
    }
}
