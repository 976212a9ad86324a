//! Counting what test runners print: nextest's lines and libtest's.
//!
//! A test that cannot run where it is prints `skipped: ` and the reason and passes; it is counted as skipped here.

use std::collections::BTreeSet;

/// What came of the tests so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// As the runners count them: with those that skipped themselves.
    ended_well: usize,
    skipped_themselves: usize,
    pub(crate) failed: usize,
    /// Name (or what it stands for) and reason.
    pub(crate) skipped: Vec<(String, String)>,
    /// Names of failed tests, as far as they are known.
    pub(crate) failures: BTreeSet<String>,
    /// The test whose output is being shown.
    current: String,
}

impl Tally {
    /// Takes note of one line of a runner's output. `tier` goes in front of names.
    pub(crate) fn note(&mut self, tier: &str, line: &str) {
        let text = line.trim();
        if let Some(reason) = text.strip_prefix("skipped: ") {
            self.skipped
                .push((format!("{tier}: {}", self.current), reason.to_owned()));
            self.skipped_themselves += 1;
        } else if let Some(name) = output_header(text) {
            self.current = name;
        } else if let Some(counts) = text
            .strip_prefix("Summary [")
            .and_then(|rest| rest.split_once(" run: "))
        {
            self.count(counts.1.split(','));
        } else if let Some(counts) = text
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        {
            self.count(counts.1.split(';'));
        } else if let Some(name) = failed_test(text) {
            self.failures.insert(format!("{tier}: {name}"));
        } else if let Some((name, reason)) = ignored_test(text) {
            self.skipped.push((format!("{tier}: {name}"), reason));
        }
    }

    /// Something that could not be run at all.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        println!("SKIPPED: {what}: {reason}");
        self.skipped.push((what.to_owned(), reason.to_owned()));
    }

    /// A run that failed without naming a test: it didn't compile, or the runner broke.
    pub(crate) fn broken(&mut self, what: &str) {
        self.failed += 1;
        self.failures.insert(what.to_owned());
    }

    pub(crate) fn passed(&self) -> usize {
        self.ended_well.saturating_sub(self.skipped_themselves)
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

    /// Which tests failed and which were skipped, and why; last, alone on its line, the count.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for (what, reason) in &self.skipped {
            text.push_str(&format!("skipped {what}: {reason}\n"));
        }
        for name in &self.failures {
            text.push_str(&format!("FAILED {name}\n"));
        }
        text.push_str(&format!(
            "{} passed, {} failed, {} skipped",
            self.passed(),
            self.failed,
            self.skipped.len()
        ));
        text
    }
}

/// `--- STDERR:  kiln::bad_input a_test ---` of nextest, `---- a_test stdout ----` of libtest.
fn output_header(text: &str) -> Option<String> {
    if let Some(name) = text
        .strip_prefix("---- ")
        .and_then(|rest| rest.strip_suffix(" stdout ----"))
    {
        return Some(name.to_owned());
    }
    let bare = text.trim_matches(['-', '─', ' ', '—']);
    let name = bare
        .strip_prefix("STDERR:")
        .or_else(|| bare.strip_prefix("STDOUT:"))
        .or_else(|| bare.strip_prefix("OUTPUT:"))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// `FAIL [   0.1s] ( 1/9) kiln::bad_input a_test`, and the other ways nextest says that a test did not end well.
fn failed_test(text: &str) -> Option<String> {
    if let Some(name) = text
        .strip_prefix("test ")
        .and_then(|rest| rest.strip_suffix(" ... FAILED"))
    {
        return Some(name.to_owned());
    }
    let (word, rest) = text.split_once(" [")?;
    let bad = matches!(word, "FAIL" | "TIMEOUT" | "ABORT" | "XFAIL")
        || word.starts_with("SIG")
        || word.starts_with("LEAK-FAIL");
    if !bad {
        return None;
    }
    let name = rest.split_once(']')?.1.trim();
    let name = name
        .strip_prefix('(')
        .and_then(|counted| counted.split_once(')'))
        .map_or(name, |(_, name)| name);
    Some(name.trim().to_owned())
}

/// `test a_test ... ignored, network tier`.
fn ignored_test(text: &str) -> Option<(String, String)> {
    let (name, rest) = text.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.trim_start_matches([',', ' ']);
    Some((
        name.to_owned(),
        if reason.is_empty() {
            "marked as ignored".to_owned()
        } else {
            reason.to_owned()
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        for line in text.lines() {
            tally.note("plain", line);
        }
        tally
    }

    #[test]
    fn nextest_is_counted() {
        let tally = tally(
            "        PASS [   0.004s] (1/4) kiln::bad_input fine\n\
             ──── STDERR:             kiln::bad_input sandbox_a\n\
             skipped: this test needs root\n\
             \x20       FAIL [   0.005s] (2/4) kiln::bad_input broken\n\
             \x20    Summary [   0.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 9 skipped\n",
        );
        assert_eq!((tally.passed(), tally.failed), (2, 2));
        assert_eq!(
            tally.skipped,
            [(
                "plain: kiln::bad_input sandbox_a".to_owned(),
                "this test needs root".to_owned()
            )]
        );
        assert_eq!(
            tally.failures.iter().collect::<Vec<_>>(),
            ["plain: kiln::bad_input broken"]
        );
    }

    #[test]
    fn libtest_is_counted() {
        let tally = tally(
            "test a ... ok\ntest b ... FAILED\ntest c ... ignored, network tier\n---- d stdout ----\nskipped: no root\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(
            (tally.passed(), tally.failed, tally.skipped.len()),
            (4, 1, 2)
        );
        assert!(
            tally.report().ends_with("\n4 passed, 1 failed, 2 skipped"),
            "{}",
            tally.report()
        );
        assert!(
            tally
                .report()
                .starts_with("skipped plain: c: network tier\n"),
            "{}",
            tally.report()
        );
    }

    #[test]
    fn a_skip_may_come_before_the_count() {
        assert_eq!(
            tally("skipped: x\ntest result: ok. 1 passed; 0 failed").passed(),
            0
        );
    }
}
