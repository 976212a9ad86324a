//! From statements to stages, and what is wrong with the file as a whole.

use crate::lines::{LONGEST_LINE, PhysicalLines};
use crate::statement::{Item, Read, Statements};
use crate::{
    CopySource, Diagnostic, Directives, Dockerfile, Escape, Heredoc, Instruction, Parsed,
    RunCommand, Source, Span, Spanned, Stage, Statement, code, directive,
};

/// So many lines that are no instructions, and none that is, are not slips of the pen.
const FEWEST_STRANGE_LINES: usize = 4;

/// Reads a Dockerfile.
///
/// Never fails and never panics: what could not be read is missing from the tree and told in the diagnostics.
#[must_use]
pub fn parse(source: &Source) -> Parsed {
    let mut diagnostics = long_lines(source);
    let (directives, head) = directive::read(source, &mut diagnostics);
    let mut tree = Tree::new(directives);
    let mut reader = Statements::new(
        source.text(),
        tree.dockerfile.directives.escape,
        head,
        &mut diagnostics,
    );
    let statements: Vec<Read> = reader.by_ref().collect();
    tree.dockerfile.loose_comments = reader.loose_comments();
    if let Some(only) = not_a_dockerfile(&statements, &diagnostics) {
        diagnostics = vec![only];
    }
    for statement in statements {
        diagnostics.extend(not_utf8(source, &statement));
        tree.add(statement, &mut diagnostics);
    }
    tree.check_whole(source, &mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map_or(0, |span| span.start));
    Parsed {
        dockerfile: tree.dockerfile,
        diagnostics,
    }
}

/// Reads an ONBUILD trigger as if it stood in a Dockerfile by itself, with the escape character `\` (R-ONB-3).
///
/// Spans are in `text`. The errors are those of the trigger; there is at least one.
pub fn parse_trigger(text: &str) -> Result<Statement, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut statements: Vec<Read> =
        Statements::new(text, Escape::Backslash, 0, &mut diagnostics).collect();
    diagnostics.retain(Diagnostic::is_error);
    let only = if statements.len() == 1 {
        statements.pop()
    } else {
        None
    };
    match only {
        Some(Statement {
            instruction: Some(Item::Instruction(instruction)),
            span,
            keyword,
            text,
            comments,
        }) if diagnostics.is_empty() => Ok(Statement {
            instruction,
            span,
            keyword,
            text,
            comments,
        }),
        _ if diagnostics.is_empty() => {
            let message = "a trigger is exactly one instruction, and not FROM";
            Err(vec![Diagnostic::error(
                code::INVALID_TRIGGER,
                message,
                Span::new(0, text.len()),
            )])
        }
        _ => Err(diagnostics),
    }
}

/// R-LEX-4. Such a line is read all the same.
fn long_lines(source: &Source) -> Vec<Diagnostic> {
    let content = |raw: &str| raw.len() - usize::from(raw.ends_with('\n'));
    let lines = PhysicalLines::new(source.text()).filter(|line| content(line.raw) > LONGEST_LINE);
    let message = format!("line longer than {LONGEST_LINE} bytes");
    lines
        .map(|line| {
            Diagnostic::error(
                code::LINE_TOO_LONG,
                message.clone(),
                Span::new(line.start, line.start),
            )
        })
        .collect()
}

/// One error for a file of which no line is an instruction: it is another file, and its every line needn't be told.
fn not_a_dockerfile(statements: &[Read], diagnostics: &[Diagnostic]) -> Option<Diagnostic> {
    let is_unknown = |error: &&Diagnostic| error.code == code::UNKNOWN_INSTRUCTION;
    let mut unknown = diagnostics.iter().filter(is_unknown);
    let first = unknown.next()?;
    let count = 1 + unknown.count();
    if count < FEWEST_STRANGE_LINES || count != statements.len() {
        return None;
    }
    let message = format!("{}, nor is any other line one", first.message);
    let error = Diagnostic::error(first.code, message, first.span);
    Some(error.help("check that this is the Dockerfile"))
}

/// What is not UTF-8 in an instruction whose text reaches commands or names of files, comments within it left out. Elsewhere, as in
/// labels, the image just has U+FFFD.
fn not_utf8(source: &Source, statement: &Read) -> Option<Diagnostic> {
    let at = source.first_replaced(statement.span)?;
    let bodies = match statement.instruction.as_ref()? {
        Item::Instruction(
            Instruction::Env(_)
            | Instruction::Arg(_)
            | Instruction::User(_)
            | Instruction::Workdir(_)
            | Instruction::Shell(_),
        ) => Vec::new(),
        Item::Instruction(Instruction::Run(run)) => match &run.command {
            RunCommand::Heredocs { heredocs, .. } => heredocs.iter().collect(),
            RunCommand::Line(_) => Vec::new(),
        },
        Item::Instruction(Instruction::Copy(copy)) => heredocs(&copy.sources),
        Item::Instruction(Instruction::Add(add)) => heredocs(&add.sources),
        _ => return None,
    };
    let is_replaced = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    let found = is_replaced(&statement.text) || bodies.iter().any(|body| is_replaced(&body.body));
    let keyword = statement.keyword.to_ascii_uppercase();
    let message = format!("{keyword} has bytes that are not UTF-8");
    let help = "save the file as UTF-8, or write such bytes as escapes of the shell";
    found.then(|| Diagnostic::error(code::NOT_UTF8, message, at).help(help))
}

