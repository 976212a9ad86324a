//! What downloads and git repositories have in common: each ends up as one layer of the store.
//!
//! Such a layer is a root filesystem of its own, so all that can be done with a stage can be done with it: copied from,
//! mounted, built upon. Its identity for the keys of later steps is its content.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kiln_cache::{ActionResult, CacheKey, KeyLock, LayerStaging, OutputId, Preimage};
use kiln_image::tar::TarSummary;
use kiln_image::{Changeset, DiffId};

use crate::Services;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::rootfs::RootFs;
use crate::secrets::Secrets;

/// What fetching needs of a build; there need not be a plan yet.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub services: &'a Services<'a>,
    /// Where tokens and passwords come from (R-ADD-9).
    pub secrets: &'a Secrets,
    pub halt: &'a Cancel,
}

/// A remote source that is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// What it is for the keys of those that read it.
    pub output: OutputId,
    /// Its files.
    pub layer: DiffId,
    /// Whether it was in the store already.
    pub cached: bool,
}

impl Fetched {
    /// Its files as a root filesystem.
    pub(crate) fn root(&self) -> Arc<RootFs> {
        Arc::new(RootFs::base(self.output, vec![self.layer]))
    }
}

impl<'a> Fetcher<'a> {
    /// What was made of a source before.
    pub(crate) fn look_up(&self, preimage: &Preimage) -> Option<Fetched> {
        let result = self.services.store.actions().get(&preimage.key())?;
        Some(Fetched {
            output: result.output,
            layer: result.layer?,
            cached: true,
        })
    }

    /// Holds a key alone, in this process and among others; gives up when the build is stopped.
    pub(crate) fn hold(&self, key: &CacheKey) -> Result<KeyLock, Cause> {
        self.halt
            .until(|| Ok(self.services.store.try_lock_key(key)?))
    }

    /// Puts what was staged into the store as a layer with this tar, and records what it is.
    pub(crate) fn keep(
        &self,
        staging: LayerStaging<'a>,
        (changeset, tar): (Changeset, &TarSummary),
        preimage: &Preimage,
        started: Instant,
    ) -> Result<Fetched, Cause> {
        let layers = &self.services.layers;
        let diff_id = tar.diff_id;
        staging.commit(&diff_id, &changeset, tar.size)?;
        let result = ActionResult {
            output: OutputId::scratch().above(&changeset),
            layer: Some(diff_id),
            created: Timestamp::now(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let actions = self.services.store.actions();
        actions.put(&preimage.key(), &result, preimage)?;
        layers.remember(diff_id, changeset);
        Ok(Fetched {
            output: result.output,
            layer: diff_id,
            cached: false,
        })
    }

    /// The text of a secret, where it was given.
    pub(crate) fn secret(&self, id: &str) -> Result<Option<String>, Cause> {
        let Some(value) = self.secrets.read(id)? else {
            return Ok(None);
        };
        let text = String::from_utf8(value).ok();
        let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        match text.filter(|text| !text.chars().any(char::is_control)) {
            Some(text) => Ok(Some(text)),
            None => Err(Cause::Secret(format!(
                "the secret `{id}` is no text of one line, so it can't be sent to a server"
            ))),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A store for tests of remote sources.
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::sync::Arc;

    use kiln_cache::Store;
    use kiln_image::Changeset;
    use kiln_planner::{GitSource, HttpSource};
    use kiln_registry::{Client, Options, Sleep};

    use super::{Fetched, Fetcher};
    use crate::cancel::Cancel;
    use crate::error::Cause;
    use crate::event::{Event, Reporter};
    use crate::sandbox::{Footing, Launcher};
    use crate::secrets::{SecretSource, Secrets};
    use crate::source::{git, http};
    use crate::{GitSettings, Services};

    /// A store of its own, and the secrets of a build.
    pub(crate) struct Place {
        pub(crate) dir: tempfile::TempDir,
        pub(crate) halt: Cancel,
        pub(crate) git: GitSettings,
        store: Store,
        registry: Client,
        launcher: Launcher,
        footing: Footing,
        secrets: Secrets,
    }

    impl Place {
        pub(crate) fn new() -> Self {
            Place::with_secrets(&[])
        }

        pub(crate) fn with_secrets(secrets: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = Options {
                sleep: Sleep::new(|_| {}),
                ..Options::default()
            };
            let secret = |(id, value): &(&str, &str)| {
                let value = SecretSource::Value(value.as_bytes().to_vec());
                ((*id).to_owned(), value)
            };
            Place {
                store: Store::open(&dir.path().join("store")).unwrap(),
                dir,
                halt: Cancel::default(),
                git: GitSettings {
                    path: std::env::var_os("PATH"),
                    ..GitSettings::default()
                },
                registry: Client::new(options),
                launcher: Launcher::new(),
                footing: Footing::as_started(),
                secrets: secrets.iter().map(secret).collect(),
            }
        }

        /// Does something as a build of its own would.
        pub(crate) fn with<T>(
            &self,
            work: impl FnOnce(&Fetcher<'_>, &crate::event::Task<'_>) -> T,
        ) -> T {
            let services =
                Services::new(&self.store, &self.registry, &self.launcher, &self.footing)
                    .unwrap()
                    .with_git(self.git.clone());
            let fetcher = Fetcher {
                services: &services,
                secrets: &self.secrets,
                halt: &self.halt,
            };
            let silent = |_: Event| {};
            let reporter = Reporter::new(&silent);
            let task = reporter.start("test");
            let result = work(&fetcher, &task);
            task.done();
            result
        }

        pub(crate) fn fetch(&self, source: &HttpSource) -> Result<Fetched, Cause> {
            self.with(|fetcher, task| http::fetch(source, fetcher, task))
        }

        pub(crate) fn find(&self, source: &HttpSource) -> Result<Option<Fetched>, Cause> {
            self.with(|fetcher, _| http::find(source, fetcher))
        }

        pub(crate) fn fetch_git(&self, source: &GitSource) -> Result<Fetched, Cause> {
            self.with(|fetcher, task| git::fetch(source, fetcher, task))
        }

        pub(crate) fn find_git(&self, source: &GitSource) -> Result<Option<Fetched>, Cause> {
            self.with(|fetcher, _| git::find(source, fetcher))
        }

        pub(crate) fn changeset(&self, fetched: &Fetched) -> Arc<Changeset> {
            self.with(|fetcher, task| {
                let layers = &fetcher.services.layers;
                layers.changeset(fetched.layer, task).unwrap()
            })
        }

        /// Where the files are that were fetched.
        pub(crate) fn directory(&self, fetched: &Fetched) -> PathBuf {
            self.with(|fetcher, task| {
                let layers = &fetcher.services.layers;
                layers.unpacked(fetched.layer, task).unwrap()
            })
        }

        /// The text of a file that was fetched.
        pub(crate) fn content(&self, fetched: &Fetched, path: &str) -> String {
            std::fs::read_to_string(self.directory(fetched).join(path)).unwrap()
        }
    }
}
