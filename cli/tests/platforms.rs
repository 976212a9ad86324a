//! `--platform` with several: an index in one run.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::path::Path;

use serde_json::Value;
use test_env::TestEnv;

/// Copies only, so that any platform can be built anywhere.
const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM base AS both\nCOPY both /\nFROM scratch\nARG TARGETARCH\nCOPY --from=both /both /\nCOPY for-$TARGETARCH /for\n";
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

fn env() -> TestEnv {
    let env = TestEnv::with_files(&[
        ("both", "both"),
        ("for-amd64", "amd64"),
        ("for-arm64", "arm64"),
        ("for-arm", "arm"),
    ]);
    env.write("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    env.kiln(&["build", "-t", "base", "base"]).succeeds();
    env.write("Dockerfile", DOCKERFILE);
    env
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What a descriptor in a layout names.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    json(&layout.join("blobs").join(digest.replace(':', "/")))
}

/// `os/architecture/variant` of each manifest.
fn platforms(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap().iter();
    let name = |manifest: &Value| {
        let parts = ["os", "architecture", "variant"].map(|key| &manifest["platform"][key]);
        let parts = parts.iter().filter_map(|part| part.as_str());
        parts.collect::<Vec<_>>().join("/")
    };
    manifests.map(name).collect()
}

#[test]
fn several_platforms_make_an_index() {
    // R-MAN-6, R-EXPORT-3, R-EXPORT-4, R-EXPORT-9, R-EXPORT-10
    let env = env();
    let outcome = env
        .kiln(&[
            "build",
            "--progress=plain",
            "--platform=linux/amd64,linux/arm64",
            "--platform",
            "linux/arm,linux/x86_64",
            "-o",
            "type=oci,dest=layout,tar=false,name=app:1",
            "--metadata-file=metadata",
            "--iidfile=id",
            ".",
        ])
        .succeeds();
    let layout = env.work().join("layout");
    let listed = &json(&layout.join("index.json"))["manifests"];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(listed[0].get("platform").is_none());
    assert_eq!(
        listed[0]["annotations"]["org.opencontainers.image.ref.name"],
        "1"
    );
    let index = blob(&layout, &listed[0]);
    assert_eq!(platforms(&index), PLATFORMS);
    for (manifest, expected) in index["manifests"].as_array().unwrap().iter().zip(PLATFORMS) {
        let manifest = blob(&layout, manifest);
        let config = blob(&layout, &manifest["config"]);
        assert_eq!(
            config["architecture"],
            expected.split('/').nth(1).unwrap(),
            "R-CFG-7"
        );
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    }
    // R-STG-9, R-PROG-2: what is the same for all is done once.
    let shared = format!("[{} both 2/2] COPY both /\n", host());
    assert_eq!(
        outcome.stderr.matches(&shared).count(),
        1,
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("[linux/arm/v7 stage-1 2/2] COPY"));
    let digest = listed[0]["digest"].as_str().unwrap();
    let metadata = json(&env.work().join("metadata"));
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["containerimage.descriptor"]["digest"], digest);
    assert!(metadata.get("containerimage.config.digest").is_none());
    let id = std::fs::read_to_string(env.work().join("id")).unwrap();
    assert_eq!(id, digest);
}

/// The machine's own, as progress writes it.
fn host() -> String {
    kiln_image::Platform::host().to_string()
}