fn heredocs(sources: &[Spanned<CopySource>]) -> Vec<&Heredoc> {
    let mut heredocs = Vec::new();
    for source in sources {
        if let CopySource::Heredoc(heredoc) = &source.value {
            heredocs.push(heredoc);
        }
    }
    heredocs
}

/// The tree under construction.
struct Tree {
    dockerfile: Dockerfile,
    /// Whether a misplaced instruction was told already: one is enough.
    told_before_from: bool,
    any: bool,
}

impl Tree {
    fn new(directives: Directives) -> Tree {
        let dockerfile = Dockerfile {
            directives,
            ..Dockerfile::default()
        };
        Tree {
            dockerfile,
            told_before_from: false,
            any: false,
        }
    }

    fn add(&mut self, statement: Read, diagnostics: &mut Vec<Diagnostic>) {
        self.any = true;
        let Statement {
            instruction,
            span,
            keyword,
            text,
            comments,
        } = statement;
        let Some(item) = instruction else { return };
        match (item, self.dockerfile.stages.last_mut()) {
            (Item::From(from), _) => {
                let statements = Vec::new();
                self.dockerfile.stages.push(Stage {
                    from,
                    span,
                    keyword,
                    text,
                    comments,
                    statements,
                });
            }
            (Item::Instruction(instruction), Some(stage)) => {
                stage.statements.push(Statement {
                    instruction,
                    span,
                    keyword,
                    text,
                    comments,
                });
            }
            (Item::Instruction(Instruction::Arg(instruction)), None) => {
                self.dockerfile.global_args.push(Statement {
                    instruction,
                    span,
                    keyword,
                    text,
                    comments,
                });
            }
            (Item::Instruction(_), None) if !self.told_before_from => {
                self.told_before_from = true;
                let message = format!(
                    "{} stands before the first FROM",
                    keyword.to_ascii_uppercase()
                );
                let diagnostic =
                    Diagnostic::error(code::INSTRUCTION_BEFORE_FROM, message, keyword.span);
                diagnostics.push(
                    diagnostic.help("start the stage with `FROM`; only ARG may come before it"),
                );
            }
            (Item::Instruction(_), None) => {}
        }
    }

    /// R-LEX-1, unless there is a better reason.
    fn check_whole(&self, source: &Source, diagnostics: &mut Vec<Diagnostic>) {
        if !self.dockerfile.stages.is_empty() || diagnostics.iter().any(Diagnostic::is_error) {
            return;
        }
        let (code, message) = if source.text().is_empty() {
            (code::EMPTY_DOCKERFILE, "the Dockerfile is empty")
        } else if self.any {
            (
                code::NO_STAGES,
                "the Dockerfile has no FROM, so there is nothing to build",
            )
        } else {
            (code::NO_INSTRUCTIONS, "the Dockerfile has no instructions")
        };
        diagnostics.push(Diagnostic::error(code, message, None));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn codes(text: &str) -> Vec<&'static str> {
        parse(&Source::new("Dockerfile", text))
            .diagnostics
            .iter()
            .map(|diagnostic| diagnostic.code.as_str())
            .collect()
    }

    #[test]
    fn files_without_a_stage_are_told_apart() {
        // R-LEX-1, R-LEX-14
        assert_eq!(codes(""), ["empty-dockerfile"]);
        assert_eq!(codes("# x\n\n"), ["no-instructions"]);
        assert_eq!(codes("ARG A\n"), ["no-stages"]);
        assert_eq!(codes("RUN a\nRUN b\nFROM x\n"), ["instruction-before-from"]);
    }

    #[test]
    fn a_file_of_something_else_is_told_once() {
        // R-LEX-12
        let json = "{\n  \"name\": \"x\",\n  \"version\": 1,\n  \"files\": []\n}\n";
        let parsed = parse(&Source::new("Dockerfile", json));
        assert_eq!(parsed.diagnostics.len(), 1);
        assert_eq!(
            parsed.diagnostics[0].message,
            "unknown instruction `{`, nor is any other line one"
        );
        // One line that is an instruction makes slips of the others.
        assert_eq!(codes(&format!("{json}FROM a\n")).len(), 5);
        assert_eq!(codes("FORM a\nRNU b\nCPY c d\n").len(), 3);
    }

