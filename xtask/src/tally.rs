//! Counting what test runners print: nextest's lines and libtest's.
//!
//! A test that cannot run where it is prints `skipped: ` and the reason and passes; it is counted as skipped here. A harness of
//! its own may say so once for many: `*** 9 SANDBOX TESTS SKIPPED: reason ***`.

use std::collections::{BTreeMap, BTreeSet};

/// Whose lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// One process a test; what libtest prints in it is not counted.
    Nextest,
    Libtest,
}

/// What came of the tests so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// As the runners count them: with those that skipped themselves.
    ended_well: usize,
    skipped_themselves: usize,
    pub(crate) failed: usize,
    /// By tier and reason: how many, and which as far as they have names.
    skipped: BTreeMap<(String, String), (usize, BTreeSet<String>)>,
    /// Names of failed tests, as far as they are known.
    failures: BTreeSet<String>,
    /// The test whose output is being shown.
    current: String,
}

impl Tally {
    /// Takes note of one line of a runner's output; `tier` is what it ran.
    pub(crate) fn note(&mut self, tier: &str, runner: Runner, line: &str) {
        let text = line.trim();
        if let Some(reason) = text.strip_prefix("skipped: ") {
            self.skipped_themselves += 1;
            let name = self.current.clone();
            self.add_skipped(tier, reason, 1, &name);
        } else if let Some((count, reason)) = harness_skip(text) {
            let name = if runner == Runner::Nextest {
                self.current.clone()
            } else {
                String::new()
            };
            self.skipped_themselves += if runner == Runner::Nextest { count } else { 0 };
            self.add_skipped(tier, reason, count, &name);
        } else if runner == Runner::Nextest {
            self.note_nextest(tier, text);
        } else {
            self.note_libtest(tier, text);
        }
    }

    fn note_nextest(&mut self, tier: &str, text: &str) {
        if let Some((_, counts)) = text
            .strip_prefix("Summary [")
            .and_then(|rest| rest.split_once(" run: "))
        {
            self.count(counts.split(','));
        } else if let Some(Status { well, name }) = status(text) {
            if !well {
                self.failures.insert(format!("{tier}: {name}"));
            }
            self.current = name.to_owned();
        }
    }

    fn note_libtest(&mut self, tier: &str, text: &str) {
        if let Some((_, counts)) = text
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        {
            self.count(counts.split(';'));
        } else if let Some(name) = text
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.current = name.to_owned();
        } else if let Some(name) = text
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.insert(format!("{tier}: {name}"));
        } else if let Some((name, reason)) = ignored_test(text) {
            self.add_skipped(tier, reason, 1, name);
        }
    }

    /// Something that could not be run at all.
    pub(crate) fn skip(&mut self, tier: &str, reason: &str) {
        println!("\n*** SKIPPED: {tier}: {reason} ***");
        self.add_skipped(tier, reason, 1, "all of it");
    }

    /// A run that failed without naming a test: it didn't compile, or the runner broke.
    pub(crate) fn broken(&mut self, what: &str) {
        self.failed += 1;
        self.failures.insert(what.to_owned());
    }

    pub(crate) fn passed(&self) -> usize {
        self.ended_well.saturating_sub(self.skipped_themselves)
    }

    fn add_skipped(&mut self, tier: &str, reason: &str, count: usize, name: &str) {
        let entry = self
            .skipped
            .entry((tier.to_owned(), reason.to_owned()))
            .or_default();
        entry.0 += count;
        if !name.is_empty() {
            entry.1.insert(name.to_owned());
        }
    }

    fn count<'a>(&mut self, parts: impl Iterator<Item = &'a str>) {
        for part in parts {
            let Some((number, what)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what.split(' ').next() {
                Some("passed") => self.ended_well += number,
                Some("failed" | "timed" | "exec") => self.failed += number,
                _ => {}
            }
        }
    }

    /// Which tests were skipped and why, and which failed; last, alone on its line, the count.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        let mut skipped = 0;
        for ((tier, reason), (count, names)) in &self.skipped {
            skipped += count;
            text.push_str(&format!("skipped {count} of tier {tier}: {reason}\n"));
            names
                .iter()
                .for_each(|name| text.push_str(&format!("    {name}\n")));
        }
        for name in &self.failures {
            text.push_str(&format!("FAILED {name}\n"));
        }
        text.push_str(&format!(
            "{} passed, {} failed, {skipped} skipped",
            self.passed(),
            self.failed
        ));
        text
    }
}

