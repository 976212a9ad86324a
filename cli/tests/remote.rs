//! ADD of URLs and git repositories, from the command line to the files of the image. No step runs. What the layers hold was
//! compared with BuildKit 0.32 for the same Dockerfiles.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_registry::testing::{Asked, Reply, TestServer};
use test_env::{Outcome, TestEnv};

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A server whose answer is the path, with a tag; below `/tar/` an archive.
fn server() -> TestServer {
    TestServer::start(|asked: Asked<'_>| {
        let path = asked.target().split('?').next().unwrap_or_default();
        let reply = match path {
            "/404" => Reply::status(404),
            _ if path.starts_with("/tar/") => Reply::ok(archive()),
            _ => Reply::ok(path.as_bytes()),
        };
        reply
            .header("etag", "\"1\"")
            .header("last-modified", LONG_AGO)
            .header("content-disposition", "attachment; filename=other")
    })
}

/// `in` with mode 0640 of user 7.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(2);
    tar.append_data(&mut header, "in", &b"in"[..]).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut &tar.into_inner().unwrap()[..], &mut gzip).unwrap();
    gzip.finish().unwrap()
}

/// Builds, and lists what is in the image: path, mode, owner, time (of files), content.
fn built(env: &TestEnv, dockerfile: &str, flags: &[&str]) -> Vec<String> {
    env.write("Dockerfile", dockerfile);
    let arguments = [&["build", "-o", "type=tar,dest=out.tar"], flags, &["."]].concat();
    env.kiln(&arguments).succeeds();
    let mut tar = tar::Archive::new(std::fs::File::open(env.work().join("out.tar")).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let header = entry.header();
        let (mode, uid, gid) = (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        let time = match header.mtime().unwrap() {
            784_111_777 => " long ago",
            0 => " 1970",
            _ => "",
        };
        let mut content = String::new();
        let _ = entry.read_to_string(&mut content); // archives are no text
        format!("{path} {mode:o} {uid}:{gid}{time} {content}")
            .trim_end()
            .to_owned()
    });
    let mut listed: Vec<String> = entries.collect();
    listed.retain(|line| !line.starts_with("./ "));
    listed
}

fn failing(env: &TestEnv, dockerfile: &str) -> Outcome {
    env.write("Dockerfile", dockerfile);
    env.kiln(&["build", "."])
}

// R-ADD-1, R-ADD-5, R-ADD-6, R-ADD-7, R-ADD-8 and the table after R-ADD-12
#[test]
fn a_url_is_one_file() {
    let server = server();
    let at = server.origin();
    let env = TestEnv::with_files(&[("f", "local")]);
    let lands = |add: &str, expected: &[&str]| {
        let dockerfile = format!("FROM scratch\nADD {}\n", add.replace("URL", &at));
        assert_eq!(built(&env, &dockerfile, &[]), expected, "{add}");
    };
    lands(
        "URL/p/f.txt?x=1 /o/",
        &["o/ 755 0:0", "o/f.txt 600 0:0 long ago /p/f.txt"],
    );
    lands("URL/p/f.txt /o", &["o 600 0:0 long ago /p/f.txt"]);
    lands(
        "URL/ /o/",
        &["o/ 755 0:0", "o/__unnamed__ 600 0:0 long ago /"],
    );
    lands(
        "URL/a%20b%5B1%5D*.txt f /o/",
        &[
            "o/ 755 0:0",
            "o/a b[1]*.txt 600 0:0 long ago /a%20b%5B1%5D*.txt",
            "o/f 644 0:0 local",
        ],
    );
    lands(
        "--chown=9:8 --chmod=751 URL/f /a/b/",
        &["a/ 751 9:8", "a/b/ 751 9:8", "a/b/f 751 9:8 long ago /f"],
    );
    lands("--link URL/f /d", &["d 600 0:0 long ago /f"]);
    lands("--exclude=* URL/f /d", &["d 600 0:0 long ago /f"]);
    lands(
        "URL/tar/t.tgz /o/",
        &["o/ 755 0:0", "o/t.tgz 600 0:0 long ago"],
    );
    lands(
        "--unpack URL/tar/t.tgz /o/",
        &["o/ 755 0:0", "o/in 640 7:8 1970 in"],
    );
    lands(
        "--unpack --chown=1 URL/tar/t.tgz URL/f /o/",
        &[
            "o/ 755 1:1",
            "o/f 600 1:1 long ago /f",
            "o/in 640 1:1 1970 in",
        ],
    );
    let digest = kiln_image::Digest::of(b"/f");
    lands(
        &format!("--checksum={digest} URL/f /d"),
        &["d 600 0:0 long ago /f"],
    );
}

