//! What a build tells people at its end, on stderr.

use std::fmt::Write;
use std::sync::Arc;

use kiln_executor::Product;
use kiln_image::Reference;
use kiln_parser::{Severity, Source};
use kiln_planner::lint::Finding;

use super::outputs::{TargetOutputs, flat};
use super::results::Results;
use crate::args::ProgressMode;
use crate::config::Config;
use crate::failure::Report;
use crate::output::{Destination, Output, OutputKind};
use crate::progress::Account;
use crate::render;

/// The last lines of the step that failed, where the progress has not shown them (R-PROG-4).
pub(super) fn tail(mode: ProgressMode, account: &Account) {
    let shown_before = matches!(mode, ProgressMode::Plain | ProgressMode::Rawjson);
    if let (false, Some(step)) = (shown_before, &account.failed)
        && !step.tail.is_empty()
    {
        crate::say(&format!(" > {}:\n{}\n", step.name, step.tail.join("\n")));
    }
}

/// What the checks found: a line each, or all about them, in colour or not (R-CHK-8).
pub(super) fn warnings(
    mode: ProgressMode,
    source: &Arc<Source>,
    findings: &[Finding],
    in_full: Option<bool>,
) {
    if !is_for_people(mode) || findings.is_empty() {
        return;
    }
    let mut text = heading(findings.len(), in_full.is_some());
    for finding in findings {
        match in_full {
            None => text.push_str(&in_a_line(source, finding)),
            Some(color) => {
                let mut report = Report::from_diagnostic(source, &finding.diagnostic);
                let url = Some(finding.rule.url()).filter(|url| !url.is_empty());
                report.notes.push(finding.rule.summary.to_owned());
                report.notes.extend(url.map(|url| format!("see {url}")));
                text.push_str(&render::reports(&[report], color));
            }
        }
    }
    crate::say(&text);
}

fn heading(warnings: usize, in_full: bool) -> String {
    let found = match warnings {
        1 => "1 warning found".to_owned(),
        several => format!("{several} warnings found"),
    };
    let more = if in_full {
        ""
    } else {
        " (use --debug to expand)"
    };
    format!("\n {found}{more}:\n")
}

fn in_a_line(source: &Source, finding: &Finding) -> String {
    let line = finding.statement.map_or_else(String::new, |span| {
        format!(" (line {})", source.line_of(span))
    });
    let (rule, detail) = (finding.rule.id, &finding.diagnostic.message);
    format!(" - {rule}: {detail}{line}\n")
}

/// Build arguments that nothing used.
pub(super) fn unused_build_args(mode: ProgressMode, config: &Config, product: &Product) {
    if !is_for_people(mode) {
        return;
    }
    let names = product.first().unused_build_args.iter();
    let reports: Vec<_> = names
        .map(|name| Report {
            severity: Severity::Warning,
            ..Report::error(
                None,
                format!("build argument `{name}` is not declared by any ARG"),
            )
        })
        .collect();
    crate::say(&render::reports(&reports, config.color));
}

/// The image and where it went.
pub(super) fn made(mode: ProgressMode, results: &[Results], outputs: &[TargetOutputs]) {
    if is_for_people(mode) {
        crate::say(&summary(results, outputs));
    }
}

fn summary(results: &[Results], outputs: &[TargetOutputs]) -> String {
    let mut text = String::new();
    let mut line = |args| writeln!(text, "{args}").expect("writing to a string never fails");
    for (results, outputs) in results.iter().zip(outputs) {
        if !outputs.outputs.iter().any(Output::is_image) {
            continue;
        }
        let names: Vec<_> = results.names.iter().map(Reference::familiar).collect();
        let named = if names.is_empty() {
            String::new()
        } else {
            format!(" named {}", names.join(", "))
        };
        let what = if results.is_index { "index" } else { "image" };
        line(format!("{what} {}{named}", results.id));
        let is_stored =
            |output: &Output| matches!(output.kind, OutputKind::Image) && output.image.sink.store;
        if results.is_index && names.is_empty() && outputs.outputs.iter().any(is_stored) {
            line(
                "its images are in the store one by one: a name (`-t`) would keep the index"
                    .to_owned(),
            );
        }
        if let Some(engine) = results.loaded {
            line(format!("loaded into {engine}"));
        }
    }
    for output in flat(outputs) {
        if output.image.sink.push.is_some() {
            line("pushed to the registries of its names".to_owned());
        }
        if let Some(Destination::Path(path)) = &output.dest {
            line(format!("wrote {} ({})", path.display(), output.kind.name()));
        }
    }
    text
}

pub(super) fn is_for_people(mode: ProgressMode) -> bool {
    matches!(
        mode,
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_image::Digest;

    #[test]
    fn the_summary_says_what_went_where() {
        let outputs: Vec<Output> = ["type=image", "type=oci,dest=x.tar", "out"]
            .into_iter()
            .flat_map(str::parse)
            .collect();
        let of = |outputs: &[Output]| {
            [TargetOutputs {
                outputs: outputs.to_vec(),
                tags: Vec::new(),
            }]
        };
        let results = [Results {
            target: None,
            id: Digest::of(b""),
            is_index: false,
            has_image: false,
            images: Vec::new(),
            loaded: None,
            manifest: None,
            names: "a:1".parse().into_iter().collect(),
            provenance: Vec::new(),
        }];
        let expected = format!(
            "image {} named a:1\nwrote x.tar (oci)\nwrote out (local)\n",
            Digest::of(b"")
        );
        assert_eq!(summary(&results, &of(&outputs)), expected);
        assert_eq!(summary(&results, &of(&outputs[2..])), "wrote out (local)\n");
    }
}
