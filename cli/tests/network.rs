//! The network tier: whole walks from a Dockerfile to a running container, over a real registry, with the field's other tools
//! reading what kiln made. `cargo xtask test` starts the registry and names it in `KILN_TEST_REGISTRY`; what is slow to
//! make is kept in `KILN_TEST_CACHE`.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use test_env::{Outcome, TestEnv};

/// The certificate authorities of this machine: packages may come by way of a private one.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One Debian is made at a time.
static DEBIAN: Mutex<()> = Mutex::new(());

fn registry() -> String {
    std::env::var("KILN_TEST_REGISTRY")
        .expect("`KILN_TEST_REGISTRY` names the registry; `cargo xtask test` sets it")
}

/// A Debian as small as mmdebstrap makes it, with these packages too; made once and kept.
fn debian(packages: &str) -> PathBuf {
    let _one_at_a_time = DEBIAN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = std::env::var_os("KILN_TEST_CACHE").map_or_else(std::env::temp_dir, PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    let tar = folder.join(format!(
        "debian-bookworm-{}.tar",
        packages.replace(',', "+")
    ));
    if !tar.exists() {
        let unfinished = folder.join(format!("unfinished-{}.tar", std::process::id()));
        let mut command = Command::new("mmdebstrap");
        command
            .args([
                "--quiet",
                "--variant=minbase",
                &format!("--include={packages}"),
                "bookworm",
            ])
            .arg(&unfinished);
        tool(&mut command);
        fs::rename(&unfinished, &tar).unwrap();
    }
    tar
}

/// Runs another tool, which must succeed, and returns what it printed.
#[track_caller]
fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Pushes a Debian to the registry and takes it out of the store, so that builds have to pull it.
fn push_debian(env: &TestEnv, packages: &str, name: &str) {
    env.kiln(&["import", debian(packages).to_str().unwrap(), name])
        .succeeds();
    env.kiln(&["push", name]).succeeds();
    env.kiln(&["rmi", name]).succeeds();
}

/// The steps of a build, as `--progress=plain` tells them.
struct Steps {
    names: BTreeMap<u32, String>,
    cached: BTreeSet<u32>,
}

impl Steps {
    fn of(outcome: &Outcome) -> Self {
        let mut steps = Steps {
            names: BTreeMap::new(),
            cached: BTreeSet::new(),
        };
        for line in outcome.stderr.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            if rest == "CACHED" {
                steps.cached.insert(number);
            } else if let Some(instruction) = instruction(rest) {
                steps.names.insert(number, instruction.to_owned());
            }
        }
        steps
    }

    /// The instructions that were done and not taken from the cache, by their first words.
    fn done(&self) -> Vec<&str> {
        let fresh = self
            .names
            .iter()
            .filter(|(number, _)| !self.cached.contains(number));
        fresh.map(|(_, name)| name.as_str()).collect()
    }
}

/// `RUN make` of a heading `[build 2/4] RUN make`; FROM and what is internal is no instruction that a cache could spare.
fn instruction(heading: &str) -> Option<&str> {
    let (place, instruction) = heading.strip_prefix('[')?.split_once("] ")?;
    let counted = place.contains('/') && !instruction.starts_with("FROM ");
    counted.then(|| instruction.split(' ').next().unwrap_or(instruction))
}

#[track_caller]
fn build(env: &TestEnv, arguments: &[&str]) -> Steps {
    let mut all = vec!["build", "--progress=plain"];
    all.extend(arguments);
    all.push(".");
    Steps::of(&env.kiln(&all).succeeds())
}

fn set_mtime_to_now(path: &Path) {
    fs::File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
}

const CLOCK: &str =
    "#!/bin/sh\nPATH=$PATH:/usr/games\necho 'the clock says' \"$(date +%Y)\" | cowsay\n";

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_clock_is_built_rebuilt_shipped_and_run() {
    let env = TestEnv::new();
    let host = registry();
    let (base, clock) = (format!("{host}/debian:bookworm"), format!("{host}/clock:1"));
    push_debian(&env, "ca-certificates", &base);
    env.write("clock.sh", CLOCK);
    env.write(
        "Dockerfile",
        &format!(
            "FROM {base}\n\
             RUN apt-get update && apt-get install -y --no-install-recommends fortune-mod cowsay && rm -rf /var/lib/apt/lists/*\n\
             COPY clock.sh /usr/local/bin/clock.sh\n\
             RUN chmod +x /usr/local/bin/clock.sh\n\
             CMD [\"/usr/local/bin/clock.sh\"]\n"
        ),
    );
    let outputs = [
        "-t",
        &clock,
        "-o",
        "type=image",
        "-o",
        "type=docker,dest=../clock.tar",
        "-o",
        "type=oci,tar=false,dest=../layout",
    ];
    assert_eq!(build(&env, &outputs).done(), ["RUN", "COPY", "RUN"]);
    assert!(build(&env, &["-t", &clock]).done().is_empty());
    set_mtime_to_now(&env.work().join("clock.sh"));
    assert!(
        build(&env, &["-t", &clock]).done().is_empty(),
        "a touched file changes nothing"
    );
    assert!(
        env.kiln(&["run", "--rm", &clock])
            .succeeds()
            .stdout
            .contains("the clock says 2")
    );

    env.kiln(&["push", &clock]).succeeds();
    skopeo_pulls(&env, &clock);
    podman_runs(&env, &clock);
    umoci_unpacks(&env);

    env.write("clock.sh", &CLOCK.replace("the clock says", "it is"));
    assert_eq!(build(&env, &["-t", &clock]).done(), ["COPY", "RUN"]);
    assert!(
        env.kiln(&["run", "--rm", &clock])
            .succeeds()
            .stdout
            .contains("it is 2")
    );
}