/// How one test ended, in a line of nextest.
pub(crate) struct Status<'a> {
    pub(crate) well: bool,
    pub(crate) name: &'a str,
}

/// Reads `PASS [   0.1s] ( 1/9) kiln::bad_input a_test`, or another of the ways a test can end.
pub(crate) fn status(text: &str) -> Option<Status<'_>> {
    let (word, rest) = text.trim().split_once(" [")?;
    let well = matches!(word, "PASS" | "LEAK");
    let bad = matches!(word, "FAIL" | "TIMEOUT" | "ABORT" | "LEAK-FAIL") || word.starts_with("SIG");
    if !well && !bad {
        return None;
    }
    let name = rest.split_once(']')?.1.trim();
    let name = name
        .strip_prefix('(')
        .and_then(|counted| counted.split_once(')'))
        .map_or(name, |(_, name)| name);
    Some(Status {
        well,
        name: name.trim(),
    })
}

/// `*** 9 SANDBOX TESTS SKIPPED: reason ***`.
fn harness_skip(text: &str) -> Option<(usize, &str)> {
    let (count, reason) = text
        .strip_prefix("*** ")?
        .strip_suffix(" ***")?
        .split_once(" TESTS SKIPPED: ")?;
    Some((count.split(' ').next()?.parse().ok()?, reason))
}

/// `test a_test ... ignored, network tier`.
fn ignored_test(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.trim_start_matches([',', ' ']);
    Some((
        name,
        if reason.is_empty() {
            "marked as ignored"
        } else {
            reason
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(runner: Runner, text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines()
            .for_each(|line| tally.note("plain", runner, line));
        tally
    }

    #[test]
    fn nextest_is_counted() {
        let tally = tally(
            Runner::Nextest,
            "        PASS [   0.004s] ( 1/5) kiln::bad_input fine\n\
             \x20   test result: ok. 1 passed; 0 failed; 0 ignored\n\
             \x20       PASS [   0.004s] ( 2/5) kiln::bad_input sandbox_a\n\
             \x20 stderr ───\n\
             \x20   skipped: this test needs root\n\
             \x20       PASS [   0.004s] ( 3/5) kiln-executor::sandbox sandbox_b\n\
             \x20   *** 1 SANDBOX TESTS SKIPPED: no rung ***\n\
             \x20       FAIL [   0.005s] ( 4/5) kiln::bad_input broken\n\
             \x20    SIGKILL [   0.005s] ( 5/5) kiln::bad_input killed\n\
             \x20    Summary [   0.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 9 skipped\n\
             \x20       FAIL [   0.005s] ( 4/5) kiln::bad_input broken\n",
        );
        assert_eq!(
            tally.report(),
            "skipped 1 of tier plain: no rung\n    kiln-executor::sandbox sandbox_b\n\
             skipped 1 of tier plain: this test needs root\n    kiln::bad_input sandbox_a\n\
             FAILED plain: kiln::bad_input broken\nFAILED plain: kiln::bad_input killed\n\
             1 passed, 2 failed, 2 skipped"
        );
    }

    #[test]
    fn libtest_is_counted() {
        let tally = tally(
            Runner::Libtest,
            "test a ... ok\ntest b ... FAILED\ntest c ... ignored, too slow\n---- d stdout ----\nskipped: no root\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s\n\
             *** 3 SANDBOX TESTS SKIPPED: no rung ***\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(
            tally.report(),
            "skipped 1 of tier plain: no root\n    d\nskipped 3 of tier plain: no rung\n\
             skipped 1 of tier plain: too slow\n    c\nFAILED plain: b\n4 passed, 1 failed, 5 skipped"
        );
    }
}
