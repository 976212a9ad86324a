//! Statements about an image as files beside its own, where the output is files (R-ATT-6).

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, Timestamp};

use crate::attest::{Attestation, files_statement};
use crate::build::Built;

/// The files that say what `built` has had said about it, all of whose files they are about. Each bears the platform in its name if it is
/// `suffixed`. One takes the place of a file that the image has.
pub(super) fn files(
    built: &Built,
    files: &Changeset,
    prefix: &str,
    suffixed: bool,
) -> BTreeMap<ImagePath, Vec<u8>> {
    let file = |said: &Attestation| {
        let suffix = suffixed.then(|| format!(".{}", built.platform.to_string().replace('/', "_")));
        let name = format!("{prefix}{}{}.json", stem(said), suffix.unwrap_or_default());
        let path = ImagePath::root().child(name.as_bytes());
        (path, files_statement(said, &digests(files)))
    };
    built.said(false).map(file).collect()
}

/// The file with these bytes: for its owner alone, as BuildKit has it, and of the time of the build.
pub(super) fn file(bytes: &[u8], epoch: Option<i64>) -> Change {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_secs()
            .try_into()
            .ok()
    };
    let mut metadata = Metadata::with_mode(0o600);
    metadata.mtime = Timestamp::from_secs(epoch.or_else(now).unwrap_or(0));
    let kind = Node::file(bytes).kind;
    Change::Put(Node::new(metadata, kind))
}

fn stem(said: &Attestation) -> &'static str {
    match said.predicate_type {
        "https://spdx.dev/Document" => "sbom.spdx",
        _ => "provenance",
    }
}

/// The regular files, with the digests of their contents in hexadecimal.
fn digests(files: &Changeset) -> Vec<(String, String)> {
    let digest = |(path, change): (&ImagePath, &Change)| match &change.node()?.kind {
        Kind::File { digest, .. } => Some((path.to_string(), digest.hex())),
        _ => None,
    };
    files.iter().filter_map(digest).collect()
}
