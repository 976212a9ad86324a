//! A context that is a directory of this machine, seen through its ignore file.
//!
//! It is listed when the first step needs it, and a file is read only when a step selects it. What a file's digest
//! was last time is remembered with its stat (`kiln_cache::checksum`), so an untouched context costs its walk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_cache::{Candidate, ChecksumError, Checksums, FileStat, FileTime, Store};
use kiln_image::contents::{Opened, Root};
use kiln_image::{Digest, ImagePath, Kind, Node, Tree};
use kiln_parser::IgnoreFile;

use super::inventory::inventory;
use super::modes::ContextModes;
use super::walk::{self, Found};
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
    /// The modes its files have.
    pub modes: ContextModes,
}

/// A directory being used.
pub(crate) struct Folder {
    options: ContextOptions,
    store: Store,
    listed: OnceLock<Listed>,
    reading: Mutex<()>,
}

struct Listed {
    /// Its regular files, sorted.
    files: Vec<Candidate>,
    /// Whether the digests of all of them were remembered.
    is_remembered: bool,
    checksums: Checksums,
    contents: Root,
    /// The tree with the digests that are known so far.
    tree: Mutex<Arc<Tree>>,
}

/// A file whose content is the one its stat was told of, if it is still the same at the end.
struct Unchanged {
    file: File,
    stat: FileStat,
}

impl Folder {
    pub(crate) fn new(options: ContextOptions, store: &Store) -> Self {
        Folder {
            options,
            store: store.clone(),
            listed: OnceLock::new(),
            reading: Mutex::new(()),
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

    /// Whether every file is what it was in an earlier build, so that none has to be read.
    pub(crate) fn is_remembered(&self) -> bool {
        self.listed.get().is_some_and(|listed| listed.is_remembered)
    }

    /// The tree with the digests of the files at `paths`.
    pub(crate) fn tree_with(&self, paths: &[ImagePath]) -> Result<Arc<Tree>, Cause> {
        let listed = self.listed()?;
        let mut tree = listed.tree();
        let unread = paths.iter().filter(|path| is_unread(&tree, path));
        let mut unread: Vec<&Candidate> = unread.filter_map(|path| listed.file(path)).collect();
        if !unread.is_empty() {
            unread.sort_unstable_by_key(|file| &file.path);
            let files: Vec<Candidate> = unread.into_iter().cloned().collect();
            let digests = listed
                .checksums
                .digests(&files)
                .map_err(|error| self.checksum_error(error))?;
            let tree = Arc::make_mut(&mut tree);
            for (file, digest) in files.iter().zip(digests) {
                tree.set_digest(&file.path, digest);
            }
        }
        Ok(tree.clone())
    }

    /// Now, as far as its files go; see [`Folder::learn`].
    pub(crate) fn moment(&self) -> Result<FileTime, Cause> {
        Ok(self.listed()?.checksums.moment()?)
    }

    /// Takes the digests of files that were read to the end after the moment `began`, by [`Folder::open_vouched`].
    pub(crate) fn learn(&self, digests: &[(ImagePath, Digest)], began: FileTime) {
        let Some(listed) = self.listed.get() else {
            return;
        };
        let known = digests
            .iter()
            .filter_map(|(path, digest)| Some((listed.file(path)?.clone(), *digest)));
        listed.checksums.learn(known, began);
        let mut tree = listed.tree();
        let tree = Arc::make_mut(&mut tree);
        for (path, digest) in digests {
            tree.set_digest(path, *digest);
        }
    }

    /// Opens a file; an empty one is not even looked for, as it may be a socket on disk.
    pub(crate) fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read>> {
        if let Kind::File { size: 0, .. } = node.kind {
            return Ok(Box::new(io::empty()));
        }
        let listed = self.listed.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(listed.contents.file(path)?))
    }

    /// Opens a file for somebody who goes by the digest that is known of it: if its stat is still the one it was listed
    /// with, it needn't be hashed again. One without a digest must not have changed since.
    pub(crate) fn open_vouched(&self, path: &ImagePath, node: &Node) -> io::Result<Opened<'_>> {
        let listed = self.listed.get().ok_or(io::ErrorKind::NotFound)?;
        let Some(candidate) = listed.file(path) else {
            let content = self.open(path, node)?;
            return Ok(Opened {
                content,
                is_vouched: false,
            });
        };
        let file = listed.contents.file(path)?;
        let stat = candidate.stat;
        if stat_of(&file)? != stat {
            if is_unknown(&node.kind) {
                return Err(changed());
            }
            return Ok(Opened {
                content: Box::new(file),
                is_vouched: false,
            });
        }
        Ok(Opened {
            content: Box::new(Unchanged { file, stat }),
            is_vouched: listed.checksums.is_settled(path),
        })
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
        let tree = listed.tree().clone();
        let names: Vec<String> = tree
            .walk(&ImagePath::root())
            .skip(1)
            .map(|(path, _)| path.to_string())
            .collect();
        let files = tree.walk(&ImagePath::root());
        let files = files.filter(|(_, node)| !node.kind.is_directory()).count();
        let mut notes = Vec::new();
        match (self.options.ignore.verdict(path), &self.options.ignore_name) {
            (verdict, Some(name)) if verdict.ignored => {
                let rule = verdict.rule.map_or_else(String::new, |rule| {
                    format!(" line {}: `{}`", rule.line, rule.pattern)
                });
                notes.push(format!("left out by `{name}`{rule}"));
            }
            _ => notes.push(format!(
                "the context is `{}` ({files} files{})",
                self.shown(),
                self.hidden()
            )),
        }
        let near = kiln_parser::suggest(path, names.iter().map(String::as_str));
        (
            notes,
            near.map(|near| format!("`{near}` is there"))
                .into_iter()
                .collect(),
        )
    }

