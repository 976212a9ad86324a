//! Digests of a context's files, remembered from build to build.
//!
//! Most files of a context are what they were. [`Checksums`] keeps a memo of each context's files: path, the numbers
//! of its stat that change whenever the content may have ([`FileStat`]), and the digest of the content. Files whose
//! stat is still the same aren't opened; the others are read in parallel, a piece at a time, without following
//! a symlink.
//!
//! **The racy rule.** A file can be written twice within one tick of the file system's clock, and a stat taken in
//! between says nothing about the second time. So only a file whose times lie before the moment at which reading
//! began is remembered; a younger one is read again by the next build, and is older then. The moment is taken from
//! the file system's own clock, by making a file. Where a file's times are whole seconds, so is the comparison.
//!
//! **The file** `stat/<hex>`, one for each context root, named by the digest of its path, appears by rename:
//!
//! ```text
//! "kilnsum1" · SHA-256 of the rest · entries, sorted by path, each:
//!   u32 length of path · path · u8 builds without use
//!   u64 device · u64 inode · u64 size · i64 s, u32 ns of mtime · i64 s, u32 ns of ctime · 32 bytes digest
//! ```
//!
//! Numbers are little-endian. A file that is damaged is an empty memo. Entries that eight writing builds in a row
//! had no such file for are dropped.
//!
//! Both the memo and the walk of a context are sorted, so they are merged without a search.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_image::contents::Root;
use kiln_image::{Digest, Digester, ImagePath};
use rayon::prelude::*;

use crate::store::read_file;
use crate::{Store, StoreError};

const MAGIC: &[u8; 8] = b"kilnsum1";
/// After so many writing builds without use an entry is dropped.
const LONGEST_UNUSED: u8 = 8;
/// Length of an entry without its path.
const FIXED: usize = 4 + 1 + 3 * 8 + 2 * 12 + 32;
/// How much of a file is read at once.
const PIECE: usize = 128 * 1024;

/// A moment of a file system's clock: seconds after 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

/// What is the same as long as a file's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The file system's device number.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, as far as anybody may set it.
    pub mtime: FileTime,
    /// Last change of the content or the inode.
    pub ctime: FileTime,
}

/// A regular file whose digest is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its path below the context's root.
    pub path: ImagePath,
    /// Its stat, from the walk that found it.
    pub stat: FileStat,
}

/// The digests of one context's files.
#[derive(Debug)]
pub struct Checksums {
    store: Store,
    root: Root,
    root_path: PathBuf,
    memo: Memo,
    fresh: Mutex<HashMap<ImagePath, Fresh>>,
}

