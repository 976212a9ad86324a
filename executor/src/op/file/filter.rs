//! Which of the objects below a copied directory are copied: `--exclude` and `--parents`.

use kiln_image::{ImagePath, NodeRef};
use kiln_parser::IgnoreFile;

use super::CopyError;
use super::source::has_wildcard;

/// What is copied from below one directory. Paths are relative to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    include: Include,
    exclude: IgnoreFile,
}

/// One object below a copied directory.
#[derive(Debug, Clone)]
pub(super) struct Below<'a> {
    /// Where, relative to the directory.
    pub(super) path: ImagePath,
    /// The object.
    pub(super) node: NodeRef<'a>,
    /// Whether it is copied itself; if not, it is a directory that something copied is in.
    pub(super) is_asked: bool,
}

/// What `--parents` asks for.
#[derive(Debug, Clone, Default)]
enum Include {
    /// Everything: without `--parents`.
    #[default]
    All,
    /// One object and what is below it.
    Literal(ImagePath),
    /// What a pattern with `**` matches, and what is below that.
    Pattern(IgnoreFile),
}

impl Filter {
    /// All but what the patterns of `--exclude` match; one with a leading slash never does (R-COPY-32).
    pub(super) fn excluding(patterns: &[String]) -> Result<Self, CopyError> {
        let relative = patterns
            .iter()
            .map(String::as_str)
            .filter(|pattern| !pattern.trim_start_matches('!').starts_with('/'));
        let exclude = IgnoreFile::from_patterns(relative).map_err(CopyError::Exclude)?;
        Ok(Self {
            include: Include::All,
            exclude,
        })
    }

    /// Only what `path`, relative to the directory, names.
    pub(super) fn only(
        self,
        path: &str,
        bad_pattern: impl FnOnce() -> CopyError,
    ) -> Result<Self, CopyError> {
        let include = if has_wildcard(path) {
            Include::Pattern(IgnoreFile::from_patterns([path]).map_err(|_| bad_pattern())?)
        } else {
            Include::Literal(ImagePath::clean(path.as_bytes()))
        };
        Ok(Self { include, ..self })
    }

    /// What is copied from below `top`, a directory before what is in it. A directory that isn't asked for itself is
    /// there if something below it is.
    pub(super) fn entries<'a>(&self, top: NodeRef<'a>) -> Vec<Below<'a>> {
        let mut entries = Vec::new();
        match (&self.include, self.exclude.rules()) {
            (Include::All, []) => collect_all(top, &ImagePath::root(), &mut entries),
            _ => self.collect(top, &ImagePath::root(), &mut entries),
        }
        entries
    }

    fn collect<'a>(&self, directory: NodeRef<'a>, path: &ImagePath, entries: &mut Vec<Below<'a>>) {
        for (name, node) in directory
            .directory
            .into_iter()
            .flat_map(kiln_image::Directory::iter)
        {
            let path = path.child(name);
            let text = path.to_string();
            let excluded = self.exclude.ignores(&text);
            let is_asked = !excluded && self.includes(&path, &text);
            let position = entries.len();
            entries.push(Below {
                path: path.clone(),
                node,
                is_asked,
            });
            if !excluded || self.exclude.may_reinclude_below(&text) {
                self.collect(node, &path, entries);
            }
            let is_needed = entries.len() > position + 1;
            if !is_needed && !is_asked {
                entries.pop();
            }
        }
    }

    fn includes(&self, path: &ImagePath, text: &str) -> bool {
        match &self.include {
            Include::All => true,
            Include::Literal(wanted) => path.starts_with(wanted),
            Include::Pattern(pattern) => pattern.ignores(text),
        }
    }
}

/// What is below a directory when all of it is asked for.
fn collect_all<'a>(directory: NodeRef<'a>, path: &ImagePath, entries: &mut Vec<Below<'a>>) {
    let below = directory.directory.into_iter();
    for (name, node) in below.flat_map(kiln_image::Directory::iter) {
        let path = path.child(name);
        let directory = node.directory.is_some().then(|| path.clone());
        entries.push(Below {
            path,
            node,
            is_asked: true,
        });
        if let Some(path) = directory {
            collect_all(node, &path, entries);
        }
    }
}
