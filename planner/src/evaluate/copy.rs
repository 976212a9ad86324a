//! COPY and ADD (R-COPY, R-ADD).

use kiln_parser::{Add, Copy, CopySource, Diagnostic, Heredoc, IgnoreFile, Span, Spanned, Word};

use super::mount::add_input;
use super::{Evaluator, name, remote};
use crate::{Chmod, CopyOp, CopySourceOp, FileOp, Op, Remote, SourceOp, VertexId, code, paths};

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
    /// `--unpack`; for COPY never.
    unpack: Option<bool>,
    checksum: Option<&'s Spanned<Word>>,
    keep_git_dir: Option<bool>,
}

/// What a named source is.
enum Named {
    Path(String),
    Remote(Remote),
}

/// Sources, expanded.
#[derive(Default)]
struct Sources {
    /// As in the history.
    shown: Vec<String>,
    named: Vec<(Named, Span)>,
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
            unpack: Some(false),
            checksum: None,
            keep_git_dir: None,
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
            unpack: add.unpack,
            checksum: add.checksum.as_ref(),
            keep_git_dir: add.keep_git_dir,
        });
    }

    fn copy_request(&mut self, request: &Request<'_>) {
        let text = name::shown_expanded(&self.here.text, &self.state.environment);
        let name = self.step_name(&without_passwords(&text));
        // All parts are looked at before any of them ends the matter, so that all errors are told.
        let sources = self.sources(request);
        let dest = self.expand(request.dest);
        let chown = self.optional(request.chown);
        let chmod = self.optional(request.chmod);
        let mode = chmod
            .as_ref()
            .and_then(|chmod| self.chmod(chmod.as_deref(), request.chmod));
        let exclude = self.exclude(request.exclude);
        let (Some(sources), Some(dest), Some(chown), Some(chmod)) = (sources, dest, chown, chmod)
        else {
            return;
        };
        let (Some(mode), Some(exclude)) = (mode, exclude) else {
            return;
        };
        let Some(checksum) = self.checksum(request, &sources) else {
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
        let step = Step {
            request,
            name: &name,
            checksum: checksum.as_deref(),
        };
        let Some(sources) = self.source_ops(&step, sources, &mut inputs) else {
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
                    match self.named(request, &Spanned::new(word.clone(), source.span)) {
                        Some((shown, named)) => {
                            sources.shown.push(shown);
                            sources.named.push((named, self.place(source.span)));
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

    /// A source and how the history shows it.
    fn named(&mut self, request: &Request<'_>, word: &Spanned<Word>) -> Option<(String, Named)> {
        let text = self.expand(word)?;
        match Remote::of(&text) {
            Ok(None) => return Some((text.clone(), Named::Path(text))),
            Ok(Some(remote)) if request.keyword == "ADD" => {
                return Some((Remote::redacted(&text), Named::Remote(remote)));
            }
            Ok(Some(Remote::Http(_))) => self.error(
                code::COPY_SOURCE,
                "source can't be a URL for COPY",
                word.span,
            ),
            Ok(Some(Remote::Git(_))) => self.error(
                code::COPY_SOURCE,
                "source can't be a git ref for COPY",
                word.span,
            ),
            Err(error) => self.error(code::REMOTE, error.to_string(), word.span),
        }
        None
    }

    fn inline(&mut self, heredoc: &Heredoc, span: Span) -> Option<CopySourceOp> {
        let body = heredoc.expand_body_traced(&self.state.environment);
        let body = self.expanded(body, heredoc.span)?;
        if heredoc.expand {
            let named = name::mentioned(&heredoc.content(), &self.state.environment);
            self.here.variables.extend(named);
        }
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

    /// `--checksum`, which is for one download or repository (R-ADD-8). The outer `None` is an error that was told.
    #[allow(clippy::option_option)]
    fn checksum(&mut self, request: &Request<'_>, sources: &Sources) -> Option<Option<String>> {
        let Some(word) = request.checksum else {
            return Some(None);
        };
        let Some(value) = Some(self.expand(word)?).filter(|value| !value.is_empty()) else {
            return Some(None);
        };
        let message = match (&sources.named[..], &sources.inline[..]) {
            ([(Named::Remote(_), _)], _) => return Some(Some(value)),
            ([_], _) | ([], [_]) => "checksum requires HTTP(S) or Git sources",
            _ => "checksum can't be specified for multiple sources",
        };
        self.error(code::CHECKSUM, message, word.span);
        None
    }

    fn source_ops(
        &mut self,
        step: &Step<'_>,
        sources: Sources,
        inputs: &mut Vec<VertexId>,
    ) -> Option<Vec<CopySourceOp>> {
        let mut ops = Vec::with_capacity(sources.named.len() + sources.inline.len());
        let mut complete = true;
        for (named, span) in sources.named {
            let op = match named {
                Named::Path(path) => self.path_op(step.request, &path, span, inputs),
                Named::Remote(remote) => self.remote_op(step, remote, span, inputs),
            };
            complete &= op.is_some();
            ops.extend(op);
        }
        ops.extend(sources.inline);
        complete.then_some(ops)
    }

    fn path_op(
        &mut self,
        request: &Request<'_>,
        path: &str,
        span: Span,
        inputs: &mut Vec<VertexId>,
    ) -> Option<CopySourceOp> {
        let vertex = match request.from.filter(|from| !from.value.is_empty()) {
            Some(from) => {
                let here = self.state.output;
                self.builder.origin_vertex(self.index, here, from, true)?
            }
            None => self.builder.context_vertex(None),
        };
        Some(CopySourceOp::Path {
            input: add_input(inputs, vertex),
            path: paths::clean_rooted(path),
            pivot: pivot(request, path),
            unpack: request.unpack.unwrap_or(true),
            span,
        })
    }

    /// A download, copied as the file it is, or a repository, copied as the contents of a directory (R-ADD-11).
    fn remote_op(
        &mut self,
        step: &Step<'_>,
        remote: Remote,
        span: Span,
        inputs: &mut Vec<VertexId>,
    ) -> Option<CopySourceOp> {
        let made = match remote {
            Remote::Http(url) => remote::http(url, step.checksum),
            Remote::Git(url) => remote::git(&url, step.request.keep_git_dir, step.checksum),
        };
        let (source, path) = match made {
            Ok(made) => made,
            Err(message) => {
                self.error(code::CHECKSUM, message, span);
                return None;
            }
        };
        let unpack = matches!(source, SourceOp::Http(_)) && step.request.unpack == Some(true);
        let vertex = self
            .builder
            .remote_vertex(source, step.name, span, self.index);
        Some(CopySourceOp::Path {
            input: add_input(inputs, vertex),
            path,
            pivot: "/".to_owned(),
            unpack,
            span,
        })
    }
}

/// What the sources of one instruction share.
struct Step<'s> {
    request: &'s Request<'s>,
    name: &'s str,
    checksum: Option<&'s str>,
}

/// `a/./b/c` with `--parents` is copied as `b/c` (R-COPY-31).
fn pivot(request: &Request<'_>, path: &str) -> String {
    match path.split_once("/./") {
        Some((pivot, _)) if request.parents => paths::clean_rooted(pivot),
        _ => "/".to_owned(),
    }
}

/// An instruction's text as progress may show it.
fn without_passwords(text: &str) -> String {
    let shown = |word: &str| {
        let (bare, blanks) = word.split_at(word.trim_end().len());
        Remote::redacted(bare) + blanks
    };
    text.split_inclusive(char::is_whitespace)
        .map(shown)
        .collect()
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
