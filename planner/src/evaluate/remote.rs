//! Sources of ADD that are elsewhere, joined with its flags (R-ADD-7..11).

use kiln_image::{Digest, Platform};
use kiln_parser::Span;

use super::Builder;
use crate::{GitSource, GitUrl, HttpSource, HttpUrl, Op, SourceOp, StepPolicy, Vertex, VertexId};

/// A source and the path to copy from it, or what is wrong.
type Made = Result<(SourceOp, String), String>;

/// A download. Its path is a pattern, in which the file's name stands for itself.
pub(super) fn http(url: HttpUrl, checksum: Option<&str>) -> Made {
    let mut path = "/".to_owned();
    for c in url.name.chars() {
        match c {
            '\\' => path.push_str("[\\\\]"),
            '*' | '?' | '[' => path.extend(['[', c, ']']),
            _ => path.push(c),
        }
    }
    let source = HttpSource {
        name: url.name.clone(),
        checksum: checksum.map(digest).transpose()?,
        url,
    };
    Ok((SourceOp::Http(source), path))
}

/// A repository. What the flags say must not be what the address denies.
pub(super) fn git(url: &GitUrl, keep_git_dir: Option<bool>, checksum: Option<&str>) -> Made {
    if let (Some(flag), Some(query)) = (keep_git_dir, url.keep_git_dir)
        && flag != query
    {
        return Err("inconsistent keep-git-dir configuration".to_owned());
    }
    if let (Some(flag), Some(query)) = (checksum, url.checksum.as_deref())
        && flag != query
    {
        return Err(format!("checksum mismatch {flag:?} != {query:?}"));
    }
    let from_url = url.source();
    let source = GitSource {
        keep_git_dir: from_url.keep_git_dir || keep_git_dir == Some(true),
        checksum: from_url.checksum.or_else(|| checksum.map(str::to_owned)),
        // ADD doesn't care (R-ADD-11).
        times: crate::GitTimes::Checkout,
        ..from_url
    };
    if let Some(checksum) = &source.checksum
        && !checksum.chars().all(|c| c.is_ascii_hexdigit())
    {
        return Err(format!(
            "invalid checksum {checksum} for Git URL, expected hex commit hash"
        ));
    }
    Ok((SourceOp::Git(source), "/".to_owned()))
}

/// R-ADD-8
fn digest(text: &str) -> Result<Digest, String> {
    let (algorithm, hex) = text
        .split_once(':')
        .filter(|(algorithm, hex)| !algorithm.is_empty() && !hex.is_empty())
        .ok_or("invalid checksum digest format")?;
    if algorithm != "sha256" {
        return Err("unsupported digest algorithm".to_owned());
    }
    if hex.len() != 64 {
        return Err("invalid checksum digest length".to_owned());
    }
    Digest::from_hex(hex).map_err(|_| "invalid checksum digest format".to_owned())
}

impl Builder<'_> {
    /// The vertex of a remote source, one for all that name the same (R-CACHE-20).
    pub(super) fn remote_vertex(
        &mut self,
        source: SourceOp,
        name: &str,
        span: Span,
        stage: usize,
    ) -> VertexId {
        let known = self.remotes.iter().find(|(known, _)| *known == source);
        if let Some((_, vertex)) = known {
            return *vertex;
        }
        let vertex = Vertex {
            op: Op::Source(source.clone()),
            name: name.to_owned(),
            span: Some(span),
            text: String::new(),
            variables: Vec::new(),
            stage: Some(stage),
            no_cache: false,
            policy: StepPolicy::default(),
            platform: Platform::clone(&self.options.target_platform),
        };
        let vertex = self.add(vertex, &[]);
        self.remotes.push((source, vertex));
        vertex
    }
}
