//! Which step of an earlier build a step corresponds to.
//!
//! Stages correspond by name, others in the order they stand in; in a build for several platforms a stage's steps for each stand
//! by themselves. Within a stage the steps are two sequences, and those that are alike are paired so that no two pairs cross: equal ones first of all, then the ones of a kind whose texts have most in
//! common. A step without a partner is new, moved or gone.

use crate::builds::{GraphRecord, StepRecord};

/// Of longer sequences only the ends are compared, and the middle paired in order.
const LARGEST_TABLE: usize = 1 << 22;

/// For each step of a build the one of an earlier build that it corresponds to.
#[must_use]
pub fn align(now: &GraphRecord, before: &GraphRecord) -> Vec<Option<usize>> {
    let stages = pair_stages(now, before);
    let mut pairs = vec![None; now.steps.len()];
    let groups = stages
        .into_iter()
        .map(|(now, before)| (Some(now), before))
        .chain([(None, Some(None))]);
    let alike = |one: usize, other: usize| likeness(&now.steps[one], &before.steps[other]);
    for (stage, partner) in groups {
        let Some(partner) = partner else {
            continue;
        };
        let (here, mut there) = (by_platform(now, stage), by_platform(before, partner));
        let is_there = |platform: &str| there.iter().any(|(other, _)| *other == platform);
        // What is new may be in the place of what is gone.
        let (same, new): (Vec<_>, Vec<_>) = here
            .into_iter()
            .partition(|(platform, _)| is_there(platform));
        for (platform, here) in same.into_iter().chain(new) {
            let same = there.iter().position(|(other, _)| *other == platform);
            if same.is_none() && there.is_empty() {
                continue;
            }
            let (_, there) = there.remove(same.unwrap_or(0));
            for (one, other) in pair_sequences(&here, &there, alike) {
                pairs[one] = Some(other);
            }
        }
    }
    pairs
}

/// The steps of a stage, in order, for each platform. Those of no stage are for all.
fn by_platform(graph: &GraphRecord, stage: Option<usize>) -> Vec<(&str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    let steps = graph.steps.iter().enumerate();
    for (at, step) in steps.filter(|(_, step)| step.stage == stage) {
        let platform = step.platform.as_deref().filter(|_| stage.is_some());
        let platform = platform.unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == platform) {
            Some((_, group)) => group.push(at),
            None => groups.push((platform, vec![at])),
        }
    }
    groups
}

/// For each stage of `now` the one of `before`, if it has one. The inner option is there to be a step's `stage`.
fn pair_stages(now: &GraphRecord, before: &GraphRecord) -> Vec<(usize, Option<Option<usize>>)> {
    let has = |graph: &GraphRecord, name: &str| graph.stages.iter().any(|stage| stage.name == name);
    let leftover = before.stages.iter().enumerate();
    let mut leftover = leftover
        .filter(|(_, stage)| !has(now, &stage.name))
        .map(|(at, _)| at);
    let partner = |name: &str| {
        let known = before.stages.iter().rposition(|stage| stage.name == name);
        known.or_else(|| leftover.next()).map(Some)
    };
    let names = now.stages.iter().map(|stage| stage.name.as_str());
    names.map(partner).enumerate().collect()
}

/// How much two steps have in common: 0 if they can't correspond.
fn likeness(one: &StepRecord, other: &StepRecord) -> u32 {
    const EQUAL: u32 = 4_000;
    const NEARLY: u32 = 3_000;
    if one.kind != other.kind {
        return 0;
    }
    let same = (
        one.text == other.text,
        one.instruction() == other.instruction(),
    );
    match same {
        (true, true) => EQUAL,
        (true, false) if !one.text.is_empty() => NEARLY,
        (false, true) => NEARLY,
        _ => 1 + in_common(one.instruction(), other.instruction()),
    }
}

/// Per mille of the longer text that both begin and end with.
fn in_common(one: &str, other: &str) -> u32 {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (short, long) = (one.len().min(other.len()), one.len().max(other.len()));
    let pairs = one.iter().zip(other);
    let front = pairs.take_while(|(a, b)| a == b).count();
    let pairs = one.iter().rev().zip(other.iter().rev());
    let back = pairs.take_while(|(a, b)| a == b).count();
    let common = (front + back).min(short);
    u32::try_from(common * 1000 / long.max(1)).unwrap_or(0)
}

/// Pairs of two sequences that don't cross, with the largest sum of what `alike` says.
fn pair_sequences(
    here: &[usize],
    there: &[usize],
    alike: impl Fn(usize, usize) -> u32,
) -> Vec<(usize, usize)> {
    const EQUAL: u32 = 4_000;
    let is_equal = |(one, other): &(&usize, &usize)| alike(**one, **other) == EQUAL;
    let front = here.iter().zip(there).take_while(is_equal).count();
    let (middle_here, middle_there) = (&here[front..], &there[front..]);
    let backwards = middle_here.iter().rev().zip(middle_there.iter().rev());
    let back = backwards.take_while(is_equal).count();
    let middle_here = &middle_here[..middle_here.len() - back];
    let middle_there = &middle_there[..middle_there.len() - back];
    let ends = here[..front].iter().zip(&there[..front]);
    let backs = here[here.len() - back..]
        .iter()
        .zip(&there[there.len() - back..]);
    let ends = ends.chain(backs).map(|(one, other)| (*one, *other));
    let middle = match middle_here.len() * middle_there.len() <= LARGEST_TABLE {
        true => best_pairs(middle_here, middle_there, &alike),
        false => {
            let pairs = middle_here.iter().zip(middle_there);
            let pairs = pairs.map(|(one, other)| (*one, *other));
            pairs
                .filter(|(one, other)| alike(*one, *other) > 0)
                .collect()
        }
    };
    ends.chain(middle).collect()
}

fn best_pairs(
    here: &[usize],
    there: &[usize],
    alike: &impl Fn(usize, usize) -> u32,
) -> Vec<(usize, usize)> {
    let width = there.len() + 1;
    // The best sum of the rest, from each pair of places on.
    let mut best = vec![0_u32; (here.len() + 1) * width];
    let mut scores = vec![0_u32; here.len() * there.len()];
    for (row, one) in here.iter().enumerate().rev() {
        for (column, other) in there.iter().enumerate().rev() {
            let score = alike(*one, *other);
            scores[row * there.len() + column] = score;
            let paired = match score {
                0 => 0,
                score => score + best[(row + 1) * width + column + 1],
            };
            let skipped = best[(row + 1) * width + column].max(best[row * width + column + 1]);
            best[row * width + column] = paired.max(skipped);
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while row < here.len() && column < there.len() {
        let score = scores[row * there.len() + column];
        let sum = best[row * width + column];
        if score > 0 && sum == score + best[(row + 1) * width + column + 1] {
            pairs.push((here[row], there[column]));
            row += 1;
            column += 1;
        } else if sum == best[(row + 1) * width + column] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}
