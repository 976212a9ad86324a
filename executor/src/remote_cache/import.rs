//! The caches of one build that are looked at besides the store.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kiln_cache::{ActionResult, CacheKey, Preimage, SavedMount, Store};
use kiln_image::{Descriptor, DiffId};
use kiln_registry::Client;

use super::CacheSource;
use super::load::{Holder, Imported, NoCache, load};
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::event::{Reporter, Stream};
use crate::layers::Layers;
use crate::locked::locked;

/// So long the first step waits that could be in a cache. One that answers later is used by the steps that come then.
const PATIENCE: Duration = Duration::from_secs(3);
/// After so many rounds in which something was missing, caches are not looked into any more: each round looks all steps up again.
const ROUNDS: usize = 8;
/// How often somebody who waits looks whether the build was stopped.
const PAUSE: Duration = Duration::from_millis(20);

/// Caches that are read in the background, and what was found in them.
#[derive(Default)]
pub struct Imports {
    waiting: OnceLock<Vec<Waiting>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hits: BTreeMap<CacheKey, Hit>,
    /// Layers that could not be had.
    forgotten: HashSet<DiffId>,
    /// Whether a result counts only if its layer is there too.
    layers_needed: bool,
    /// How often something turned out to be missing.
    rounds: usize,
}

/// A result that was found elsewhere.
#[derive(Clone)]
struct Hit {
    found: CacheKey,
    result: ActionResult,
    cache: Arc<Imported>,
}

/// A cache mount that a cache has.
pub(super) struct FoundMount {
    pub saved: SavedMount,
    pub blob: Descriptor,
    pub holder: Holder,
}

/// A cache being read.
struct Waiting {
    source: CacheSource,
    began: Instant,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    outcome: Mutex<Outcome>,
    filled: Condvar,
}

/// How far reading a cache has come.
#[derive(Default)]
enum Outcome {
    #[default]
    Reading,
    /// It takes long, which was told.
    Late,
    Read(Result<Arc<Imported>, NoCache>),
    /// What came of it was told; `None` if the cache is done without.
    Told(Option<Arc<Imported>>),
}

impl fmt::Debug for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imports").finish_non_exhaustive()
    }
}

impl Imports {
    /// Begins to read caches. A thread that waits for a registry holds nobody up: it isn't waited for at the end.
    pub fn begin(&self, sources: &[CacheSource], client: impl FnOnce() -> Client) {
        if sources.is_empty() {
            return;
        }
        let client = Arc::new(client());
        let read = |source: &CacheSource| {
            let slot = Arc::new(Slot::default());
            let (source, client, fill) = (source.clone(), client.clone(), slot.clone());
            let waiting = Waiting {
                source: source.clone(),
                began: Instant::now(),
                slot,
            };
            thread::spawn(move || {
                let outcome = load(&source, &client).map(Arc::new);
                *locked(&fill.outcome) = Outcome::Read(outcome);
                fill.filled.notify_all();
            });
            waiting
        };
        let _ = self.waiting.set(sources.iter().map(read).collect());
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        self.waiting.get().is_some()
    }

    /// The result that a key leads to and the key it is under, if a cache has it; then its layer is known to be there.
    pub(crate) fn find(
        &self,
        key: &CacheKey,
        layers: &Layers<'_>,
        reporter: &Reporter<'_>,
        halt: &Cancel,
    ) -> Option<(CacheKey, ActionResult)> {
        for cache in self.loaded(reporter, halt) {
            let Some((found, result)) = cache.index.find(key) else {
                continue;
            };
            let Some(layer) = result.layer else {
                continue;
            };
            let at = cache.index.layers.iter().position(|known| *known == layer);
            let mut state = locked(&self.state);
            if state.rounds >= ROUNDS {
                return None;
            }
            if state.forgotten.contains(&layer) || (at.is_none() && state.layers_needed) {
                continue;
            }
            if let Some(at) = at {
                let (holder, client) = cache.holder.of_layers();
                layers.offer(layer, holder, &cache.blobs[at], client);
            }
            let hit = Hit {
                found,
                result: result.clone(),
                cache: cache.clone(),
            };
            state.hits.insert(*key, hit);
            return Some((found, result.clone()));
        }
        None
    }

