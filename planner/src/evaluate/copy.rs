//! COPY and ADD (R-COPY, R-ADD).

use kiln_parser::{Add, Copy, CopySource, Diagnostic, Heredoc, IgnoreFile, Span, Spanned, Word};

use super::mount::add_input;
use super::{Evaluator, name};
use crate::{Chmod, CopyOp, CopySourceOp, FileOp, Op, VertexId, code, paths};

/// What COPY and ADD have in common.
struct Request<'s> {
    keyword: &'static str,
    from: Option<&'s Spanned<String>>,
    chown: Option<&'s Spanned<Word>>,
    chmod: Option<&'s Spanned<Word>>,
    link: bool,
    parents: bool,
    exclude: &'s [Spanned<String>],
    sources: &'s [Spanned<CopySource>],
    dest: &'s Spanned<Word>,
    unpack: bool,
    checksum: Option<&'s Spanned<Word>>,
}

/// What an argument of ADD names besides files (R-ADD-1, R-ADD-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    Url,
    Git,
}

/// Sources, expanded.
#[derive(Default)]
struct Sources {
    /// As in the history.
    shown: Vec<String>,
    paths: Vec<(String, Span)>,
    inline: Vec<CopySourceOp>,
}

impl Evaluator<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy) {
        self.copy_request(&Request {
            keyword: "COPY",
            from: copy.from.as_ref(),
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
            sources: &copy.sources,
            dest: &copy.dest,
            unpack: false,
            checksum: None,
        });
    }

    pub(super) fn add(&mut self, add: &Add) {
        self.copy_request(&Request {
            keyword: "ADD",
            from: None,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
            sources: &add.sources,
            dest: &add.dest,
            unpack: add.unpack != Some(false),
            checksum: add.checksum.as_ref(),
        });
    }

    fn copy_request(&mut self, request: &Request<'_>) {
        let text = name::shown_expanded(&self.here.text, &self.state.environment);
        let name = self.step_name(&text);
        // All parts are looked at before any of them ends the matter, so that all errors are told.
        let sources = self.sources(request);
        let dest = self.expand(request.dest);
        let chown = self.optional(request.chown);
        let chmod = self.optional(request.chmod);
        let mode = chmod
            .as_ref()
            .and_then(|chmod| self.chmod(chmod.as_deref(), request.chmod));
        let exclude = self.exclude(request.exclude);
        let checksum = self.checksum(request);
        let (Some(sources), Some(dest), Some(chown), Some(chmod)) = (sources, dest, chown, chmod)
        else {
            return;
        };
        let (Some(mode), Some(exclude), true) = (mode, exclude, checksum) else {
            return;
        };
        let mut inputs = vec![self.state.output];
        let created_by = history(
            request,
            chown.as_deref(),
            chmod.as_deref(),
            &sources.shown,
            &dest,
        );
        let Some(sources) = self.source_ops(request, sources, &mut inputs) else {
            return;
        };
        let op = CopyOp {
            sources,
            dest: paths::join(self.workdir_path(), &dest),
            dest_is_dir: dest.is_empty()
                || dest == "."
                || dest.ends_with('/')
                || dest.ends_with("/."),
            chown,
            link: request.link && mode.is_none(),
            chmod: mode,
            parents: request.parents,
            exclude,
            unpack: request.unpack,
            add: request.keyword == "ADD",
        };
        self.step(Op::File(FileOp::Copy(op)), name, &inputs, created_by);
    }

    /// Named paths first, then inline files, whatever their order (R-HD-17).
    fn sources(&mut self, request: &Request<'_>) -> Option<Sources> {
        let mut sources = Sources::default();
        let mut heredocs = Vec::new();
        let mut complete = true;
        for source in request.sources {
            match &source.value {
                CopySource::Path(word) => {
                    match self.path(request, &Spanned::new(word.clone(), source.span)) {
                        Some(path) => {
                            sources.shown.push(path.clone());
                            sources.paths.push((path, self.place(source.span)));
                        }
                        None => complete = false,
                    }
                }
                CopySource::Heredoc(heredoc) => heredocs.push((heredoc, source.span)),
            }
        }
        for (heredoc, span) in heredocs {
            sources.shown.push(format!("<<{}", heredoc.name));
            match self.inline(heredoc, span) {
                Some(inline) => sources.inline.push(inline),
                None => complete = false,
            }
        }
        complete.then_some(sources)
    }

    fn path(&mut self, request: &Request<'_>, word: &Spanned<Word>) -> Option<String> {
        let path = self.expand(word)?;
        let Some(remote) = remote(&path) else {
            return Some(path);
        };
        match (request.keyword, remote) {
            ("COPY", Remote::Url) => self.error(
                code::COPY_SOURCE,
                "source can't be a URL for COPY",
                word.span,
            ),
            ("COPY", Remote::Git) => self.error(
                code::COPY_SOURCE,
                "source can't be a git ref for COPY",
                word.span,
            ),
            (_, remote) => {
                let what = if remote == Remote::Git {
                    "a git repository"
                } else {
                    "a URL"
                };
                let error = Diagnostic::error(
                    code::UNSUPPORTED,
                    format!("ADD of {what} is not supported yet: `{path}`"),
                    word.span,
                );
                self.tell(error.help("fetch it in a RUN, or put it into the build context"));
            }
        }
        None
    }

    fn inline(&mut self, heredoc: &Heredoc, span: Span) -> Option<CopySourceOp> {
        let body = heredoc.expand_body_traced(&self.state.environment);
        let body = self.expanded(body, heredoc.span)?;
        Some(CopySourceOp::Inline {
            name: heredoc.name.clone(),
            content: body.text.into_bytes(),
            span: self.place(span),
        })
    }

    /// A flag's value; an empty one is as if absent. The outer `None` is an error that was told.
    #[allow(clippy::option_option)]
    fn optional(&mut self, word: Option<&Spanned<Word>>) -> Option<Option<String>> {
        match word {
            None => Some(None),
            Some(word) => self
                .expand(word)
                .map(|value| Some(value).filter(|value| !value.is_empty())),
        }
    }

    #[allow(clippy::option_option)]
    fn chmod(
        &mut self,
        value: Option<&str>,
        word: Option<&Spanned<Word>>,
    ) -> Option<Option<Chmod>> {
        let Some(value) = value else {
            return Some(None);
        };
        match Chmod::parse(value) {
            Ok(chmod) => Some(Some(chmod)),
            Err(error) => {
                self.error(
                    code::CHMOD,
                    error.to_string(),
                    word.map_or(self.here.span, |word| word.span),
                );
                None
            }
        }
    }

    fn exclude(&mut self, patterns: &[Spanned<String>]) -> Option<Vec<String>> {
        let texts: Vec<String> = patterns
            .iter()
            .map(|pattern| pattern.value.clone())
            .collect();
        let Err(error) = IgnoreFile::from_patterns(texts.iter().map(String::as_str)) else {
            return Some(texts);
        };
        let span = patterns
            .iter()
            .map(|pattern| pattern.span)
            .reduce(Span::to)
            .unwrap_or(self.here.span);
        self.tell(
            Diagnostic::error(code::EXCLUDE, "invalid excludepatterns", span)
                .note(error.to_string()),
        );
        None
    }

    /// `--checksum` is for downloads (R-ADD-8), which were refused before; with files it never makes sense.
    fn checksum(&mut self, request: &Request<'_>) -> bool {
        let Some(checksum) = request.checksum else {
            return true;
        };
        let is_remote = |source: &Spanned<CopySource>| match &source.value {
            CopySource::Path(word) => word
                .expand(&self.state.environment)
                .is_ok_and(|path| remote(&path.text).is_some()),
            CopySource::Heredoc(_) => false,
        };
        let message = match request.sources {
            [source] if is_remote(source) => return true,
            [_] => "checksum requires HTTP(S) or Git sources",
            _ => "checksum can't be specified for multiple sources",
        };
        self.error(code::CHECKSUM, message, checksum.span);
        false
    }

    fn source_ops(
        &mut self,
        request: &Request<'_>,
        sources: Sources,
        inputs: &mut Vec<VertexId>,
    ) -> Option<Vec<CopySourceOp>> {
        let mut ops = Vec::with_capacity(sources.paths.len() + sources.inline.len());
        if !sources.paths.is_empty() {
            let vertex = match request.from.filter(|from| !from.value.is_empty()) {
                Some(from) => self.builder.origin_vertex(self.index, from, true)?,
                None => self.builder.context_vertex(),
            };
            let input = add_input(inputs, vertex);
            ops.extend(sources.paths.iter().map(|(path, span)| CopySourceOp::Path {
                input,
                path: paths::clean_rooted(path),
                pivot: pivot(request, path),
                span: *span,
            }));
        }
        ops.extend(sources.inline);
        Some(ops)
    }
}

