//! The addresses of git repositories, beside what BuildKit takes them for.

#![allow(clippy::unwrap_used)]

use super::*;

/// `remote | ref | subdir`, where it is a repository.
fn shown(text: &str) -> String {
    match GitUrl::parse(text) {
        Ok(None) => "none".to_owned(),
        Ok(Some(url)) => {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            let shown = format!(
                "{} | {} | {}",
                url.remote,
                part(&url.reference),
                part(&url.subdir)
            );
            shown.trim_end().to_owned()
        }
        Err(error) => format!("error: {error}"),
    }
}

// R-ADD-10
#[test]
fn addresses_are_taken_apart_as_buildkit_does() {
    for (text, expected) in [
        ("https://example.com/", "none"),
        ("https://example.com/foo", "none"),
        (
            "https://example.com/foo.git",
            "https://example.com/foo.git |  |",
        ),
        (
            "https://example.com/foo.git#deadbeef",
            "https://example.com/foo.git | deadbeef |",
        ),
        (
            "https://example.com/foo.git#release/1.2",
            "https://example.com/foo.git | release/1.2 |",
        ),
        ("https://example.com/foo.git/", "none"),
        ("https://example.com/foo.git.bar", "none"),
        ("https://example.com/.git", "https://example.com/.git |  |"),
        ("git://example.com/foo", "git://example.com/foo |  |"),
        (
            "github.com/moby/buildkit",
            "https://github.com/moby/buildkit |  |",
        ),
        (
            "github.com/moby/buildkit#master",
            "https://github.com/moby/buildkit | master |",
        ),
        ("custom.xyz/moby/buildkit.git", "none"),
        ("https://github.com/moby/buildkit", "none"),
        (
            "https://foo:bar@github.com/moby/buildkit.git",
            "https://github.com/moby/buildkit.git |  |",
        ),
        (
            "git@github.com:moby/buildkit",
            "git@github.com:moby/buildkit |  |",
        ),
        (
            "ssh://git@github.com:22/moby/buildkit.git",
            "ssh://git@github.com:22/moby/buildkit.git |  |",
        ),
        (
            "ssh://u@192.168.0.123:456/~/repo.git",
            "ssh://u@192.168.0.123:456/~/repo.git |  |",
        ),
        (
            "u@example.com:/srv/repos/project.git",
            "u@example.com:/srv/repos/project.git |  |",
        ),
        (
            "https://github.com/foo/bar.git#baz/qux:quux/quuz",
            "https://github.com/foo/bar.git | baz/qux | quux/quuz",
        ),
        ("http://github.com/docker/docker.git:#branch", "none"),
        (
            "https://github.com/docker/docker.git#:myfolder",
            "https://github.com/docker/docker.git |  | myfolder",
        ),
        ("https://h/r.git#v:/a/../b//c/", "https://h/r.git | v | b/c"),
        ("https://h/r.git#v:../../etc", "https://h/r.git | v | etc"),
        ("./.git", "none"),
        (".git", "none"),
        (
            "https://h/r.git?ref=v1.0.0&subdir=/subdir",
            "https://h/r.git | v1.0.0 | subdir",
        ),
        (
            "https://h/r.git?subdir=/subdir#v1.0.0",
            "https://h/r.git | v1.0.0 | subdir",
        ),
        (
            "https://h/r.git?tag=v1.0.0",
            "https://h/r.git | refs/tags/v1.0.0 |",
        ),
        (
            "https://h/r.git?tag=refs/tags/v1.0.0",
            "https://h/r.git | refs/tags/v1.0.0 |",
        ),
        (
            "https://h/r.git?branch=v1.0",
            "https://h/r.git | refs/heads/v1.0 |",
        ),
        (
            "github.com/moby/buildkit?tag=v1.0.0",
            "https://github.com/moby/buildkit | refs/tags/v1.0.0 |",
        ),
        (
            "git@h:r.git?subdir=/subdir#v1.0.0",
            "git@h:r.git | v1.0.0 | subdir",
        ),
        ("git@h:r.git#v1?x:sub?y", "git@h:r.git | v1?x | sub?y"),
        ("httpx://github.com/moby/buildkit.git", "none"),
        (
            "HTTP://github.com/moby/buildkit.git",
            "http://github.com/moby/buildkit.git |  |",
        ),
        ("https://h/a%20b.git#x%20y", "https://h/a%20b.git | x y |"),
        ("https://h/%zz.git", "none"),
        ("file:///srv/r.git", "none"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

// R-ADD-10
#[test]
fn mistakes_in_the_query_are_told() {
    for (query, expected) in [
        (
            "ref=v1.0.0#v1.2.3",
            "ref conflicts: \"v1.2.3\" vs \"v1.0.0\"",
        ),
        (
            "ref=v1.0.0&tag=v1.2.3",
            "ref conflicts: \"v1.0.0\" vs \"refs/tags/v1.2.3\"",
        ),
        ("tag=v1.0.0&branch=v1.0", "branch conflicts with tag"),
        ("subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
        (
            "mtime=invalid",
            "invalid mtime value: \"invalid\" (must be \"checkout\" or \"commit\")",
        ),
        (
            "fetch-by-commit=invalid",
            "invalid fetch-by-commit value: \"invalid\"",
        ),
        ("keep-git-dir=yes", "invalid keep-git-dir value: \"yes\""),
        ("submodules=2", "invalid submodules value: \"2\""),
        ("invalid=123", "unexpected query \"invalid\""),
        ("foo", "query \"foo\" has no value"),
        ("branch=", "query \"branch\" has no value"),
        ("ref=a&ref=a", "query \"ref\" has multiple values"),
        ("ref=--upload-pack=x", "invalid git ref \"--upload-pack=x\""),
    ] {
        let told = shown(&format!("https://h/r.git?{query}"));
        assert_eq!(told, format!("error: {expected}"), "{query}");
    }
}

// R-ADD-10
#[test]
fn switches_of_the_query_are_read() {
    let url = |query: &str| {
        GitUrl::parse(&format!("https://h/r.git?{query}"))
            .unwrap()
            .unwrap()
    };
    assert_eq!(url("keep-git-dir").keep_git_dir, Some(true));
    assert_eq!(url("keep-git-dir=0").keep_git_dir, Some(false));
    assert_eq!(url("submodules=F").submodules, Some(false));
    assert_eq!(url("submodules").submodules, Some(true));
    assert_eq!(url("commit=abc").checksum.as_deref(), Some("abc"));
    assert_eq!(url("checksum=abc").checksum.as_deref(), Some("abc"));
    assert_eq!(url("mtime=commit").times, GitTimes::Commit);
    let pinned = url("fetch-by-commit&checksum=deadbeef#refs/heads/b");
    assert!(pinned.fetch_by_commit && pinned.reference.as_deref() == Some("refs/heads/b"));
    let plain = url("").source();
    assert!(plain.submodules && !plain.keep_git_dir && !plain.fetch_by_commit);
}

#[test]
fn a_password_is_kept_apart_from_the_address() {
    let url = GitUrl::parse("https://foo:b%61r@h/r.git#x")
        .unwrap()
        .unwrap();
    let login = url.login.clone().unwrap();
    assert_eq!(
        (&*login.user, login.password.as_deref()),
        ("foo", Some("bar"))
    );
    assert_eq!(url.remote, "https://h/r.git");
    assert!(!format!("{url:?} {}", url.source()).contains("bar"));
    let ssh = GitUrl::parse("ssh://git:bar@h/r").unwrap().unwrap();
    assert_eq!((&*ssh.remote, ssh.login), ("ssh://git@h/r", None));
}

#[test]
fn repositories_of_this_machine_are_for_people_only() {
    let parse = |text| GitUrl::parse_trusted(text).unwrap();
    let url = parse("file:///srv/a%20b.git?tag=v1#:sub").unwrap();
    assert_eq!(url.remote, "file:///srv/a%20b.git");
    assert_eq!(url.reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!(url.subdir.as_deref(), Some("sub"));
    for other in ["file:///srv/dir", "file://host/r.git", "file:/r.git", "dir"] {
        assert_eq!(parse(other), None, "{other}");
    }
    assert!(parse("https://h/r.git").is_some());
}