#[test]
fn a_name_stands_for_all_platforms() {
    let env = env();
    let all = format!("--platform={}", PLATFORMS.join(","));
    env.kiln(&["build", &all, "-t", "app", "."]).succeeds();
    let count = |args: &[&str]| env.kiln(args).succeeds().stdout.lines().count();
    assert_eq!(count(&["images", "-q", "app"]), 3);
    // A base for each platform, and the layers are the same as without going through a name.
    env.write("child/Dockerfile", "FROM app\n");
    env.kiln(&[
        "build",
        &all,
        "-o",
        "type=oci,dest=child.layout,tar=false",
        "child",
    ])
    .succeeds();
    let layout = env.work().join("child.layout");
    let listed = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(platforms(&blob(&layout, listed)), PLATFORMS);
    for arch in ["amd64", "arm64"] {
        let platform = format!("--platform=linux/{arch}");
        env.kiln(&["export", &platform, "-o", "root.tar", "app"])
            .succeeds();
        let tar = std::fs::read(env.work().join("root.tar")).unwrap();
        let whose = |of: &str| String::from_utf8_lossy(&tar).contains(of);
        assert_eq!(
            (whose("amd64"), whose("arm64")),
            (arch == "amd64", arch == "arm64")
        );
    }
    env.kiln(&["export", "--platform=linux/s390x", "app"])
        .fails(1);
    // The index has an id of its own, which is what a build prints.
    let index = env
        .kiln(&["build", &all, "-q", "-t", "app", "."])
        .succeeds();
    let index = index.stdout.trim();
    for id in [index, &index["sha256:".len()..][..12]] {
        env.kiln(&["tag", id, "by-id"]).succeeds();
        assert_eq!(count(&["images", "-q", "by-id"]), 3);
        let shown = env.kiln(&["inspect", "--platform=linux/arm/v7", "-f={{.Variant}}", id]);
        assert_eq!(shown.succeeds().stdout, "v7\n");
    }
    let removed = env.kiln(&["rmi", index]);
    removed.fails_with(
        1,
        &format!(
            "error[image]: `{index}` has names in several repositories: app:latest, by-id:latest"
        ),
    );
    env.kiln(&["rmi", "app"]).succeeds();
    let removed = env.kiln(&["rmi", index]).succeeds().stdout;
    assert_eq!(removed.matches("Deleted").count(), 3, "{removed}");
    env.kiln(&["build", &all, "-t", "app", "."]).succeeds();
    // All of it travels, and comes back as one index.
    env.kiln(&["tag", "app", "other:2"]).succeeds();
    env.kiln(&["save", "other:2", "-o", "saved.tar"]).succeeds();
    let removed = env.kiln(&["rmi", "app"]).succeeds().stdout;
    assert!(!removed.contains("Deleted"), "{removed}");
    let removed = env.kiln(&["rmi", "other:2"]).succeeds().stdout;
    assert_eq!(removed.matches("Deleted").count(), 3, "{removed}");
    env.kiln(&["prune", "--all"]).succeeds();
    let loaded = env.kiln(&["load", "-i", "saved.tar"]).succeeds().stdout;
    assert_eq!(loaded, "Loaded image: other:2\n");
    assert_eq!(count(&["images", "-q", "other"]), 3);
    env.kiln(&["prune"]).succeeds();
    env.kiln(&["save", "other:2", "-o", "again.tar"]).succeeds();
    let read = |name: &str| std::fs::read(env.work().join(name)).unwrap();
    assert!(read("saved.tar") == read("again.tar"));
}