    /// What caches have of an id's cache mounts, those of the first cache first.
    pub(super) fn mounts_of(
        &self,
        id: &str,
        reporter: &Reporter<'_>,
        halt: &Cancel,
    ) -> Vec<FoundMount> {
        let caches = self.loaded(reporter, halt);
        let found = caches.iter().flat_map(|cache| {
            let saved = cache.index.mounts.iter().filter(|saved| saved.id == id);
            saved.filter_map(|saved| {
                let digest = saved.blob.to_string();
                let mut blobs = cache.mounts.iter();
                let blob = blobs.find(|blob| blob.digest().to_string() == digest)?;
                Some(FoundMount {
                    saved: saved.clone(),
                    blob: blob.clone(),
                    holder: cache.holder.clone(),
                })
            })
        });
        found.collect()
    }

    /// The key and preimage that the same step had where a cache was made.
    pub(crate) fn closest(
        &self,
        preimage: &Preimage,
        reporter: &Reporter<'_>,
        halt: &Cancel,
    ) -> Option<(CacheKey, Preimage)> {
        let caches = self.loaded(reporter, halt);
        let mut found = caches.iter().filter_map(|cache| cache.closest(preimage));
        found.next().map(|(key, found)| (key, found.clone()))
    }

    /// Gives up layers that could not be had. Returns whether that makes a difference: then what was found with them is a
    /// miss from now on, and so is all whose layer is nowhere; after [`ROUNDS`] of it, all that only caches have.
    pub(crate) fn give_up(&self, lost: &HashSet<DiffId>, reporter: &Reporter<'_>) -> bool {
        let mut state = locked(&self.state);
        let is_ours = |hit: &&Hit| hit.result.layer.is_some_and(|layer| lost.contains(&layer));
        let ours: Vec<DiffId> = {
            let hits = state.hits.values().filter(is_ours);
            hits.filter_map(|hit| hit.result.layer).collect()
        };
        let news = ours.iter().any(|layer| !state.forgotten.contains(layer)) || {
            let were_needed = state.layers_needed;
            !ours.is_empty() && !were_needed
        };
        state.forgotten.extend(ours);
        if news {
            state.layers_needed = true;
            state.hits.clear();
            state.rounds += 1;
            if state.rounds == ROUNDS {
                tell_given_up(reporter);
            }
        }
        news
    }

    /// The layers of results that were found.
    pub(crate) fn found_layers(&self) -> HashSet<DiffId> {
        let state = locked(&self.state);
        let hits = state.hits.values();
        hits.filter_map(|hit| hit.result.layer).collect()
    }

    /// Keeps in the store what was found, as far as its layers have come there. `build` names the Dockerfile.
    pub(crate) fn keep(&self, store: &Store, build: &str) -> Result<(), Cause> {
        let hits = locked(&self.state).hits.clone();
        for (asked, hit) in hits {
            let here = |layer: DiffId| store.layers().has_content(&layer);
            if !hit.result.layer.is_some_and(here) {
                continue;
            }
            let preimage = hit.cache.preimage(&hit.found).cloned();
            let preimage = preimage.map(|preimage| match preimage.step.clone() {
                Some(place) => preimage.of_step(format!("{build} {place}")),
                None => preimage,
            });
            store
                .actions()
                .keep(&asked, &hit.found, &hit.result, preimage.as_ref())?;
        }
        Ok(())
    }

    /// What was found under a key, its own key, and what that was made of.
    pub(super) fn found(
        &self,
        key: &CacheKey,
    ) -> Option<(CacheKey, ActionResult, Option<Preimage>)> {
        let hit = locked(&self.state).hits.get(key).cloned()?;
        let preimage = hit.cache.preimage(&hit.found).cloned();
        Some((hit.found, hit.result, preimage))
    }

    /// The caches that were read by now. Until [`PATIENCE`] is over they are waited for.
    fn loaded(&self, reporter: &Reporter<'_>, halt: &Cancel) -> Vec<Arc<Imported>> {
        let waiting = self.waiting.get().into_iter().flatten();
        waiting
            .filter_map(|waiting| waiting.cache(reporter, halt))
            .collect()
    }
}

