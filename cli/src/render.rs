//! Reports as text, in rustc's look: what, where with the lines, why, and what to try.
//!
//! ```text
//! error[unknown-flag]: unknown flag `--form` for COPY
//!   --> Dockerfile:7:6
//!    |
//!  7 | COPY --form=build /out/app /usr/local/bin/app
//!    |      ^^^^^^
//!    = help: did you mean `--from`?
//! ```

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use kiln_parser::Severity;

use crate::failure::{Place, Report};

/// All reports, one below the other, each ended by a newline.
pub(crate) fn reports(reports: &[Report], color: bool) -> String {
    reports
        .iter()
        .map(|one| report(one, color) + "\n")
        .collect()
}

/// One report, without a newline at its end.
fn report(report: &Report, color: bool) -> String {
    let level = match report.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Advice => Level::INFO.with_name("advice"),
    };
    let mut title = level.primary_title(shown(&report.message));
    if let Some(code) = &report.code {
        title = title.id(code.as_str());
    }
    let causes = report
        .causes
        .iter()
        .map(|text| Level::NOTE.with_name("caused by").message(shown(text)));
    let notes = report
        .notes
        .iter()
        .map(|text| Level::NOTE.message(shown(text)));
    let help = report
        .help
        .iter()
        .map(|text| Level::HELP.message(shown(text)));
    let group = Group::with_title(title)
        .elements(report.place.iter().map(snippet))
        .elements(causes)
        .elements(notes)
        .elements(help);
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    tightened(&renderer.render(&[group]))
}

/// The excerpt set in by one column under the title, and without the empty `|` line before the first `=`.
fn tightened(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut tight = lines.next().unwrap_or_default().to_owned();
    while let Some(line) = lines.next() {
        let only_bar = uncolored(line).trim() == "|";
        let before_words = lines
            .peek()
            .is_some_and(|next| uncolored(next).trim_start().starts_with('='));
        if !(only_bar && before_words) {
            tight.push_str("\n ");
            tight.push_str(line);
        }
    }
    tight
}

/// A line without its colours.
fn uncolored(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        text + piece.split_once('m').map_or("", |(_, after)| after)
    })
}

fn snippet(place: &Place) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    let mut annotation = AnnotationKind::Primary.span(marked(place));
    if let Some(label) = &place.label {
        annotation = annotation.label(label.as_str());
    }
    Snippet::source(without_passwords(place.source.text()))
        .path(place.source.name())
        .annotation(annotation)
}

/// The span, kept inside the text and on character boundaries, without the line end it may close with.
fn marked(place: &Place) -> std::ops::Range<usize> {
    let text = place.source.text();
    let start = text.floor_char_boundary(place.span.start);
    let end = text
        .ceil_char_boundary(place.span.end.min(text.len()))
        .max(start);
    start..start + text[start..end].trim_end().len()
}

/// A Dockerfile's text with an `x` for each byte of a password or token in an address, so that spans stay what they are.
pub(crate) fn without_passwords(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    for (at, _) in text.match_indices("://") {
        let start = at + "://".len();
        let rest = &text[start..];
        let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'');
        let authority = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let Some((credentials, _)) = authority.rsplit_once('@') else {
            continue;
        };
        if let Some((user, password)) = credentials.split_once(':') {
            let from = start + user.len() + 1;
            let hidden = "x".repeat(password.len());
            shown
                .to_mut()
                .replace_range(from..from + password.len(), &hidden);
        }
    }
    for value in kiln_registry::secret_values(text) {
        let hidden = "x".repeat(value.len());
        shown.to_mut().replace_range(value, &hidden);
    }
    shown
}

/// Text from outside (a path, a registry's answer), without what a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    text.lines()
        .map(normalize_untrusted_str)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_parser::{Code, Diagnostic, Source, Span};
    use std::sync::Arc;

    const DOCKERFILE: &str = "\
FROM alpine AS build
RUN make \\
    check
COPY --form=build /a /b
WORKDR /srv
";

    fn at(text: &str) -> Span {
        let start = DOCKERFILE.find(text).unwrap_or(0);
        Span {
            start,
            end: start + text.len(),
        }
    }

    fn plain(diagnostic: &Diagnostic) -> String {
        let source = Arc::new(Source::new("Dockerfile", DOCKERFILE));
        report(&Report::from_diagnostic(&source, diagnostic), false)
    }

    #[test]
    fn a_slip_is_shown_with_its_line_and_a_guess() {
        let diagnostic = Diagnostic::error(
            Code("unknown-flag"),
            "unknown flag `--form` for COPY",
            at("--form"),
        )
        .help("did you mean `--from`?");
        let expected = "\
error[unknown-flag]: unknown flag `--form` for COPY
  --> Dockerfile:4:6
   |
 4 | COPY --form=build /a /b
   |      ^^^^^^
   = help: did you mean `--from`?";
        assert_eq!(plain(&diagnostic), expected);
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let diagnostic = Diagnostic::error(
            Code("unknown-flag"),
            "unknown flag `--form` for COPY",
            at("--form"),
        )
        .help("h");
        let source = Arc::new(Source::new("Dockerfile", DOCKERFILE));
        let colored = report(&Report::from_diagnostic(&source, &diagnostic), true);
        assert!(colored.contains('\u{1b}'));
        assert_eq!(
            colored
                .lines()
                .map(uncolored)
                .collect::<Vec<_>>()
                .join("\n"),
            plain(&diagnostic)
        );
    }

    #[test]
    fn several_lines_are_bracketed() {
        let mut diagnostic = Diagnostic::error(
            Code("run-failed"),
            "`RUN make check` exited with status 2",
            at("RUN make \\\n    check\n"),
        );
        diagnostic.label = Some("stage `build`, step 2 of 3".to_owned());
        let text = plain(&diagnostic);
        assert!(text.contains("2 | / RUN make \\\n"), "{text}");
        assert!(text.contains("stage `build`, step 2 of 3"), "{text}");
    }

    #[test]
    fn without_a_place_there_are_only_words() {
        let mut report = Report::error(Some("sandbox"), "could not prepare the sandbox");
        report
            .causes
            .push("mount(proc, /proc): operation not permitted (EPERM)".to_owned());
        report.help.push("run kiln as root".to_owned());
        let expected = "\
error[sandbox]: could not prepare the sandbox
  = caused by: mount(proc, /proc): operation not permitted (EPERM)
  = help: run kiln as root";
        assert_eq!(super::report(&report, false), expected);
    }

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        let text = "ADD https://me:top%20secret@h.example/a https://h.example/b@c:d git://u@h /x";
        let shown = "ADD https://me:xxxxxxxxxxxx@h.example/a https://h.example/b@c:d git://u@h /x";
        assert_eq!(without_passwords(text), shown);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let report = Report::error(None, "bad name `\u{1b}[2Jx`");
        assert!(!super::report(&report, false).contains('\u{1b}'));
    }

    #[test]
    fn a_span_past_the_end_is_kept_inside() {
        let past = Span {
            start: DOCKERFILE.len(),
            end: DOCKERFILE.len() + 9,
        };
        assert!(plain(&Diagnostic::error(Code("x"), "y", past)).starts_with("error[x]: y"));
    }
}
