//! `--provenance` and `--sbom`: what stands beside an image in its index. Clauses R-ATT-1 to R-ATT-5. The shapes are those that
//! BuildKit 0.32 writes.

#![allow(clippy::unwrap_used)]

mod test_env;

use serde_json::{Value, json};
use test_env::TestEnv;

const STATUS: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n\n\
    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";

fn project() -> TestEnv {
    TestEnv::with_files(&[
        (
            "Dockerfile",
            "FROM scratch AS files\nARG V\nCOPY status /var/lib/dpkg/\nCOPY os-release /etc/\nFROM files\nCOPY Dockerfile /\n",
        ),
        ("status", STATUS),
        ("os-release", "ID=debian\nVERSION_ID=12\n"),
    ])
}

/// Builds into a layout with these flags.
fn build(env: &TestEnv, flags: &[&str]) {
    let line = [
        &[
            "build",
            "-q",
            "-t",
            "app:1",
            "-o",
            "type=oci,dest=out,tar=false",
        ],
        flags,
        &["."],
    ]
    .concat();
    env.kiln(&line).succeeds();
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A blob of the layout.
fn blob(env: &TestEnv, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    json_of(&std::fs::read_to_string(env.work().join("out/blobs/sha256").join(hex)).unwrap())
}

/// The index of the image.
fn index(env: &TestEnv) -> Value {
    let layout = json_of(&std::fs::read_to_string(env.work().join("out/index.json")).unwrap());
    blob(env, &layout["manifests"][0]["digest"])
}

/// What is said of this type.
fn said(env: &TestEnv, predicate_type: &str) -> Value {
    let manifest = blob(env, &index(env)["manifests"][1]["digest"]);
    let layers = manifest["layers"].as_array().unwrap().clone();
    let wanted =
        |layer: &&Value| layer["annotations"]["in-toto.io/predicate-type"] == predicate_type;
    let layer = layers.iter().find(wanted).unwrap();
    let statement = blob(env, &layer["digest"]);
    assert_eq!(statement["predicateType"], predicate_type);
    statement
}

// R-ATT-1, R-ATT-2, R-ATT-3
#[test]
fn what_is_said_stands_beside_the_image() {
    let env = project();
    build(&env, &["--provenance", "true", "--sbom", "true"]);
    let index = index(&env);
    let [image, about] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("{index}")
    };
    assert_eq!(
        about["platform"],
        json!({"architecture": "unknown", "os": "unknown"})
    );
    let expected = json!({
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    });
    assert_eq!(about["annotations"], expected);
    let manifest = blob(&env, &about["digest"]);
    assert_eq!(manifest["subject"]["digest"], image["digest"]);
    let statement = said(&env, "https://slsa.dev/provenance/v1");
    let subject = &statement["subject"][0];
    let name = subject["name"].as_str().unwrap();
    assert!(
        name.starts_with("pkg:docker/app@1?platform=linux%2F"),
        "{name}"
    );
    let hex = subject["digest"]["sha256"].as_str().unwrap();
    assert_eq!(format!("sha256:{hex}"), image["digest"].as_str().unwrap());
}

// R-MAN-7
#[test]
fn nothing_is_said_unless_it_is_asked_for() {
    let env = project();
    build(&env, &[]);
    assert_eq!(
        index(&env)["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
}

// R-ATT-4
#[test]
fn the_smaller_provenance_has_no_arguments_and_no_steps() {
    let env = project();
    let args = [
        "--build-arg",
        "V=one",
        "--build-arg",
        "API_TOKEN=hunter2",
        "--label",
        "l=m",
    ];
    build(&env, &[&args[..], &["--provenance", "mode=min"]].concat());
    let min = said(&env, "https://slsa.dev/provenance/v1")["predicate"].clone();
    let definition = &min["buildDefinition"];
    assert_eq!(
        definition["externalParameters"]["request"]["args"],
        Value::Null
    );
    assert_eq!(definition["internalParameters"]["buildConfig"], Value::Null);
    let complete = &min["runDetails"]["metadata"]["buildkit_completeness"];
    assert_eq!(
        *complete,
        json!({"request": false, "resolvedDependencies": false})
    );

    build(
        &env,
        &[
            &args[..],
            &["--attest", "type=provenance,mode=max,builder-id=https://ci"],
        ]
        .concat(),
    );
    let max = said(&env, "https://slsa.dev/provenance/v1")["predicate"].clone();
    let given = &max["buildDefinition"]["externalParameters"]["request"]["args"];
    assert_eq!(given["build-arg:V"], "one");
    assert_eq!(given["label:l"], "m");
    assert!(!max.to_string().contains("hunter2"), "{max}");
    assert_eq!(max["runDetails"]["builder"]["id"], "https://ci");
    let steps = &max["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"];
    assert!(steps.as_array().unwrap().len() >= 4, "{steps}");
    let file = &max["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0];
    assert_eq!(file["filename"], "Dockerfile");
}

// R-ATT-4
#[test]
fn the_older_version_has_its_own_words() {
    let env = project();
    build(
        &env,
        &["--provenance", "mode=max,version=v0.2,reproducible=true"],
    );
    let predicate = said(&env, "https://slsa.dev/provenance/v0.2")["predicate"].clone();
    assert_eq!(
        predicate["buildType"],
        "https://mobyproject.org/buildkit@v1"
    );
    assert_eq!(predicate["metadata"]["reproducible"], true);
    assert_eq!(
        predicate["invocation"]["parameters"]["frontend"],
        "dockerfile.v0"
    );
    assert!(predicate["buildConfig"]["llbDefinition"].is_array());
}

// R-ATT-5
#[test]
fn packages_are_listed() {
    let env = project();
    build(&env, &["--sbom", "true"]);
    let document = said(&env, "https://spdx.dev/Document")["predicate"].clone();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let packages = document["packages"].as_array().unwrap();
    let purls = packages
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str());
    let purls: Vec<&str> = purls.collect();
    assert_eq!(
        purls,
        ["pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12"]
    );
    assert_eq!(
        document["relationships"].as_array().unwrap().len(),
        packages.len()
    );
}

#[test]
fn with_a_date_the_same_is_said_every_time() {
    let env = project();
    let flags = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=7",
        "--no-cache",
        "--provenance",
        "mode=max",
        "--sbom",
        "true",
    ];
    build(&env, &flags);
    let first = index(&env);
    build(&env, &flags);
    assert_eq!(index(&env), first);
}

#[test]
fn an_output_without_a_place_for_it_is_refused() {
    let env = project();
    for output in ["type=tar,dest=x", "type=docker,dest=x", "type=cacheonly"] {
        let refused = env.kiln(&["build", "--sbom", "true", "-o", output, "."]);
        assert_eq!(refused.code, 2, "{output}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("attestations"),
            "{}",
            refused.stderr
        );
    }
}
