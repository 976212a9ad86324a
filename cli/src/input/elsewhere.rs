//! A build context, or a Dockerfile, that has to be fetched first (R-CTX-8, R-CLI-3).

use std::path::Path;
use std::sync::Arc;

use kiln_executor::{BuildError, ContextSource, LONE_FILE, Loader};
use kiln_parser::Source;
use kiln_planner::{GitTimes, GitUrl, HttpUrl};

use super::{DockerfileAt, Input, LARGEST, Wanted, dockerfile_in, no_rules, of_main};
use crate::address::Address;
use crate::failure::Failure;

impl Input {
    /// A context from elsewhere. The Dockerfile is in it, unless it is named by an absolute path or is a text by itself; no
    /// ignore file counts (R-IGN-2).
    pub(super) fn from_elsewhere(
        wanted: &Wanted<'_>,
        address: &Address,
        at: &DockerfileAt<'_>,
    ) -> Result<Self, Failure> {
        let fetched = fetch(wanted, |loader| {
            let context = match address {
                Address::Git(url) => loader.git(&wanted.of_git(url))?,
                Address::Http(url) => loader.http(url)?,
            };
            let text = Files {
                context: &context,
                loader,
                is_lone: matches!(address, Address::Http(_)),
            };
            let commit_time = match (&context, address) {
                (ContextSource::Fetched(files), Address::Git(_)) if wanted.has_epoch => {
                    files.newest(loader.services)?
                }
                _ => None,
            };
            Ok((text.dockerfile(at), context, commit_time))
        });
        let (dockerfile, context, commit_time) = fetched?;
        Ok(Self {
            dockerfile: dockerfile?,
            contexts: of_main(context),
            ignore: no_rules(),
            commit_time,
            is_file: false,
            _empty: None,
        })
    }
}

impl Wanted<'_> {
    /// A repository as a build context: `.git` stays only if a build argument says so (R-CTX-8).
    fn of_git(&self, url: &GitUrl) -> kiln_planner::GitSource {
        let mut source = url.source();
        source.keep_git_dir |= self.keep_git_dir;
        if self.has_epoch {
            source.times = GitTimes::Commit;
        }
        source
    }
}

/// A context that was fetched, as far as it may have a Dockerfile in it.
struct Files<'a> {
    context: &'a ContextSource,
    loader: &'a Loader<'a>,
    /// Whether it is the Dockerfile itself if it was no archive.
    is_lone: bool,
}

impl Files<'_> {
    fn dockerfile(&self, at: &DockerfileAt<'_>) -> Result<Arc<Source>, Failure> {
        let file = match at {
            DockerfileAt::Text(source) => return Ok(Arc::clone(source)),
            DockerfileAt::Path(path) if path.is_absolute() => {
                let opened = std::fs::File::open(path);
                return super::read_from(opened, path, path.parent().unwrap_or(path));
            }
            DockerfileAt::Path(path) => Some(*path),
            DockerfileAt::Usual => None,
        };
        match self.context {
            ContextSource::Spooled(spooled) => super::dockerfile_of(spooled, file),
            ContextSource::Fetched(fetched) => {
                let services = self.loader.services;
                let file = if self.is_lone {
                    Some(Path::new(LONE_FILE))
                } else {
                    file
                };
                let read = |name: &str| {
                    let read = fetched.read(name, LARGEST, services);
                    read.map_err(Failure::from_engine)
                };
                let names = || fetched.names(services).unwrap_or_default(); // they only help
                dockerfile_in(file, read, names)
            }
            ContextSource::Folder(_) => dockerfile_in(file, |_| Ok(None), Vec::new),
        }
    }
}

/// A Dockerfile from a URL.
pub(super) fn text(wanted: &Wanted<'_>, url: &HttpUrl) -> Result<Arc<Source>, Failure> {
    let bytes = fetch(wanted, |loader| loader.text(url, LARGEST))?;
    Ok(Arc::new(Source::from_bytes(url.to_string(), &bytes)))
}

fn fetch<T>(
    wanted: &Wanted<'_>,
    work: impl FnOnce(&Loader<'_>) -> Result<T, BuildError>,
) -> Result<T, Failure> {
    let session = wanted.session.opened()?;
    let (result, _) = session.watch(wanted.progress, |watched| {
        let loader = Loader {
            services: &watched.services,
            secrets: wanted.secrets,
            reporter: &watched.reporter,
            cancel: &watched.interrupt.cancel,
        };
        work(&loader).map_err(Failure::from_engine)
    });
    result
}