/// `a/./b/c` with `--parents` is copied as `b/c` (R-COPY-31).
fn pivot(request: &Request<'_>, path: &str) -> String {
    match path.split_once("/./") {
        Some((pivot, _)) if request.parents => paths::clean_rooted(pivot),
        _ => "/".to_owned(),
    }
}

/// R-COPY-34
fn history(
    request: &Request<'_>,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[String],
    dest: &str,
) -> String {
    let mut words = vec![request.keyword.to_owned()];
    words.extend(request.parents.then(|| "--parents".to_owned()));
    words.extend(chown.map(|chown| format!("--chown={chown}")));
    words.extend(chmod.map(|chmod| format!("--chmod={chmod}")));
    words.extend(sources.iter().cloned());
    words.push(dest.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// What a source is if not a path.
fn remote(source: &str) -> Option<Remote> {
    if source.starts_with("git://") || source.starts_with("ssh://") || is_scp_like(source) {
        return Some(Remote::Git);
    }
    let rest = source
        .strip_prefix("http://")
        .or_else(|| source.strip_prefix("https://"))?;
    let path = rest.split(['#', '?']).next().unwrap_or_default();
    if path.ends_with(".git") && path.contains('/') {
        Some(Remote::Git)
    } else {
        Some(Remote::Url)
    }
}

/// `user@host:path`
fn is_scp_like(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let is_word = |text: &str, extra: &[char]| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
    };
    is_word(user, &['-', '_', '.']) && is_word(host, &['-', '.']) && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    // R-ADD-1, R-ADD-10
    #[test]
    fn kinds_of_sources_are_told_apart() {
        for (source, expected) in [
            ("a.tar.gz", None),
            ("./git@x", None),
            ("http://h/p/f.txt?x=1", Some(Remote::Url)),
            ("https://h/r.git", Some(Remote::Git)),
            ("https://h/r.git#v1:sub", Some(Remote::Git)),
            ("https://h/r.git/x", Some(Remote::Url)),
            ("git://h/r", Some(Remote::Git)),
            ("ssh://git@h/r", Some(Remote::Git)),
            ("git@github.com:a/b", Some(Remote::Git)),
        ] {
            assert_eq!(remote(source), expected, "{source}");
        }
    }
}
