//! What the rules look at.

use kiln_parser::{
    Code, Dockerfile, IgnoreFile, Instruction, Parsed, Run, Script, Source, Span, Spanned, Stage,
    Statement,
};

use super::finding::Found;
use super::shell::{self, Command, ShellScript};
use crate::Survey;

/// A Dockerfile and all that is known about it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its text.
    pub source: &'a Source,
    /// Its tree, and what the parser told.
    pub parsed: &'a Parsed,
    /// What evaluating it told.
    pub survey: &'a Survey,
    /// The build context; `None` when it is not known.
    pub context: Option<ContextView<'a>>,
    /// All instructions with the comments attached to them, in the order of the file.
    instructions: Vec<(Span, &'a [Spanned<String>])>,
    /// The RUNs of each stage that are certain to be understood.
    scripts: Vec<Vec<RunScript<'a>>>,
}

/// What is known of the build context.
#[derive(Debug, Clone, Copy)]
pub struct ContextView<'a> {
    /// The ignore file.
    pub ignore: &'a IgnoreFile,
    /// Names in the context's folder that the ignore file lets through.
    pub visible: &'a [String],
}

/// A RUN whose shell text could be read.
#[derive(Debug)]
pub(super) struct RunScript<'a> {
    pub(super) statement: &'a Statement,
    pub(super) run: &'a Run,
    pub(super) script: ShellScript,
    /// Whether SHELL or the shell's flags set pipefail.
    pub(super) pipefail: bool,
}

impl<'a> Subject<'a> {
    /// Puts together what is known.
    #[must_use]
    pub fn new(
        source: &'a Source,
        parsed: &'a Parsed,
        survey: &'a Survey,
        context: Option<ContextView<'a>>,
    ) -> Subject<'a> {
        let mut subject = Subject {
            source,
            parsed,
            survey,
            context,
            instructions: instructions(&parsed.dockerfile),
            scripts: Vec::new(),
        };
        let mut shells: Vec<Vec<String>> = Vec::new();
        for (index, stage) in parsed.dockerfile.stages.iter().enumerate() {
            let parent = subject.parent(index).and_then(|parent| shells.get(parent));
            let mut shell = parent.cloned().unwrap_or_default();
            let scripts = read_scripts(stage, &mut shell);
            shells.push(shell);
            subject.scripts.push(scripts);
        }
        subject
    }

    /// The instruction at a place, and the comments attached to it.
    pub(super) fn instruction_at(&self, offset: usize) -> Option<(Span, &'a [Spanned<String>])> {
        let found = self.last_before(offset)?;
        (offset <= found.0.end).then_some(found)
    }

    /// The last instruction that begins at a place or before it.
    pub(super) fn instruction_before(&self, offset: usize) -> Option<Span> {
        self.last_before(offset).map(|(span, _)| span)
    }

    fn last_before(&self, offset: usize) -> Option<(Span, &'a [Spanned<String>])> {
        let after = self
            .instructions
            .partition_point(|(instruction, _)| instruction.start <= offset);
        Some(self.instructions[after.checked_sub(1)?])
    }

    /// Diagnostics of a code that the parser or the evaluation told.
    pub(super) fn told(&self, id: &'static str) -> impl Iterator<Item = (Found, Span)> + '_ {
        let all = self
            .parsed
            .diagnostics
            .iter()
            .chain(&self.survey.diagnostics);
        all.filter(move |diagnostic| diagnostic.code == Code(id))
            .map(|diagnostic| {
                let span = diagnostic.span.unwrap_or_default();
                (Found::told(diagnostic), span)
            })
    }

    /// As [`told`](Subject::told), for rules that add nothing to it.
    pub(super) fn all_told(&self, id: &'static str) -> Vec<Found> {
        self.told(id).map(|(found, _)| found).collect()
    }

    /// The stages that evaluation-time rules look at (R-CHK-5), with their index.
    pub(super) fn stages(&self) -> impl Iterator<Item = (usize, &'a Stage)> + '_ {
        let stages = self.parsed.dockerfile.stages.iter().enumerate();
        stages.filter(|(index, _)| {
            self.survey
                .stages
                .get(*index)
                .is_none_or(|stage| stage.evaluated)
        })
    }

    /// The stages whose layers are in the final image, the target first.
    pub(super) fn shipped(&self) -> Vec<(usize, &'a Stage)> {
        let last = self.parsed.dockerfile.stages.len().checked_sub(1);
        let mut next = self.survey.target.or(last);
        let mut shipped = Vec::new();
        while let Some(index) = next {
            shipped.push((index, &self.parsed.dockerfile.stages[index]));
            next = self.parent(index).filter(|parent| *parent < index);
        }
        shipped
    }

    fn parent(&self, index: usize) -> Option<usize> {
        self.survey.stages.get(index)?.parent
    }

    /// The RUNs of a stage that could be read.
    pub(super) fn scripts(&self, stage: usize) -> &[RunScript<'a>] {
        self.scripts.get(stage).map_or(&[], Vec::as_slice)
    }

    /// The RUNs of all stages that are looked at.
    pub(super) fn all_scripts(&self) -> impl Iterator<Item = &RunScript<'a>> {
        self.stages().flat_map(|(index, _)| self.scripts(index))
    }

    /// Where some words stand in an instruction; the instruction itself when they are not there to the letter.
    pub(super) fn place(&self, statement: Span, words: &str) -> Span {
        match self.source.snippet(statement).find(words) {
            Some(at) => Span::new(statement.start + at, statement.start + at + words.len()),
            None => statement,
        }
    }

    /// Where a command of a RUN stands, that is its first words if they are there to the letter, else its name.
    pub(super) fn place_of(&self, run: &RunScript<'_>, command: &Command, words: &str) -> Span {
        let statement = run.statement.span;
        let text = self.source.snippet(statement);
        let name = words.split(' ').next().unwrap_or(words);
        // Of commands with one name it is as many-th in the text as in the script.
        let mut earlier = run.script.commands.iter();
        let earlier = earlier
            .by_ref()
            .take_while(|other| !std::ptr::eq(*other, command))
            .filter(|other| other.name() == command.name())
            .count();
        let mut places = text
            .match_indices(name)
            .map(|(at, _)| at)
            .filter(|at| shell::is_command_at(text, *at, name));
        let Some(at) = places.nth(earlier) else {
            return self.place(statement, words);
        };
        let length = if text[at..].starts_with(words) {
            words.len()
        } else {
            name.len()
        };
        let start = statement.start + at;
        Span::new(start, start + length)
    }

    /// A stage from its FROM to the end of its last instruction.
    pub(super) fn stage_span(&self, stage: &Stage) -> Span {
        let last = stage.statements.last();
        last.map_or(stage.span, |last| stage.span.to(last.span))
    }

    /// The text of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.source.snippet(span)
    }
}