fn outside(env: &TestEnv, name: &str) -> String {
    env.work().join("..").join(name).display().to_string()
}

fn skopeo_pulls(env: &TestEnv, image: &str) {
    let destination = format!("dir:{}", outside(env, "pulled"));
    tool(Command::new("skopeo").args([
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &format!("docker://{image}"),
        &destination,
    ]));
    assert!(
        Path::new(&outside(env, "pulled"))
            .join("manifest.json")
            .exists()
    );
}

fn podman_runs(env: &TestEnv, image: &str) {
    let podman = || {
        let mut command = Command::new("podman");
        command.args([
            "--root",
            &outside(env, "podman"),
            "--runroot",
            &outside(env, "podman-run"),
        ]);
        // What also works as root inside of containers and on machines without systemd.
        command.args([
            "--storage-driver=overlay",
            "--cgroup-manager=cgroupfs",
            "--runtime=runc",
        ]);
        command
    };
    tool(podman().args(["load", "--quiet", "-i", &outside(env, "clock.tar")]));
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    let said = tool(
        podman()
            .args(["run", "--rm", "--pull=never", "--network=none"])
            .args(limits)
            .arg(image),
    );
    tool(podman().args(["rmi", "--all", "--force"]));
    // Its store is a mount on itself, which would keep the temporary folder from being removed.
    let _ = Command::new("umount")
        .arg(Path::new(&outside(env, "podman")).join("overlay"))
        .output();
    assert!(said.contains("the clock says 2"), "{said}");
}

