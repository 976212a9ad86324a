//! What a build reads before it starts: the context folder, the Dockerfile and the ignore file. Clauses R-CLI-2, R-CLI-3,
//! R-CTX-9, R-IGN-1.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_executor::ContextOptions;
use kiln_parser::{IgnoreError, IgnoreFile, Source, Span};
use tempfile::TempDir;

use crate::exit::Exit;
use crate::failure::Failure;

/// Nobody writes a Dockerfile this large; a wrong path to a disk image is refused before it fills memory.
const LARGEST: u64 = 16 << 20;

/// The texts of a build and the folder they are about.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) dockerfile: Arc<Source>,
    /// The context's folder, and what of it counts.
    pub(crate) context: ContextOptions,
    /// Keeps the empty folder that stands for the context of a Dockerfile from stdin.
    _empty: Option<TempDir>,
}

impl Input {
    /// Finds and reads everything.
    ///
    /// # Errors
    /// When something is missing or cannot be read, or asks for a kind of context kiln does not have.
    pub(crate) fn read(context: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        let stdin = Path::new("-");
        match (context == stdin, file) {
            (true, Some(file)) if file == stdin => Err(Failure::usage(
                "stdin cannot be both the context and the Dockerfile",
            )),
            (true, _) => Self::from_stdin(file),
            (false, _) => Self::from_folder(context, file),
        }
    }

    fn from_stdin(file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(file) = file {
            return Err(Failure::usage(format!(
                "with `-` as context, the Dockerfile is stdin and `{}` has no place",
                file.display()
            )));
        }
        let bytes = limited(&mut io::stdin().lock())
            .map_err(|error| Failure::unreadable(Path::new("stdin"), &error))?;
        if is_archive(&bytes) {
            return Err(Failure::usage(
                "stdin is an archive, and kiln does not take a context from an archive yet",
            )
            .help("unpack it and give its folder as context"));
        }
        let empty = tempfile::tempdir().map_err(|error| {
            Failure::environment(format!(
                "could not make an empty folder as context: {error}"
            ))
        })?;
        Ok(Self {
            dockerfile: Arc::new(Source::from_bytes("-", &bytes)),
            context: ContextOptions {
                root: empty.path().to_owned(),
                shown: "-".to_owned(),
                ignore: no_rules(),
                ignore_name: None,
            },
            _empty: Some(empty),
        })
    }

    fn from_folder(context: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        check_context(context)?;
        let (dockerfile, ignore_beside) = match file {
            Some(file) if file == Path::new("-") => (from_stdin()?, None),
            Some(file) => {
                let opened = File::open(file); // a pipe is as good: `-f <(generate)`
                (read_from(opened, file, context)?, Some(with_suffix(file)))
            }
            None => {
                let path = default_dockerfile(context);
                let opened = open_regular(&path);
                (read_from(opened, &path, context)?, Some(with_suffix(&path)))
            }
        };
        let found = ignore_file(context, ignore_beside)?;
        let (ignore_name, ignore) =
            found.map_or_else(|| (None, no_rules()), |(name, rules)| (Some(name), rules));
        let context = ContextOptions {
            root: context.to_owned(),
            shown: context.display().to_string(),
            ignore,
            ignore_name,
        };
        Ok(Self {
            dockerfile,
            context,
            _empty: None,
        })
    }
}

/// A context must be a folder that is there; what else Docker takes is refused by name.
fn check_context(context: &Path) -> Result<(), Failure> {
    let text = context.to_string_lossy();
    if text.contains("://") || text.starts_with("git@") {
        return Err(Failure::usage(format!(
            "`{text}` is a URL, and kiln takes only a folder as context yet"
        ))
        .help("fetch it and give its folder"));
    }
    match std::fs::metadata(context) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(
            Failure::usage(format!("the context `{text}` is not a folder"))
                .help("to name a Dockerfile, use `-f FILE` and give the folder as context"),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::usage(format!(
            "the context `{text}` does not exist"
        ))),
        Err(error) => Err(Failure::unreadable(context, &error)),
    }
}

/// `Dockerfile`, or `dockerfile` if only that is there (R-CTX-9).
fn default_dockerfile(context: &Path) -> PathBuf {
    let usual = context.join("Dockerfile");
    let lower = context.join("dockerfile");
    match !usual.exists() && lower.exists() {
        true => lower,
        false => usual,
    }
}

fn from_stdin() -> Result<Arc<Source>, Failure> {
    let bytes = limited(&mut io::stdin().lock())
        .map_err(|error| Failure::unreadable(Path::new("stdin"), &error))?;
    Ok(Arc::new(Source::from_bytes("-", &bytes)))
}

/// Opens a file of the context, in which anything may lie: a pipe that nobody writes to would be waited for for ever.
fn open_regular(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?.file_type();
    match found.is_file() || found.is_dir() {
        true => Ok(file), // that it is a directory is told when it is read
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

fn read_from(
    opened: io::Result<File>,
    path: &Path,
    context: &Path,
) -> Result<Arc<Source>, Failure> {
    let name = shown(path);
    let bytes = opened
        .and_then(|mut file| limited(&mut file))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_found(&name, context),
            _ => Failure::unreadable(path, &error),
        })?;
    Ok(Arc::new(Source::from_bytes(name, &bytes)))
}

