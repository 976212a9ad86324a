//! A build beside itself, done again: the first step that is not what it was.
//!
//! Steps stand in an order in which each comes after what it reads, so the first that differs has the same inputs. If its key differs
//! all the same, something outside of the build did, and there is nothing to compare. If the key is the same and the outcome isn't,
//! the step does not give the same twice.

use kiln_cache::builds::{BuildRecord, GraphRecord, Miss, StepRecord, StepState};
use kiln_cache::explain::Explainer;
use kiln_cache::{CacheKey, Store};
use kiln_executor::event::Reporter;
use kiln_executor::{Built, FileDifference, Product, Services, compare_layers};
use kiln_image::Digest;

use super::told::{differing, is_dates};
use crate::failure::Failure;

/// A build and the same again.
pub(super) struct Sides<'a> {
    pub(super) then: &'a BuildRecord,
    pub(super) graph: &'a GraphRecord,
    pub(super) now: GraphRecord,
    /// The ids of the images of then. Of several an older kiln kept that of the first alone.
    pub(super) ids: Vec<Digest>,
    /// The images of now, in the same order.
    pub(super) made: Vec<Made<'a>>,
}

/// An image that was built again.
pub(super) struct Made<'a> {
    /// Its target and platform, as far as there are several.
    name: Option<String>,
    /// Its id, as an output would make it.
    id: Digest,
    built: &'a Built,
}

/// How they compare.
#[derive(Debug)]
pub(super) enum Compared {
    /// The image is the same.
    Same,
    /// All layers are the same; dates, or something else in the config, are not.
    Config {
        /// Which image, if there are several.
        image: Option<String>,
        then: Option<serde_json::Value>,
        now: Option<serde_json::Value>,
    },
    /// What the steps read is not what it was.
    Changed {
        /// The first such step, and why.
        step: String,
        why: String,
    },
    /// A step gave something else.
    Step {
        name: String,
        line: Option<usize>,
        /// In what; `None` if the layer of then is not there any more.
        files: Option<Vec<FileDifference>>,
    },
}

/// The images of all products, and what tells them apart.
pub(super) fn made(products: &[Product], ids: Vec<Digest>) -> Vec<Made<'_>> {
    let each = products.iter().flat_map(|product| {
        let target = product.target.as_ref().filter(|_| products.len() > 1);
        product.images.iter().map(move |built| {
            let platform = (product.images.len() > 1).then(|| built.platform.to_string());
            let words: Vec<String> = target.cloned().into_iter().chain(platform).collect();
            ((!words.is_empty()).then(|| words.join(" ")), built)
        })
    });
    let of_id = |((name, built), id)| Made { name, id, built };
    each.zip(ids).map(of_id).collect()
}

impl Sides<'_> {
    /// The first difference that is about more than times, else the first.
    pub(super) fn compared(
        &self,
        services: &Services<'_>,
        reporter: &Reporter<'_>,
    ) -> Result<Compared, Failure> {
        // With the id of each image known, equal ones are all there is to know.
        let is_known = self.ids.len() == self.made.len();
        if is_known && self.others().next().is_none() {
            return Ok(Compared::Same);
        }
        let mut times = None;
        for (at, (then, now)) in self.graph.steps.iter().zip(&self.now.steps).enumerate() {
            let (Some(key_then), Some(key_now)) = (then.key(), now.key()) else {
                continue;
            };
            if key_then != key_now {
                return Ok(Compared::Changed {
                    step: now.name.clone(),
                    why: self.why(at, services.store),
                });
            }
            let Some(found) = self.step(at, services, reporter)? else {
                continue;
            };
            let is_time = matches!(&found, Compared::Step { files: Some(files), .. }
                if files.iter().all(FileDifference::is_time));
            if !is_time {
                return Ok(found);
            }
            times.get_or_insert(found);
        }
        let other = || self.other_config(services.store).unwrap_or(Compared::Same);
        Ok(times.unwrap_or_else(other))
    }

    /// The images that are not what they were, and their ids of then.
    fn others(&self) -> impl Iterator<Item = (Digest, &Made<'_>)> {
        let both = self.ids.iter().copied().zip(&self.made);
        both.filter(|(then, made)| *then != made.id)
    }

    /// The first config that differs in more than dates, else the first that differs.
    fn other_config(&self, store: &Store) -> Option<Compared> {
        let mut dates = None;
        for (then, made) in self.others() {
            let built = || serde_json::from_slice(&made.built.config_bytes).ok();
            let (then, now) = (config(store, then), config(store, made.id).or_else(built));
            let is_dates = is_dates(&differing(then.as_ref(), now.as_ref()));
            let image = made.name.clone();
            let found = Compared::Config { image, then, now };
            if !is_dates {
                return Some(found);
            }
            dates.get_or_insert(found);
        }
        dates
    }

    /// How the outcome of a step differs; `None` if it doesn't.
    fn step(
        &self,
        at: usize,
        services: &Services<'_>,
        reporter: &Reporter<'_>,
    ) -> Result<Option<Compared>, Failure> {
        let (then, now) = (&self.graph.steps[at], &self.now.steps[at]);
        let layer = |step: &StepRecord| step.end.as_ref().and_then(|end| end.layer);
        let (before, after) = (layer(then), layer(now));
        let is_same_output = then.output().is_some() && then.output() == now.output();
        let found = |files| {
            Some(Compared::Step {
                name: now.name.clone(),
                line: now.line,
                files,
            })
        };
        match (before, after) {
            (Some(before), Some(after)) if before == after => Ok(None),
            (Some(before), Some(after)) => {
                let files = compare_layers(before, after, services, reporter);
                Ok(found(files.map_err(Failure::from_engine)?))
            }
            _ if is_same_output => Ok(None),
            _ => Ok(found(None)),
        }
    }

    /// What made a step's key another one.
    fn why(&self, at: usize, store: &Store) -> String {
        let mut now = self.now.clone();
        for step in &mut now.steps {
            forget_flags(step);
        }
        let preimages = |key: &CacheKey| store.actions().preimage(key);
        let earlier = [self.then.clone()];
        let explainer = Explainer::new(&now, &earlier, &preimages);
        let why = explainer.why(at);
        let causes = why
            .iter()
            .flat_map(|why| why.through.iter().chain(&why.causes));
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        match causes.is_empty() {
            true => "what it reads is not what it was".to_owned(),
            false => causes.join("; "),
        }
    }
}

/// Every step was done again because that was asked for, which is no news.
fn forget_flags(step: &mut StepRecord) {
    if let Some(end) = &mut step.end
        && let StepState::Rebuilt { miss, .. } = &mut end.state
    {
        *miss = Miss::Absent;
    }
}

fn config(store: &Store, id: Digest) -> Option<serde_json::Value> {
    const LIMIT: u64 = 16 << 20;
    let bytes = store.cas().read(&id, LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}
