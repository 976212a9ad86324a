//! `kiln login` and `kiln logout`: what a registry takes is kept, in a file or with a helper, and nowhere else.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kiln_image::media_type::OCI_MANIFEST;
use kiln_registry::testing::{Access, TestRegistry};
use serde_json::{Value, json};
use test_env::{Outcome, TestEnv};

const USER: &str = "me";
const PASSWORD: &str = "pass:wörd";

/// A helper as Docker's protocol has them, with a file for each server.
const HELPER: &str = r#"#!/bin/sh
cd "${0%/*}" || exit 1
case $1 in
store) cat > asked; tr ',' '\n' < asked | sed -n 's/.*"ServerURL":"\([^"]*\)".*/\1/p' | tr '/:' '__' > name
       cp asked "kept-$(cat name)" ;;
get)   name=$(tr '/:' '__'); cat "kept-$name" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) name=$(tr '/:' '__'); rm -f "kept-$name" ;;
esac
"#;

fn basic() -> TestRegistry {
    TestRegistry::with_access(Access::Basic {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    })
}

fn bearer() -> TestRegistry {
    let user = Some((USER.to_owned(), PASSWORD.to_owned()));
    TestRegistry::with_access(Access::Bearer { user })
}

fn log_in(env: &TestEnv, host: &str, password: &str, more: &[&str]) -> Outcome {
    let args = [&["login", "-u", USER, "--password-stdin", host], more].concat();
    let outcome = env.kiln_with_stdin(&args, format!("{password}\n").as_bytes());
    // Whatever happens, the secret is not shown.
    assert!(!outcome.stderr.contains(PASSWORD), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains(PASSWORD), "{}", outcome.stdout);
    outcome
}

fn config_path(env: &TestEnv) -> PathBuf {
    env.root()
        .parent()
        .unwrap()
        .join("home/.docker/config.json")
}

fn config(env: &TestEnv) -> Value {
    serde_json::from_slice(&std::fs::read(config_path(env)).unwrap()).unwrap()
}

fn write_config(env: &TestEnv, value: &Value) {
    std::fs::create_dir_all(config_path(env).parent().unwrap()).unwrap();
    std::fs::write(config_path(env), value.to_string()).unwrap();
}

/// A `$PATH` with the helper `test`, which is this script.
fn with_helper(env: &TestEnv, script: &str) -> String {
    env.write("bin/script", script);
    let bin = env.work().join("bin");
    // By another process: what this one has open for writing, its children could have, too, and nobody could execute it then.
    let installed = Command::new("install")
        .args(["-m", "755", "script", "docker-credential-test"])
        .current_dir(&bin)
        .status();
    assert!(installed.unwrap().success());
    format!("{}:/usr/bin:/bin", bin.display())
}

/// Whether kiln may read what only the user may read.
fn is_let_in(env: &TestEnv, registry: &TestRegistry, more: &[&str]) -> bool {
    let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    registry.put_manifest("app", "1", OCI_MANIFEST, manifest);
    let image = format!("{}/app:1", registry.host());
    let outcome = env.kiln(&[&["pull", &image], more].concat());
    !outcome.stderr.contains("credentials")
}

#[test]
fn a_password_that_is_taken_is_kept_for_the_owner_alone() {
    let (env, registry) = (TestEnv::new(), basic());
    assert!(!is_let_in(&env, &registry, &[]));
    let outcome = log_in(&env, &registry.host(), PASSWORD, &[]).succeeds();
    assert_eq!(outcome.stdout, "Login Succeeded\n");
    assert!(outcome.stderr.contains("stored unencrypted"));
    let mode = std::fs::metadata(config_path(&env))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(is_let_in(&env, &registry, &[]));
    let again = env.kiln(&["login", &registry.host()]).succeeds();
    assert!(
        again
            .stderr
            .starts_with("Authenticating with existing credentials")
    );

    let out = env.kiln(&["logout", &registry.host()]).succeeds();
    let host = registry.host();
    assert_eq!(
        out.stdout,
        format!("Removing login credentials for {host}\n")
    );
    assert!(!is_let_in(&env, &registry, &[]));
    let out = env.kiln(&["logout", &host]).succeeds();
    assert_eq!(out.stdout, format!("Not logged in to {host}\n"));
}

#[test]
fn a_password_that_is_refused_is_not_kept() {
    for registry in [basic(), bearer()] {
        let env = TestEnv::new();
        let host = registry.host();
        let outcome = log_in(&env, &host, "wrong", &[]);
        let first = outcome.error().lines().next().unwrap().to_owned();
        assert_eq!(outcome.code, 4, "{first}");
        assert!(
            first.starts_with(&format!(
                "error[registry]: could not log in to `{host}`: registry `{host}` refused the credentials"
            )),
            "{first}"
        );
        assert!(!config_path(&env).exists());
    }
}