fn umoci_unpacks(env: &TestEnv) {
    let (layout, bundle) = (
        format!("{}:1", outside(env, "layout")),
        outside(env, "bundle"),
    );
    tool(Command::new("umoci").args(["unpack", "--image", &layout, &bundle]));
    let script =
        fs::read_to_string(Path::new(&bundle).join("rootfs/usr/local/bin/clock.sh")).unwrap();
    assert_eq!(script, CLOCK);
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_the_builder_pattern_leaves_one_small_layer() {
    let env = TestEnv::new();
    let base = format!("{}/gcc:bookworm", registry());
    push_debian(&env, "gcc,libc6-dev", &base);
    env.write(
        "hello.c",
        "#include <stdio.h>\nint main(void) { puts(\"hello from scratch\"); return 0; }\n",
    );
    env.write(
        "Dockerfile",
        &format!(
            "FROM {base} AS build\nWORKDIR /src\nCOPY hello.c .\nRUN gcc -O2 -static -s -o /hello hello.c\n\
             FROM scratch\nCOPY --from=build /hello /hello\nENTRYPOINT [\"/hello\"]\n"
        ),
    );
    let archive = [
        "-t",
        "hello:1",
        "-o",
        "type=image",
        "-o",
        "type=oci,tar=false,dest=../layout",
    ];
    assert_eq!(
        build(&env, &archive).done(),
        ["WORKDIR", "COPY", "RUN", "COPY"]
    );
    assert_eq!(
        env.kiln(&["run", "--rm", "hello:1"]).succeeds().stdout,
        "hello from scratch\n"
    );
    let source = format!("oci:{}:1", outside(&env, "layout"));
    let manifest = tool(Command::new("skopeo").args(["inspect", "--raw", &source]));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{manifest}");
    assert!(
        layers[0]["size"].as_u64().unwrap() < 2_000_000,
        "{manifest}"
    );
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_dependencies_stay_cached_when_sources_change() {
    let env = TestEnv::new();
    let base = format!("{}/python:bookworm", registry());
    push_debian(&env, "ca-certificates,python3-venv", &base);
    let authorities = fs::read_to_string(AUTHORITIES).unwrap();
    env.write("authorities.crt", &authorities);
    env.write("requirements.txt", "itsdangerous==2.2.0\n");
    env.write(
        "service.py",
        "import itsdangerous\nprint('signed', itsdangerous.Signer('k').sign(b'v').decode())\n",
    );
    env.write(".dockerignore", ".git\n*.tmp\n");
    env.write(
        "Dockerfile",
        &format!(
            "FROM {base}\nWORKDIR /srv\n\
             COPY authorities.crt {AUTHORITIES}\n\
             RUN python3 -m venv /venv\n\
             COPY requirements.txt .\n\
             RUN /venv/bin/pip install --quiet --no-cache-dir --cert {AUTHORITIES} -r requirements.txt\n\
             COPY . .\nUSER nobody\nCMD [\"/venv/bin/python\", \"service.py\"]\n"
        ),
    );
    assert_eq!(
        build(&env, &["-t", "service:1"]).done(),
        ["WORKDIR", "COPY", "RUN", "COPY", "RUN", "COPY"]
    );
    assert!(
        env.kiln(&["run", "--rm", "service:1"])
            .succeeds()
            .stdout
            .starts_with("signed v.")
    );
    env.write("service.py", "import itsdangerous\nprint('version two')\n");
    assert_eq!(build(&env, &["-t", "service:2"]).done(), ["COPY"]);
    assert_eq!(
        env.kiln(&["run", "--rm", "service:2"]).succeeds().stdout,
        "version two\n"
    );
    env.write("notes.tmp", "left out");
    assert!(
        build(&env, &["-t", "service:2"]).done().is_empty(),
        "an ignored file changes nothing"
    );
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_cache_in_a_registry_is_whole_and_sent_once() {
    let files = [
        (
            "Dockerfile",
            "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY --from=a /one /bin/\nCOPY two /\n",
        ),
        ("one", "1"),
        ("two", "2"),
    ];
    let cache = format!("{}/shared/cache:main", registry());
    let to = format!("type=registry,ref={cache},mode=max,compression=zstd");
    let first = TestEnv::with_files(&files);
    let build = |env: &TestEnv, flags: &[&str]| {
        let args = [&["build", "--progress=plain"], flags, &["."]].concat();
        env.kiln(&args).succeeds().stderr
    };
    let sent = build(&first, &["--cache-to", &to]);
    assert!(sent.contains(" 3 of 3 layers sent"), "{sent}");
    let second = TestEnv::with_files(&files);
    let told = build(&second, &["--cache-from", &cache, "--cache-to", &to]);
    assert_eq!(told.matches(" CACHED\n").count(), 3, "{told}");
    assert!(told.contains(" 0 of 3 layers sent, 0 bytes"), "{told}");
    // Other tools take it for what it is: an artifact of the registry.
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
    let manifest = tool(skopeo.arg(format!("docker://{cache}")));
    assert!(
        manifest.contains("vnd.kiln.cache.config.v1+json"),
        "{manifest}"
    );
}

/// R-EXPORT-1, R-MAN-4: skopeo reads each form of an image with each compression, and finds the same config.
#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_other_tools_read_every_form_of_an_output() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "1")]);
    let config = |of: &str| {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--config", "--raw", of]);
        tool(skopeo.current_dir(env.work()))
    };
    for compression in ["gzip", "zstd", "estargz", "uncompressed"] {
        let output = |form: &str| format!("--output={form},compression={compression}");
        let outputs = [
            output("type=oci,dest=oci.tar"),
            output("type=oci,dest=oci,tar=false"),
            output("type=docker,dest=docker.tar"),
        ];
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let line = [&["build", "-q", "-t", "app:1"], &outputs[..], &["."]].concat();
        env.kiln(&line).succeeds();
        let expected = config("oci:oci:1");
        assert!(expected.contains("diff_ids"), "{expected}");
        for archive in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
            assert_eq!(config(archive), expected, "{archive}, {compression}");
        }
        fs::remove_dir_all(env.work().join("oci")).unwrap();
    }
}

/// R-EXPORT-8, R-EXPORT-9
#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_build_is_in_the_registry_under_all_its_names() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "1")]);
    let (one, two) = (
        format!("{}/pushed/one:1", registry()),
        format!("{}/pushed/two:2", registry()),
    );
    let line = [
        "build",
        "--push",
        "-t",
        &one,
        "-t",
        &two,
        "--metadata-file=m",
        ".",
    ];
    env.kiln(&line).succeeds();
    let metadata = fs::read_to_string(env.work().join("m")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    for name in [one, two] {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--tls-verify=false", "--format={{.Digest}}"]);
        let found = tool(skopeo.arg(format!("docker://{name}")));
        assert_eq!(metadata["containerimage.digest"], found.trim());
    }
}