impl Waiting {
    /// The cache, if it was read by now. What came of it is told once; one that can't be had is done without (R-CEXP-7).
    fn cache(&self, reporter: &Reporter<'_>, halt: &Cancel) -> Option<Arc<Imported>> {
        let mut outcome = self.wait(halt);
        match &*outcome {
            Outcome::Told(cache) => return cache.clone(),
            Outcome::Late => return None,
            Outcome::Reading if halt.requested() => return None,
            Outcome::Reading | Outcome::Read(_) => {}
        }
        let task = reporter.start(format!("importing cache manifest from {}", self.source));
        let (next, told) = match std::mem::take(&mut *outcome) {
            Outcome::Read(Ok(cache)) => (Outcome::Told(Some(cache)), String::new()),
            Outcome::Read(Err(NoCache::Absent)) => {
                let told = "there is no cache there yet\n".to_owned();
                (Outcome::Told(None), told)
            }
            Outcome::Read(Err(NoCache::Failed(reason))) => {
                let told = format!("warning: going on without this cache: {reason}\n");
                (Outcome::Told(None), told)
            }
            _ => {
                let waited = PATIENCE.as_secs();
                let told = format!(
                    "warning: going on without this cache until it answers: it has not for {waited} seconds\n"
                );
                (Outcome::Late, told)
            }
        };
        *outcome = next;
        if !told.is_empty() {
            task.log(Stream::Stderr, told.as_bytes());
        }
        task.done();
        match &*outcome {
            Outcome::Told(cache) => cache.clone(),
            _ => None,
        }
    }

    fn wait(&self, halt: &Cancel) -> MutexGuard<'_, Outcome> {
        let mut outcome = locked(&self.slot.outcome);
        while matches!(*outcome, Outcome::Reading)
            && !halt.requested()
            && self.began.elapsed() < PATIENCE
        {
            let waited = self.slot.filled.wait_timeout(outcome, PAUSE);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        outcome
    }
}

fn tell_given_up(reporter: &Reporter<'_>) {
    let task = reporter.start("looking for layers in caches");
    let warning =
        "warning: going on without these caches: too many of their layers are missing or damaged\n";
    task.log(Stream::Stderr, warning.as_bytes());
    task.done();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_cache::CacheIndex;
    use kiln_registry::Options;

    use super::*;
    use crate::event::{Event, EventKind};

    fn cache() -> Arc<Imported> {
        let client = Arc::new(Client::new(Options::default()));
        let holder = Holder::Registry(client, "r.test/a:cache".parse().unwrap());
        let cache = Imported::new(CacheIndex::default(), vec![], vec![], holder, None);
        Arc::new(cache.unwrap())
    }

    #[test]
    fn a_cache_that_answers_late_is_used_from_then_on() {
        let slot = Arc::new(Slot::default());
        let waiting = Waiting {
            source: CacheSource::Registry("r.test/a:cache".parse().unwrap()),
            began: Instant::now().checked_sub(PATIENCE).unwrap(),
            slot: slot.clone(),
        };
        let imports = Imports::default();
        assert!(imports.waiting.set(vec![waiting]).is_ok());
        let told = Mutex::new(String::new());
        let sink = |event: Event| {
            if let EventKind::Log { data, .. } = event.kind {
                locked(&told).push_str(&String::from_utf8_lossy(&data));
            }
        };
        let reporter = Reporter::new(&sink);
        let loaded = || imports.loaded(&reporter, &Cancel::default()).len();
        assert_eq!((loaded(), loaded()), (0, 0));
        let once = "going on without this cache until it answers";
        assert_eq!(locked(&told).matches(once).count(), 1);
        *locked(&slot.outcome) = Outcome::Read(Ok(cache()));
        assert_eq!((loaded(), loaded()), (1, 1));
        *locked(&slot.outcome) = Outcome::Read(Err(NoCache::Failed("why".to_owned())));
        assert_eq!((loaded(), loaded()), (0, 0));
        assert_eq!(locked(&told).matches("cache: why").count(), 1);
    }
}
