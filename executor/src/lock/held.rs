//! A run that is held to a lock, or fills one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_cache::ImageRecord;
use kiln_cache::builds::SourceRecord;
use kiln_image::{Digest, Platform, Reference};
use kiln_planner::{GitSource, HttpSource};

use super::{Lock, LockedCommit, LockedImage, download_name, image_name, repository_name};
use crate::error::Cause;
use crate::source::git::Resolved;

/// What a run has to do with a lock: nothing, unless it is told at its beginning.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    state: OnceLock<State>,
    /// What names stood for, as far as was asked.
    seen: Mutex<BTreeSet<SourceRecord>>,
}

#[derive(Debug)]
enum State {
    /// Only what is in there may be used.
    Held(Lock),
    /// What is used is noted. What is in `kept` stays what it is.
    Filling { kept: Lock, filled: Mutex<Lock> },
}

/// What is to be done about a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say<T> {
    /// Find out what it stands for, as without a lock.
    Ask,
    /// Find out, and note it.
    Note,
    /// It is this.
    Is(T),
}

impl Hold {
    /// Holds the run to a lock.
    pub(crate) fn to(&self, lock: Lock) {
        let _ = self.state.set(State::Held(lock));
    }

    /// Notes what names stand for; those of `kept` stay.
    pub(crate) fn fill(&self, kept: Lock) {
        let filled = Mutex::default();
        let _ = self.state.set(State::Filling { kept, filled });
    }

    /// What was noted.
    pub(crate) fn filled(&self) -> Lock {
        match self.state.get() {
            Some(State::Filling { filled, .. }) => locked(filled).clone(),
            _ => Lock::default(),
        }
    }

    /// What an image's name stands for. One with a digest stands for itself.
    pub(crate) fn image(&self, reference: &Reference) -> Result<Say<LockedImage>, Cause> {
        if reference.digest().is_some() {
            return Ok(Say::Ask);
        }
        let name = image_name(reference);
        self.say(&format!("the image `{name}`"), |lock| {
            lock.images.get(&name).cloned()
        })
    }

    /// What a download must be. One with a checksum says so itself.
    pub(crate) fn download(&self, source: &HttpSource) -> Result<Say<Digest>, Cause> {
        if source.checksum.is_some() {
            return Ok(Say::Ask);
        }
        let name = download_name(source);
        self.say(&format!("`{name}`"), |lock| {
            lock.downloads.get(&name).copied()
        })
    }

    /// Which commit a repository's ref stands for.
    pub(crate) fn commit(&self, source: &GitSource) -> Result<Say<Resolved>, Cause> {
        let name = repository_name(source);
        self.say(&format!("the repository `{name}`"), |lock| {
            lock.repositories.get(&name).map(LockedCommit::resolved)
        })
    }

    /// Notes an image.
    pub(crate) fn note_image(&self, reference: &Reference, platform: &Platform, is: LockedImage) {
        self.note(|filled| {
            let known = filled.images.entry(image_name(reference));
            let known = known.or_insert_with(|| is.clone());
            if let (
                LockedImage::Registry { platforms, .. },
                LockedImage::Registry {
                    platforms: more, ..
                },
            ) = (known, &is)
            {
                let key = platform.to_string();
                platforms.extend(more.get(&key).map(|digest| (key.clone(), *digest)));
            }
        });
    }

    /// Notes a download.
    pub(crate) fn note_download(&self, source: &HttpSource, digest: Digest) {
        self.note(|filled| {
            filled.downloads.insert(download_name(source), digest);
        });
    }

    /// Notes a commit.
    pub(crate) fn note_commit(&self, source: &GitSource, resolved: &Resolved) {
        self.note(|filled| {
            let commit = LockedCommit::of(resolved);
            filled.repositories.insert(repository_name(source), commit);
        });
    }

    /// Notes what an image's name stood for, in any run.
    pub(crate) fn saw_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        is: &ImageRecord,
        index: Option<Digest>,
    ) {
        self.saw(SourceRecord::Image {
            name: image_name(reference),
            platform: platform.to_string(),
            manifest: is.manifest.as_ref().map(|manifest| manifest.digest),
            index,
            id: is.config,
        });
    }

    /// Notes what a download was.
    pub(crate) fn saw_download(&self, source: &HttpSource, content: Digest) {
        self.saw(SourceRecord::Download {
            address: download_name(source),
            content,
        });
    }

    /// Notes what a repository's ref stood for.
    pub(crate) fn saw_commit(&self, source: &GitSource, resolved: &Resolved) {
        let LockedCommit {
            commit,
            tag,
            reference,
        } = LockedCommit::of(resolved);
        self.saw(SourceRecord::Repository {
            address: source.remote.clone(),
            asked: source.reference.clone(),
            commit,
            tag,
            reference,
        });
    }

    /// What names stood for, sorted.
    pub(crate) fn seen(&self) -> Vec<SourceRecord> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }

    fn saw(&self, source: SourceRecord) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(source);
    }

    fn say<T>(&self, what: &str, find: impl Fn(&Lock) -> Option<T>) -> Result<Say<T>, Cause> {
        match self.state.get() {
            None => Ok(Say::Ask),
            Some(State::Filling { kept, .. }) => Ok(find(kept).map_or(Say::Note, Say::Is)),
            Some(State::Held(lock)) => match find(lock) {
                Some(found) => Ok(Say::Is(found)),
                None => Err(Cause::NotLocked(what.to_owned())),
            },
        }
    }

    fn note(&self, note: impl FnOnce(&mut Lock)) {
        if let Some(State::Filling { filled, .. }) = self.state.get() {
            note(&mut locked(filled));
        }
    }
}

impl LockedCommit {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let (commit, tag) = match &resolved.peeled {
            Some(commit) => (commit.clone(), Some(resolved.object.clone())),
            None => (resolved.object.clone(), None),
        };
        Self {
            commit,
            tag,
            reference: resolved.reference.clone(),
        }
    }

    pub(super) fn resolved(&self) -> Resolved {
        let peeled = self.tag.as_ref().map(|_| self.commit.clone());
        Resolved {
            object: self.tag.clone().unwrap_or_else(|| self.commit.clone()),
            peeled,
            reference: self.reference.clone(),
        }
    }
}

fn locked(filled: &Mutex<Lock>) -> MutexGuard<'_, Lock> {
    filled.lock().unwrap_or_else(PoisonError::into_inner)
}
