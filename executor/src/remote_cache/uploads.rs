//! Layers of a build's steps, sent to caches elsewhere while the build goes on.
//!
//! A step that has ended says so; its layer is compressed and sent by threads of their own. When the build has ended they are waited
//! for, what is left is sent by the export itself, and then the index: a build that fails leaves layers there which the next one
//! need not send, and no index that speaks of them. The threads share nothing with the build but the store, so that a build that
//! fails or is stopped doesn't wait for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use kiln_cache::Store;
use kiln_image::{DiffId, Digest};
use kiln_planner::{Plan, VertexId};
use kiln_registry::Client;

use super::{CacheExport, CacheMode, CacheTarget, bucket, export};
use crate::error::Cause;
use crate::event::{Event, Reporter};
use crate::images::layer_media_type;
use crate::layers::Layers;
use crate::locked::locked;
use crate::sandbox::Footing;

/// How many layers go to a registry at a time while steps run.
const AT_ONCE: usize = 2;

/// The exports of one build.
#[derive(Default)]
pub struct Uploads {
    begun: OnceLock<Vec<Upload>>,
    of_image: OnceLock<HashSet<VertexId>>,
}

/// One export.
struct Upload {
    export: CacheExport,
    line: Arc<Line>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// Layers that wait for their turn.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<DiffId>,
    known: HashSet<DiffId>,
    closed: bool,
    sent: HashMap<Digest, u64>,
    failure: Option<Cause>,
}

/// What a thread works with.
struct Worker {
    export: CacheExport,
    line: Arc<Line>,
    store: Store,
    client: Arc<Client>,
    footing: Footing,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").finish_non_exhaustive()
    }
}

impl Uploads {
    /// Gets ready to send layers to registries and buckets. A folder on this machine is written in one go at the end.
    pub fn begin(
        &self,
        exports: &[CacheExport],
        store: &Store,
        footing: &Footing,
        client: impl FnOnce() -> Client,
    ) {
        let is_far = |export: &&CacheExport| !matches!(export.target, CacheTarget::Layout { .. });
        let mut far = exports.iter().filter(is_far).peekable();
        if far.peek().is_none() {
            return;
        }
        let client = Arc::new(client());
        let upload = |export: &CacheExport| {
            let line = Arc::new(Line::default());
            let at_once = match &export.target {
                CacheTarget::Bucket(cache) => cache.parallelism,
                _ => AT_ONCE,
            };
            let worker = || {
                let worker = Worker {
                    export: export.clone(),
                    line: line.clone(),
                    store: store.clone(),
                    client: client.clone(),
                    footing: footing.clone(),
                };
                thread::spawn(move || worker.run())
            };
            Upload {
                export: export.clone(),
                workers: Mutex::new((0..at_once).map(|_| worker()).collect()),
                line,
            }
        };
        let _ = self.begun.set(far.map(upload).collect());
    }

    /// Notes whose layers the images have.
    pub(crate) fn expect(&self, plans: &[Plan]) {
        if self.begun.get().is_none() {
            return;
        }
        let steps = plans.iter().flat_map(|plan| {
            let made = plan.history.iter().filter_map(|step| step.vertex);
            plan.attached.into_iter().chain(made)
        });
        let _ = self.of_image.set(steps.collect());
    }

    /// A step has given a layer.
    pub(crate) fn offer(&self, vertex: VertexId, layer: DiffId) {
        for upload in self.begun.get().into_iter().flatten() {
            let of_image = || self.of_image.get().is_some_and(|all| all.contains(&vertex));
            if upload.export.mode == CacheMode::Max || of_image() {
                upload.line.add(layer);
            }
        }
    }

