//! What was read from elsewhere: images, repositories, downloads, each with its digest.

use std::collections::BTreeSet;

use kiln_cache::builds::SourceRecord;
use kiln_image::{Digest, Platform, Reference};
use kiln_planner::{GitSource, HttpSource, Op, SourceOp, VertexId};
use serde_json::{Value, json};

use super::Facts;
use crate::attest::statement::image_purl;

impl Facts<'_> {
    /// The sources of the image: images first, then repositories, then downloads, each kind sorted.
    pub(super) fn sources(&self, needed: &[VertexId]) -> Vec<Value> {
        let mut found: BTreeSet<(u8, String, String)> = BTreeSet::new();
        for vertex in needed {
            let vertex = &self.plan.graph[*vertex];
            let Op::Source(source) = &vertex.op else {
                continue;
            };
            match source {
                SourceOp::Image {
                    reference,
                    manifest_digest,
                    ..
                } => {
                    let digest = self.index(reference).or(*manifest_digest);
                    let digest = digest.or_else(|| self.image_id(reference));
                    let digest = digest.map_or_else(String::new, |digest| digest.to_string());
                    let name = image_purl(&without_pin(reference), &self.platform_of(reference));
                    found.insert((0, name, digest));
                }
                SourceOp::Git(source) => {
                    found.insert((1, git_address(source), self.commit(source)));
                }
                SourceOp::Http(source) => {
                    found.insert((2, source.url.to_string(), self.content(source)));
                }
                SourceOp::Local { .. } | SourceOp::Scratch => {}
            }
        }
        found
            .into_iter()
            .map(|(_, name, digest)| source(&name, &digest))
            .collect()
    }

    /// The index that an image was chosen from, which is what its name stood for, as BuildKit tells it.
    fn index(&self, reference: &Reference) -> Option<Digest> {
        let wanted = [reference.to_string(), without_pin(reference).to_string()];
        self.seen.iter().find_map(|source| match source {
            SourceRecord::Image { name, index, .. } if wanted.contains(name) => *index,
            _ => None,
        })
    }

    /// The id of an image that has no manifest because it was made here.
    fn image_id(&self, reference: &Reference) -> Option<Digest> {
        let wanted = reference.to_string();
        self.seen.iter().find_map(|source| match source {
            SourceRecord::Image { name, id, .. } if *name == wanted => Some(*id),
            _ => None,
        })
    }

    /// The platform that an image was asked for: the result's, unless it is only known for another.
    fn platform_of(&self, reference: &Reference) -> Platform {
        let wanted = reference.to_string();
        let asked = self.seen.iter().filter_map(|source| match source {
            SourceRecord::Image { name, platform, .. } if *name == wanted => platform.parse().ok(),
            _ => None,
        });
        let asked: Vec<Platform> = asked.collect();
        match asked.contains(&self.plan.platform) {
            true => self.plan.platform.clone(),
            false => asked
                .into_iter()
                .next()
                .unwrap_or(self.plan.platform.clone()),
        }
    }

    fn commit(&self, source: &GitSource) -> String {
        let found = self.seen.iter().find_map(|seen| match seen {
            SourceRecord::Repository {
                address,
                asked,
                commit,
                ..
            } if *address == source.remote && *asked == source.reference => Some(commit.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn content(&self, source: &HttpSource) -> String {
        let wanted = source.url.to_string();
        let found = self.seen.iter().find_map(|seen| match seen {
            SourceRecord::Download { address, content } if *address == wanted => {
                Some(content.to_string())
            }
            _ => None,
        });
        found.unwrap_or_default()
    }
}

/// One source. A digest without its algorithm is a commit's.
fn source(name: &str, digest: &str) -> Value {
    match (digest.split_once(':'), digest.len()) {
        (_, 0) => json!({"uri": name}),
        (Some((algorithm, hex)), _) => json!({"uri": name, "digest": {algorithm: hex}}),
        (None, 64) => json!({"uri": name, "digest": {"sha256": digest}}),
        (None, _) => json!({"uri": name, "digest": {"sha1": digest}}),
    }
}

/// Without the digest that a plan gives a name: it is told beside it.
fn without_pin(reference: &Reference) -> Reference {
    match reference.tag() {
        Some(tag) => reference
            .with_tag(tag)
            .unwrap_or_else(|_| reference.clone()),
        None => reference.clone(),
    }
}

/// A repository with the ref that was asked for.
fn git_address(source: &GitSource) -> String {
    match &source.reference {
        Some(reference) => format!("{}#{reference}", source.remote),
        None => source.remote.clone(),
    }
}
