#![allow(clippy::unwrap_used)]

use kiln_image::Digest;

use super::*;
use crate::builds::{BuildHeader, BuildOutcome, Builds, RecipeId, StageRecord, StepEnd};
use crate::key::Value;

/// A build of one stage, step by step.
struct Made {
    record: BuildRecord,
    preimages: Vec<(CacheKey, Preimage)>,
}

fn id(text: &str) -> OutputId {
    OutputId(Digest::of(text.as_bytes()))
}

impl Made {
    /// On an image of this name and digest.
    fn on(image: &str, digest: &str) -> Self {
        let step = StepRecord {
            name: format!("[1/9] FROM {image}"),
            kind: "image".to_owned(),
            stage: Some(0),
            line: Some(1),
            source: Some(digest.to_owned()),
            end: Some(end(StepState::Read, None, id(digest))),
            ..StepRecord::default()
        };
        let stage = StageRecord {
            name: "stage-0".to_owned(),
            text: format!("FROM {image}"),
            ..StageRecord::default()
        };
        let graph = GraphRecord {
            stages: vec![stage],
            steps: vec![step],
            ..GraphRecord::default()
        };
        let header = BuildHeader {
            id: Builds::new_id(),
            recipe: RecipeId::of("/a", "Dockerfile"),
            kiln: String::new(),
            started: jiff::Timestamp::UNIX_EPOCH,
            context: String::new(),
            dockerfile: String::new(),
            target: None,
            tags: Vec::new(),
        };
        Made {
            record: BuildRecord {
                header,
                invocation: None,
                ended: jiff::Timestamp::UNIX_EPOCH,
                outcome: BuildOutcome::Canceled,
                graph: Some(graph),
                others: Vec::new(),
            },
            preimages: Vec::new(),
        }
    }

    /// Then a RUN that was done, for this reason as far as the store knew.
    fn run_missed(self, command: &str, env: &[(&str, &str)], miss: Miss) -> Self {
        let state = StepState::Rebuilt {
            miss,
            same_output: false,
        };
        self.step(command, env, state)
    }

    fn run(self, command: &str, env: &[(&str, &str)]) -> Self {
        self.run_missed(command, env, Miss::Absent)
    }

    fn step(mut self, command: &str, env: &[(&str, &str)], state: StepState) -> Self {
        let graph = self.record.graph.as_mut().unwrap();
        let root = graph.steps.last().unwrap().output().unwrap();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let preimage = Preimage::new("exec")
            .field("argv", Value::List(vec![command.to_owned()]))
            .field("env", Value::Pairs(env.collect()))
            .field("root filesystem", Value::Digest(root.0));
        let key = preimage.key();
        let at = graph.steps.len();
        graph.steps.push(StepRecord {
            name: format!("[{}/9] RUN {command}", at + 1),
            kind: "exec".to_owned(),
            stage: Some(0),
            line: Some(at + 1),
            text: format!("RUN {command}"),
            inputs: vec![at - 1],
            end: Some(end(state, Some(key), id(&key.to_string()))),
            ..StepRecord::default()
        });
        self.preimages.push((key, preimage));
        self
    }
}

fn end(state: StepState, key: Option<CacheKey>, output: OutputId) -> StepEnd {
    StepEnd {
        vertex: None,
        at_ms: 0,
        took_ms: 0,
        state,
        key,
        output: Some(output),
        layer: None,
    }
}

/// Of each step that was done: of which step the causes are, and they.
fn told(now: &Made, earlier: &[&Made]) -> Vec<String> {
    let records: Vec<BuildRecord> = earlier.iter().map(|made| made.record.clone()).collect();
    let all: Vec<&(CacheKey, Preimage)> = earlier
        .iter()
        .chain([&now])
        .flat_map(|made| &made.preimages)
        .collect();
    let preimages = |key: &CacheKey| {
        let found = all.iter().find(|(known, _)| known == key);
        found.map(|(_, preimage)| preimage.clone())
    };
    let graph = now.record.graph.as_ref().unwrap();
    let explainer = Explainer::new(graph, &records, &preimages);
    let why = (0..graph.steps.len()).filter_map(|step| explainer.why(step));
    why.map(|why| {
        let causes: Vec<String> = why.causes.iter().map(ToString::to_string).collect();
        format!("{}: {}", why.of, causes.join("; "))
    })
    .collect()
}