    /// Ends what is under way for an export: the blobs that were sent, with their sizes; or why one could not be.
    pub(super) fn finish(&self, export: &CacheExport) -> Result<HashMap<Digest, u64>, Cause> {
        let mut begun = self.begun.get().into_iter().flatten();
        let Some(upload) = begun.find(|upload| upload.export == *export) else {
            return Ok(HashMap::new());
        };
        upload.line.close();
        for worker in locked(&upload.workers).drain(..) {
            let _ = worker.join(); // one that panicked has sent nothing
        }
        let mut state = locked(&upload.line.state);
        match state.failure.take() {
            Some(cause) => Err(cause),
            None => Ok(std::mem::take(&mut state.sent)),
        }
    }
}

impl Line {
    fn add(&self, layer: DiffId) {
        let mut state = locked(&self.state);
        if state.known.insert(layer) {
            state.waiting.push_back(layer);
            self.changed.notify_one();
        }
    }

    /// What waits is left to the export itself.
    fn close(&self) {
        let mut state = locked(&self.state);
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    /// The next layer; `None` when there will be none.
    fn next(&self) -> Option<DiffId> {
        let mut state = locked(&self.state);
        loop {
            if state.closed || state.failure.is_some() {
                return None;
            }
            if let Some(layer) = state.waiting.pop_front() {
                return Some(layer);
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Worker {
    fn run(self) {
        while let Some(layer) = self.line.next() {
            let sent = self.send(layer);
            let mut state = locked(&self.line.state);
            match sent {
                Ok(Some((digest, size))) => {
                    state.sent.insert(digest, size);
                }
                Ok(None) => {}
                // The other side doesn't answer or says no. It was asked often enough.
                Err(cause @ (Cause::Registry(_) | Cause::Bucket(_) | Cause::Canceled)) => {
                    state.failure.get_or_insert(cause);
                    self.line.changed.notify_all();
                }
                Err(_) => {} // the export comes to it again, and tells
            }
        }
    }

    /// Sends a layer that is here and not there.
    fn send(&self, layer: DiffId) -> Result<Option<(Digest, u64)>, Cause> {
        if !self.store.layers().has_content(&layer) {
            return Ok(None);
        }
        let silent = |_: Event| ();
        let reporter = Reporter::new(&silent);
        let task = reporter.start("");
        let layers = Layers::new(&self.store, &self.client, &self.footing);
        let blob = layers.blob(layer, self.export.compression, &task)?;
        let media_type =
            layer_media_type(kiln_image::media_type::MediaTypes::Oci, &blob.media_type);
        let descriptor = export::descriptor(&media_type, blob.size, &blob.digest);
        let is_new = match &self.export.target {
            CacheTarget::Registry(reference) => {
                export::push_layer(&descriptor, reference, &self.client, &self.store, &task)?
            }
            CacheTarget::Bucket(cache) => {
                let place = self.client.bucket(&cache.settings)?;
                bucket::put_layer(&descriptor, cache, &place, &self.store, &task)?
            }
            CacheTarget::Layout { .. } => false,
        };
        Ok(is_new.then_some((blob.digest, blob.size)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn layer(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    #[test]
    fn a_layer_waits_once_and_not_after_the_end() {
        let line = Line::default();
        for name in ["a", "b", "a", "c"] {
            line.add(layer(name));
        }
        assert_eq!(line.next(), Some(layer("a")));
        line.add(layer("a"));
        assert_eq!(line.next(), Some(layer("b")));
        line.close();
        assert_eq!(line.next(), None, "`c` is left to the export");
    }

    #[test]
    fn after_a_failure_nothing_more_is_begun() {
        let line = Line::default();
        line.add(layer("a"));
        locked(&line.state).failure = Some(Cause::Canceled);
        assert_eq!(line.next(), None);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let line = Line::default();
        thread::scope(|scope| {
            let one = scope.spawn(|| (line.next(), line.next()));
            line.add(layer("a"));
            while !locked(&line.state).waiting.is_empty() {
                thread::yield_now();
            }
            line.close();
            assert_eq!(one.join().unwrap(), (Some(layer("a")), None));
        });
    }
}