#[test]
fn files_of_several_platforms_have_folders() {
    // R-EXPORT-5
    let env = env();
    let build = |output: &str| {
        let platforms = "--platform=linux/arm64,linux/arm/v7";
        env.kiln(&["build", platforms, "-o", output, "."])
    };
    build("out").succeeds();
    let read = |path: &str| std::fs::read_to_string(env.work().join(path)).unwrap();
    assert_eq!(read("out/linux_arm64/for"), "arm64");
    assert_eq!(read("out/linux_arm_v7/for"), "arm");
    let told = build("type=local,dest=flat,platform-split=false")
        .fails(1)
        .stderr;
    assert!(
        told.contains("cannot overwrite both from linux/arm64 with linux/arm/v7"),
        "{told}"
    );
    env.kiln(&[
        "build",
        "--platform=linux/arm64",
        "-o",
        "type=local,dest=one,platform-split=true",
        ".",
    ])
    .succeeds();
    assert_eq!(read("one/linux_arm64/for"), "arm64");
    build("type=tar,dest=both.tar").succeeds();
    let tar = std::fs::File::open(env.work().join("both.tar")).unwrap();
    let mut names: Vec<String> = Vec::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    let expected = [
        "linux_arm64/",
        "linux_arm64/both",
        "linux_arm64/for",
        "linux_arm_v7/",
        "linux_arm_v7/both",
        "linux_arm_v7/for",
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_can_have_no_index_is_refused() {
    let env = env();
    let two = "--platform=linux/arm64,linux/amd64";
    let told = env
        .kiln(&["build", two, "-o", "type=docker,dest=x.tar", "."])
        .fails(2)
        .stderr;
    // R-EXPORT-4
    assert!(
        told.contains("docker exporter does not currently support exporting manifest lists"),
        "{told}"
    );
    // R-ARG-11
    env.kiln(&["build", two, "--build-arg=BUILDKIT_MULTI_PLATFORM=0", "."])
        .fails(2);
    env.kiln(&["build", "--platform=linux/arm64/v8/x", "."])
        .fails(2);
    let output = "type=oci,dest=layout,tar=false";
    let forced = "--build-arg=BUILDKIT_MULTI_PLATFORM=1";
    env.kiln(&["build", "--platform=local", forced, "-o", output, "."])
        .succeeds();
    let layout = env.work().join("layout");
    let listed = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(platforms(&blob(&layout, listed)), [host()]);
}

#[test]
fn a_step_that_cannot_run_here_is_told_before_anything_runs() {
    // R-RT-17. No machine has an emulator for this.
    let env = env();
    env.write(
        "foreign/Dockerfile",
        "FROM scratch\nCOPY Dockerfile /\nRUN [\"/x\"]\n",
    );
    let outcome = env.kiln(&["build", "--platform=windows/amd64,linux/amd64", "foreign"]);
    outcome.fails_with(
        3,
        &format!(
            "error[no-emulator]: `RUN [\"/x\"]` is for windows/amd64, and this machine is {}",
            host()
        ),
    );
    assert!(
        !outcome.stderr.contains("COPY Dockerfile"),
        "{}",
        outcome.stderr
    );
    env.write("foreign/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    env.kiln(&["build", "--platform=windows/amd64", "foreign"])
        .succeeds();
}

#[test]
fn an_image_that_is_here_for_others_only_is_told_as_that() {
    let env = env();
    // Nobody listens there.
    let (name, other) = ("127.0.0.1:1/x:1", "windows/amd64");
    env.kiln(&["build", "--platform", other, "-t", name, "base"])
        .succeeds();
    env.write("of-it/Dockerfile", "FROM 127.0.0.1:1/x:1\nCOPY . /\n");
    let expected = format!(
        "error[platform]: `{name}` is here for {other} only, and could not be pulled for {}",
        host()
    );
    let outcome = env.kiln(&["build", "of-it"]);
    outcome.fails_with(4, &expected);
    assert!(
        outcome
            .stderr
            .contains("`FROM --platform=windows/amd64` whatever is built for"),
        "{}",
        outcome.stderr
    );
    env.kiln(&["pull", name]).fails_with(4, &expected);
    env.kiln(&["build", "--platform", other, "of-it"])
        .succeeds();
    env.kiln(&["inspect", "--platform=linux/s390x", name])
        .fails_with(
            1,
            &format!("error[image]: there is no image `{name}` for linux/s390x in the store, but for {other}"),
        );
}

#[test]
fn annotations_go_where_they_are_sent() {
    // R-MAN-8
    let env = env();
    let build = |platforms: &str, annotation: &str| {
        env.kiln(&[
            "build",
            platforms,
            "--annotation",
            "a=all",
            "--annotation",
            annotation,
            "-o",
            "type=oci,dest=layout,tar=false,annotation-manifest[linux/arm64].m=one,annotation-manifest-descriptor.d=beside",
            ".",
        ])
    };
    build(
        "--platform=linux/amd64,linux/arm64",
        "index,index-descriptor:i=top",
    )
    .succeeds();
    let layout = env.work().join("layout");
    let listed = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(listed["annotations"]["i"], "top");
    let index = blob(&layout, listed);
    assert_eq!(index["annotations"], serde_json::json!({"i": "top"}));
    let said = |at: usize| {
        let descriptor = &index["manifests"][at];
        assert_eq!(
            descriptor["annotations"],
            serde_json::json!({"d": "beside"})
        );
        blob(&layout, descriptor)["annotations"].clone()
    };
    assert_eq!(said(0), serde_json::json!({"a": "all"}));
    assert_eq!(said(1), serde_json::json!({"a": "all", "m": "one"}));
    let one = "--platform=linux/arm64";
    let told = build(one, "index:i=top").fails(2).stderr;
    assert!(
        told.contains("index annotations not supported for single platform export"),
        "{told}"
    );
    let told = build("--platform=linux/amd64", "b=c").fails(2).stderr;
    assert!(told.contains("no platform linux/arm64"), "{told}");
    build(one, "b=c").succeeds();
    let output = ["-o", "out"];
    env.kiln(&["build", "--annotation", "a=b", output[0], output[1], "."])
        .fails(2);
}

#[test]
fn each_target_has_its_image() {
    let env = env();
    let text = "FROM base AS common\nCOPY both /\nFROM common AS one\nCOPY for-amd64 /\nFROM common AS two\nCOPY for-arm64 /\n";
    env.write("Dockerfile", text);
    let outcome = env
        .kiln(&[
            "build",
            "--progress=plain",
            "--target=one",
            "--target=TWO",
            "-t",
            "one=first:1",
            "-t",
            "two=second:2",
            "--metadata-file=metadata",
            "-q",
            ".",
        ])
        .succeeds();
    let ids: Vec<&str> = outcome.stdout.lines().collect();
    let metadata = json(&env.work().join("metadata"));
    for ((target, name), id) in [("one", "first:1"), ("TWO", "second:2")].iter().zip(&ids) {
        assert_eq!(metadata[target]["containerimage.config.digest"], *id);
        assert_eq!(
            metadata[target]["image.name"],
            format!("docker.io/library/{name}")
        );
        let listed = env.kiln(&["images", "-q", "--no-trunc", name]).succeeds();
        assert_eq!(listed.stdout.trim(), *id);
    }
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    // What both need is done once.
    let two = ["build", "--no-cache", "--target=one", "--target=two"];
    let outputs = [
        "-o",
        "type=local,dest=1,target=one",
        "-o",
        "type=local,dest=2,target=two",
    ];
    let args: Vec<&str> = two.into_iter().chain(outputs).chain(["."]).collect();
    let outcome = env.kiln(&args).succeeds();
    assert_eq!(
        outcome.stderr.matches("COPY both /\n").count(),
        1,
        "{}",
        outcome.stderr
    );
    assert!(env.work().join("1/for-amd64").exists() && env.work().join("2/for-arm64").exists());
    for unclear in [
        ["-t", "app"],
        ["-t", "three=app"],
        ["-o", "out"],
        ["-o", "type=image,name=app"],
        ["--iidfile", "id"],
    ] {
        let args: Vec<&str> = two.into_iter().chain(unclear).chain(["."]).collect();
        env.kiln(&args).fails(2);
    }
}

#[test]
fn each_platform_has_a_date_of_its_own() {
    // R-SDE-2
    use std::os::unix::fs::MetadataExt;
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "ARG SOURCE_DATE_EPOCH=1${TARGETARCH#amd}\nFROM scratch\nWORKDIR /d\n",
    )]);
    let platforms = "--platform=linux/amd64,linux/386";
    env.kiln(&["build", platforms, "-o", "out", "."]).succeeds();
    let date = |platform: &str| {
        let made = env.work().join("out").join(platform).join("d");
        made.metadata().unwrap().mtime()
    };
    assert_eq!([date("linux_amd64"), date("linux_386")], [164, 1386]);
    let bytes = |name: &str| {
        let output = format!("type=oci,dest={name}");
        let line = ["build", "--no-cache", platforms, "-o", &output, "."];
        env.kiln(&line).succeeds();
        std::fs::read(env.work().join(name)).unwrap()
    };
    assert!(bytes("one.tar") == bytes("two.tar"));
}
