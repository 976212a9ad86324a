//! `# kiln: retry=N`: a step that failed is run again, from where the step before it ended.

use crate::error::Cause;
use crate::event::{Stream, Task};

/// Tries up to `retries` times more while the step's program fails. What is no fault of the program is not tried again, as it would
/// only fail again: a program that is not there, a sandbox that can't be made. `attempt` is told whether it is the last one.
pub(crate) fn run<T>(
    retries: u32,
    task: &Task<'_>,
    mut attempt: impl FnMut(bool) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let mut tried = 0;
    loop {
        match attempt(tried == retries) {
            Err(cause @ (Cause::Run { .. } | Cause::TimedOut { .. })) if tried < retries => {
                tried += 1;
                let told = format!(
                    "kiln: {}; running it again, retry {tried} of {retries}\n",
                    cause.in_progress()
                );
                task.log(Stream::Stderr, told.as_bytes());
            }
            ended => return ended,
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
    fn outcome(retries: u32, mut outcomes: Vec<Result<u8, Cause>>) -> (Option<u8>, String) {
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
        let result = run(retries, &task, |_| {
            outcomes.pop().unwrap_or(Err(Cause::Canceled))
        });
        drop(task);
        (result.ok(), said.into_inner().expect("no panic held it"))
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