#[test]
fn a_token_is_kept_where_the_registry_gives_one() {
    let (env, registry) = (TestEnv::new(), bearer());
    log_in(&env, &registry.host(), PASSWORD, &[]).succeeds();
    let entry = &config(&env)["auths"][&registry.host()];
    assert_eq!(*entry, json!({ "identitytoken": PASSWORD }));
    assert!(is_let_in(&env, &registry, &[]));
    let lines = registry.received();
    assert!(lines.iter().any(|request| request.line == "POST /token"));
}

#[test]
fn a_helper_keeps_what_the_file_then_has_not() {
    for key in ["credsStore", "credHelpers"] {
        let (env, registry) = (TestEnv::new(), basic());
        let host = registry.host();
        let value = match key {
            "credsStore" => json!({ "credsStore": "test", "other": 1 }),
            _ => json!({ "credHelpers": { (host.as_str()): "test" }, "other": 1 }),
        };
        write_config(&env, &value);
        let path = with_helper(&env, HELPER);
        let kiln = |args: &[&str]| env.outcome(env.command(args).env("PATH", &path));

        let mut command = env.command(&["login", "-u", USER, "-p", PASSWORD, &host]);
        let outcome = env.outcome(command.env("PATH", &path)).succeeds();
        assert!(
            !outcome.stderr.contains("unencrypted"),
            "{}",
            outcome.stderr
        );
        let config = config(&env);
        assert_eq!(config["auths"], json!({ (host.as_str()): {} }));
        assert_eq!(config["other"], 1);
        kiln(&["login", &host]).succeeds();
        let out = kiln(&["logout", &host]).succeeds();
        assert!(out.stdout.starts_with("Removing login"), "{}", out.stdout);
        let again = kiln(&["login", &host]);
        assert_eq!(again.code, 2, "{}", again.stderr);
    }
}

/// Rules with these `credential-helpers`.
fn write_helpers(env: &TestEnv, list: &str) {
    let rules = format!("credential-helpers = {list}\n");
    env.write("../home/.config/kiln/registries.conf", &rules);
}

#[test]
fn helpers_of_the_rules_keep_credentials_in_the_place_of_files() {
    // containers-registries.conf(5)
    let (env, registry) = (TestEnv::new(), basic());
    let host = registry.host();
    write_helpers(&env, "[\"test\"]");
    let path = with_helper(&env, HELPER);
    let kiln = |args: &[&str]| env.outcome(env.command(args).env("PATH", &path));
    let image = format!("{host}/app:1");
    let manifest = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    registry.put_manifest("app", "1", OCI_MANIFEST, manifest);
    let is_let_in = |more: &[&str]| {
        let pulled = kiln(&[&["pull", &image], more].concat());
        !pulled.stderr.contains("credentials")
    };
    let login = ["login", "-u", USER, "-p", PASSWORD, &host];
    let outcome = kiln(&login).succeeds();
    assert!(!outcome.stderr.contains("unencrypted"));
    assert!(!config_path(&env).exists());
    assert!(is_let_in(&[]));
    assert_eq!(
        kiln(&["login", &host]).succeeds().stdout,
        "Login Succeeded\n"
    );
    let part = format!("{host}/team");
    let outcome = kiln(&["login", "-u", USER, "-p", PASSWORD, &part]);
    outcome.fails_with(
        3,
        "error: credential helper `docker-credential-test store` can't keep credentials for a part of a registry",
    );
    let out = kiln(&["logout", &host]).succeeds().stdout;
    assert!(out.starts_with("Removing login"), "{out}");
    assert!(!is_let_in(&[]));

    // Nobody asks a file that isn't listed, but for one that is named.
    env.write("../home/.config/kiln/registries.conf", "");
    kiln(&login).succeeds();
    assert!(is_let_in(&[]));
    write_helpers(&env, "[\"test\"]");
    assert!(!is_let_in(&[]));
    let file = config_path(&env);
    assert!(is_let_in(&["--authfile", file.to_str().unwrap()]));
    write_helpers(&env, "[\"test\", \"containers-auth.json\"]");
    assert!(is_let_in(&[]));
    write_helpers(&env, "[]");
    assert!(is_let_in(&[]));
}

