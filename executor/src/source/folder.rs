//! A context that is a directory of this machine, seen through its ignore file.
//!
//! It is listed when the first step needs it, and a file is read only when a step selects it. What a file's digest
//! was last time is remembered with its stat (`kiln_cache::checksum`), so an untouched context costs its walk.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kiln_cache::{Candidate, ChecksumError, Checksums, FileStat, Store};
use kiln_image::contents::Root;
use kiln_image::{Changeset, ImagePath, Kind, Node, Tree};
use kiln_parser::IgnoreFile;

use super::walk::{self, Found, UNREAD};
use crate::error::Cause;
use crate::layers::is_another_file;

/// Which directory, and what of it counts.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// The directory.
    pub root: PathBuf,
    /// The directory as the user wrote it, for messages.
    pub shown: String,
    /// What is left out.
    pub ignore: IgnoreFile,
    /// The name of the ignore file, for messages; `None` if there is none.
    pub ignore_name: Option<String>,
}

/// A directory being used.
pub(crate) struct Folder {
    options: ContextOptions,
    store: Store,
    listed: OnceLock<Listed>,
    reading: Mutex<()>,
    /// The tree with the digests that are known so far.
    tree: Mutex<Option<Arc<Tree>>>,
}

struct Listed {
    found: Vec<Found>,
    checksums: Checksums,
    contents: Root,
}

impl Folder {
    pub(crate) fn new(options: ContextOptions, store: &Store) -> Self {
        Folder {
            options,
            store: store.clone(),
            listed: OnceLock::new(),
            reading: Mutex::new(()),
            tree: Mutex::new(None),
        }
    }

    /// How the user calls it.
    pub(crate) fn shown(&self) -> &str {
        &self.options.shown
    }

    /// Lists it, once.
    pub(crate) fn read(&self) -> Result<(), Cause> {
        self.listed().map(|_| ())
    }

    /// The tree with the digests of the files at `paths`.
    pub(crate) fn tree_with(&self, paths: &[ImagePath]) -> Result<Arc<Tree>, Cause> {
        let listed = self.listed()?;
        let mut held = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = held.get_or_insert_with(|| {
            let all: Changeset = listed.found.iter().map(Found::change).collect();
            Arc::new(Tree::of(&all))
        });
        let wanted: HashSet<&ImagePath> = paths.iter().collect();
        let unread: Vec<&Found> = listed
            .found
            .iter()
            .filter(|found| is_file(&found.node) && wanted.contains(&found.path))
            .filter(|found| is_unread(tree, &found.path))
            .collect();
        if !unread.is_empty() {
            let candidates: Vec<Candidate> = unread.iter().map(|found| candidate(found)).collect();
            let digests = listed
                .checksums
                .digests(&candidates)
                .map_err(|error| self.checksum_error(error))?;
            let read = unread.iter().zip(digests).map(|(found, digest)| {
                let mut node = found.node.clone();
                if let Kind::File { digest: unread, .. } = &mut node.kind {
                    *unread = digest;
                }
                (found.path.clone(), kiln_image::Change::Put(node))
            });
            Arc::make_mut(tree).apply(0, &read.collect());
        }
        Ok(tree.clone())
    }

    /// Opens a file; an empty one is not even looked for, as it may be a socket on disk.
    pub(crate) fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read>> {
        if let Kind::File { size: 0, .. } = node.kind {
            return Ok(Box::new(io::empty()));
        }
        let listed = self.listed.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(listed.contents.file(path)?))
    }

    /// Remembers digests for the next build.
    pub(crate) fn save(&self) -> Result<(), Cause> {
        match self.listed.get() {
            Some(listed) => Ok(listed.checksums.save()?),
            None => Ok(()),
        }
    }

    /// What is known about a path that was not found: facts, and what else it could be.
    pub(crate) fn explain_missing(&self, path: &str) -> (Vec<String>, Vec<String>) {
        let path = path.trim_start_matches('/');
        let Ok(listed) = self.listed() else {
            return (Vec::new(), Vec::new());
        };
        let files = listed
            .found
            .iter()
            .filter(|found| !found.node.is_directory())
            .count();
        let mut notes = Vec::new();
        match (self.options.ignore.verdict(path), &self.options.ignore_name) {
            (verdict, Some(name)) if verdict.ignored => {
                let rule = verdict.rule.map_or_else(String::new, |rule| {
                    format!(" line {}: `{}`", rule.line, rule.pattern)
                });
                notes.push(format!("left out by `{name}`{rule}"));
            }
            _ => notes.push(format!("the context is `{}` ({files} files)", self.shown())),
        }
        let names: Vec<String> = listed
            .found
            .iter()
            .map(|found| found.path.to_string())
            .collect();
        let near = kiln_parser::suggest(path, names.iter().map(String::as_str));
        (
            notes,
            near.map(|near| format!("`{near}` is there"))
                .into_iter()
                .collect(),
        )
    }

    fn listed(&self) -> Result<&Listed, Cause> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = self.listed.get() {
            return Ok(listed);
        }
        let root = absolute(&self.options.root)?;
        let found = walk::walk(&root, &self.options.ignore)
            .map_err(Cause::file("read the build context", &root))?;
        let checksums =
            Checksums::open(&self.store, &root).map_err(|error| self.checksum_error(error))?;
        let contents = Root::open(&root).map_err(Cause::file("open the build context", &root))?;
        Ok(self.listed.get_or_init(|| Listed {
            found,
            checksums,
            contents,
        }))
    }

    fn checksum_error(&self, error: ChecksumError) -> Cause {
        match error {
            ChecksumError::Changed { path } => Cause::ContextChanged {
                path: path.to_string(),
            },
            ChecksumError::Read { path, source } if is_another_file(&source) => {
                Cause::ContextChanged {
                    path: path.to_string(),
                }
            }
            ChecksumError::Read { path, source } => Cause::File {
                act: "read",
                path: self.options.root.join(path.to_string()),
                source,
            },
            ChecksumError::Context { path, source } => Cause::File {
                act: "open the build context",
                path,
                source,
            },
            ChecksumError::Store(error) => Cause::Store(error),
        }
    }
}

impl Found {
    fn change(&self) -> (ImagePath, kiln_image::Change) {
        (
            self.path.clone(),
            kiln_image::Change::Put(self.node.clone()),
        )
    }
}

fn absolute(root: &Path) -> Result<PathBuf, Cause> {
    root.canonicalize()
        .map_err(Cause::file("open the build context", root))
}

fn is_file(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. })
}

fn is_unread(tree: &Tree, path: &ImagePath) -> bool {
    match tree.lookup(path).map(|node| node.kind) {
        Some(Kind::File { digest, .. }) => *digest == UNREAD,
        _ => false,
    }
}

fn candidate(found: &Found) -> Candidate {
    Candidate {
        path: found.path.clone(),
        stat: FileStat::from(&found.stat),
    }
}