// R-ADD-6, R-ADD-8
#[test]
fn what_cannot_be_downloaded_is_told_with_its_line() {
    let server = server();
    let at = server.origin();
    let env = TestEnv::new();
    let missing = failing(&env, &format!("FROM scratch\nADD {at}/404 /\n"));
    let line =
        format!("error[download]: could not download `{at}/404`: invalid response status 404");
    missing.fails_with(4, &line);
    assert!(
        missing.error().contains("--> Dockerfile:2:5"),
        "{}",
        missing.error()
    );
    let nobody = test_env::nobody();
    let unreachable = failing(&env, &format!("FROM scratch\nADD http://{nobody}/f /\n"));
    let line = format!(
        "error[download]: could not download `http://{nobody}/f`: `{nobody}` can't be reached"
    );
    unreachable.fails_with(4, &line);
    assert!(
        unreachable
            .error()
            .contains("caused by: connection refused")
    );
    let zeros = "0".repeat(64);
    let checksum = format!("FROM scratch\nADD --checksum=sha256:{zeros} {at}/f /\n");
    let found = kiln_image::Digest::of(b"/f");
    let line = format!("error[digest-mismatch]: digest mismatch {found}: sha256:{zeros}");
    failing(&env, &checksum).fails_with(1, &line);
    let sha1 = format!("FROM scratch\nADD --checksum=sha1:00 {at}/f /\n");
    failing(&env, &sha1).fails_with(2, "error[invalid-checksum]: unsupported digest algorithm");
}

// R-CACHE-17, R-CACHE-22
#[test]
fn an_unchanged_download_is_asked_for_and_nothing_more() {
    let server = server();
    let env = TestEnv::new();
    let dockerfile = format!("FROM scratch\nADD {}/f /d\n", server.origin());
    env.write("Dockerfile", &dockerfile);
    let plan = || env.kiln(&["plan", "."]).succeeds().stdout;
    assert!(plan().contains("unknown"), "nothing is downloaded to plan");
    server.lines();
    let build = |flags: &[&str]| {
        let arguments = [&["build", "--progress=plain"], flags, &["."]].concat();
        let told = env.kiln(&arguments).succeeds().stderr;
        (told.matches(" CACHED").count(), server.lines())
    };
    assert_eq!(build(&[]), (0, vec!["GET /f".to_owned()]));
    assert_eq!(build(&[]), (2, vec!["HEAD /f".to_owned()]));
    // ADD is done again, but what it reads is not.
    assert_eq!(build(&["--no-cache"]), (1, vec!["HEAD /f".to_owned()]));
    assert!(plan().contains("hit"));
    // Gone with the cache.
    env.kiln(&["prune", "--all"]).succeeds();
    assert_eq!(build(&[]).0, 0);
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let server = TestServer::start(|asked: Asked<'_>| match asked.header("authorization") {
        Some("Basic dTpodW50ZXIy") => Reply::ok("in"),
        _ => Reply::status(401),
    });
    let address = server.origin().replace("http://", "http://u:hunter2@");
    let env = TestEnv::with_files(&[("Dockerfile", &format!("FROM scratch\nADD {address}/f /\n"))]);
    let outcome = env
        .kiln(&["build", "-t", "x", "--progress=plain", "."])
        .succeeds();
    assert!(outcome.stderr.contains("u:xxxxx@"), "{}", outcome.stderr);
    let history = env.kiln(&["inspect", "x"]).succeeds().stdout;
    let plan = env.kiln(&["plan", "--format=json", "."]).succeeds().stdout;
    for told in [&outcome.stderr, &history, &plan] {
        assert!(!told.contains("hunter2"), "{told}");
    }
    for file in test_env::files_below(&env.root()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(7).any(|seven| seven == b"hunter2");
        assert!(!found, "{}", file.display());
    }
}

