//! What an image archive holds, as text that a person can read: its new layers entry by entry, and its config without
//! what changes from build to build.
//!
//! The archive is read here with nothing of kiln's own, so that no error of kiln's hides itself.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use kiln_image::Digest;
use serde_json::{Map, Value};

/// Comment of what a build adds to the history.
const BUILT: &str = "buildkit.dockerfile.v0";

/// An image out of an archive of `type=docker`.
pub struct ArchivedImage {
    config: Map<String, Value>,
    layers: Vec<Vec<u8>>,
}

impl ArchivedImage {
    pub fn read(path: &Path) -> Self {
        let mut files: HashMap<String, Vec<u8>> = HashMap::new();
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let file = |name: &Value| &files[name.as_str().unwrap()];
        let layers = manifest[0]["Layers"].as_array().unwrap();
        Self {
            config: serde_json::from_slice(file(&manifest[0]["Config"])).unwrap(),
            layers: layers.iter().map(|name| inflated(file(name))).collect(),
        }
    }

    /// The config without dates, digests and the machine's own architecture.
    pub fn config(&self) -> String {
        let mut config = self.config.clone();
        config.shift_remove("created");
        config.insert("architecture".to_owned(), "[ARCHITECTURE]".into());
        config.insert(
            "rootfs".to_owned(),
            format!("[{} LAYERS]", self.layers.len()).into(),
        );
        for entry in config["history"].as_array_mut().into_iter().flatten() {
            entry.as_object_mut().unwrap().shift_remove("created");
        }
        serde_json::to_string_pretty(&config).unwrap() + "\n"
    }

    /// The digests of the layers that RUN made.
    pub fn run_digests(&self) -> Vec<String> {
        let histories = self.config["history"].as_array().unwrap().iter();
        let with_layer = histories.filter(|entry| entry.get("empty_layer").is_none());
        let made = with_layer.zip(self.config["rootfs"]["diff_ids"].as_array().unwrap());
        let is_run = |entry: &Value| {
            let created_by = entry.get("created_by").and_then(Value::as_str);
            created_by.is_some_and(|text| text.starts_with("RUN "))
        };
        made.filter(|(entry, _)| is_run(entry))
            .map(|(_, digest)| digest.as_str().unwrap().to_owned())
            .collect()
    }

    /// What each layer that the build made holds, below the instruction that made it. Panics if a layer isn't what the
    /// config says.
    pub fn layers(&self) -> String {
        let mut text = String::new();
        let diff_ids = self.config["rootfs"]["diff_ids"].as_array();
        let histories = self.config["history"].as_array().into_iter().flatten();
        let with_layer = histories.filter(|entry| entry.get("empty_layer").is_none());
        let diff_ids: Vec<&Value> = diff_ids.into_iter().flatten().collect();
        let histories: Vec<&Value> = with_layer.collect();
        assert_eq!(
            (diff_ids.len(), histories.len()),
            (self.layers.len(), self.layers.len())
        );
        for ((history, diff_id), layer) in histories.iter().zip(diff_ids).zip(&self.layers) {
            assert_eq!(
                diff_id.as_str().unwrap(),
                Digest::of(layer).to_string(),
                "R-CFG-5"
            );
            if history
                .get("comment")
                .is_some_and(|comment| comment == BUILT)
            {
                let created_by = history["created_by"].as_str().unwrap();
                writeln!(text, "{}", created_by.replace('\n', "\\n")).unwrap();
                text += &entries(layer);
                text.push('\n');
            }
        }
        text
    }
}

fn inflated(blob: &[u8]) -> Vec<u8> {
    if !blob.starts_with(&[0x1f, 0x8b]) {
        return blob.to_vec();
    }
    let mut bytes = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(blob);
    decoder.read_to_end(&mut bytes).unwrap();
    bytes
}

/// One line an entry, in the layer's order: `mode uid:gid size sha256[..12] path`. An object without content has neither
/// size nor digest; what else it is follows the path as in a context tree.
fn entries(layer: &[u8]) -> String {
    let mut text = String::new();
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let (mode, uid, gid) = (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let target = entry.link_name_bytes().unwrap_or_default();
        let target = String::from_utf8_lossy(&target).into_owned();
        let device = || {
            let number = |number: Option<u32>| number.unwrap_or_default();
            let major = number(header.device_major().unwrap());
            format!("{major}:{}", number(header.device_minor().unwrap()))
        };
        write!(text, "  {mode:04o} {uid}:{gid} ").unwrap();
        match header.entry_type() {
            tar::EntryType::Regular => {
                let digest = Digest::of(&content).hex();
                write!(text, "{} {} {name}", content.len(), &digest[..12]).unwrap();
            }
            tar::EntryType::Directory => text += &name,
            tar::EntryType::Symlink => write!(text, "{name} -> {target}").unwrap(),
            tar::EntryType::Link => write!(text, "{name} => {target}").unwrap(),
            tar::EntryType::Fifo => write!(text, "{name} |").unwrap(),
            tar::EntryType::Char => write!(text, "{name} c {}", device()).unwrap(),
            tar::EntryType::Block => write!(text, "{name} b {}", device()).unwrap(),
            other => panic!("{name} is of type {other:?}"),
        }
        text += &extended_attributes(&mut entry);
        text.push('\n');
    }
    text
}

fn extended_attributes(entry: &mut tar::Entry<'_, impl Read>) -> String {
    let records = entry.pax_extensions().unwrap();
    let records = records.into_iter().flatten().map(Result::unwrap);
    records
        .filter_map(|record| {
            record
                .key()
                .unwrap()
                .strip_prefix("SCHILY.xattr.")
                .map(|name| (name.to_owned(), record.value_bytes()))
        })
        .map(|(name, value)| format!(" {name}={}", hex(value)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
