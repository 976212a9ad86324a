//! A panic is a bug of kiln, and says so: one message without a backtrace, and exit code 70.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use crate::exit::Exit;
use crate::failure::{Failure, Report};

/// Replaces the standard message, which reads like noise to someone whose build just broke.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let text = crate::render::reports(&[report(panic)], false);
        crate::say(&text);
    }));
}

/// Runs `work`; a panic in it, already shown by the hook, becomes a failure.
pub(crate) fn guard(work: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Ok(Exit::Bug))
}

fn report(panic: &PanicHookInfo<'_>) -> Report {
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let mut report = Report::error(Some("bug"), "kiln stopped at an internal error");
    report
        .causes
        .push(what.unwrap_or("a panic without a message").to_owned());
    if let Some(place) = panic.location() {
        report
            .notes
            .push(format!("in kiln {}, {place}", env!("CARGO_PKG_VERSION")));
    }
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        report.notes.push(backtrace.to_string());
    } else {
        report
            .notes
            .push("`RUST_BACKTRACE=1` adds where it came from".to_owned());
    }
    report.help.push(
        "this is a bug of kiln, not of your Dockerfile: please report it with this message"
            .to_owned(),
    );
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug() {
        assert_eq!(
            guard(|| panic!("on purpose")).map_err(|failure| failure.exit),
            Ok(Exit::Bug)
        );
        assert_eq!(
            guard(|| Ok(Exit::Done)).map_err(|failure| failure.exit),
            Ok(Exit::Done)
        );
    }
}
