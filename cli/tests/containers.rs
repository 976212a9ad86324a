//! Containers that are kept: listed, looked at, exported, made into images, collected.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::net::TcpListener;
use std::process::Stdio;

use test_env::TestEnv;

/// A store with busybox in it and a container `work` that changed some of its files.
fn with_container() -> Option<TestEnv> {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return None;
    }
    let script = "echo new > /etc/new; rm /bin/wc; chmod 0600 /etc/group; exit 3";
    let run = [
        "run", "--name", "work", "-e", "A=b", "-w", "/tmp", "busybox", "sh", "-c", script,
    ];
    env.kiln(&run).fails(3);
    Some(env)
}

#[test]
fn sandbox_a_container_is_kept_looked_at_and_removed() {
    let Some(env) = with_container() else {
        return;
    };
    let listed = env.kiln(&[
        "ps",
        "-a",
        "--format",
        "{{.Names}} {{.Image}} {{slice .Status 0 10}}",
    ]);
    assert_eq!(listed.succeeds().stdout, "work busybox Exited (3)\n");
    let changes = env.kiln(&["diff", "work"]).succeeds().stdout;
    let expected = [
        "C /bin",
        "D /bin/wc",
        "C /etc",
        "C /etc/group",
        "A /etc/new",
    ];
    assert_eq!(changes.lines().collect::<Vec<_>>(), expected);

    let again = env.kiln(&["run", "--name", "work", "busybox", "true"]);
    assert!(again.error().contains("`work`"), "{}", again.stderr);
    assert_eq!(again.code, 125);
    env.kiln(&["run", "--rm", "busybox", "true"]).succeeds();
    let id = env.kiln(&["ps", "-q"]).succeeds().stdout;
    assert_eq!(id.lines().count(), 1, "{id}");

    assert_eq!(env.kiln(&["rm", id.trim()]).succeeds().stdout, id);
    env.kiln(&["rm", "work"])
        .fails_with(1, "error[container]: there is no container `work`");
    env.kiln(&["rm", "-f", "work"]).succeeds();
    assert_eq!(env.kiln(&["ps", "-q"]).succeeds().stdout, "");
}

#[test]
fn sandbox_the_name_of_a_running_container_is_taken() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("nc 127.0.0.1 {port}");
    let run = ["run", "--name", "work", "busybox", "sh", "-c", &script];
    let mut first = env.command(&run).stdin(Stdio::null()).spawn().unwrap();
    let running = listener.accept().unwrap();
    let second = env.kiln(&["run", "--name", "work", "busybox", "true"]);
    second.fails_with(125, "error[container]: a container `work` is running");
    drop(running);
    assert!(first.wait().unwrap().success());
    let names = env.kiln(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(names.succeeds().stdout, "work\n");
}

#[test]
fn sandbox_a_container_is_exported_and_made_into_an_image() {
    let Some(env) = with_container() else {
        return;
    };
    env.kiln(&["export", "-q", "-o", "root.tar", "work"])
        .succeeds();
    let tar = std::fs::read(env.work().join("root.tar")).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(names.contains(&"etc/new".to_owned()) && names.contains(&"bin/busybox".to_owned()));
    assert!(!names.contains(&"bin/wc".to_owned()), "{names:?}");

    let commit = [
        "commit",
        "-m",
        "of work",
        "-a",
        "me",
        "-c",
        "CMD [\"cat\", \"/etc/new\"]",
        "-c",
        "ENV C=$A",
        "work",
        "made:1",
    ];
    let id = env.kiln(&commit).succeeds().stdout;
    let format = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Cmd}} {{index .Config.Env 0}} {{index .Config.Env 1}} {{.Config.WorkingDir}} {{len .RootFS.Layers}}";
    let made = env
        .kiln(&["inspect", "-f", format, "made:1"])
        .succeeds()
        .stdout;
    assert_eq!(
        made,
        format!("{} me of work [cat /etc/new] A=b C=b /tmp 2\n", id.trim())
    );
    assert_eq!(
        env.kiln(&["run", "--rm", "made:1"]).succeeds().stdout,
        "new\n"
    );
    let wrong = env.kiln(&["commit", "-c", "RUN true", "work"]);
    wrong.fails_with(
        2,
        "error[config-change]: `RUN` can't be a change of a config",
    );

    let different = env.kiln(&["diff", "busybox", "made:1"]).succeeds().stdout;
    // The sandbox may have made places for mounts.
    let is_told = |line: &&str| !line.ends_with(" (directory)");
    let different: Vec<&str> = different.lines().filter(is_told).collect();
    let expected = "D /bin/wc (-> busybox)\nC /etc/group (mode 0755 -> 0600)\nA /etc/new (4B)\n\n\
                    A ArgsEscaped = true\nA Cmd = [\"cat\",\"/etc/new\"]\nA Env.A = b\nA Env.C = b\nA WorkingDir = /tmp\nA author = me\n";
    assert_eq!(different.join("\n") + "\n", expected);
    let json = env
        .kiln(&["diff", "--format", "json", "busybox", "made:1"])
        .succeeds()
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let files = json["Files"].as_array().unwrap();
    let file = |path: &str| files.iter().find(|file| file["Path"] == path).unwrap();
    assert_eq!(file("/etc/group")["Aspects"][0], "mode");
    assert_eq!(file("/etc/new")["New"]["Size"], 4);
    assert_eq!(
        env.kiln(&["diff", "made:1", "made:1"]).succeeds().stdout,
        ""
    );
}

#[test]
fn sandbox_containers_are_collected_by_prune_alone() {
    let Some(env) = with_container() else {
        return;
    };
    let containers = || {
        env.kiln(&[
            "cache",
            "ls",
            "--filter",
            "type=container",
            "--format",
            "{{.Description}}",
        ])
        .succeeds()
        .stdout
    };
    assert!(containers().starts_with("work: sh -c "), "{}", containers());
    let pruned = env.kiln(&["prune", "-f"]).succeeds().stdout;
    assert!(pruned.contains("1 containers, "), "{pruned}");
    assert_eq!(containers(), "");
    env.kiln(&["commit", "work"]).fails(1);
    env.kiln(&["run", "--rm", "busybox", "true"]).succeeds();
}

#[test]
fn sandbox_an_image_of_a_container_is_removed_by_force_alone() {
    let Some(env) = with_container() else {
        return;
    };
    env.kiln(&["tag", "busybox", "second"]).succeeds();
    env.kiln(&["rmi", "second"]).succeeds(); // the image itself stays
    let refused = env.kiln(&["rmi", "busybox"]);
    refused.fails_with(
        1,
        "error[image]: `busybox` is in use: the container `work` was made of it",
    );
    assert!(
        refused.stderr.contains("kiln rm work"),
        "{}",
        refused.stderr
    );
    let id = env.kiln(&["images", "-q"]).succeeds().stdout;
    assert_eq!(env.kiln(&["rmi", id.trim()]).code, 1);
    env.kiln(&["rmi", "-f", "busybox"]).succeeds();
    env.kiln(&["export", "-o", "work.tar", "work"]).succeeds();
}