#[test]
fn the_first_build_has_nothing_to_be_compared_with() {
    let now = Made::on("a", "1").run("x", &[]);
    assert_eq!(told(&now, &[]), ["1: not built before"]);
}

#[test]
fn the_root_cause_is_told_of_all_that_follows() {
    let before = Made::on("a", "1").run("x", &[]).run("y", &[]).run("z", &[]);
    let now = Made::on("a", "1").run("X", &[]).run("y", &[]).run("z", &[]);
    let cause = "1: instruction changed from `RUN x` to `RUN X`";
    assert_eq!(told(&now, &[&before]), [cause; 3]);
}

#[test]
fn a_moved_tag_is_told_by_digests() {
    let before = Made::on("a", "1").run("x", &[]);
    let now = Made::on("a", "2").run("x", &[]);
    assert_eq!(told(&now, &[&before]), ["0: image `a` changed from 1 to 2"]);
    let other = Made::on("b", "2").run("x", &[]);
    let told = told(&other, &[&before]);
    assert!(
        told[0].ends_with("instruction changed from `FROM a` to `FROM b`"),
        "{told:?}"
    );
}

#[test]
fn new_gone_and_moved_instructions_are_told() {
    let two = Made::on("a", "1").run("x", &[]).run("y", &[]);
    let one = Made::on("a", "1").run("y", &[]);
    assert_eq!(
        told(&two, &[&one]),
        ["1: new instruction `RUN x`", "1: new instruction `RUN x`"]
    );
    assert_eq!(told(&one, &[&two]), ["1: `RUN x` above it was removed"]);
    let turned = Made::on("a", "1").run("y", &[]).run("x", &[]);
    let told = told(&turned, &[&two]);
    assert!(
        told.iter().all(|text| text.ends_with("` was moved")),
        "{told:?}"
    );
}

#[test]
fn a_variable_is_told_where_it_counts_first() {
    let before = Made::on("a", "1")
        .run("x", &[("A", "1")])
        .run("y", &[("A", "1")]);
    let now = Made::on("a", "1")
        .run("x", &[("A", "2")])
        .run("y", &[("A", "2")]);
    let expected = [
        r#"1: variable `A` changed from "1" to "2""#,
        r#"2: variable `A` changed from "1" to "2""#,
    ];
    assert_eq!(told(&now, &[&before]), expected);
}

#[test]
fn the_closest_build_speaks() {
    let first = Made::on("a", "1").run("x", &[]).run("y", &[]);
    let second = Made::on("a", "1").run("X", &[]).run("y", &[]);
    let hit = StepState::Hit {
        created: jiff::Timestamp::UNIX_EPOCH,
    };
    // The first edit is undone, which gives a hit, and another one is made.
    let now = Made::on("a", "1").step("x", &[], hit).run("Y", &[]);
    assert_eq!(
        told(&now, &[&second, &first]),
        ["2: instruction changed from `RUN y` to `RUN Y`"]
    );
}

#[test]
fn what_the_store_knows_goes_before_what_is_compared() {
    let before = Made::on("a", "1").run("x", &[]).run("y", &[]);
    let disabled = || Miss::Disabled {
        by: "--no-cache".to_owned(),
    };
    let now = Made::on("a", "1")
        .run_missed("x", &[], disabled())
        .run("y", &[]);
    // It gave the same here, so `y` can't be a miss for that; its result is gone.
    assert_eq!(
        told(&now, &[&before]),
        [
            "1: no result was looked for: `--no-cache`",
            "2: its earlier result was removed from the cache"
        ]
    );
    let gone = Made::on("a", "1").run_missed("x", &[], Miss::Collected);
    let removed = "1: its earlier result was removed from the cache";
    assert_eq!(told(&gone, &[&before]), [removed]);
}

#[test]
fn long_chains_are_no_deep_recursion() {
    let chain = |first: &str| {
        let steps = (0..3000).map(|at| at.to_string());
        steps.fold(Made::on("a", "1").run(first, &[]), |made, text| {
            made.run(&text, &[])
        })
    };
    let told = told(&chain("X"), &[&chain("x")]);
    assert_eq!(told.len(), 3001);
    assert!(told[3000].contains("`RUN x` to `RUN X`"), "{}", told[3000]);
}
