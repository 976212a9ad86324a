//! Repositories of this machine, over `file://` and over HTTP by git's own server program.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_image::{Change, Kind};
use kiln_planner::{GitTimes, GitUrl, Login};
use kiln_registry::testing::{Asked, Reply, TestServer};

use super::*;
use crate::error::ErrorKind;
use crate::source::remote::testing::Place;

/// A time that no test runs at.
const LONG_AGO: &str = "784111777 +0000";

/// Repositories below one directory.
struct Repositories {
    dir: tempfile::TempDir,
}

impl Repositories {
    fn new() -> Self {
        Repositories {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A repository with one commit on `main`, of these files; those that end in `*` are executable.
    fn make(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        commit(&path, files);
        path
    }

    /// A source over `file://`.
    fn source(&self, address: &str) -> GitSource {
        let (name, rest) = match address.find(['?', '#']) {
            Some(at) => address.split_at(at),
            None => (address, ""),
        };
        let mut source = GitUrl::parse(&format!("git://h/{name}{rest}"))
            .unwrap()
            .unwrap()
            .source();
        source.remote = format!("file://{}/{name}", self.dir.path().display());
        source
    }
}

fn git(at: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(at).args(arguments);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@b"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@b"),
        ("GIT_AUTHOR_DATE", LONG_AGO),
        ("GIT_COMMITTER_DATE", LONG_AGO),
        ("GIT_ALLOW_PROTOCOL", "file"),
    ] {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Writes files and commits all there is; the commit's id.
fn commit(at: &Path, files: &[(&str, &str)]) -> String {
    for (name, content) in files {
        let path = at.join(name.trim_end_matches('*'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("->") {
            Some(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            None => fs::write(&path, content).unwrap(),
        }
        if name.ends_with('*') {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
    git(at, &["add", "--all"]);
    git(at, &["commit", "--quiet", "--allow-empty", "--message=x"]);
    git(at, &["rev-parse", "HEAD"])
}

/// Path, mode and owner of all that was fetched, and contents of files.
fn listed(place: &Place, fetched: &Fetched) -> Vec<String> {
    let shown = |(path, change): (&kiln_image::ImagePath, &Change)| {
        let Change::Put(node) = change else {
            panic!("{path} {change:?}");
        };
        let metadata = &node.metadata;
        let (mode, uid, gid) = (metadata.mode, metadata.uid, metadata.gid);
        assert_eq!((uid, gid, metadata.mtime.nanos), (0, 0, 0), "{path}");
        match &node.kind {
            Kind::Directory => format!("{path}/ {mode:o}"),
            Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::File { .. } => {
                let content = place.content(fetched, &path.to_string());
                format!("{path} {mode:o} {content}")
            }
            other => panic!("{path} {other:?}"),
        }
    };
    let changeset = place.changeset(fetched);
    let paths = changeset.iter().filter(|(path, _)| !path.is_root());
    paths.map(shown).collect()
}

const FILES: &[(&str, &str)] = &[
    ("a", "A"),
    ("run*", "R"),
    ("d/b", "B"),
    ("d/e/c", "C"),
    ("l", "->d/b"),
];

// R-ADD-11
#[test]
fn a_repository_is_its_files_under_the_usual_umask() {
    let (repositories, place) = (Repositories::new(), Place::new());
    repositories.make("r", FILES);
    let fetched = place.fetch_git(&repositories.source("r")).unwrap();
    let expected = [
        "a 644 A",
        "d/ 755",
        "d/b 644 B",
        "d/e/ 755",
        "d/e/c 644 C",
        "l -> d/b",
        "run 755 R",
    ];
    assert_eq!(listed(&place, &fetched), expected);
    let now = jiff::Timestamp::now().as_second();
    for (path, change) in place.changeset(&fetched).iter() {
        let time = change.node().unwrap().metadata.mtime.secs;
        assert!((now - time).abs() < 600, "{path}: checked out at {time}");
    }
    let sub = place.fetch_git(&repositories.source("r#main:d")).unwrap();
    assert_eq!(listed(&place, &sub), ["b 644 B", "e/ 755", "e/c 644 C"]);
    for wrong in ["r#:l", "r#:a", "r#:no", "r#:d/no"] {
        let error = place.fetch_git(&repositories.source(wrong)).unwrap_err();
        let Cause::Git(GitError::Subdir { .. }) = error else {
            panic!("{wrong}: {error}");
        };
    }
}

#[test]
fn times_may_be_those_of_the_commit() {
    let (repositories, place) = (Repositories::new(), Place::new());
    repositories.make("r", FILES);
    let mut source = repositories.source("r");
    source.times = GitTimes::Commit;
    let fetched = place.fetch_git(&source).unwrap();
    for (path, change) in place.changeset(&fetched).iter() {
        assert_eq!(
            change.node().unwrap().metadata.mtime.secs,
            784_111_777,
            "{path}"
        );
    }
}

// R-ADD-12, R-CACHE-18
#[test]
fn a_commit_is_fetched_once_and_a_branch_is_asked_about_each_time() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r", FILES);
    let first_commit = git(&path, &["rev-parse", "HEAD"]);
    let first = place.fetch_git(&repositories.source("r")).unwrap();
    let again = place.fetch_git(&repositories.source("r#main")).unwrap();
    assert!(!first.cached && again.cached && first.layer == again.layer);
    let moved = commit(&path, &[("a", "A2")]);
    assert!(place.find_git(&repositories.source("r")).unwrap().is_none());
    let second = place.fetch_git(&repositories.source("r")).unwrap();
    assert!(!second.cached && second.output != first.output);
    assert!(place.find_git(&repositories.source("r")).unwrap().is_some());
    // What is named by its whole id needs no remote any more.
    fs::remove_dir_all(&path).unwrap();
    for commit in [&first_commit, &moved] {
        let source = repositories.source(&format!("r#{commit}"));
        assert!(place.fetch_git(&source).unwrap().cached, "{commit}");
    }
    let error = place.fetch_git(&repositories.source("r")).unwrap_err();
    assert!(
        matches!(&error, Cause::Git(GitError::Remote { .. })),
        "{error}"
    );
}

// R-ADD-10
#[test]
fn refs_are_branches_tags_and_commits() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r", &[("f", "main")]);
    let first = git(&path, &["rev-parse", "HEAD"]);
    git(&path, &["tag", "light"]);
    git(&path, &["checkout", "--quiet", "-b", "side"]);
    commit(&path, &[("f", "side")]);
    git(&path, &["tag", "--annotate", "--message=x", "v1"]);
    let tag = git(&path, &["rev-parse", "v1"]);
    let tagged = git(&path, &["rev-parse", "v1^{}"]);
    git(&path, &["checkout", "--quiet", "main"]);
    commit(&path, &[("f", "later")]);
    git(&path, &["update-ref", "refs/pull/7/head", "side"]);
    let content = |place: &Place, address: &str| {
        let fetched = place.fetch_git(&repositories.source(address));
        fetched.map(|fetched| place.content(&fetched, "f"))
    };
    for (reference, expected) in [
        ("", "later"),
        ("#main", "later"),
        ("#side", "side"),
        ("#refs/heads/side", "side"),
        ("#light", "main"),
        ("#v1", "side"),
        ("?tag=v1", "side"),
        ("?branch=side", "side"),
        ("?ref=pull/7/head", "side"),
        (&*format!("#{first}"), "main"),
        (&*format!("?commit={}#light", &first[..9]), "main"),
        // The tag's own id, and that of its commit (R-ADD-8).
        (&*format!("?checksum={tag}#v1"), "side"),
        (&*format!("?checksum={tagged}#v1"), "side"),
        (
            &*format!("?fetch-by-commit&checksum={first}#no/such"),
            "main",
        ),
    ] {
        let address = format!("r{reference}");
        // In a store that has the others, and in a new one.
        assert_eq!(content(&place, &address).unwrap(), expected, "{address}");
        assert_eq!(
            content(&Place::new(), &address).unwrap(),
            expected,
            "{address}"
        );
    }
    for (reference, expected) in [
        ("#none", "does not contain ref none"),
        ("#HEAD", "does not contain ref HEAD"),
        ("?tag=side", "does not contain ref refs/tags/side"),
        ("?checksum=abc#main", "expected checksum to match abc, got "),
        (
            "?checksum=abc#v1",
            &*format!("expected checksum to match abc, got {tag} or {tagged}"),
        ),
        (
            &*format!("?checksum=abc#{first}"),
            &*format!("expected checksum to match abc, got {first}"),
        ),
        (
            "?fetch-by-commit#main",
            "fetch-by-commit requires a checksum or a commit SHA ref",
        ),
        (
            "?fetch-by-commit&checksum=abc#main",
            "fetch-by-commit requires a full commit SHA checksum",
        ),
    ] {
        let error = content(&place, &format!("r{reference}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{reference}: {error}");
    }
    let unknown = format!("r#{}", "0".repeat(40));
    let error = content(&place, &unknown).unwrap_err();
    assert!(
        matches!(&error, Cause::Git(GitError::Remote { .. })),
        "{error}"
    );
}

// R-ADD-11
#[test]
fn the_git_directory_stays_if_it_is_asked_for() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r", FILES);
    git(&path, &["tag", "v1"]);
    commit(&path, &[("a", "A2")]);
    let head = git(&path, &["rev-parse", "HEAD"]);
    for (reference, name) in [
        ("", "refs/heads/main"),
        ("#v1", "refs/tags/v1"),
        (&*format!("#{head}"), ""),
    ] {
        let mut source = repositories.source(&format!("r{reference}"));
        source.keep_git_dir = true;
        let fetched = place.fetch_git(&source).unwrap();
        let checkout = place.directory(&fetched);
        let refs = git(&checkout, &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(refs, name, "{reference}");
        let commit = git(
            &path,
            &["rev-parse", if reference == "#v1" { "v1" } else { "HEAD" }],
        );
        assert_eq!(git(&checkout, &["rev-parse", "HEAD"]), commit);
        assert_eq!(
            git(&checkout, &["status", "--porcelain"]),
            "",
            "{reference}"
        );
        assert_eq!(git(&checkout, &["rev-list", "--count", "HEAD"]), "1");
        assert_eq!(
            git(&checkout, &["config", "remote.origin.url"]),
            source.remote
        );
        assert!(!checkout.join(".git/FETCH_HEAD").exists());
        git(&checkout, &["fsck", "--strict"]);
        // A directory alone has none.
        source.subdir = Some("d".to_owned());
        let sub = place.fetch_git(&source).unwrap();
        assert_eq!(listed(&place, &sub), ["b 644 B", "e/ 755", "e/c 644 C"]);
    }
}

#[test]
fn an_empty_commit_has_no_files() {
    let (repositories, place) = (Repositories::new(), Place::new());
    repositories.make("r", &[]);
    let fetched = place.fetch_git(&repositories.source("r")).unwrap();
    assert!(listed(&place, &fetched).is_empty());
}

#[test]
fn a_repository_of_sha256_is_one() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.dir.path().join("r");
    fs::create_dir(&path).unwrap();
    git(
        &path,
        &[
            "init",
            "--quiet",
            "--object-format=sha256",
            "--initial-branch=main",
        ],
    );
    let id = commit(&path, FILES);
    assert_eq!(id.len(), 64);
    for address in ["r".to_owned(), format!("r#{id}")] {
        let fetched = place.fetch_git(&repositories.source(&address)).unwrap();
        assert_eq!(place.content(&fetched, "a"), "A");
        let mut kept = repositories.source(&address);
        kept.keep_git_dir = true;
        place.fetch_git(&kept).unwrap();
    }
}

#[test]
fn neither_repository_nor_user_make_git_run_anything() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let mark = repositories.dir.path().join("ran");
    let touch = format!("touch {}", mark.display());
    let attributes = "* filter=evil\n*.crlf text eol=crlf\n";
    let path = repositories.make(
        "r",
        &[
            ("a.lfs", "version https://git-lfs.github.com/spec/v1\n"),
            (".gitattributes", attributes),
            ("t.crlf", "x\n"),
            (".lfsconfig", "[lfs]\n\turl = http://127.0.0.1:9\n"),
        ],
    );
    for (name, value) in [
        ("filter.evil.smudge", &*touch),
        ("uploadpack.packObjectsHook", "/bin/false"),
    ] {
        git(&path, &["config", name, value]);
    }
    let hook = path.join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let fetched = place.fetch_git(&repositories.source("r")).unwrap();
    assert_eq!(place.content(&fetched, "t.crlf"), "x\r\n");
    assert!(place.content(&fetched, "a.lfs").starts_with("version"));
    assert!(!mark.exists());
}

#[test]
fn without_the_program_it_says_how_to_get_it() {
    let (repositories, mut place) = (Repositories::new(), Place::new());
    repositories.make("r", FILES);
    place.git.path = Some("/nowhere".into());
    let error = place.fetch_git(&repositories.source("r")).unwrap_err();
    let Cause::Git(error @ GitError::NoProgram { .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.help().unwrap().contains("apt-get install git"));
}

#[test]
fn a_damaged_or_half_made_repository_is_made_anew() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r", FILES);
    let source = repositories.source("r");
    place.fetch_git(&source).unwrap();
    let stored = place.with(|fetcher, _| {
        fetcher
            .services
            .store
            .remotes()
            .repository(&source.remote)
            .unwrap()
    });
    // Locks of a process that was killed.
    fs::write(stored.join("shallow.lock"), "").unwrap();
    fs::write(stored.join("config.lock"), "").unwrap();
    commit(&path, &[("a", "A2")]);
    place.fetch_git(&source).unwrap();
    // A pack that the disk lost.
    for entry in fs::read_dir(stored.join("objects/pack")).unwrap() {
        let entry = entry.unwrap().path();
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&entry, "").unwrap();
    }
    commit(&path, &[("a", "A3")]);
    let fetched = place.fetch_git(&source).unwrap();
    assert_eq!(place.content(&fetched, "a"), "A3");
    // And its HEAD.
    fs::remove_file(stored.join("HEAD")).unwrap();
    commit(&path, &[("a", "A4")]);
    let fetched = place.fetch_git(&source).unwrap();
    assert_eq!(place.content(&fetched, "a"), "A4");
}

#[test]
fn a_stopped_build_fetches_nothing() {
    let (repositories, place) = (Repositories::new(), Place::new());
    repositories.make("r", FILES);
    place.halt.request();
    let error = place.fetch_git(&repositories.source("r"));
    assert!(matches!(error, Err(Cause::Canceled)));
}

/// `git http-backend` behind a server in this process; asks for this authorization below `/private/`.
fn serving(root: &Path) -> TestServer {
    let root = root.to_owned();
    TestServer::start(move |asked: Asked<'_>| {
        let is_private = asked.target().starts_with("/private");
        if is_private && asked.header("authorization") != Some(AUTHORIZATION) {
            return Reply::status(401).header("www-authenticate", "Basic realm=\"x\"");
        }
        backend(&root, &asked)
    })
}

/// `x-access-token:hunter2`
const AUTHORIZATION: &str = "Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";

fn backend(root: &Path, asked: &Asked<'_>) -> Reply {
    let (path, query) = asked
        .target()
        .split_once('?')
        .unwrap_or((asked.target(), ""));
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", asked.method())
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = asked.header(header) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut reply = Reply::ok(&output[end + 4..]);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match &*name.to_ascii_lowercase() {
            "status" => reply.status = value[..3].parse().unwrap(),
            "content-type" => reply = reply.header("content-type", value),
            _ => {}
        }
    }
    reply
}

fn over_http(server: &TestServer, path: &str) -> GitSource {
    let address = format!("{}{path}", server.origin());
    GitUrl::parse(&address).unwrap().unwrap().source()
}

#[test]
fn repositories_come_over_http() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r.git", FILES);
    let first = git(&path, &["rev-parse", "HEAD"]);
    commit(&path, &[("a", "A2")]);
    let server = serving(&repositories.dir.path().canonicalize().unwrap());
    let fetched = place.fetch_git(&over_http(&server, "/r.git")).unwrap();
    assert_eq!(place.content(&fetched, "a"), "A2");
    // No tip of a branch.
    let old = over_http(&server, &format!("/r.git#{first}"));
    let fetched = place.fetch_git(&old).unwrap();
    assert_eq!(place.content(&fetched, "a"), "A");
    let error = place
        .fetch_git(&over_http(&server, "/none.git"))
        .unwrap_err();
    assert!(
        matches!(&error, Cause::Git(GitError::Remote { .. })),
        "{error}"
    );
}

