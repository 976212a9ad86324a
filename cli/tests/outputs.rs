//! What `-o` says of images: compression, media types, clamped times, manifests; and `--reproducible`.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::io::Read;
use std::path::{Path, PathBuf};

use kiln_image::Digest;
use kiln_image::compress::decoder;
use serde_json::Value;
use test_env::TestEnv;

/// An image as a layout on the disk.
struct Layout {
    path: PathBuf,
    manifest: Value,
    digest: String,
}

impl Layout {
    /// Builds `context` with these attributes of the output.
    fn build(env: &TestEnv, context: &str, attributes: &str, args: &[&str]) -> Self {
        let path = env.work().join(format!(
            "layout-{}",
            Digest::of(attributes.as_bytes()).hex()
        ));
        let output = format!("type=oci,tar=false,dest={}{attributes}", path.display());
        let args = [&["build", "-o", &output], args, &[context]].concat();
        env.kiln(&args).succeeds();
        Self::read(path)
    }

    fn read(path: PathBuf) -> Self {
        let index: Value = json(&std::fs::read(path.join("index.json")).unwrap());
        let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let manifest = json(&std::fs::read(blob_path(&path, &digest)).unwrap());
        Self {
            path,
            manifest,
            digest,
        }
    }

    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        std::fs::read(blob_path(
            &self.path,
            descriptor["digest"].as_str().unwrap(),
        ))
        .unwrap()
    }

    fn config(&self) -> Value {
        json(&self.blob(&self.manifest["config"]))
    }

    fn layers(&self) -> &[Value] {
        self.manifest["layers"].as_array().unwrap()
    }

    /// The last word of each layer's media type.
    fn kinds(&self) -> Vec<&str> {
        let types = self
            .layers()
            .iter()
            .map(|layer| layer["mediaType"].as_str().unwrap());
        types
            .map(|kind| kind.rsplit(['.', '+']).next().unwrap())
            .collect()
    }

    /// The uncompressed layers, which have to be what the config says.
    fn tars(&self) -> Vec<Vec<u8>> {
        let config = self.config();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(diff_ids.len(), self.layers().len());
        let tars = self.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
            let mut tar = Vec::new();
            decoder(&self.blob(layer)[..])
                .unwrap()
                .read_to_end(&mut tar)
                .unwrap();
            assert_eq!(*diff_id, Digest::of(&tar).to_string());
            tar
        });
        tars.collect()
    }

    /// When the file of this name was changed, by the header in the tar of a layer.
    fn mtime(&self, layer: usize, name: &str) -> u64 {
        let tar = &self.tars()[layer];
        let header = tar
            .chunks(512)
            .find(|block| block.starts_with(name.as_bytes()))
            .unwrap();
        let text = str::from_utf8(&header[136..147]).unwrap();
        u64::from_str_radix(text.trim(), 8).unwrap()
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// A base image in a layout, and a context on top of it.
fn env() -> TestEnv {
    let env = TestEnv::with_files(&[("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /base\n")]);
    env.write("app/file", "app");
    env.write("app/Dockerfile", "FROM base\nCOPY file /app\n");
    env.kiln(&["build", "-o=type=oci,tar=false,dest=base.layout", "base"])
        .succeeds();
    env
}

const ON_BASE: &str = "--build-context=base=oci-layout://base.layout";

#[test]
fn layers_are_compressed_as_asked_and_the_base_keeps_its_form() {
    // R-MAN-1, R-MAN-4, R-MAN-9
    let env = env();
    for (attributes, expected) in [
        ("", ["gzip", "gzip"]),
        (",compression=gzip,compression-level=9", ["gzip", "gzip"]),
        (",compression=zstd", ["gzip", "zstd"]),
        (
            ",compression=zstd,compression-level=19,force-compression=true",
            ["zstd", "zstd"],
        ),
        (",compression=uncompressed", ["gzip", "tar"]),
        (
            ",compression=uncompressed,force-compression=true",
            ["tar", "tar"],
        ),
        (",compression=estargz", ["gzip", "gzip"]),
        (
            ",compression=estargz,force-compression=true",
            ["gzip", "gzip"],
        ),
        (",oci-mediatypes=false", ["gzip", "gzip"]),
    ] {
        let layout = Layout::build(&env, "app", attributes, &[ON_BASE]);
        assert_eq!(layout.kinds(), expected, "{attributes}");
        let tars = layout.tars();
        assert!(
            tars[1].windows(3).any(|text| text == b"app"),
            "{attributes}"
        );
        let forced = attributes.contains("estargz,force");
        for (at, layer) in layout.layers().iter().enumerate() {
            let has_table = attributes.contains("estargz") && (at == 1 || forced);
            let annotation = &layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"];
            assert_eq!(annotation.is_string(), has_table, "{attributes} {at}");
        }
    }
}

#[test]
fn media_types_can_be_dockers() {
    // R-MAN-1
    let env = env();
    let layout = Layout::build(&env, "app", ",oci-mediatypes=false", &[ON_BASE]);
    let types = [
        &layout.manifest,
        &layout.manifest["config"],
        &layout.layers()[1],
    ];
    let types = types.map(|part| part["mediaType"].as_str().unwrap());
    let expected = [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ];
    assert_eq!(types, expected);
}

#[test]
fn times_of_layers_made_here_are_clamped_when_asked() {
    // R-SDE-3
    let env = env();
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1000000000";
    let kept = Layout::build(&env, "app", "", &[ON_BASE, epoch]);
    assert!(kept.mtime(1, "app") > 1_000_000_000);
    let clamped = Layout::build(&env, "app", ",rewrite-timestamp=true", &[ON_BASE, epoch]);
    assert_eq!(clamped.mtime(1, "app"), 1_000_000_000);
    assert_eq!(
        clamped.layers()[0],
        kept.layers()[0],
        "the base is not ours"
    );
    // The same with a table of contents, and where nothing is newer.
    let estargz = ",compression=estargz,rewrite-timestamp=true";
    let table = Layout::build(&env, "app", estargz, &[ON_BASE, epoch]);
    assert_eq!(table.mtime(1, "app"), 1_000_000_000);
    let late = "--build-arg=SOURCE_DATE_EPOCH=99999999999";
    let untouched = Layout::build(&env, "app", ",rewrite-timestamp=true", &[ON_BASE, late]);
    assert_eq!(untouched.layers(), kept.layers());
}

#[test]
fn an_image_of_the_store_has_a_manifest_when_somebody_asks() {
    // R-EXPORT-9, R-EXPORT-10
    let env = env();
    let args = [
        "build",
        ON_BASE,
        "-t=app",
        "--metadata-file=m",
        "--iidfile=id",
        "app",
    ];
    env.kiln(&args).succeeds();
    let metadata = json(&std::fs::read(env.work().join("m")).unwrap());
    let id = std::fs::read_to_string(env.work().join("id")).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id);
    let layout = Layout::build(&env, "app", "", &[ON_BASE]);
    assert_eq!(metadata["containerimage.digest"], layout.digest);
    // An output with other layers is another image, and the id is its.
    let clamped = "--output=type=image,name=old,rewrite-timestamp=true";
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1";
    env.kiln(&["build", ON_BASE, epoch, clamped, "--iidfile=id", "app"])
        .succeeds();
    let old = std::fs::read_to_string(env.work().join("id")).unwrap();
    assert_ne!(old, id);
    let listed = env.kiln(&["inspect", "old"]).succeeds().stdout;
    assert!(listed.contains(&old), "{listed}");
    env.kiln(&["save", "-o", "old.tar", "old"]).succeeds();
}

