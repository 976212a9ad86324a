//! Paths inside images as text, in the way of Go's `path` package: no look at any filesystem.

/// The path taken from the root: without `.`, `..`, doubled or trailing slashes. `..` stops at `/`.
pub(crate) fn clean_rooted(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}

/// `path` as seen from the directory `base`, cleaned; absolute paths ignore `base`.
pub(crate) fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        clean_rooted(path)
    } else {
        clean_rooted(&format!("{base}/{path}"))
    }
}

/// Go's `path.Clean` for a path that may be relative.
pub(crate) fn clean(path: &str) -> String {
    if path.starts_with('/') {
        return clean_rooted(path);
    }
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    if components.is_empty() {
        ".".to_owned()
    } else {
        components.join("/")
    }
}

/// The last component; `/` for the root.
pub(crate) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some((_, name)) => name,
        None if trimmed.is_empty() => "/",
        None => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_stops_at_the_root() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("../a", "/a"),
            ("/a//b/../c/", "/a/c"),
            ("./a/.", "/a"),
            ("/../..", "/"),
        ] {
            assert_eq!(clean_rooted(path), expected, "{path}");
        }
        for (path, expected) in [
            ("c", "c"),
            ("./c/", "c"),
            ("a/../../b", "../b"),
            ("", "."),
            ("/x/../y", "/y"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!(join("/w", "../x"), "/x");
        assert_eq!(join("/w", "/x/"), "/x");
        assert_eq!(base_name("/run/secrets/t"), "t");
    }
}
