//! What the rules look at.

use kiln_parser::{
    Code, Dockerfile, IgnoreFile, Instruction, Parsed, Run, Script, Source, Span, Spanned, Stage,
    Statement,
};

use super::finding::Found;
use super::shell::{self, ShellScript};
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

    /// A stage from its FROM to the end of its last instruction.
    pub(super) fn stage_span(&self, stage: &Stage) -> Span {
        let last = stage.statements.last();
        last.map_or(stage.span, |last| stage.span.to(last.span))
    }

    /// Whether a stage sets or declares a variable.
    pub(super) fn sets_variable(&self, stage: &Stage, name: &str) -> bool {
        stage.statements.iter().any(|it| match &it.instruction {
            Instruction::Env(env) => env.pairs.iter().any(|(key, _)| key.raw() == name),
            Instruction::Arg(arg) => arg.pairs.iter().any(|pair| pair.name.value == name),
            _ => false,
        })
    }

    /// The text of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.source.snippet(span)
    }
}

impl RunScript<'_> {
    /// Whether a cache or tmpfs is mounted at or above a path, so that what is left there is in no layer.
    pub(super) fn mounts_over(&self, path: &str) -> bool {
        self.run.mounts.iter().any(|mount| {
            let kept = mount.value("type").is_some_and(|kind| {
                let kind = kind.raw();
                kind == "cache" || kind == "tmpfs"
            });
            let target = ["target", "dst", "destination"]
                .iter()
                .find_map(|key| mount.value(key));
            kept && target.is_some_and(|target| {
                let target = target.raw().trim_end_matches('/');
                path == target
                    || path
                        .strip_prefix(target)
                        .is_some_and(|rest| rest.starts_with('/'))
            })
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
