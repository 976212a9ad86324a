//! What is copied into images: made once, the same every time, of bytes that no builder can compress away; and what base images are
//! made of, which can be compressed about as well as programs.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

const DIRECTORIES: u64 = 5_000;
const FILES_IN_EACH: u64 = 10;
/// Files are of up to twice this size: 200 MB in all.
const MEAN_SIZE: u64 = 4_000;

/// Files of a base image, in as many directories as there are files in each.
const BASE_DIRECTORIES: u64 = 70;
/// Base images have files of up to twice this size: 120 MB in all.
const BASE_MEAN_SIZE: u64 = 24_500;

/// A context and what of it is copied.
pub(super) struct Material {
    pub(super) context: PathBuf,
    pub(super) files: PathBuf,
}

/// Numbers without a pattern (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn write(&mut self, out: &mut dyn Write, size: u64) -> std::io::Result<()> {
        let mut left = size;
        while left > 0 {
            let bytes = self.next().to_le_bytes();
            let part = left.min(8) as usize;
            out.write_all(&bytes[..part])?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Every other run of bytes is one that came before.
    fn write_half(&mut self, out: &mut dyn Write, size: u64) -> std::io::Result<()> {
        const RUN: u64 = 16;
        const KNOWN: &[u8] = b"the quick brown fox jumps over the lazy dog and runs away ";
        let mut left = size;
        while left > 0 {
            let (random, known) = (left.min(RUN), left.saturating_sub(RUN).min(RUN));
            self.write(out, random)?;
            let from = self.next() as usize % (KNOWN.len() - RUN as usize);
            out.write_all(&KNOWN[from..from + known as usize])?;
            left -= random + known;
        }
        Ok(())
    }
}

impl Material {
    /// Writes other content into one file.
    pub(super) fn change_one(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let path = self.files.join("d25/d2517/f7");
        let mut out = create(&path)?;
        Numbers(now.as_nanos() as u64 | 1)
            .write(&mut out, MEAN_SIZE)
            .and_then(|()| out.flush())
            .with_context(|| format!("could not write `{}`", path.display()))
    }
}

/// 4,900 files that compress to half of their size, below `parts` directories; made once.
pub(super) fn rootfs(folder: &Path, parts: usize) -> Result<()> {
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(());
    }
    let mut numbers = Numbers(0xba5e);
    for directory in 0..BASE_DIRECTORIES {
        let part = directory as usize % parts;
        let below = folder.join(format!("{part}/d{directory:02}"));
        create_dir(&below)?;
        for file in 0..BASE_DIRECTORIES {
            let path = below.join(format!("f{file:02}"));
            let size = numbers.next() % (2 * BASE_MEAN_SIZE);
            let mut out = create(&path)?;
            numbers
                .write_half(&mut out, size)
                .and_then(|()| out.flush())
                .with_context(|| format!("could not write `{}`", path.display()))?;
        }
    }
    create(&whole).map(drop)
}

/// 50,000 files in 5,000 directories.
pub(super) fn small(context: &Path) -> Result<Material> {
    make(context, |files| {
        let mut numbers = Numbers(0x5eed);
        for directory in 0..DIRECTORIES {
            let folder = files.join(format!("d{:02}/d{directory:04}", directory / 100));
            create_dir(&folder)?;
            for file in 0..FILES_IN_EACH {
                let mut out = create(&folder.join(format!("f{file}")))?;
                let size = numbers.next() % (2 * MEAN_SIZE);
                numbers.write(&mut out, size)?;
                out.flush()?;
            }
        }
        Ok(())
    })
}

/// Of a hundred bytes of mixed content, how many are programs' and how many are text; the rest has no order.
const PROGRAMS: u64 = 50;
const TEXT: u64 = 35;

/// `size` bytes of what images are made of: programs and text of this machine, and what is compressed already.
pub(super) fn mixed(context: &Path, size: u64) -> Result<Material> {
    make(context, |files| {
        let (programs, text) = this_machines_files()?;
        copy_of(&programs, &files.join("programs"), size / 100 * PROGRAMS)?;
        copy_of(&text, &files.join("text"), size / 100 * TEXT)?;
        let mut out = create(&files.join("archive"))?;
        Numbers(0xa7c).write(&mut out, size / 100 * (100 - PROGRAMS - TEXT))?;
        Ok(out.flush()?)
    })
}

/// The machine's programs and libraries, and its texts, each in the order of their names.
fn this_machines_files() -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut programs, mut text) = (Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new("/usr").sort_by_file_name() {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let mut start = Vec::new();
        // What can't be read is left out.
        let read =
            File::open(entry.path()).and_then(|file| file.take(4096).read_to_end(&mut start));
        if read.is_err() || start.len() < 512 {
            continue;
        }
        if start.starts_with(b"\x7fELF") {
            programs.push(entry.into_path());
        } else if start.is_ascii() && !start.contains(&0) {
            text.push(entry.into_path());
        }
    }
    Ok((programs, text))
}

/// Copies files until there are `size` bytes of them, some several times if there are too few.
fn copy_of(files: &[PathBuf], folder: &Path, size: u64) -> Result<()> {
    anyhow::ensure!(!files.is_empty(), "there is nothing to copy in `/usr`");
    let mut left = size;
    for (number, file) in files.iter().cycle().enumerate() {
        if left == 0 {
            break;
        }
        let below = folder.join(format!("d{:03}", number / 100));
        create_dir(&below)?;
        let mut out = create(&below.join(format!("f{number}")))?;
        left -= std::io::copy(&mut File::open(file)?.take(left), &mut out)?;
        out.flush()?;
    }
    Ok(())
}

/// One file of `size` bytes.
pub(super) fn large(context: &Path, size: u64) -> Result<Material> {
    let same_size = |file: &Path| fs::metadata(file).is_ok_and(|file| file.len() == size);
    if !same_size(&context.join("files/large")) && context.exists() {
        fs::remove_dir_all(context)?;
    }
    make(context, |files| {
        let mut out = create(&files.join("large"))?;
        Numbers(0xb16).write(&mut out, size)?;
        Ok(out.flush()?)
    })
}

/// Makes what is not there from an earlier run: the Dockerfile is written last.
fn make(context: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Material> {
    let files = context.join("files");
    let dockerfile = context.join("Dockerfile");
    if !dockerfile.exists() {
        create_dir(&files)?;
        fill(&files).with_context(|| format!("could not fill `{}`", files.display()))?;
        fs::write(&dockerfile, "FROM scratch\nCOPY files /files\n")?;
    }
    Ok(Material {
        context: context.to_owned(),
        files,
    })
}

fn create_dir(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file =
        File::create(path).with_context(|| format!("could not make `{}`", path.display()))?;
    Ok(BufWriter::new(file))
}
