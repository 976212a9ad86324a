//! Which step of another machine a step is to be compared with: of an imported cache only the preimages are known, no build.
//!
//! What a step is called there (`[build 2/3`) changes with every instruction that comes or goes, so what it does is asked first: its
//! command, its destination. Of several that do the same, and of those at the same place, the one with least to tell is taken.

use std::collections::HashMap;

use crate::miss::distance;
use crate::{CacheKey, Preimage, Preimages, Value};

/// The steps of a cache, to be found by what they do and where they stand.
#[derive(Debug, Default)]
pub struct Places {
    by_work: HashMap<String, Vec<CacheKey>>,
    by_number: HashMap<String, Vec<CacheKey>>,
}

/// Of so many steps that do the same the closest is looked for.
const MOST_COMPARED: usize = 8;

impl Places {
    /// Of what a cache knows.
    #[must_use]
    pub fn of(preimages: &Preimages) -> Self {
        let mut places = Self::default();
        for (key, preimage) in &preimages.0 {
            let Some(step) = preimage.step.as_deref() else {
                continue;
            };
            let (stage, number) = place(step);
            let by_number = places.by_number.entry(format!("{stage} {number}"));
            by_number.or_default().push(*key);
            if let Some(work) = work(stage, preimage) {
                places.by_work.entry(work).or_default().push(*key);
            }
        }
        places
    }

    /// The step that one is to be compared with, which is named as in [`Preimage::step`].
    #[must_use]
    pub fn closest<'p>(
        &self,
        preimages: &'p Preimages,
        preimage: &Preimage,
    ) -> Option<(CacheKey, &'p Preimage)> {
        let (stage, number) = place(preimage.step.as_deref()?);
        let same_work = work(stage, preimage).and_then(|work| self.by_work.get(&work));
        let found = same_work.or_else(|| self.by_number.get(&format!("{stage} {number}")))?;
        let found = found.iter().take(MOST_COMPARED).filter_map(|key| {
            let there = preimages.0.get(key)?;
            (there.kind == preimage.kind).then_some((*key, there))
        });
        let shown = preimage.clone().concealed();
        found.min_by_key(|(_, there)| distance(&shown.differences(there)))
    }
}

/// `/src/app Dockerfile [build 2/3` is stage `build` and number `2`.
fn place(step: &str) -> (&str, &str) {
    let inside = step.rfind('[').map_or(step, |at| &step[at + 1..]);
    let (stage, number) = inside.rsplit_once(' ').unwrap_or(("", inside));
    (stage, number.split('/').next().unwrap_or(number))
}

/// What a step does, in its stage.
fn work(stage: &str, preimage: &Preimage) -> Option<String> {
    let mut fields = preimage.fields.iter();
    let field = fields.find(|field| matches!(&*field.name, "argv" | "destination" | "path"))?;
    let what = match &field.value {
        Value::Text(text) => text.clone(),
        Value::List(list) => list.join("\0"),
        _ => return None,
    };
    Some(format!("{stage}\0{}\0{what}", preimage.kind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(step: &str, command: &str, user: &str) -> Preimage {
        Preimage::new("exec")
            .field("argv", Value::List(vec![command.to_owned()]))
            .field("user", Value::Text(user.to_owned()))
            .of_step(step)
    }

    #[test]
    fn a_step_is_found_by_what_it_does_and_then_by_its_number() {
        let mut preimages = Preimages::default();
        let steps = [
            run("/home/x Dockerfile [build 2/3", "make", "root"),
            run("/home/x Dockerfile [build 3/3", "make", "me"),
            run("/home/x Dockerfile [2/2", "test", "root"),
        ];
        for step in &steps {
            preimages.add(step.key(), step.clone());
        }
        let places = Places::of(&preimages);
        let cases = [
            ("/ci Dockerfile [build 7/9", "make", Some(0)),
            ("/ci Dockerfile [build 3/9", "other", Some(1)),
            ("/ci Dockerfile [2/9", "make", Some(2)),
            ("/ci Dockerfile [4/9", "make", None),
        ];
        for (step, command, expected) in cases {
            let found = places.closest(&preimages, &run(step, command, "root"));
            let expected = expected.map(|at: usize| steps[at].key());
            assert_eq!(found.map(|(key, _)| key), expected, "{step} {command}");
        }
    }
}
