//! From sources as written to the objects they name.
//!
//! A source is either literal, and must be there, or has wildcards, and may match nothing (R-COPY-8). Its literal
//! front is followed through links, wildcards match names as they are, and each match is followed once more.

use std::collections::BTreeMap;

use kiln_cache::FileFacts;
use kiln_image::{ImagePath, Kind, Metadata, NodeRef, ResolveError, Tree};
use kiln_parser::go_match;

use super::CopyError;

/// A tree that is copied from.
#[derive(Debug, Clone, Copy)]
pub struct SourceTree<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// Whether it is a build context, whose files belong to nobody: they are copied and hashed as owned by root, without
    /// capabilities (R-COPY-15, R-COPY-20, R-CACHE-15).
    pub is_context: bool,
}

/// The trees copied from, by the number of the operation's input.
pub type SourceTrees<'a> = BTreeMap<usize, SourceTree<'a>>;

/// One object that a source names.
#[derive(Debug, Clone)]
pub(super) struct Match<'a> {
    /// The last component of the path it was found by; empty for the root (R-CACHE-13).
    pub(super) name: Vec<u8>,
    /// Where it is, all links followed.
    pub(super) path: ImagePath,
    /// The object; never a link.
    pub(super) node: NodeRef<'a>,
}

impl<'a> SourceTree<'a> {
    /// An object's metadata as it is copied and hashed.
    pub(super) fn metadata(&self, node: NodeRef<'_>) -> Metadata {
        let mut metadata = node.metadata.clone();
        if self.is_context {
            (metadata.uid, metadata.gid) = (0, 0);
            metadata.xattrs.remove(b"security.capability".as_slice());
        }
        metadata
    }

    /// The objects that `path` names, in the order they are copied in (R-COPY-13).
    pub(super) fn expand(
        &self,
        source_index: usize,
        path: &str,
    ) -> Result<Vec<Match<'a>>, CopyError> {
        let components: Vec<&str> = path
            .split('/')
            .filter(|component| !component.is_empty())
            .collect();
        let literal = components
            .iter()
            .take_while(|component| !has_wildcard(component))
            .count();
        let (literal, wild) = components.split_at(literal);
        let front = literal.join("/");
        if wild.is_empty() {
            let name = literal.last().map(|name| name.as_bytes().to_vec());
            return self
                .follow(source_index, &front, name.unwrap_or_default())
                .map(|found| vec![found]);
        }
        let mut found = match self
            .tree
            .resolve(&ImagePath::root(), front.as_bytes(), true)
        {
            Ok(resolved) if resolved.exists => vec![resolved.path],
            // A pattern may match nothing, but where it starts must be there.
            Ok(_) | Err(ResolveError::NotADirectory { .. }) => {
                return Err(CopyError::NotFound {
                    source_index,
                    path: format!("/{front}"),
                });
            }
            Err(cause) => return Err(links_error(source_index, path, cause)),
        };
        for pattern in wild {
            found = self
                .children(&found, pattern)
                .map_err(|_| bad_pattern(source_index, path))?;
        }
        found
            .iter()
            .map(|path| self.follow_match(source_index, path))
            .collect()
    }

    /// The links that lead from a path as it is written, as far as it has no wildcards, to what it names.
    pub(super) fn ways(&self, path: &str) -> Vec<(ImagePath, FileFacts)> {
        let mut ways = Vec::new();
        let (mut at, mut rest) = (ImagePath::root(), path.as_bytes().to_vec());
        // As many as a path may lead through.
        while ways.len() < 40 {
            let Some((link, node, behind)) = self.first_link(&at, &rest) else {
                break;
            };
            let Kind::Symlink { target } = node.kind else {
                break;
            };
            let metadata = self.metadata(node);
            ways.push((link.clone(), FileFacts::of(node.with_metadata(&metadata))));
            at = link.parent().unwrap_or_default();
            rest = [target, b"/".as_slice(), &behind].concat();
        }
        ways
    }

    /// The first link on a path, and what is written behind it.
    fn first_link(
        &self,
        base: &ImagePath,
        path: &[u8],
    ) -> Option<(ImagePath, NodeRef<'a>, Vec<u8>)> {
        let components = path.split(|byte| *byte == b'/');
        let components: Vec<&[u8]> = components.filter(|name| !name.is_empty()).collect();
        let mut at = match path.starts_with(b"/") {
            true => ImagePath::root(),
            false => base.clone(),
        };
        for (index, name) in components.iter().enumerate() {
            if has_wildcard(&String::from_utf8_lossy(name)) {
                return None;
            }
            at = match *name {
                b"." => continue,
                b".." => at.parent().unwrap_or_default(),
                name => at.child(name),
            };
            let node = self.tree.lookup(&at)?;
            if matches!(node.kind, Kind::Symlink { .. }) {
                return Some((at, node, components[index + 1..].join(&b'/')));
            }
        }
        None
    }

    fn children(
        &self,
        directories: &[ImagePath],
        pattern: &str,
    ) -> Result<Vec<ImagePath>, go_match::BadPattern> {
        go_match::matches(pattern, "")?;
        let mut found = Vec::new();
        for path in directories {
            let directory = self.tree.directory(path);
            for name in directory
                .into_iter()
                .flat_map(|directory| directory.entries.keys())
            {
                if go_match::matches(pattern, &String::from_utf8_lossy(name))? {
                    found.push(path.child(name));
                }
            }
        }
        Ok(found)
    }

    fn follow_match(&self, source_index: usize, path: &ImagePath) -> Result<Match<'a>, CopyError> {
        let name = path.file_name().unwrap_or_default().to_vec();
        let found = self.tree.resolve(&ImagePath::root(), path.as_bytes(), true);
        self.found(source_index, &path.to_string(), name, found)
    }

    fn follow(
        &self,
        source_index: usize,
        path: &str,
        name: Vec<u8>,
    ) -> Result<Match<'a>, CopyError> {
        let found = self.tree.resolve(&ImagePath::root(), path.as_bytes(), true);
        self.found(source_index, path, name, found)
    }

    fn found(
        &self,
        source_index: usize,
        path: &str,
        name: Vec<u8>,
        found: Result<kiln_image::Resolved, ResolveError>,
    ) -> Result<Match<'a>, CopyError> {
        let missing = || CopyError::NotFound {
            source_index,
            path: format!("/{path}"),
        };
        let resolved = match found {
            Ok(resolved) => resolved,
            Err(ResolveError::NotADirectory { .. }) => return Err(missing()),
            Err(cause) => return Err(links_error(source_index, path, cause)),
        };
        let node = self.tree.lookup(&resolved.path).ok_or_else(missing)?;
        Ok(Match {
            name,
            path: resolved.path,
            node,
        })
    }
}

/// Whether a component has wildcards; one behind a backslash is none.
pub(super) fn has_wildcard(component: &str) -> bool {
    let mut characters = component.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

fn bad_pattern(source_index: usize, pattern: &str) -> CopyError {
    CopyError::BadPattern {
        source_index,
        pattern: pattern.to_owned(),
    }
}

fn links_error(source_index: usize, path: &str, cause: ResolveError) -> CopyError {
    CopyError::SourceLinks {
        source_index,
        path: path.to_owned(),
        cause,
    }
}