/// Why a file of the context has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ChecksumError {
    /// The context itself can't be opened.
    #[error("could not open the build context `{}`", path.display())]
    Context {
        /// Its root.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be opened or read.
    #[error("could not read `{path}` in the build context")]
    Read {
        /// The file.
        path: ImagePath,
        /// What the system said.
        source: io::Error,
    },
    /// A file was being written while it was read.
    #[error("`{path}` in the build context changed while it was read")]
    Changed {
        /// The file.
        path: ImagePath,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A digest made by this process.
#[derive(Debug, Clone, Copy)]
struct Fresh {
    stat: FileStat,
    digest: Digest,
    /// Whether the racy rule lets the memo have it.
    lasting: bool,
}

/// The memo as it was stored.
#[derive(Debug, Default)]
struct Memo {
    bytes: Vec<u8>,
    /// Where in `bytes` each entry begins.
    starts: Vec<usize>,
    used: Vec<AtomicBool>,
}

/// One entry of the memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'m> {
    path: &'m [u8],
    unused: u8,
    stat: FileStat,
    digest: Digest,
}

impl Checksums {
    /// Digests of the files below the directory `context`, which should be an absolute path: the memo goes by it.
    pub fn open(store: &Store, context: &Path) -> Result<Self, ChecksumError> {
        let root = Root::open(context).map_err(|source| ChecksumError::Context {
            path: context.to_owned(),
            source,
        })?;
        // A memo that can't be read is slow, not wrong.
        let bytes = read_file(&memo_path(store, context)).ok().flatten();
        Ok(Self {
            store: store.clone(),
            root,
            root_path: context.to_owned(),
            memo: bytes.and_then(Memo::parse).unwrap_or_default(),
            fresh: Mutex::new(HashMap::new()),
        })
    }

    /// The digests that are known without reading: of files whose stat is still the one they had. Fastest in the order
    /// of paths.
    pub fn remembered<'f>(
        &self,
        files: impl IntoIterator<Item = (&'f ImagePath, &'f FileStat)>,
    ) -> Vec<Option<Digest>> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = 0;
        let digests = files.into_iter().map(|(path, stat)| {
            if let Some(fresh) = fresh.get(path)
                && fresh.stat == *stat
            {
                return Some(fresh.digest);
            }
            let at = self.memo.position(path, next)?;
            next = at + 1;
            let entry = self.memo.entry(at);
            (entry.stat == *stat).then(|| {
                self.memo.used[at].store(true, Ordering::Relaxed);
                entry.digest
            })
        });
        digests.collect()
    }

    /// Now, by the clock that dates files. For [`Checksums::learn`], to be asked before the files are read.
    pub fn moment(&self) -> Result<FileTime, StoreError> {
        let tmp = self.store.tmp_path()?;
        let file = tmp.create_file()?;
        let stat = rustix::fs::fstat(&file).map_err(StoreError::errno("read", tmp.as_path()))?;
        Ok(FileStat::from(&stat).mtime)
    }

    /// Remembers digests that somebody else has made, after the moment `began`, of files whose stat was still the same
    /// when they had been read.
    pub fn learn(&self, files: impl IntoIterator<Item = (Candidate, Digest)>, began: FileTime) {
        let mut remembered = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.extend(files.into_iter().map(|(file, digest)| {
            let fresh = Fresh {
                stat: file.stat,
                digest,
                lasting: file.stat.is_older_than(began),
            };
            (file.path, fresh)
        }));
    }

    /// Whether a file with a known digest has the same content for as long as it has the same stat: the racy rule.
    pub fn is_settled(&self, path: &ImagePath) -> bool {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.get(path).is_none_or(|fresh| fresh.lasting)
    }

    /// The digests of files' contents, in the order given. Fastest if that is the order of paths.
    pub fn digests(&self, files: &[Candidate]) -> Result<Vec<Digest>, ChecksumError> {
        let known = self.remembered(files.iter().map(|file| (&file.path, &file.stat)));
        if let Some(digests) = known.iter().copied().collect::<Option<Vec<_>>>() {
            return Ok(digests);
        }
        let began = self.moment()?;
        let made: Vec<(Digest, Option<Fresh>)> = files
            .par_iter()
            .zip(&known)
            .map_init(
                || vec![0; PIECE],
                |buffer, (file, known)| match known {
                    Some(digest) => Ok((*digest, None)),
                    None => self
                        .hash(file, began, buffer)
                        .map(|fresh| (fresh.digest, Some(fresh))),
                },
            )
            .collect::<Result<_, ChecksumError>>()?;
        let mut remembered = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, (_, fresh)) in files.iter().zip(&made) {
            if let Some(fresh) = fresh {
                remembered.insert(file.path.clone(), *fresh);
            }
        }
        Ok(made.into_iter().map(|(digest, _)| digest).collect())
    }

    /// Writes the memo if there is something new to remember. Call once, when all digests are made.
    pub fn save(&self) -> Result<(), StoreError> {
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lasting: Vec<_> = fresh.iter().filter(|(_, fresh)| fresh.lasting).collect();
        if lasting.is_empty() {
            return Ok(());
        }
        lasting.sort_unstable_by_key(|(path, _)| *path);
        let body = self.memo.merged(&lasting);
        let to = memo_path(&self.store, &self.root_path);
        self.store
            .write_file(&to, &[MAGIC, Digest::of(&body).as_bytes(), &body])
    }

    fn hash(
        &self,
        file: &Candidate,
        began: FileTime,
        buffer: &mut [u8],
    ) -> Result<Fresh, ChecksumError> {
        let failed = |source| ChecksumError::Read {
            path: file.path.clone(),
            source,
        };
        let mut opened = self.root.file(&file.path).map_err(failed)?;
        let mut digester = Digester::new();
        let mut size = 0;
        loop {
            match opened.read(buffer) {
                Ok(0) => break,
                Ok(read) => {
                    digester.update(&buffer[..read]);
                    size += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if size != file.stat.size {
            return Err(ChecksumError::Changed {
                path: file.path.clone(),
            });
        }
        let after = rustix::fs::fstat(&opened).map_err(|errno| failed(errno.into()))?;
        let unchanged = FileStat::from(&after) == file.stat;
        Ok(Fresh {
            stat: file.stat,
            digest: digester.finish(),
            lasting: unchanged && file.stat.is_older_than(began),
        })
    }
}

impl FileStat {
    /// Whether all changes this stat can tell of happened before `moment`, so that a later one will show.
    fn is_older_than(&self, moment: FileTime) -> bool {
        if self.mtime.nanos == 0 && self.ctime.nanos == 0 {
            return self.mtime.secs < moment.secs && self.ctime.secs < moment.secs;
        }
        self.mtime < moment && self.ctime < moment
    }
}

impl From<&rustix::fs::Stat> for FileStat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: FileTime::new(stat.st_mtime, stat.st_mtime_nsec),
            ctime: FileTime::new(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl From<&std::fs::Metadata> for FileStat {
    fn from(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let nanos = |nanos: i64| u64::try_from(nanos).unwrap_or(0);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: FileTime::new(metadata.mtime(), nanos(metadata.mtime_nsec())),
            ctime: FileTime::new(metadata.ctime(), nanos(metadata.ctime_nsec())),
        }
    }
}

impl FileTime {
    fn new(secs: i64, nanos: u64) -> Self {
        let nanos = u32::try_from(nanos).unwrap_or(0);
        Self { secs, nanos }
    }
}

impl Memo {
    /// `None` if the bytes are not a whole memo.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (digest, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        if Digest::of(body).as_bytes() != digest {
            return None;
        }
        let mut starts = Vec::new();
        let mut at = MAGIC.len() + digest.len();
        while at < bytes.len() {
            starts.push(at);
            let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
            at = at
                .checked_add(FIXED)?
                .checked_add(usize::try_from(length).ok()?)?;
        }
        let used = starts.iter().map(|_| AtomicBool::new(false)).collect();
        (at == bytes.len()).then_some(Self {
            bytes,
            starts,
            used,
        })
    }

    fn entry(&self, at: usize) -> Entry<'_> {
        Entry::read(&self.bytes[self.starts[at]..])
            .expect("entries were measured when the memo was read")
    }

    /// Which entry is for `path`. In a sorted walk it is the `expected` one most of the time.
    fn position(&self, path: &ImagePath, expected: usize) -> Option<usize> {
        if expected < self.starts.len() && self.entry(expected).path == path.as_bytes() {
            return Some(expected);
        }
        let all = &self.starts;
        let found = all.binary_search_by(|start| {
            let entry = Entry::read(&self.bytes[*start..]).expect("measured when read");
            compare(entry.path, path.as_bytes())
        });
        found.ok()
    }

    /// The entries that stay and the fresh ones, sorted, as bytes. Fresh ones win.
    fn merged(&self, fresh: &[(&ImagePath, &Fresh)]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes.len() + fresh.len() * (FIXED + 64));
        let mut fresh = fresh.iter().peekable();
        for (at, used) in self.used.iter().enumerate() {
            let mut entry = self.entry(at);
            entry.unused = if used.load(Ordering::Relaxed) {
                0
            } else {
                entry.unused + 1
            };
            let before = |path: &ImagePath| compare(path.as_bytes(), entry.path).is_lt();
            while let Some((path, fresh)) = fresh.next_if(|(path, _)| before(path)) {
                Entry::fresh(path, fresh).write(&mut body);
            }
            let replaced = fresh
                .peek()
                .is_some_and(|(path, _)| path.as_bytes() == entry.path);
            if !replaced && entry.unused < LONGEST_UNUSED {
                entry.write(&mut body);
            }
        }
        for (path, fresh) in fresh {
            Entry::fresh(path, fresh).write(&mut body);
        }
        body
    }
}

