//! What a build reads before it starts: the Dockerfile, the ignore files, and a context that comes as a stream. Clauses R-CLI-2,
//! R-CLI-3, R-CTX-6, R-CTX-8, R-CTX-9, R-IGN-1, R-IGN-2.

mod elsewhere;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_executor::{
    ContextModes, ContextOptions, ContextSource, ContextSources, Secrets, Spooled, starts_archive,
};
use kiln_parser::{IgnoreError, IgnoreFile, Source, Span};
use tempfile::TempDir;

use crate::address::{self, Address};
use crate::args::ProgressMode;
use crate::build_context::{BuildContext, Value};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::LazySession;

/// Nobody writes a Dockerfile this large; a wrong path to a disk image is refused before it fills memory.
const LARGEST: u64 = 16 << 20;

/// How much of stdin is looked at to tell an archive from a Dockerfile, in bytes: the first member's headers.
const START: u64 = 128 << 10;

/// What the command line names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The context: a folder, `-`, or an address.
    pub(crate) context: &'a Path,
    /// The Dockerfile.
    pub(crate) file: Option<&'a Path>,
    /// `--build-context`
    pub(crate) named: &'a [BuildContext],
    /// How what has to be fetched first is shown.
    pub(crate) progress: ProgressMode,
    /// Tokens and passwords for that.
    pub(crate) secrets: &'a Secrets,
    /// Whether `.git` of a repository stays.
    pub(crate) keep_git_dir: bool,
    /// Whether the dates of the result are given, so that the files of a repository are as old as their commit.
    pub(crate) has_epoch: bool,
    /// Where a context that is a stream is kept for a while.
    pub(crate) session: &'a LazySession<'a>,
}

/// Where the Dockerfile is.
#[derive(Debug)]
enum DockerfileAt<'a> {
    /// Where it usually is.
    Usual,
    /// At a path: of this machine, or within a context that is not a folder of it (R-CLI-3).
    Path(&'a Path),
    /// It is a text by itself.
    Text(Arc<Source>),
}

/// The texts of a build and the files they are about.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) dockerfile: Arc<Source>,
    /// The contexts.
    pub(crate) contexts: ContextSources,
    /// What is left out of the build context.
    pub(crate) ignore: IgnoreFile,
    /// When the commit was made that was fetched as the build context, in seconds since 1970, if dates count.
    pub(crate) commit_time: Option<i64>,
    /// Whether the Dockerfile is a file of this machine, by its name.
    pub(crate) is_file: bool,
    /// Keeps the empty folder that stands for the context of a Dockerfile from stdin.
    _empty: Option<TempDir>,
}

impl Input {
    /// Finds and reads everything.
    ///
    /// # Errors
    /// When something is missing or cannot be read, or asks for a kind of context kiln does not have.
    pub(crate) fn read(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        let stdin = Path::new("-");
        if wanted.context == stdin && wanted.file == Some(stdin) {
            let message = "stdin cannot be both the context and the Dockerfile";
            return Err(Failure::usage(message));
        }
        let at = DockerfileAt::of(wanted)?;
        let address = match wanted.context.is_dir() {
            true => None,
            false => Address::parse(&wanted.context.to_string_lossy()).map_err(Failure::usage)?,
        };
        let mut input = match address {
            Some(address) => Self::from_elsewhere(wanted, &address, &at),
            None if wanted.context == stdin => {
                Self::from_stdin(wanted, at, &mut io::stdin().lock())
            }
            None => Self::from_folder(wanted.context, at),
        }?;
        input.read_named(wanted.named)?;
        Ok(input)
    }

