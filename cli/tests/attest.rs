//! `--provenance` and `--sbom`: what stands beside an image in its index. Clauses R-ATT-1 to R-ATT-5. The shapes are those that
//! BuildKit 0.32 writes.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::os::unix::fs::PermissionsExt;

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
    let version = &definition["internalParameters"]["dockerfileVersion"];
    assert_eq!(version, "1.26.0-dev");
    assert_eq!(
        definition["externalParameters"]["request"]["compatibilityVersion"],
        30
    );
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
fn steps_are_written_as_buildkit_writes_them() {
    let env = project();
    env.write("a/x", "");
    env.write(
        "Dockerfile",
        "FROM scratch\nWORKDIR /w\nCOPY --chown=1:2 --chmod=755 a/x a/* /d/\n",
    );
    build(&env, &["--provenance", "mode=max"]);
    let said = said(&env, "https://slsa.dev/provenance/v1");
    let steps = &said["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"];
    let steps = steps["llbDefinition"].as_array().unwrap().clone();
    let [.., copies, image] = &steps[..] else {
        panic!("{steps:?}")
    };
    // BuildKit 0.32's own, of the same instruction.
    let copy = |src: &str| {
        json!({"copy": {
            "allowEmptyWildcard": true, "allowWildcard": true, "createDestPath": true, "dest": "/d/",
            "dirCopyContents": true, "followSymlink": true, "mode": 493,
            "owner": {"group": {"User": {"byId": 2}}, "user": {"User": {"byId": 1}}},
            "src": src, "timestamp": -1,
        }})
    };
    let expected = json!({"Op": {"file": {"actions": [
        {"Action": copy("/a/x"), "input": 0, "output": -1, "secondaryInput": 1},
        {"Action": copy("/a/*"), "input": 2, "output": 0, "secondaryInput": 1},
    ]}}, "constraints": {}});
    assert_eq!(copies["op"], expected);
    assert_eq!(image["op"], json!({"Op": {}}));
    assert_eq!(
        image["inputs"],
        json!([format!("{}:0", copies["id"].as_str().unwrap())])
    );
}

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