impl RunScript<'_> {
    /// Whether a cache or tmpfs is mounted at or above a path, so that what is left there is in no layer.
    pub(super) fn mounts_over(&self, path: &str) -> bool {
        self.kept_apart().any(|target| {
            path == target
                || path
                    .strip_prefix(target)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Whether a cache or tmpfs is mounted at a path with this word in it.
    pub(super) fn mounts_over_named(&self, word: &str) -> bool {
        self.kept_apart().any(|target| target.contains(word))
    }

    /// Where caches and tmpfs are mounted.
    fn kept_apart(&self) -> impl Iterator<Item = &str> {
        let kept = self.run.mounts.iter().filter(|mount| {
            let kind = mount.value("type");
            kind.is_some_and(|kind| matches!(kind.raw(), "cache" | "tmpfs"))
        });
        kept.filter_map(|mount| {
            let mut keys = ["target", "dst", "destination"].iter();
            let target = keys.find_map(|key| mount.value(key))?;
            Some(target.raw().trim_end_matches('/'))
        })
    }
}

fn instructions(dockerfile: &Dockerfile) -> Vec<(Span, &[Spanned<String>])> {
    let globals = dockerfile.global_args.iter();
    let mut instructions: Vec<_> = globals.map(|arg| (arg.span, &arg.comments[..])).collect();
    for stage in &dockerfile.stages {
        instructions.push((stage.span, &stage.comments[..]));
        let statements = stage.statements.iter();
        instructions.extend(statements.map(|it| (it.span, &it.comments[..])));
    }
    instructions
}

fn read_scripts<'a>(stage: &'a Stage, shell: &mut Vec<String>) -> Vec<RunScript<'a>> {
    let mut scripts = Vec::new();
    for statement in &stage.statements {
        match &statement.instruction {
            Instruction::Shell(new) => shell.clone_from(&new.argv),
            Instruction::Run(run) => scripts.extend(read_script(statement, run, shell)),
            _ => {}
        }
    }
    scripts
}

fn read_script<'a>(
    statement: &'a Statement,
    run: &'a Run,
    shell: &[String],
) -> Option<RunScript<'a>> {
    let script = match run.script() {
        Script::Exec(argv) => ShellScript::exec(argv),
        Script::Shell(text) if is_posix(shell) => shell::read(&text)?,
        Script::Shell(_) | Script::File { .. } => return None,
    };
    let pipefail = shell.iter().any(|word| word.contains("pipefail")) || script.sets_pipefail();
    Some(RunScript {
        statement,
        run,
        script,
        pipefail,
    })
}

/// Whether SHELL, or what stands for it, reads text as we do.
fn is_posix(shell: &[String]) -> bool {
    let program = shell.first().map_or("sh", |program| {
        program.rsplit('/').next().unwrap_or(program)
    });
    ["sh", "bash", "ash", "dash", "ksh", "zsh"].contains(&program)
}