    /// A tar is the context; anything else is the Dockerfile, and the context is empty.
    fn from_stdin(
        wanted: &Wanted<'_>,
        at: DockerfileAt<'_>,
        stdin: &mut dyn Read,
    ) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::unreadable(Path::new("stdin"), &error);
        let mut start = Vec::new();
        stdin
            .take(START)
            .read_to_end(&mut start)
            .map_err(unreadable)?;
        let is_archive = starts_archive(&start);
        let mut all = Cursor::new(start).chain(stdin);
        if is_archive {
            return Self::from_archive(&mut all, wanted, at);
        }
        if let Some(file) = wanted.file {
            return Err(Failure::usage(format!(
                "stdin is no archive but the Dockerfile, and `{}` has no place",
                file.display()
            )));
        }
        let bytes = limited(&mut all).map_err(unreadable)?;
        let empty = tempfile::tempdir().map_err(|error| {
            Failure::environment(format!(
                "could not make an empty folder as context: {error}"
            ))
        })?;
        Ok(Self {
            dockerfile: Arc::new(Source::from_bytes("-", &bytes)),
            contexts: of_main(ContextSource::Folder(ContextOptions {
                root: empty.path().to_owned(),
                shown: "-".to_owned(),
                ignore: no_rules(),
                ignore_name: None,
                modes: ContextModes::Kept,
            })),
            ignore: no_rules(),
            commit_time: None,
            is_file: false,
            _empty: Some(empty),
        })
    }

    /// A context that is an archive has its Dockerfile in it, and no ignore file counts (R-IGN-2).
    fn from_archive(
        stream: &mut dyn Read,
        wanted: &Wanted<'_>,
        at: DockerfileAt<'_>,
    ) -> Result<Self, Failure> {
        let store = &wanted.session.opened()?.store;
        let spooled = Spooled::archive(stream, "-", store).map_err(Failure::from_engine)?;
        Ok(Self {
            dockerfile: match at {
                DockerfileAt::Text(source) => source,
                DockerfileAt::Path(file) => dockerfile_of(&spooled, Some(file))?,
                DockerfileAt::Usual => dockerfile_of(&spooled, None)?,
            },
            contexts: of_main(ContextSource::Spooled(Arc::new(spooled))),
            ignore: no_rules(),
            commit_time: None,
            is_file: false,
            _empty: None,
        })
    }

    /// Finds the folders of named contexts, each with the ignore file it has in it (R-CTX-6).
    fn read_named(&mut self, flags: &[BuildContext]) -> Result<(), Failure> {
        for BuildContext { name, value } in flags {
            match value {
                Value::Folder(root) => {
                    check_context(root)?;
                    let folder = folder(root, None)?;
                    let source = ContextSource::Folder(folder);
                    self.contexts.named.insert(name.clone(), source);
                }
                Value::Layout(image) => {
                    self.contexts.layouts.insert(name.clone(), image.clone());
                }
                // What they are is in the plan.
                Value::Image(_) | Value::Empty | Value::Git(_) | Value::Http(_) => {}
            }
        }
        Ok(())
    }

    /// Names in the root of the build context that the ignore file lets through.
    pub(crate) fn visible_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.contexts.main {
            Some(ContextSource::Folder(folder)) => {
                let entries = std::fs::read_dir(&folder.root).into_iter().flatten();
                entries
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter(|name| !self.ignore.ignores(name))
                    .collect()
            }
            Some(ContextSource::Spooled(spooled)) => spooled.names().collect(),
            Some(ContextSource::Fetched(_)) | None => Vec::new(),
        };
        names.sort();
        names
    }

    fn from_folder(context: &Path, at: DockerfileAt<'_>) -> Result<Self, Failure> {
        check_context(context)?;
        let is_file = !matches!(at, DockerfileAt::Text(_));
        let (dockerfile, ignore_beside) = match at {
            DockerfileAt::Text(source) => (source, None),
            DockerfileAt::Path(file) => {
                let opened = File::open(file); // a pipe is as good: `-f <(generate)`
                (read_from(opened, file, context)?, Some(with_suffix(file)))
            }
            DockerfileAt::Usual => {
                let path = default_dockerfile(context);
                let opened = open_regular(&path);
                (read_from(opened, &path, context)?, Some(with_suffix(&path)))
            }
        };
        let folder = folder(context, ignore_beside)?;
        Ok(Self {
            dockerfile,
            ignore: folder.ignore.clone(),
            contexts: of_main(ContextSource::Folder(folder)),
            commit_time: None,
            is_file,
            _empty: None,
        })
    }
}

/// Nothing but the build context.
fn of_main(main: ContextSource) -> ContextSources {
    ContextSources {
        main: Some(main),
        ..ContextSources::default()
    }
}

/// The folder of a build context with the ignore file that counts for it; the Dockerfile need not be there.
pub(crate) fn context_folder(root: &Path, file: Option<&Path>) -> Result<ContextOptions, Failure> {
    check_context(root)?;
    let dockerfile = file.map_or_else(|| default_dockerfile(root), Path::to_owned);
    folder(root, Some(with_suffix(&dockerfile)))
}

/// A folder with its ignore file; one beside the Dockerfile comes first.
fn folder(root: &Path, ignore_beside: Option<PathBuf>) -> Result<ContextOptions, Failure> {
    let found = ignore_file(root, ignore_beside)?;
    let (ignore_name, ignore) =
        found.map_or_else(|| (None, no_rules()), |(name, rules)| (Some(name), rules));
    Ok(ContextOptions {
        root: root.to_owned(),
        shown: root.display().to_string(),
        ignore,
        ignore_name,
        modes: ContextModes::Kept,
    })
}