    /// How much more there would be without the ignore file; a directory that is left out counts once.
    fn hidden(&self) -> String {
        let Some(name) = &self.options.ignore_name else {
            return String::new();
        };
        let entries = inventory(&self.options).unwrap_or_default();
        match entries.iter().filter(|entry| !entry.sent).count() {
            0 => String::new(),
            hidden => format!("; {hidden} more left out by `{name}`"),
        }
    }

    fn listed(&self) -> Result<&Listed, Cause> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = self.listed.get() {
            return Ok(listed);
        }
        let root = absolute(&self.options.root)?;
        let (found, checksums) = rayon::join(
            || walk::walk(&root, &self.options.ignore),
            || Checksums::open(&self.store, &root),
        );
        let mut found = found.map_err(Cause::file("read the build context", &root))?;
        for found in &mut found {
            self.options.modes.apply(&mut found.node);
        }
        let checksums = checksums.map_err(|error| self.checksum_error(error))?;
        let contents = Root::open(&root).map_err(Cause::file("open the build context", &root))?;
        let listed = Listed::new(found, checksums, contents);
        Ok(self.listed.get_or_init(|| listed))
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

impl Listed {
    fn new(mut found: Vec<Found>, checksums: Checksums, contents: Root) -> Self {
        let unread = |found: &&mut Found| is_unknown(&found.node.kind);
        let unread: Vec<&mut Found> = found.iter_mut().filter(unread).collect();
        let known = checksums.remembered(unread.iter().map(|found| (&found.path, &found.stat)));
        let is_remembered = known.iter().all(Option::is_some);
        for (found, known) in unread.into_iter().zip(known) {
            if let (Some(known), Kind::File { digest, .. }) = (known, &mut found.node.kind) {
                *digest = known;
            }
        }
        let objects = found.iter().map(|found| (&found.path, found.node.clone()));
        let tree = Mutex::new(Arc::new(Tree::of_sorted(objects)));
        let files = found.into_iter().filter(|found| is_file(&found.node));
        let candidate = |Found { path, stat, .. }| Candidate { path, stat };
        Listed {
            files: files.map(candidate).collect(),
            is_remembered,
            checksums,
            contents,
            tree,
        }
    }

    fn tree(&self) -> MutexGuard<'_, Arc<Tree>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &ImagePath) -> Option<&Candidate> {
        let position = self.files.binary_search_by(|file| file.path.cmp(path));
        position.ok().map(|position| &self.files[position])
    }
}

impl Read for Unchanged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && !buffer.is_empty() && stat_of(&self.file)? != self.stat {
            return Err(changed());
        }
        Ok(read)
    }
}

fn stat_of(file: &File) -> io::Result<FileStat> {
    Ok(FileStat::from(&rustix::fs::fstat(file)?))
}

/// As an error that says that another file is there now.
fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "changed while it was read")
}

fn absolute(root: &Path) -> Result<PathBuf, Cause> {
    root.canonicalize()
        .map_err(Cause::file("open the build context", root))
}