/// `git http-backend` for the repositories below a folder, to whom has the token if one is asked for.
fn git_server(root: &Path, token: Option<&'static str>) -> TestServer {
    let root = root.to_owned();
    TestServer::start(move |asked: Asked<'_>| {
        if token.is_some() && asked.header("authorization") != token {
            return Reply::status(401).header("www-authenticate", "Basic realm=\"x\"");
        }
        git_backend(&root, &asked)
    })
}

fn git_backend(root: &Path, asked: &Asked<'_>) -> Reply {
    use std::io::Write;
    let (path, query) = asked
        .target()
        .split_once('?')
        .unwrap_or((asked.target(), ""));
    let header = |name| asked.header(name).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", asked.method())
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(asked.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let mut reply = Reply::ok(&output[end + 4..]);
    if let Some(status) = value("Status: ") {
        reply.status = status[..3].parse().unwrap();
    }
    reply.header(
        "content-type",
        value("Content-Type: ").unwrap_or("text/plain"),
    )
}

fn git(at: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(at)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success(), "git {arguments:?}");
}

/// A repository `r.git` in a folder of its own.
fn repository(env: &TestEnv) -> PathBuf {
    let root = env.work().join("../repositories");
    let path = root.join("r.git");
    std::fs::create_dir_all(path.join("d")).unwrap();
    git(&path, &["init", "--quiet"]);
    std::fs::write(path.join("f"), "one").unwrap();
    std::fs::write(path.join("d/g"), "two").unwrap();
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--message=x"]);
    git(&path, &["tag", "v1"]);
    root.canonicalize().unwrap()
}

// R-ADD-10, R-ADD-11 and the table after R-ADD-12
#[test]
fn a_repository_is_the_contents_of_a_directory() {
    let env = TestEnv::with_files(&[("f", "local")]);
    let server = git_server(&repository(&env), None);
    let at = server.origin();
    let lands = |add: &str, expected: &[&str]| {
        let dockerfile = format!("FROM scratch\nADD {}\n", add.replace("URL", &at));
        assert_eq!(built(&env, &dockerfile, &[]), expected, "{add}");
    };
    lands(
        "URL/r.git /o",
        &[
            "o/ 755 0:0",
            "o/d/ 755 0:0",
            "o/d/g 644 0:0 two",
            "o/f 644 0:0 one",
        ],
    );
    lands("URL/r.git#v1:d /o/", &["o/ 755 0:0", "o/g 644 0:0 two"]);
    lands(
        "URL/r.git?branch=main&subdir=d /o/",
        &["o/ 755 0:0", "o/g 644 0:0 two"],
    );
    lands(
        "--chown=9 --chmod=700 --exclude=d URL/r.git f /o/",
        &["o/ 700 9:9", "o/f 700 9:9 local"],
    );
    lands(
        "--link URL/r.git#:d /a/b",
        &["a/ 755 0:0", "a/b/ 755 0:0", "a/b/g 644 0:0 two"],
    );
    let kept = format!("FROM scratch\nADD --keep-git-dir {at}/r.git /\n");
    let listed = built(&env, &kept, &[]);
    assert!(
        listed
            .iter()
            .any(|line| line.starts_with(".git/HEAD 644 0:0")),
        "{listed:?}"
    );
    let missing = failing(&env, &format!("FROM scratch\nADD {at}/r.git#none /\n"));
    let line = format!("error[git]: repository `{at}/r.git` does not contain ref none");
    missing.fails_with(1, &line);
}