    #[test]
    fn every_keyword_is_known() {
        // R-LEX-13
        for keyword in [
            "ADD",
            "ARG",
            "CMD",
            "COPY",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "FROM",
            "HEALTHCHECK",
            "LABEL",
            "MAINTAINER",
            "ONBUILD",
            "RUN",
            "SHELL",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
        ] {
            let codes = codes(&format!("FROM a\n{keyword} x\n"));
            assert!(!codes.contains(&"unknown-instruction"), "{keyword}");
        }
    }

    #[test]
    fn other_bytes_than_utf_8_are_refused_where_they_would_reach_a_command() {
        // BuildKit 0.32 refuses them there, and takes them elsewhere.
        let codes = |bytes: &[u8]| -> Vec<&str> {
            let parsed = parse(&Source::from_bytes("Dockerfile", bytes));
            parsed
                .diagnostics
                .iter()
                .map(|one| one.code.as_str())
                .collect()
        };
        for right in [
            &b"FROM a\n# \xe9\nRUN x \\\n# \xe9\n y\n"[..],
            b"FROM a\nLABEL a=\xe9\nCMD [\"\xe9\"]\n",
            "FROM a\nRUN \u{FFFD}\n".as_bytes(),
        ] {
            assert_eq!(codes(right), [""; 0]);
        }
        for wrong in [
            &b"FROM a\nRUN echo \xe9\n"[..],
            b"FROM a\nRUN <<E\n\xe9\nE\n",
            b"FROM a\nCOPY <<E /x\n\xff\nE\n",
            b"FROM a\nENV A=\xc3\n",
        ] {
            assert_eq!(codes(wrong), ["not-utf8"]);
        }
    }

    #[test]
    fn long_lines_are_refused_and_long_instructions_are_not() {
        // R-LEX-4
        let line = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length - 4));
        assert_eq!(codes(&line(65_535)), [""; 0]);
        assert_eq!(codes(&line(65_536)), ["line-too-long"]);
        assert_eq!(
            codes(&line(65_535).replace('\n', "\r\n")),
            ["line-too-long"]
        );
        assert_eq!(
            codes(&format!(
                "FROM a\nRUN x{}\n",
                "\\\nyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy".repeat(5000)
            )),
            [""; 0]
        );
    }

    #[test]
    fn triggers_are_one_instruction() {
        // R-ONB-3
        let statement = parse_trigger("RUN <<E\nhi\nE").unwrap();
        assert!(matches!(statement.instruction, Instruction::Run(_)));
        for (text, code) in [
            ("", "invalid-trigger"),
            ("FROM a", "invalid-trigger"),
            ("RUN a\nRUN b", "invalid-trigger"),
            ("NOPE", "unknown-instruction"),
        ] {
            assert_eq!(
                parse_trigger(text).unwrap_err()[0].code.as_str(),
                code,
                "{text}"
            );
        }
    }

    #[test]
    fn places_are_all_lines_of_an_instruction() {
        // R-ERR-1, R-HD-8, R-LEX-12
        let source = Source::new(
            "Dockerfile",
            "FROM a\nRUN <<E \\\n cat\nx\nE\nLABEL a=b \\\n# c\n c=d\n",
        );
        let parsed = parse(&source);
        let lines =
            |index: usize| source.lines_of(parsed.dockerfile.stages[0].statements[index].span);
        assert_eq!((lines(0), lines(1)), (2..=5, 6..=8));
    }

    #[test]
    fn hostile_files_take_linear_time() {
        let texts = [
            "FROM a\n".repeat(50_000),
            format!("FROM a\nRUN {}", "\\\n# c\n\n".repeat(50_000)),
            format!("FROM a\nCOPY {} /x", "<<E ".repeat(10_000)),
            format!("FROM a\nENV {}", "A=$B ".repeat(100_000)),
            format!("FROM a\nRUN {}x", "--mount=type=a ".repeat(20_000)),
            format!("FROM a\n{} RUN x", "ONBUILD ".repeat(8000)),
            format!("FROM a\nRUN [{}", "[\"a\",".repeat(10_000)),
        ];
        for text in texts {
            let _ = parse(&Source::new("Dockerfile", text));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&Source::new("Dockerfile", text));
        }

        #[test]
        fn parsing_near_misses_never_panics(
            lines in prop::collection::vec(
                ("(FROM|RUN|COPY|ADD|ENV|ARG|ONBUILD|HEALTHCHECK|VOLUME|SHELL|EXPOSE|#|# escape=)", "( ?[-a<$\"'\\[\\]{}=,\\\\`é#]{0,5}){0,5}"), 0..8)
        ) {
            let text: String = lines.into_iter().map(|(keyword, rest)| format!("{keyword} {rest}\n")).collect();
            let source = Source::new("Dockerfile", text);
            let parsed = parse(&source);
            for diagnostic in &parsed.diagnostics {
                // Spans lie on character borders inside the text.
                prop_assert!(diagnostic.span.is_none_or(|span| source.text().get(span.range()).is_some()));
            }
            let _ = crate::dump::dump(&parsed, &source);
        }
    }
}