fn is_file(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. })
}

fn is_unread(tree: &Tree, path: &ImagePath) -> bool {
    tree.lookup(path).is_some_and(|node| is_unknown(node.kind))
}

/// Whether this is a file that nobody has read yet.
fn is_unknown(kind: &Kind) -> bool {
    matches!(kind, Kind::File { digest, .. } if *digest == Digest::UNKNOWN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use kiln_image::Metadata;

    use super::*;

    struct Fixture {
        _dir: tempfile::TempDir,
        folder: Folder,
        file: PathBuf,
    }

    /// A folder with one file `f`, listed.
    fn listed(content: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let root = dir.path().join("context");
        fs::create_dir(&root).unwrap();
        let file = root.join("f");
        fs::write(&file, content).unwrap();
        let options = ContextOptions {
            root,
            shown: ".".to_owned(),
            ignore: IgnoreFile::default(),
            ignore_name: None,
            modes: ContextModes::Kept,
        };
        let folder = Folder::new(options, &store);
        folder.read().unwrap();
        Fixture {
            _dir: dir,
            folder,
            file,
        }
    }

    fn path() -> ImagePath {
        ImagePath::clean(b"f")
    }

    fn node(digest: Digest) -> Node {
        let kind = Kind::File { size: 3, digest };
        Node::new(Metadata::with_mode(0o644), kind)
    }

    /// Reads `f` to its end; also tells whether somebody vouches for it.
    fn read(folder: &Folder, digest: Digest) -> io::Result<(String, bool)> {
        let mut opened = folder.open_vouched(&path(), &node(digest))?;
        let mut text = String::new();
        opened.content.read_to_string(&mut text)?;
        Ok((text, opened.is_vouched))
    }

    #[test]
    fn a_file_that_is_as_it_was_is_vouched_for() {
        let fixture = listed("one");
        let began = fixture.folder.moment().unwrap();
        let (text, _) = read(&fixture.folder, Digest::UNKNOWN).unwrap();
        assert_eq!(text, "one");
        // Read after the next tick of the clock that dates files: not a racy one.
        let settled = FileTime {
            secs: began.secs + 1,
            ..began
        };
        let known = Digest::of(b"one");
        fixture.folder.learn(&[(path(), known)], settled);
        assert_eq!(
            read(&fixture.folder, known).unwrap(),
            ("one".to_owned(), true)
        );
        let tree = fixture.folder.tree_with(&[path()]).unwrap();
        assert_eq!(tree.lookup(&path()).unwrap().kind, &node(known).kind);
    }

    #[test]
    fn nobody_vouches_for_a_file_as_young_as_its_digest() {
        let fixture = listed("one");
        let known = Digest::of(b"one");
        let began = FileTime { secs: 1, nanos: 0 };
        fixture.folder.learn(&[(path(), known)], began);
        assert_eq!(
            read(&fixture.folder, known).unwrap(),
            ("one".to_owned(), false)
        );
    }

    #[test]
    fn a_file_that_changed_since_it_was_listed_is_hashed_or_refused() {
        let fixture = listed("one");
        fs::remove_file(&fixture.file).unwrap();
        fs::write(&fixture.file, "two").unwrap();
        let known = Digest::of(b"one");
        assert_eq!(
            read(&fixture.folder, known).unwrap(),
            ("two".to_owned(), false)
        );
        let refused = read(&fixture.folder, Digest::UNKNOWN).unwrap_err();
        assert!(is_another_file(&refused));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let fixture = listed("one");
        let known = Digest::of(b"one");
        let mut opened = fixture.folder.open_vouched(&path(), &node(known)).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&fixture.file)
            .and_then(|mut file| io::Write::write_all(&mut file, b" more"))
            .unwrap();
        let refused = io::copy(&mut opened.content, &mut io::sink()).unwrap_err();
        assert!(is_another_file(&refused));
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let fixture = listed("one");
        let digest = |tree: Arc<Tree>| match tree.lookup(&path()).unwrap().kind {
            Kind::File { digest, .. } => *digest,
            _ => unreachable!("it is a file"),
        };
        assert!(!fixture.folder.is_remembered());
        assert_eq!(
            digest(fixture.folder.tree_with(&[]).unwrap()),
            Digest::UNKNOWN
        );
        assert_eq!(
            digest(fixture.folder.tree_with(&[path()]).unwrap()),
            Digest::of(b"one")
        );
    }
}