/// `<Dockerfile>.dockerignore` alone if it is there, else `.dockerignore` in the context (R-IGN-1); with its name.
fn ignore_file(
    context: &Path,
    beside: Option<PathBuf>,
) -> Result<Option<(String, IgnoreFile)>, Failure> {
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        let name = shown(&path);
        match open_regular(&path).and_then(|mut file| limited(&mut file)) {
            Ok(bytes) => return Ok(Some((name.clone(), parse_ignore(&name, &bytes)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::unreadable(&path, &error)),
        }
    }
    Ok(None)
}

fn no_rules() -> IgnoreFile {
    IgnoreFile::parse("").expect("an empty file has no bad pattern")
}

fn parse_ignore(name: &str, bytes: &[u8]) -> Result<IgnoreFile, Failure> {
    let source = Arc::new(Source::from_bytes(name, bytes));
    IgnoreFile::parse(source.text()).map_err(|error| {
        let (IgnoreError::EmptyException { line } | IgnoreError::BadPattern { line, .. }) = &error;
        let span = line_span(source.text(), *line);
        Failure::new(Exit::Usage, "bad-ignore-pattern", error.to_string()).at(&source, span, None)
    })
}

/// The span of a line, counted from 1.
fn line_span(text: &str, line: usize) -> Span {
    let start = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let length = text[start..].lines().next().map_or(0, str::len);
    Span {
        start,
        end: start + length,
    }
}

fn with_suffix(dockerfile: &Path) -> PathBuf {
    let mut name = OsString::from(dockerfile);
    name.push(".dockerignore");
    name.into()
}

/// A path as in messages: `./Dockerfile` is `Dockerfile`.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

fn not_found(name: &str, context: &Path) -> Failure {
    let failure = Failure::new(
        Exit::Usage,
        "dockerfile-not-found",
        format!("there is no `{name}`"),
    );
    let near = std::fs::read_dir(context)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut candidates: Vec<_> = near
        .filter(|near| is_dockerfile_name(near))
        .take(5)
        .collect();
    candidates.sort();
    match candidates.as_slice() {
        [] => failure.help("name the Dockerfile with `-f FILE`"),
        found => failure.help(format!(
            "name one with `-f`: `{}` is there",
            found.join("`, `")
        )),
    }
}

fn is_dockerfile_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.ends_with(".dockerignore")
        && (name.starts_with("dockerfile")
            || name.starts_with("containerfile")
            || name.ends_with(".dockerfile"))
}

fn limited(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(io::Error::other(format!(
            "larger than {}",
            crate::human::size(LARGEST)
        ))),
        false => Ok(bytes),
    }
}

/// A tar, or gzip, bzip2 or xz (R-CLI-2).
fn is_archive(bytes: &[u8]) -> bool {
    let compressed = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0"]
        .iter()
        .any(|magic| bytes.starts_with(magic));
    compressed || bytes.get(257..262) == Some(b"ustar")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn message(result: Result<Input, Failure>) -> String {
        result.unwrap_err().reports[0].message.clone()
    }

    #[test]
    fn a_lower_case_dockerfile_is_found() {
        // R-CTX-9
        let lower = folder(&[("dockerfile", "FROM a")]);
        assert_eq!(
            Input::read(lower.path(), None).unwrap().dockerfile.text(),
            "FROM a"
        );
        let both = folder(&[("dockerfile", "FROM a"), ("Dockerfile", "FROM b")]);
        assert_eq!(
            Input::read(both.path(), None).unwrap().dockerfile.text(),
            "FROM b"
        );
    }

    #[test]
    fn the_ignore_file_beside_the_dockerfile_comes_first() {
        // R-IGN-1
        let files = folder(&[
            ("Dockerfile", ""),
            (".dockerignore", "a"),
            ("Other", ""),
            ("Other.dockerignore", ""),
        ]);
        let usual = Input::read(files.path(), None).unwrap();
        assert_eq!(usual.context.ignore.rules().len(), 1);
        let other = Input::read(files.path(), Some(&files.path().join("Other"))).unwrap();
        assert_eq!(other.context.ignore.rules().len(), 0);
    }

    #[test]
    fn a_missing_dockerfile_names_what_is_there() {
        let files = folder(&[("Dockerfile.dev", ""), ("Dockerfile.dev.dockerignore", "")]);
        let failure = Input::read(files.path(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.reports[0].help,
            ["name one with `-f`: `Dockerfile.dev` is there"]
        );
    }

    #[test]
    fn contexts_kiln_does_not_have_are_refused() {
        let file = folder(&[("x", "")]);
        let refused = [
            (Path::new("https://example.com/x.git"), "is a URL"),
            (Path::new("git@example.com:x"), "is a URL"),
            (&file.path().join("x"), "is not a folder"),
            (&file.path().join("y"), "does not exist"),
        ];
        for (context, expected) in refused {
            let message = message(Input::read(context, None));
            assert!(message.contains(expected), "{message}");
        }
        assert!(
            message(Input::read(Path::new("-"), Some(Path::new("-"))))
                .contains("stdin cannot be both")
        );
    }

    #[test]
    fn archives_are_told_from_text() {
        // R-CLI-2
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for archive in [&tar[..], b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"] {
            assert!(is_archive(archive));
        }
        assert!(!is_archive(b"FROM scratch"));
    }

    #[test]
    fn a_bad_pattern_is_shown_in_its_line() {
        // R-IGN-4
        let files = folder(&[("Dockerfile", ""), (".dockerignore", "a\n[\n")]);
        let failure = Input::read(files.path(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.reports[0].place.as_ref().unwrap().span,
            Span { start: 2, end: 3 }
        );
    }
}