#[test]
fn a_server_that_is_a_folder_of_files_will_do() {
    let (repositories, place) = (Repositories::new(), Place::new());
    let path = repositories.make("r", FILES);
    let first = git(&path, &["rev-parse", "HEAD"]);
    commit(&path, &[("a", "A2")]);
    git(
        repositories.dir.path(),
        &["clone", "--quiet", "--bare", "r", "dumb.git"],
    );
    let bare = repositories.dir.path().join("dumb.git");
    git(&bare, &["update-server-info"]);
    let root = repositories.dir.path().to_owned();
    let server = TestServer::start(move |asked: Asked<'_>| {
        let path = asked.target().split('?').next().unwrap_or_default();
        match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Reply::ok(bytes),
            Err(_) => Reply::status(404),
        }
    });
    for (address, expected) in [
        ("/dumb.git".to_owned(), "A2"),
        (format!("/dumb.git#{first}"), "A"),
    ] {
        let place = Place::new();
        let fetched = place.fetch_git(&over_http(&server, &address)).unwrap();
        assert_eq!(place.content(&fetched, "a"), expected, "{address}");
    }
    drop(place);
}

// R-ADD-9
#[test]
fn tokens_are_secrets_and_stay_so() {
    let repositories = Repositories::new();
    fs::create_dir(repositories.dir.path().join("private")).unwrap();
    repositories.make("private/r.git", FILES);
    let server = serving(&repositories.dir.path().canonicalize().unwrap());
    let host = server.origin().replace("http://", "");
    let source = over_http(&server, "/private/r.git");
    let error = Place::new().fetch_git(&source).unwrap_err();
    let Cause::Git(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(error.help().unwrap().contains("GIT_AUTH_TOKEN"), "{error}");
    for (id, value) in [
        ("GIT_AUTH_TOKEN", "hunter2\n"),
        (&*format!("GIT_AUTH_TOKEN.{host}"), "hunter2"),
        ("GIT_AUTH_HEADER", AUTHORIZATION),
        (&*format!("GIT_AUTH_HEADER.{host}"), AUTHORIZATION),
    ] {
        let place = Place::with_secrets(&[(id, value)]);
        place.fetch_git(&source).unwrap();
        // Not a byte of it is left anywhere.
        for secret in ["hunter2", &AUTHORIZATION[6..]] {
            let found = Command::new("grep")
                .args(["-r", "-l", "-a", "-F", "-e", secret])
                .arg(place.dir.path())
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{id}");
        }
    }
    let wrong = Place::with_secrets(&[("GIT_AUTH_TOKEN", "wrong")]);
    let error = wrong.fetch_git(&source).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    let named = GitSource {
        login: Some(Login {
            user: "x-access-token".to_owned(),
            password: Some("hunter2".to_owned()),
        }),
        keep_git_dir: true,
        ..source
    };
    let place = Place::new();
    let fetched = place.fetch_git(&named).unwrap();
    let config = place.content(&fetched, ".git/config");
    assert!(!config.contains("hunter2"), "{config}");
}

// R-ADD-11
#[test]
fn submodules_come_along_unless_they_are_not_wanted() {
    let repositories = Repositories::new();
    let root = repositories.dir.path().to_owned();
    repositories.make("inner.git", &[("i", "I")]);
    let middle = repositories.make("middle.git", &[("m", "M")]);
    git(
        &middle,
        &["submodule", "--quiet", "add", "../inner.git", "deep/inner"],
    );
    commit(&middle, &[]);
    let outer = repositories.make("outer.git", &[("o", "O")]);
    git(
        &outer,
        &["submodule", "--quiet", "add", "../middle.git", "sub"],
    );
    commit(&outer, &[]);
    let server = serving(&root.canonicalize().unwrap());
    let modules = ".gitmodules 644 [submodule \"sub\"]\n\tpath = sub\n\turl = ../middle.git\n";
    let place = Place::new();
    let with = place.fetch_git(&over_http(&server, "/outer.git")).unwrap();
    let files = listed(&place, &with);
    let middle_modules = "sub/.gitmodules 644 [submodule \"deep/inner\"]\n\tpath = deep/inner\n\turl = ../inner.git\n";
    assert_eq!(
        files,
        [
            modules,
            "o 644 O",
            "sub/ 755",
            middle_modules,
            "sub/deep/ 755",
            "sub/deep/inner/ 755",
            "sub/deep/inner/i 644 I",
            "sub/m 644 M",
        ]
    );
    let without = over_http(&server, "/outer.git?submodules=0");
    let without = place.fetch_git(&without).unwrap();
    assert_eq!(listed(&place, &without), [modules, "o 644 O", "sub/ 755"]);
    let sub = place
        .fetch_git(&over_http(&server, "/outer.git#main:sub/deep"))
        .unwrap();
    assert_eq!(listed(&place, &sub), ["inner/ 755", "inner/i 644 I"]);
    let mut kept = over_http(&server, "/outer.git");
    kept.keep_git_dir = true;
    let kept = place.fetch_git(&kept).unwrap();
    let directory = place.directory(&kept);
    assert_eq!(git(&directory, &["status", "--porcelain"]), "");
    assert_eq!(
        git(
            &directory.join("sub/deep/inner"),
            &["status", "--porcelain"]
        ),
        ""
    );
}

#[test]
fn a_submodule_leads_to_no_repository_of_this_machine() {
    let repositories = Repositories::new();
    let victim = repositories.make("victim", &[("secret", "S")]);
    let outer = repositories.make("outer.git", &[("o", "O")]);
    let address = format!("file://{}", victim.display());
    git(&outer, &["submodule", "--quiet", "add", &address, "sub"]);
    commit(&outer, &[]);
    let server = serving(&repositories.dir.path().canonicalize().unwrap());
    for source in [
        over_http(&server, "/outer.git"),
        repositories.source("outer.git"),
    ] {
        let error = Place::new().fetch_git(&source).unwrap_err().to_string();
        assert!(error.contains("transport 'file' not allowed"), "{error}");
    }
    // Nor does an address of a Dockerfile, even if one came this far.
    let mut source = repositories.source("victim");
    source.remote = format!(
        "ext::sh -c touch% {}",
        repositories.dir.path().join("ran").display()
    );
    assert!(Place::new().fetch_git(&source).is_err());
    assert!(!repositories.dir.path().join("ran").exists());
}
