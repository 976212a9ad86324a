//! A download that is piped into another program, and may fail unnoticed.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Joint;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-pipe-without-pipefail",
    severity: Severity::Warning,
    experimental: false,
    summary: "A failed download in a pipe should fail the RUN",
    page: include_str!("pipe-without-pipefail.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts().filter(|run| !run.pipefail) {
        let pairs = run.script.commands.windows(2);
        let piped = pairs
            .filter(|pair| pair[1].joint == Joint::Pipe)
            .find(|pair| matches!(pair[0].name(), "curl" | "wget"));
        if let Some([download, _]) = piped {
            let message = format!(
                "when `{}` fails, the RUN goes on with what came so far",
                download.name()
            );
            let help = "say `SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]`, or download to a file first";
            let span = subject.place_of(run, download, download.name());
            found.push(Found::new(span, message).help(help));
        }
    }
    found
}