/// A context like one that was checked out with this umask.
fn checked_out(env: &TestEnv, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    env.write(
        &format!("{name}/Dockerfile"),
        "FROM scratch\nWORKDIR /srv\nCOPY file ./\n",
    );
    env.write(&format!("{name}/file"), "content");
    let file = env.work().join(name).join("file");
    std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_reproducible_build_is_the_same_at_another_time_and_place() {
    let env = TestEnv::new();
    checked_out(&env, "one", 0o644);
    checked_out(&env, "two", 0o600);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5_000_000);
    let file = std::fs::File::open(env.work().join("two/file")).unwrap();
    file.set_modified(old).unwrap();
    let one = Layout::build(&env, "one", "", &["--reproducible"]);
    let elsewhere = TestEnv::new();
    let two = env.work().join("two");
    let two = Layout::build(&elsewhere, two.to_str().unwrap(), "", &["--reproducible"]);
    assert_eq!(one.digest, two.digest);
    assert_eq!(one.config()["created"], "1970-01-01T00:00:00Z");
    // A date that is given goes before.
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=7";
    let dated = Layout::build(&env, "one", ",name=dated", &["--reproducible", epoch]);
    assert_eq!(dated.config()["created"], "1970-01-01T00:00:07Z");
    assert_eq!(dated.mtime(1, "srv/file"), 7);
}

#[test]
fn a_reproducible_build_is_as_old_as_its_commit() {
    let env = TestEnv::new();
    checked_out(&env, "app.git", 0o644);
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        let identity = ["-c", "user.name=A", "-c", "user.email=a@b"];
        command.args(identity).args(args);
        command.current_dir(env.work().join("app.git"));
        command.env("GIT_COMMITTER_DATE", "1500000000 +0200");
        assert!(command.output().unwrap().status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    // In a repository without a commit.
    let new = Layout::build(&env, "app.git", ",name=new", &["--reproducible"]);
    assert_eq!(new.config()["created"], "1970-01-01T00:00:00Z");
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    let built = Layout::build(&env, "app.git", "", &["--reproducible"]);
    assert_eq!(built.config()["created"], "2017-07-14T02:40:00Z");
    assert_eq!(built.mtime(1, "srv/file"), 1_500_000_000);
    // The same by its address.
    let address = format!("file://{}", env.work().join("app.git").display());
    let fetched = Layout::build(&env, &address, ",name=fetched", &["--reproducible"]);
    assert_eq!(fetched.config(), built.config());
}