// R-ADD-12, R-CACHE-18
#[test]
fn a_branch_that_did_not_move_is_asked_about_and_nothing_more() {
    let env = TestEnv::new();
    let root = repository(&env);
    let server = git_server(&root, None);
    env.write(
        "Dockerfile",
        &format!("FROM scratch\nADD {}/r.git#main /o\n", server.origin()),
    );
    let build = || {
        let told = env
            .kiln(&["build", "--progress=plain", "."])
            .succeeds()
            .stderr;
        let fetched = server
            .received()
            .iter()
            .any(|asked| asked.line.starts_with("POST"));
        let requests = server.lines().len();
        (told.matches(" CACHED").count(), fetched, requests)
    };
    assert_eq!(build().0, 0);
    let (cached, _, requests) = build();
    assert!(cached == 2 && requests <= 2, "{cached} {requests}");
    std::fs::write(root.join("r.git/f"), "other").unwrap();
    git(
        &root.join("r.git"),
        &["commit", "--quiet", "--all", "--message=y"],
    );
    assert_eq!(build().0, 0);
    // The same files by another commit: the source is fetched, ADD is cached.
    git(
        &root.join("r.git"),
        &["commit", "--quiet", "--allow-empty", "--message=z"],
    );
    assert_eq!(build().0, 1);
}

#[test]
fn a_locked_branch_is_the_commit_it_was() {
    let env = TestEnv::new();
    let root = repository(&env);
    let server = git_server(&root, None);
    let dockerfile = format!("FROM scratch\nADD {}/r.git#main /o\n", server.origin());
    env.write("Dockerfile", &dockerfile);
    env.kiln(&["lock", "."]).succeeds();
    let before = built(&env, &dockerfile, &[]);
    std::fs::write(root.join("r.git/f"), "other").unwrap();
    git(
        &root.join("r.git"),
        &["commit", "--quiet", "--all", "--message=y"],
    );
    assert_ne!(built(&env, &dockerfile, &[]), before);
    // Another machine has to fetch the commit by itself.
    let elsewhere = TestEnv::new();
    let lock = std::fs::read_to_string(env.work().join("Dockerfile.lock")).unwrap();
    elsewhere.write("Dockerfile.lock", &lock);
    assert_eq!(built(&elsewhere, &dockerfile, &["--locked"]), before);
    server.lines(); // those so far
    assert_eq!(built(&env, &dockerfile, &["--locked"]), before);
    assert_eq!(server.lines().len(), 0, "nobody is asked");
}

// R-ADD-9
#[test]
fn a_private_repository_needs_its_token() {
    // `x-access-token:hunter2`
    const TOKEN: &str = "Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";
    let env = TestEnv::new();
    let server = git_server(&repository(&env), Some(TOKEN));
    let dockerfile = format!("FROM scratch\nADD {}/r.git#:d /o\n", server.origin());
    let refused = failing(&env, &dockerfile);
    assert_eq!(refused.code, 4);
    assert!(
        refused.error().contains("--secret id=GIT_AUTH_TOKEN"),
        "{}",
        refused.error()
    );
    env.write("token", "hunter2\n");
    let token = ["--secret", "id=GIT_AUTH_TOKEN,src=token"];
    assert_eq!(env.kiln(&["plan", "."]).code, 4);
    env.kiln(&[&["plan"], &token[..], &["."]].concat())
        .succeeds();
    let listed = built(&env, &dockerfile, &token);
    assert_eq!(listed, ["o/ 755 0:0", "o/g 644 0:0 two"]);
}

#[test]
fn without_git_it_is_told_how_to_get_it() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM scratch\nADD https://h.invalid/r.git /\n",
    )]);
    let outcome = env.outcome(env.command(&["build", "."]).env("PATH", "/nowhere"));
    outcome.fails_with(
        3,
        "error[git]: the program `git` is not installed, and `https://h.invalid/r.git` is a git repository",
    );
    assert!(
        outcome.error().contains("apt-get install git"),
        "{}",
        outcome.error()
    );
}

#[test]
fn an_agent_that_is_not_there_is_told_at_once() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\n")]);
    let outcome = env.kiln(&["build", "--ssh", "default", "."]);
    outcome.fails_with(
        2,
        "error: `--ssh default` needs an SSH agent, and `SSH_AUTH_SOCK` is not set",
    );
}