/// A program with one section, as the linker of Go writes it.
fn go_program(modules: &str) -> Vec<u8> {
    let section = {
        let mut section = b"\xff Go buildinf:\x08\x02".to_vec();
        section.resize(32, 0);
        let around = "-".repeat(16);
        for text in ["go1.22.1", &format!("{around}{modules}{around}")] {
            section.push(u8::try_from(text.len()).unwrap());
            section.extend(text.bytes());
        }
        section
    };
    let names = b"\0.go.buildinfo\0";
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program.extend([&section[..], names].concat());
    let table = program.len() as u64;
    for (name, start, length) in [
        (1_u32, 64, section.len()),
        (0, 64 + section.len(), names.len()),
    ] {
        let mut line = [0; 64];
        line[..4].copy_from_slice(&name.to_le_bytes());
        line[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
        line[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
        program.extend(line);
    }
    program[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    program[0x3a..0x40].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
    program
}

#[test]
fn programs_say_what_they_are_made_of() {
    let env = project();
    let program = go_program("mod\ta.b/c\tv1.0.0\ndep\td.e/f/g\tv2.0.0\th1:x=\n");
    let path = env.work().join("program");
    std::fs::write(&path, program).unwrap();
    env.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=755 program /bin/\nCOPY --chmod=644 program /no\n",
    );
    build(&env, &["--sbom", "true"]);
    let document = said(&env, "https://spdx.dev/Document")["predicate"].clone();
    let packages = document["packages"].as_array().unwrap().iter();
    let said: Vec<_> = packages
        .filter_map(|package| {
            let purl = package["externalRefs"][0]["referenceLocator"].as_str()?;
            Some((purl, package["sourceInfo"].as_str()?))
        })
        .collect();
    let place = "found in /bin/program";
    assert_eq!(
        said,
        [
            ("pkg:golang/a.b/c@v1.0.0", place),
            ("pkg:golang/d.e/f/g@v2.0.0", place),
            ("pkg:golang/stdlib@1.22.1", place),
        ]
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

// R-ATT-6; names, mode and shape as BuildKit 0.32 has them.
#[test]
fn an_output_of_files_has_what_is_said_as_files() {
    let env = project();
    let flags = ["--provenance=mode=max", "--sbom=true"];
    let local = "-otype=local,dest=files,attestation-prefix=about-";
    let dated = "--build-arg=SOURCE_DATE_EPOCH=7";
    let line = [
        &["build", "-q", local, "-otype=tar,dest=t", dated],
        &flags[..],
        &["."],
    ]
    .concat();
    env.kiln(&line).succeeds();
    let said = |name: &str| {
        let path = env.work().join("files").join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        json_of(&std::fs::read_to_string(path).unwrap())
    };
    let provenance = said("about-provenance.json");
    assert_eq!(
        provenance["predicateType"],
        "https://slsa.dev/provenance/v1"
    );
    let subjects = provenance["subject"].as_array().unwrap();
    let names: Vec<_> = subjects.iter().map(|of| of["name"].clone()).collect();
    assert_eq!(
        names,
        ["Dockerfile", "etc/os-release", "var/lib/dpkg/status"]
    );
    let digest = kiln_image::Digest::of(STATUS.as_bytes()).hex();
    assert_eq!(subjects[2]["digest"], json!({"sha256": digest}));
    let packages = said("about-sbom.spdx.json");
    assert_eq!(packages["predicateType"], "https://spdx.dev/Document");
    assert_eq!(packages["subject"], provenance["subject"]);
    let tar = std::fs::read(env.work().join("t")).unwrap();
    let mut tar = tar::Archive::new(&tar[..]);
    let members = tar.entries().unwrap().map(Result::unwrap);
    let said = members.filter(|entry| entry.path().unwrap().extension() == Some("json".as_ref()));
    let said: Vec<_> = said
        .map(|entry| {
            (
                entry.path().unwrap().into_owned(),
                entry.header().mtime().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [("provenance.json".into(), 7), ("sbom.spdx.json".into(), 7)]
    );
}

// R-ATT-4: what is for images in stores and registries alone is in no archive, unless that is asked for.
#[test]
fn what_is_inline_only_is_in_no_file() {
    let env = project();
    let flag = "--provenance=mode=min,inline-only=true";
    build(&env, &[flag]);
    let layout = || json_of(&std::fs::read_to_string(env.work().join("out/index.json")).unwrap());
    let of_image = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(layout()["manifests"][0]["mediaType"], of_image);
    env.kiln(&["build", "-q", flag, "-o", "files", "."])
        .succeeds();
    assert!(!env.work().join("files/provenance.json").exists());
    let asked = "-otype=oci,dest=out,tar=false,attestation-inline=true";
    env.kiln(&["build", "-q", flag, asked, "."]).succeeds();
    assert_eq!(index(&env)["manifests"].as_array().unwrap().len(), 2);
}

// R-ATT-2
#[test]
fn it_can_stand_in_an_image_of_no_platform() {
    let env = project();
    let to = "-otype=oci,dest=out,tar=false,oci-artifact=false";
    env.kiln(&["build", "-q", "--provenance=true", to, "."])
        .succeeds();
    let manifest = blob(&env, &index(&env)["manifests"][1]["digest"]);
    assert!(manifest.get("subject").is_none() && manifest.get("artifactType").is_none());
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    let config = blob(&env, &manifest["config"]["digest"]);
    let expected = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [manifest["layers"][0]["digest"]]},
    });
    assert_eq!(config, expected);
}

// R-EXPORT-1: who knows indexes finds one, and `docker load` its own list.
#[test]
fn dockers_archive_has_it_beside_the_list_of_docker() {
    let env = project();
    let to = "-otype=docker,dest=d.tar";
    env.kiln(&["build", "-q", "-t", "app:1", "--sbom=true", to, "."])
        .succeeds();
    std::fs::create_dir(env.work().join("out")).unwrap();
    let archive = std::fs::File::open(env.work().join("d.tar")).unwrap();
    tar::Archive::new(archive)
        .unpack(env.work().join("out"))
        .unwrap();
    let index = index(&env);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let listed = std::fs::read_to_string(env.work().join("out/manifest.json")).unwrap();
    let listed = json_of(&listed);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["RepoTags"], json!(["app:1"]));
    let image = blob(&env, &index["manifests"][0]["digest"]);
    let hex = image["config"]["digest"]
        .as_str()
        .unwrap()
        .replace(':', "/");
    assert_eq!(listed[0]["Config"], format!("blobs/{hex}"));
}

// R-EXPORT-9
#[test]
fn metadata_have_the_provenance_and_the_date() {
    let env = project();
    let dated = "--build-arg=SOURCE_DATE_EPOCH=7";
    build(&env, &["--provenance=true", "--metadata-file=m", dated]);
    let metadata = json_of(&std::fs::read_to_string(env.work().join("m")).unwrap());
    let provenance = said(&env, "https://slsa.dev/provenance/v1");
    assert_eq!(metadata["buildx.build.provenance"], provenance["predicate"]);
    assert_eq!(
        metadata["containerimage.descriptor"]["annotations"],
        json!({"org.opencontainers.image.created": "1970-01-01T00:00:07Z"})
    );
}

#[test]
fn an_output_without_a_place_for_it_is_refused() {
    let env = project();
    let refused = env.kiln(&["build", "--sbom", "true", "-o", "type=cacheonly", "."]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("attestations"),
        "{}",
        refused.stderr
    );
}

// R-ATT-4; BuildKit's provenance names what the tag stood for, too.
#[test]
fn the_provenance_names_the_index_of_a_base_image() {
    let registry = kiln_registry::testing::TestRegistry::start();
    let base = format!("{}/base:1", registry.host());
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let platforms = "--platform=linux/amd64,linux/arm64";
    env.kiln(&["build", "--push", "-t", &base, platforms, "."])
        .succeeds();
    let (_, index) = registry.manifest("base", "1").unwrap();
    let expected = kiln_image::Digest::of(&index);

    let fresh =
        TestEnv::with_files(&[("Dockerfile", &format!("FROM {base}\nCOPY Dockerfile /\n"))]);
    let args = ["--provenance", "mode=min", "--platform", "linux/amd64"];
    // Pulled, and then from the store.
    for _ in 0..2 {
        build(&fresh, &args);
        let said = said(&fresh, "https://slsa.dev/provenance/v1");
        let sources = &said["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(sources[0]["digest"]["sha256"], expected.hex(), "{sources}");
        assert_eq!(sources.as_array().unwrap().len(), 1);
    }
}
