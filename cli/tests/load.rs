//! `kiln build --load`: what Docker and podman are handed, by programs that stand for them (`testdata/load`).

#![allow(clippy::unwrap_used)]

mod test_env;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use test_env::{Outcome, TestEnv};

const OWN_STORE: &str = r#"[["Backing Filesystem","extfs"]]"#;
const CONTAINERD: &str = r#"[["driver-type","io.containerd.snapshotter.v1"]]"#;

/// A build whose `docker` or `podman` is one of ours.
struct Loading {
    env: TestEnv,
}

impl Loading {
    /// With a Docker that says this about its store.
    fn new(driver: &str) -> Self {
        let dockerfile = "FROM base\nCOPY above /\n";
        let base = "FROM scratch\nCOPY below /\n";
        let files = [
            ("Dockerfile", dockerfile),
            ("base/Dockerfile", base),
            ("base/below", "below"),
            ("above", "above"),
        ];
        let env = TestEnv::with_files(&files);
        env.kiln(&["build", "-t", "base", "base"]).succeeds();
        let loading = Self { env };
        loading.says("driver", driver);
        loading
    }

    fn says(&self, name: &str, text: &str) {
        self.env.write(&format!("fake/{name}"), text);
    }

    /// Builds with these programs in the path, and with `sh` and `cat`.
    fn build(&self, programs: &[&str], flags: &[&str]) -> Outcome {
        let folder = |name: &str| {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            let folder = here.join("../testdata/load").join(name);
            folder.canonicalize().unwrap().display().to_string()
        };
        let mut path: Vec<String> = programs.iter().map(|name| folder(name)).collect();
        // The machine's own Docker and podman are in others.
        path.push(self.env.work().join("bin").display().to_string());
        self.tools();
        let line = [&["build", "-t", "app:1"], flags, &["."]].concat();
        let mut command = self.env.command(&line);
        command.env("PATH", path.join(":"));
        command.env("FAKE", self.env.work().join("fake"));
        self.env.outcome(&mut command)
    }

    fn tools(&self) {
        let bin = self.env.work().join("bin");
        if fs::create_dir(&bin).is_ok() {
            std::os::unix::fs::symlink("/bin/cat", bin.join("cat")).unwrap();
        }
    }

    /// The files of the archive that was loaded.
    fn loaded(&self) -> BTreeMap<String, Vec<u8>> {
        let file = fs::File::open(self.env.work().join("fake/loaded")).unwrap();
        let mut archive = tar::Archive::new(file);
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&self.loaded()[name]).unwrap()
    }

    /// The layers of `base`.
    fn base_layers(&self) -> String {
        let line = ["inspect", "-f", "{{json .RootFS.Layers}}", "base"];
        self.env.kiln(&line).succeeds().stdout
    }
}

/// The blobs that the archive's image has and the archive has not.
fn left_out(loading: &Loading) -> usize {
    let files = loading.loaded();
    let manifest = loading.document("manifest.json");
    let layers = manifest[0]["Layers"].as_array().unwrap().iter();
    let missing = |layer: &&Value| !files.contains_key(layer.as_str().unwrap());
    layers.filter(missing).count()
}

#[test]
fn docker_comes_first_and_gets_an_archive_of_its_own() {
    let loading = Loading::new(OWN_STORE);
    let told = loading.build(&["docker", "podman"], &["--load"]).succeeds();
    assert!(
        told.stderr.contains("loaded into docker"),
        "{}",
        told.stderr
    );
    // R-EXPORT-1
    let manifest = loading.document("manifest.json");
    assert_eq!(manifest[0]["RepoTags"][0], "app:1");
    assert_eq!(left_out(&loading), 0);
}

#[test]
fn podman_is_taken_where_there_is_no_docker_or_it_is_asked_for() {
    let loading = Loading::new(OWN_STORE);
    for (programs, flag) in [
        (&["podman"][..], "--load"),
        (&["docker", "podman"], "--load=podman"),
    ] {
        let told = loading.build(programs, &[flag]).succeeds().stderr;
        assert!(told.contains("loaded into podman"), "{told}");
    }
    // A `type=docker` without a place is for it, too.
    let output = ["-o", "type=docker"];
    let told = loading.build(&["podman"], &output).succeeds().stderr;
    assert!(told.contains("loaded into podman"), "{told}");
}

#[test]
fn layers_that_docker_has_are_not_sent() {
    let loading = Loading::new(OWN_STORE);
    loading.says("layers", &loading.base_layers());
    loading.build(&["docker"], &["--load"]).succeeds();
    assert_eq!(left_out(&loading), 1);
    // With containerd's store its blobs count by themselves, and podman wants all.
    loading.says("driver", CONTAINERD);
    loading.build(&["docker"], &["--load"]).succeeds();
    assert_eq!(left_out(&loading), 0);
    loading.build(&["podman"], &["--load"]).succeeds();
    assert_eq!(left_out(&loading), 0);
}

#[test]
fn an_index_goes_where_containerd_keeps_it() {
    let loading = Loading::new(CONTAINERD);
    loading
        .env
        .write("Dockerfile", "FROM scratch\nCOPY above /\n");
    let two = "--platform=linux/amd64,linux/arm64";
    for (flags, count) in [
        (&["--load", two][..], 2),
        (&["--load", "--provenance=true"], 2),
        (&["--load", two, "--provenance=true"], 4),
    ] {
        loading.build(&["docker"], flags).succeeds();
        let index = loading.document("index.json");
        let top = index["manifests"][0]["digest"].as_str().unwrap();
        let inner = loading.document(&format!("blobs/{}", top.replace(':', "/")));
        assert_eq!(
            inner["manifests"].as_array().unwrap().len(),
            count,
            "{flags:?}"
        );
        let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        assert_eq!(name, "docker.io/library/app:1");
        for (programs, driver) in [("podman", CONTAINERD), ("docker", OWN_STORE)] {
            loading.says("driver", driver);
            let told = loading.build(&[programs], flags).fails(2).stderr;
            assert!(
                told.contains("can't take images for several platforms"),
                "{told}"
            );
        }
        loading.says("driver", CONTAINERD);
    }
}

#[test]
fn what_the_engine_says_is_told() {
    let loading = Loading::new(OWN_STORE);
    loading.says("refusal", "no space left on device\n");
    let told = loading.build(&["docker"], &["--load"]).fails(3).stderr;
    assert!(told.contains("`docker load` failed"), "{told}");
    assert!(told.contains("no space left on device"), "{told}");
    let told = loading.build(&[], &["--load"]).fails(3).stderr;
    assert!(
        told.contains("there is nobody to load the image into"),
        "{told}"
    );
}