/// The Dockerfile within a context that is held; `-f` is relative to that (R-CLI-3).
fn dockerfile_of(spooled: &Spooled, file: Option<&Path>) -> Result<Arc<Source>, Failure> {
    let read = |name: &str| {
        let read = spooled.read(name, LARGEST);
        read.map_err(|error| Failure::unreadable(Path::new(name), &error))
    };
    dockerfile_in(file, read, || spooled.names().collect())
}

/// The Dockerfile among the files of a context, by its name or by one of the usual ones (R-CTX-9).
fn dockerfile_in(
    file: Option<&Path>,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, Failure>,
    names: impl FnOnce() -> Vec<String>,
) -> Result<Arc<Source>, Failure> {
    let named = file.map(|file| file.to_string_lossy().into_owned());
    let candidates = match &named {
        Some(name) => vec![name.as_str()],
        None => vec!["Dockerfile", "dockerfile"],
    };
    for name in &candidates {
        if let Some(bytes) = read(name)? {
            return Ok(Arc::new(Source::from_bytes(*name, &bytes)));
        }
    }
    Err(not_found(candidates[0], names().into_iter()))
}

impl<'a> DockerfileAt<'a> {
    /// Reads a Dockerfile that is on stdin or to be downloaded.
    fn of(wanted: &Wanted<'a>) -> Result<Self, Failure> {
        let Some(file) = wanted.file else {
            return Ok(Self::Usual);
        };
        let text = file.to_string_lossy();
        if text == "-" {
            return from_stdin().map(Self::Text);
        }
        if !address::is_http(&text) {
            return Ok(Self::Path(file));
        }
        match Address::parse(&text).map_err(Failure::usage)? {
            Some(Address::Http(url)) => elsewhere::text(wanted, &url).map(Self::Text),
            _ => Err(Failure::usage(format!(
                "`{text}` is not the URL of a Dockerfile"
            ))),
        }
    }
}

/// A context that is no address must be a folder that is there.
fn check_context(context: &Path) -> Result<(), Failure> {
    let text = context.to_string_lossy();
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
            io::ErrorKind::NotFound => not_found(&name, names_in(context)),
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

/// The names in a folder.
fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn not_found(name: &str, names: impl Iterator<Item = String>) -> Failure {
    let failure = Failure::new(
        Exit::Usage,
        "dockerfile-not-found",
        format!("there is no `{name}`"),
    );
    let mut candidates: Vec<_> = names
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

    fn read(context: &Path, file: Option<&Path>) -> Result<Input, Failure> {
        Input::read(&Wanted {
            context,
            file,
            named: &[],
            progress: ProgressMode::None,
            secrets: &Secrets::default(),
            keep_git_dir: false,
            has_epoch: false,
            session: &LazySession::new(|| Err(Failure::usage("no session is needed"))),
        })
    }

    fn message(result: Result<Input, Failure>) -> String {
        result.unwrap_err().reports[0].message.clone()
    }

    #[test]
    fn a_lower_case_dockerfile_is_found() {
        // R-CTX-9
        let lower = folder(&[("dockerfile", "FROM a")]);
        assert_eq!(
            read(lower.path(), None).unwrap().dockerfile.text(),
            "FROM a"
        );
        let both = folder(&[("dockerfile", "FROM a"), ("Dockerfile", "FROM b")]);
        assert_eq!(read(both.path(), None).unwrap().dockerfile.text(), "FROM b");
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
        let usual = read(files.path(), None).unwrap();
        assert_eq!(usual.ignore.rules().len(), 1);
        let other = read(files.path(), Some(&files.path().join("Other"))).unwrap();
        assert_eq!(other.ignore.rules().len(), 0);
    }

    #[test]
    fn a_missing_dockerfile_names_what_is_there() {
        let files = folder(&[("Dockerfile.dev", ""), ("Dockerfile.dev.dockerignore", "")]);
        let failure = read(files.path(), None).unwrap_err();
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
            (&file.path().join("x"), "is not a folder"),
            (&file.path().join("y"), "does not exist"),
        ];
        for (context, expected) in refused {
            let message = message(read(context, None));
            assert!(message.contains(expected), "{message}");
        }
        assert!(
            message(read(Path::new("-"), Some(Path::new("-")))).contains("stdin cannot be both")
        );
    }

    #[test]
    fn a_bad_pattern_is_shown_in_its_line() {
        // R-IGN-4
        let files = folder(&[("Dockerfile", ""), (".dockerignore", "a\n[\n")]);
        let failure = read(files.path(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.reports[0].place.as_ref().unwrap().span,
            Span { start: 2, end: 3 }
        );
    }
}