#[test]
fn a_helper_of_the_rules_that_fails_is_passed_over_if_another_place_knows_more() {
    let (env, registry) = (TestEnv::new(), basic());
    let host = registry.host();
    log_in(&env, &host, PASSWORD, &[]).succeeds();
    write_helpers(&env, "[\"nowhere\", \"containers-auth.json\"]");
    assert!(is_let_in(&env, &registry, &[]));
    // Also where they are kept.
    log_in(&env, &host, PASSWORD, &[]).succeeds();
    std::fs::remove_file(config_path(&env)).unwrap();
    let outcome = env.kiln(&["pull", &format!("{host}/app:1")]);
    assert_eq!(outcome.code, 4);
    let told = "credential helper `docker-credential-nowhere get` is not installed";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn a_helper_that_is_missing_is_named() {
    let (env, registry) = (TestEnv::new(), basic());
    write_config(&env, &json!({ "credsStore": "nowhere" }));
    let outcome = env.kiln(&["login", &registry.host()]);
    outcome.fails_with(
        3,
        "error: credential helper `docker-credential-nowhere get` is not installed (not found in $PATH)",
    );
}

#[test]
fn a_helper_may_have_a_token_for_more_tokens() {
    let (env, registry) = (TestEnv::new(), bearer());
    write_config(&env, &json!({ "credsStore": "test" }));
    let path = with_helper(&env, HELPER);
    let host = registry.host();
    let mut command = env.command(&["login", "-u", USER, "-p", PASSWORD, &host]);
    env.outcome(command.env("PATH", &path)).succeeds();
    let name = host.replace(['/', ':'], "_");
    let kept = std::fs::read(env.work().join(format!("bin/kept-{name}"))).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(
        kept,
        json!({ "ServerURL": host, "Username": "<token>", "Secret": PASSWORD })
    );
    let again = env.outcome(env.command(&["login", &host]).env("PATH", &path));
    assert_eq!(again.succeeds().stdout, "Login Succeeded\n");
    let lines = registry.received();
    assert!(lines.iter().any(|request| request.line == "POST /token"));
}

#[test]
fn what_a_helper_says_when_it_fails_is_told_and_its_secret_is_not() {
    for (script, told) in [
        (
            "echo the keychain is locked; exit 1",
            "failed: the keychain is locked",
        ),
        (
            "printf 'no\\033[2J display' >&2; exit 7",
            "failed: no [2J display",
        ),
        ("exit 7", "failed (exit status: 7)"),
        ("kill -9 $$", "failed (signal: 9 (SIGKILL))"),
        (
            "echo '{\"Secret\":\"hush\"'",
            "gave no credential that can be understood",
        ),
    ] {
        let (env, registry) = (TestEnv::new(), basic());
        write_config(&env, &json!({ "credsStore": "test" }));
        let path = with_helper(&env, &format!("#!/bin/sh\n{script}\n"));
        let image = format!("{}/app:1", registry.host());
        let outcome = env.outcome(env.command(&["pull", &image]).env("PATH", &path));
        assert_eq!(outcome.code, 4, "{}", outcome.stderr);
        let told = format!("credential helper `docker-credential-test get` {told}");
        assert!(outcome.stderr.contains(&told), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("--authfile"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("hush"), "{}", outcome.stderr);
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_a_helper() {
    for command in ["pull", "login"] {
        let (env, registry) = (TestEnv::new(), basic());
        write_config(&env, &json!({ "credsStore": "test" }));
        // It says who it is, and then nothing more.
        let path = with_helper(&env, "#!/bin/sh\necho $$ > asked\nexec sleep 1000\n");
        let fifo = env.work().join("asked");
        let made = Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let name = match command {
            "pull" => format!("{}/app:1", registry.host()),
            _ => registry.host(),
        };
        let mut kiln = env.command(&[command, &name]);
        kiln.env("PATH", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut kiln = kiln.spawn().unwrap();
        let helper = std::fs::read_to_string(&fifo).unwrap();
        let process = rustix::process::Pid::from_child(&kiln);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let status = kiln.wait().unwrap();
        let ended = status.code() == Some(130) || status.signal() == Some(2);
        assert!(ended, "{command}: {status}");
        if command == "login" {
            // Nothing is left that could end its helper: a terminal would.
            let killed = Command::new("kill").arg(helper.trim()).status();
            assert!(killed.unwrap().success());
        }
    }
}

#[test]
fn authfile_is_the_only_place_when_it_is_named() {
    let (env, registry) = (TestEnv::new(), basic());
    let host = registry.host();
    log_in(&env, &host, PASSWORD, &["--authfile", "a.json"]).succeeds();
    assert!(!config_path(&env).exists());
    assert!(is_let_in(&env, &registry, &["--authfile", "a.json"]));
    assert!(!is_let_in(&env, &registry, &[]));
    let image = format!("{host}/app:1");
    let missing = env.kiln(&["--authfile", "none.json", "pull", &image]);
    missing.fails_with(
        4,
        &format!(
            "error[registry]: could not resolve `{image}`: no usable credentials for `{host}`"
        ),
    );
    assert!(
        missing.stderr.contains("reading `none.json` failed"),
        "{}",
        missing.stderr
    );
    let mut command = env.command(&["login", &host]);
    env.outcome(command.env("REGISTRY_AUTH_FILE", "a.json"))
        .succeeds();
}

#[test]
fn without_a_terminal_or_a_name_there_is_nobody_to_ask() {
    let (env, registry) = (TestEnv::new(), basic());
    let host = registry.host();
    for args in [&["login", &host][..], &["login", "-u", USER, &host]] {
        env.kiln(args).fails_with(
            2,
            "error: there is no terminal to ask for user name and password on",
        );
    }
    log_in(&env, &host, "", &[]).fails_with(2, "error: the password is empty");
    env.kiln(&["login", "--password-stdin", &host]).fails(2);
}

#[test]
fn tls_verify_leaves_no_way_in_the_clear() {
    let (env, registry) = (TestEnv::new(), basic());
    let outcome = log_in(&env, &registry.host(), PASSWORD, &["--tls-verify"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    let asked = registry.received();
    assert!(
        asked
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}
