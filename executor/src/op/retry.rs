//! A step that is run again, from where the step before it ended: one that failed, as `# kiln: retry=N` says, and one that turns out to need
//! what it can have only from the beginning.

use crate::error::Cause;
use crate::event::{Stream, Task};

/// How a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Whether it isn't run again if it fails.
    pub is_last: bool,
    /// Whether it is known to execute programs for their set-ID bits.
    pub needs_set_id: bool,
}

/// What came of a step that didn't fail.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// It was stopped before it executed this program, which does nothing for it unless its need was known.
    Needs(String),
}

/// Tries up to `retries` times more while the step's program fails. What is no fault of the program is not tried again, as it would
/// only fail again: a program that is not there, a sandbox that can't be made.
pub(crate) fn run<T>(
    retries: u32,
    task: &Task<'_>,
    mut attempt: impl FnMut(Attempt) -> Result<Outcome<T>, Cause>,
) -> Result<T, Cause> {
    let mut tried = 0;
    let mut needs_set_id = false;
    loop {
        let next = Attempt {
            is_last: tried == retries,
            needs_set_id,
        };
        match attempt(next) {
            Ok(Outcome::Done(done)) => return Ok(done),
            Ok(Outcome::Needs(program)) => {
                needs_set_id = true;
                let told = format!(
                    "kiln: {program} needs rights of its own, which the sandbox `chroot` has only for steps without a live /proc; \
                     running the step again as one, from its beginning\n"
                );
                task.log(Stream::Stderr, told.as_bytes());
            }
            Err(cause @ (Cause::Run { .. } | Cause::TimedOut { .. })) if tried < retries => {
                tried += 1;
                let told = format!(
                    "kiln: {}; running it again, retry {tried} of {retries}\n",
                    cause.in_progress()
                );
                task.log(Stream::Stderr, told.as_bytes());
            }
            Err(cause) => return Err(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::event::{Event, EventKind, Reporter};
    use crate::sandbox::ExitStatus;

    fn failed(code: i32) -> Cause {
        Cause::Run {
            text: "RUN x".to_owned(),
            status: ExitStatus::Code(code),
            how: String::new(),
            shortage: None,
        }
    }

    /// What comes of attempts with these outcomes, and what was said.
    fn outcome(retries: u32, outcomes: Vec<Result<u8, Cause>>) -> (Option<u8>, String) {
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| outcome.map(Outcome::Done));
        let (done, said, _) = story(retries, outcomes.collect());
        (done, said)
    }

    /// The same, and how each was begun.
    fn story(
        retries: u32,
        mut outcomes: Vec<Result<Outcome<u8>, Cause>>,
    ) -> (Option<u8>, String, Vec<Attempt>) {
        let said = Mutex::new(String::new());
        let sink = |event: Event| {
            if let EventKind::Log { data, .. } = event.kind {
                let text = String::from_utf8_lossy(&data);
                said.lock().expect("no panic holds it").push_str(&text);
            }
        };
        let reporter = Reporter::new(&sink);
        let task = reporter.start("a");
        outcomes.reverse();
        let mut begun = Vec::new();
        let result = run(retries, &task, |attempt| {
            begun.push(attempt);
            outcomes.pop().unwrap_or(Err(Cause::Canceled))
        });
        drop(task);
        let said = said.into_inner().expect("no panic held it");
        (result.ok(), said, begun)
    }

    #[test]
    fn a_step_is_begun_again_beside_its_retries() {
        let needs = || Ok(Outcome::Needs("/usr/bin/sudo".to_owned()));
        let outcomes = vec![needs(), Err(failed(1)), Ok(Outcome::Done(1))];
        let (done, said, begun) = story(1, outcomes);
        assert_eq!(done, Some(1));
        let told = "kiln: /usr/bin/sudo needs rights of its own, which the sandbox `chroot` has only for steps without a live /proc; \
            running the step again as one, from its beginning\nkiln: exit status 1; running it again, retry 1 of 1\n";
        assert_eq!(said, told);
        let begun: Vec<_> = begun
            .iter()
            .map(|attempt| (attempt.is_last, attempt.needs_set_id))
            .collect();
        assert_eq!(begun, [(false, false), (false, true), (true, true)]);
    }

    #[test]
    fn a_step_is_run_until_it_succeeds_or_was_tried_enough() {
        let (done, said) = outcome(2, vec![Err(failed(3)), Ok(1)]);
        assert_eq!(done, Some(1));
        assert_eq!(
            said,
            "kiln: exit status 3; running it again, retry 1 of 2\n"
        );
        let (done, said) = outcome(1, vec![Err(failed(1)), Err(failed(1)), Ok(1)]);
        assert_eq!((done, said.lines().count()), (None, 1));
        assert_eq!(outcome(0, vec![Err(failed(1)), Ok(1)]).0, None);
        assert_eq!(outcome(5, vec![Err(Cause::Canceled), Ok(1)]).0, None);
    }
}