impl<'m> Entry<'m> {
    fn fresh(path: &'m ImagePath, fresh: &Fresh) -> Self {
        Self {
            path: path.as_bytes(),
            unused: 0,
            stat: fresh.stat,
            digest: fresh.digest,
        }
    }

    fn read(mut bytes: &'m [u8]) -> Option<Self> {
        let length = usize::try_from(u32::from_le_bytes(take(&mut bytes)?)).ok()?;
        let path = bytes.split_off(..length)?;
        let [unused] = take(&mut bytes)?;
        let mut number = || take(&mut bytes).map(u64::from_le_bytes);
        let (device, inode, size) = (number()?, number()?, number()?);
        let mut time = || {
            let secs = i64::from_le_bytes(take(&mut bytes)?);
            let nanos = u32::from_le_bytes(take(&mut bytes)?);
            Some(FileTime { secs, nanos })
        };
        let (mtime, ctime) = (time()?, time()?);
        let stat = FileStat {
            device,
            inode,
            size,
            mtime,
            ctime,
        };
        let digest = Digest::from_bytes(take(&mut bytes)?);
        Some(Self {
            path,
            unused,
            stat,
            digest,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let length =
            u32::try_from(self.path.len()).expect("the kernel's paths have at most 4096 bytes");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(self.path);
        out.push(self.unused);
        for number in [self.stat.device, self.stat.inode, self.stat.size] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for time in [self.stat.mtime, self.stat.ctime] {
            out.extend_from_slice(&time.secs.to_le_bytes());
            out.extend_from_slice(&time.nanos.to_le_bytes());
        }
        out.extend_from_slice(self.digest.as_bytes());
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The order of [`ImagePath`]: a directory before what is in it, and that before its longer-named neighbours.
fn compare(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    let names = |path| <[u8]>::split(path, |&byte| byte == b'/');
    names(left).cmp(names(right))
}

fn memo_path(store: &Store, context: &Path) -> PathBuf {
    let name = Digest::of(context.as_os_str().as_bytes()).hex();
    store.dir("stat").join(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    struct Fixture {
        _dir: tempfile::TempDir,
        store: Store,
        context: PathBuf,
    }

    impl Fixture {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("store")).unwrap();
            let context = dir.path().join("context");
            for file in files {
                let path = context.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, file).unwrap();
            }
            Self {
                _dir: dir,
                store,
                context,
            }
        }

        fn candidate(&self, path: &str) -> Candidate {
            let metadata = fs::symlink_metadata(self.context.join(path)).unwrap();
            Candidate {
                path: ImagePath::clean(path.as_bytes()),
                stat: FileStat::from(&metadata),
            }
        }

        fn open(&self) -> Checksums {
            Checksums::open(&self.store, &self.context).unwrap()
        }

        /// Writes a memo that says `digest` of each file, as it is now.
        fn remember(&self, files: &[&str], digest: Digest) {
            let checksums = self.open();
            for file in files {
                let Candidate { path, stat } = self.candidate(file);
                let lasting = true;
                let fresh = Fresh {
                    stat,
                    digest,
                    lasting,
                };
                checksums.fresh.lock().unwrap().insert(path, fresh);
            }
            checksums.save().unwrap();
        }
    }

    fn time(secs: i64, nanos: u32) -> FileTime {
        FileTime { secs, nanos }
    }

    #[test]
    fn digests_are_of_the_contents_in_the_order_given() {
        let files = ["b", "a/x", "a-b", "a/y/z"];
        let fixture = Fixture::new(&files);
        let candidates: Vec<_> = files.iter().map(|file| fixture.candidate(file)).collect();
        let expected: Vec<_> = files
            .iter()
            .map(|file| Digest::of(file.as_bytes()))
            .collect();
        let checksums = fixture.open();
        assert_eq!(checksums.digests(&candidates).unwrap(), expected);
        assert_eq!(checksums.digests(&candidates[1..]).unwrap(), expected[1..]);
        checksums.save().unwrap();
        assert_eq!(fixture.open().digests(&candidates).unwrap(), expected);
    }

    #[test]
    fn a_file_whose_stat_is_the_same_is_not_read() {
        let fixture = Fixture::new(&["c", "d"]);
        let marker = Digest::of(b"from the memo");
        fixture.remember(&["c"], marker);
        let candidates = [fixture.candidate("c"), fixture.candidate("d")];
        let digests = fixture.open().digests(&candidates).unwrap();
        assert_eq!(digests, [marker, Digest::of(b"d")]);
    }

    #[test]
    fn any_difference_of_the_stat_makes_it_read() {
        let fixture = Fixture::new(&["f"]);
        fixture.remember(&["f"], Digest::of(b"from the memo"));
        let same = fixture.candidate("f");
        let changes: [fn(&mut FileStat); 5] = [
            |stat| stat.inode += 1,
            |stat| stat.device += 1,
            |stat| stat.mtime.secs -= 1,
            |stat| stat.ctime.nanos = (stat.ctime.nanos + 1) % 1_000_000_000,
            |stat| stat.mtime.nanos = (stat.mtime.nanos + 1) % 1_000_000_000,
        ];
        for change in changes {
            let mut candidate = same.clone();
            change(&mut candidate.stat);
            assert_eq!(
                fixture.open().digests(&[candidate]).unwrap(),
                [Digest::of(b"f")]
            );
        }
    }

    #[test]
    fn times_not_before_the_moment_are_racy() {
        let moment = time(100, 500);
        let racy = |mtime, ctime| {
            let stat = FileStat {
                device: 1,
                inode: 1,
                size: 1,
                mtime,
                ctime,
            };
            !stat.is_older_than(moment)
        };
        assert!(!racy(time(100, 499), time(100, 499)));
        assert!(racy(time(100, 500), time(100, 499)));
        assert!(racy(time(100, 499), time(100, 500)));
        assert!(racy(time(101, 0), time(100, 1)));
        assert!(!racy(time(-1, 1), time(99, 7)));
        // Whole seconds: the second that is not over yet may bring another change.
        assert!(racy(time(100, 0), time(100, 0)));
        assert!(!racy(time(99, 0), time(99, 0)));
    }

    #[test]
    fn a_file_from_the_future_is_not_remembered() {
        let fixture = Fixture::new(&["f"]);
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let file = fs::File::options()
            .write(true)
            .open(fixture.context.join("f"))
            .unwrap();
        file.set_modified(tomorrow).unwrap();
        let checksums = fixture.open();
        checksums.digests(&[fixture.candidate("f")]).unwrap();
        checksums.save().unwrap();
        assert!(!memo_path(&fixture.store, &fixture.context).exists());
    }

    #[test]
    fn a_file_written_in_the_same_tick_is_read_again() {
        // However fast this runs: the second content has the first one's length, and perhaps its times.
        let fixture = Fixture::new(&["f"]);
        for round in 0..200_u32 {
            let content = format!("{round:08}");
            fs::write(fixture.context.join("f"), &content).unwrap();
            let checksums = fixture.open();
            let digests = checksums.digests(&[fixture.candidate("f")]).unwrap();
            assert_eq!(digests, [Digest::of(content.as_bytes())], "round {round}");
            checksums.save().unwrap();
        }
    }

    #[test]
    fn a_memo_merges_in_the_order_of_paths_and_forgets() {
        let fixture = Fixture::new(&["a-b", "a/x", "a/y", "b"]);
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        fixture.remember(&["a/x", "b"], old);
        fixture.remember(&["a-b", "a/y", "b"], new);
        let memo = fixture.open().memo;
        let paths: Vec<_> = (0..memo.starts.len()).map(|at| memo.entry(at)).collect();
        let shown: Vec<_> = paths
            .iter()
            .map(|entry| (entry.path, entry.digest == new, entry.unused))
            .collect();
        let expected: [(&[u8], bool, u8); 4] = [
            (b"a/x", false, 1),
            (b"a/y", true, 0),
            (b"a-b", true, 0),
            (b"b", true, 0),
        ];
        assert_eq!(shown, expected);
        for _ in 1..LONGEST_UNUSED {
            fixture.remember(&["b"], new);
        }
        assert_eq!(
            fixture.open().memo.position(&ImagePath::clean(b"a/x"), 0),
            None
        );
        assert!(
            fixture
                .open()
                .memo
                .position(&ImagePath::clean(b"a-b"), 0)
                .is_some()
        );
    }

    #[test]
    fn a_damaged_memo_is_an_empty_one() {
        let fixture = Fixture::new(&["f"]);
        fixture.remember(&["f"], Digest::of(b"from the memo"));
        let path = memo_path(&fixture.store, &fixture.context);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x80;
            assert!(Memo::parse(damaged).is_none(), "byte {at}");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let digests = fixture.open().digests(&[fixture.candidate("f")]).unwrap();
        assert_eq!(digests, [Digest::of(b"f")]);
    }

    #[test]
    fn a_symlink_is_never_followed() {
        let fixture = Fixture::new(&["f", "d/f"]);
        let (plain, below) = (fixture.candidate("f"), fixture.candidate("d/f"));
        fs::remove_file(fixture.context.join("f")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", fixture.context.join("f")).unwrap();
        fs::rename(fixture.context.join("d"), fixture.context.join("e")).unwrap();
        std::os::unix::fs::symlink("e", fixture.context.join("d")).unwrap();
        for candidate in [plain, below] {
            let refused = fixture.open().digests(&[candidate]);
            assert!(matches!(refused, Err(ChecksumError::Read { .. })));
        }
    }

    #[test]
    fn a_file_of_another_size_has_changed() {
        let fixture = Fixture::new(&["f"]);
        let mut candidate = fixture.candidate("f");
        candidate.stat.size += 1;
        let refused = fixture.open().digests(&[candidate]);
        assert!(matches!(refused, Err(ChecksumError::Changed { .. })));
    }
}
