//! Which stages there are, what they are based on, and which of them the target needs.
//!
//! All of this is known before any instruction is evaluated, except that ONBUILD triggers of base images may add dependencies, and
//! the stages these make reachable may have base images with triggers in turn: hence a loop (R-STG-10, steps 5 to 10).

use std::collections::HashSet;

use kiln_image::{Platform, Reference};
use kiln_parser::{
    Copy, CopySource, Diagnostic, Instruction, MountFlag, Parsed, Span, Spanned, Stage, Statement,
    parse_trigger, suggest,
};
use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::scope::Globals;
use crate::{BaseKey, BaseRequest, Bases, ContextName, NamedContext, PlanOptions, code};

/// The stages, put in relation.
#[derive(Debug)]
pub(crate) struct Resolution<'a> {
    pub(crate) globals: Globals,
    pub(crate) stages: Vec<ResolvedStage<'a>>,
    /// The stage to build.
    pub(crate) target: usize,
    /// Stages that are built too.
    pub(crate) also: Vec<usize>,
    /// Images that are needed and not known.
    pub(crate) missing: Vec<BaseRequest>,
}

#[derive(Debug)]
pub(crate) struct ResolvedStage<'a> {
    pub(crate) stage: &'a Stage,
    /// The base as expanded.
    pub(crate) base_text: String,
    pub(crate) base: Base,
    /// The named context that the base is.
    pub(crate) context: Option<ContextName>,
    /// Whether the context takes the place of the stage, so that its instructions are as if they were not there (R-CTX-3).
    pub(crate) replaced: bool,
    pub(crate) platform: Platform,
    /// Whether `--platform` says so.
    pub(crate) platform_given: bool,
    /// What its base has it do first (R-ONB-3); only of reachable stages.
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) reachable: bool,
    triggers_known: bool,
    /// The stages it reads, in the order of the file.
    pub(crate) dependencies: Vec<Dependency>,
    images: Vec<(ImageName, Span)>,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Stage(usize),
    Scratch,
    Image(ImageName),
    /// The files of a named context.
    Files(ContextName),
    /// An error was told; the stage can't be evaluated.
    Unknown,
}

/// What an image is asked for by, on any platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    pub(crate) reference: Reference,
    pub(crate) layout: Option<ContextName>,
}

/// A trigger that fires, read.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) text: String,
    pub(crate) statement: Statement,
}

/// What a `from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Stage(usize),
    Scratch,
    Image(ImageName),
    /// The files of a named context.
    Files(ContextName),
}

/// That a stage reads another one.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) stage: usize,
    pub(crate) span: Span,
    /// The target of the mount, for `RUN --mount`.
    pub(crate) mount: Option<String>,
}

/// A `from` in an instruction.
struct FromName<'s> {
    name: &'s str,
    span: Span,
    /// `--from=0` is stage 0 in COPY, and the image `0` in a mount (R-MNT-7).
    numbers: bool,
    mount: Option<String>,
}

impl<'a> Resolution<'a> {
    /// Puts the stages in relation. `None` when there is nothing to build.
    pub(crate) fn of(
        parsed: &'a Parsed,
        options: &PlanOptions,
        bases: &Bases,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let dockerfile = &parsed.dockerfile;
        let globals = Globals::evaluate(dockerfile, options, diagnostics);
        let mut stages: Vec<ResolvedStage<'a>> = Vec::with_capacity(dockerfile.stages.len());
        for stage in &dockerfile.stages {
            let resolved = Resolver {
                globals: &globals,
                options,
                earlier: &stages,
            }
            .stage(stage, diagnostics);
            stages.push(resolved);
        }
        let target = find_target(&stages, parsed, options, diagnostics)?;
        let also = options.also_targets.iter();
        let also = also.map(|wanted| find_stage(&stages, wanted, diagnostics));
        let also = also
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Option<Vec<_>>>()?;
        for index in 0..stages.len() {
            for statement in stages[index].statements() {
                add_dependencies(&mut stages, index, statement, None, options, diagnostics);
            }
        }
        let needed: Vec<usize> = if options.all_stages {
            (0..stages.len()).collect()
        } else {
            also.iter().copied().chain([target]).collect()
        };
        fire_triggers(&mut stages, &needed, options, bases, diagnostics);
        check_order(&stages, diagnostics);
        let missing = missing_images(&stages, options, bases);
        Some(Resolution {
            globals,
            stages,
            target,
            also,
            missing,
        })
    }

    /// What a `from` of a COPY (`numbers`) or mount in a stage names. Errors were told when the stages were put in relation.
    pub(crate) fn origin(
        &self,
        stage: usize,
        name: &str,
        numbers: bool,
        options: &PlanOptions,
    ) -> Option<Origin> {
        origin(&self.stages, stage, name, numbers, options).ok()
    }
}

impl<'a> ResolvedStage<'a> {
    fn name(&self) -> Option<&str> {
        self.stage.name()
    }

    /// Its instructions, without those of its base's triggers.
    pub(crate) fn statements(&self) -> &'a [Statement] {
        match self.replaced {
            true => &[],
            false => &self.stage.statements,
        }
    }

    /// The image it starts from, as asked for.
    pub(crate) fn base_key(&self) -> Option<BaseKey> {
        match &self.base {
            Base::Image(image) => Some(image.on(&self.platform)),
            _ => None,
        }
    }
}

impl ImageName {
    /// The image for a platform.
    pub(crate) fn on(&self, platform: &Platform) -> BaseKey {
        BaseKey {
            reference: self.reference.clone(),
            platform: platform.clone(),
            layout: self.layout.clone(),
        }
    }
}

impl From<Reference> for ImageName {
    fn from(reference: Reference) -> Self {
        ImageName {
            reference,
            layout: None,
        }
    }
}

/// What a named context means where a `from` stands.
fn context_origin(name: &ContextName, context: &NamedContext) -> Origin {
    match context {
        NamedContext::Empty => Origin::Scratch,
        NamedContext::Files | NamedContext::Git(_) | NamedContext::Http(_) => {
            Origin::Files(name.clone())
        }
        NamedContext::Image(reference) => Origin::Image(reference.clone().into()),
        NamedContext::Layout => Origin::Image(ImageName {
            reference: name.reference(),
            layout: Some(name.clone()),
        }),
    }
}

impl From<Origin> for Base {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Stage(index) => Base::Stage(index),
            Origin::Scratch => Base::Scratch,
            Origin::Image(image) => Base::Image(image),
            Origin::Files(name) => Base::Files(name),
        }
    }
}

/// Reads FROM lines (R-FROM-3, R-FROM-4, R-FROM-13).
struct Resolver<'r, 'a> {
    globals: &'r Globals,
    options: &'r PlanOptions,
    earlier: &'r [ResolvedStage<'a>],
}

impl<'a> Resolver<'_, 'a> {
    fn stage(&self, stage: &'a Stage, diagnostics: &mut Vec<Diagnostic>) -> ResolvedStage<'a> {
        let (base_text, base) = self.base(stage, diagnostics);
        let given = self.platform(stage, diagnostics);
        let platform_given = given.is_some();
        let wanted = given.as_ref().unwrap_or(&self.options.target_platform);
        let own = |name| self.options.contexts.of_stage(name, wanted);
        let (base, context, replaced) = match stage.name().and_then(own) {
            Some((name, context)) => (
                context_origin(name, context).into(),
                Some(name.clone()),
                true,
            ),
            None => self.overridden(&base_text, base, wanted),
        };
        let platform = match (&base, given) {
            // There is nothing of another platform in an empty tree.
            (Base::Scratch, _) => self.options.target_platform.clone(),
            (_, Some(platform)) => platform,
            (Base::Stage(parent), None) => self.earlier[*parent].platform.clone(),
            (_, None) => self.options.target_platform.clone(),
        };
        ResolvedStage {
            stage,
            base_text: match (&context, replaced) {
                (Some(context), true) => format!("context {context}"),
                _ => base_text,
            },
            base,
            context,
            replaced,
            platform,
            platform_given,
            triggers: Vec::new(),
            reachable: false,
            triggers_known: false,
            dependencies: Vec::new(),
            images: Vec::new(),
        }
    }

    /// The base, or the named context that takes its place. An earlier stage with that name was replaced itself.
    fn overridden(
        &self,
        text: &str,
        base: Base,
        platform: &Platform,
    ) -> (Base, Option<ContextName>, bool) {
        let found = match &base {
            Base::Image(_) => self.options.contexts.find(text, platform),
            _ => None,
        };
        match found {
            Some((name, context)) => (
                context_origin(name, context).into(),
                Some(name.clone()),
                false,
            ),
            None => (base, None, false),
        }
    }

    fn base(&self, stage: &Stage, diagnostics: &mut Vec<Diagnostic>) -> (String, Base) {
        let word = &stage.from.image;
        if word.raw().is_empty() {
            // The parser has told what is wrong with this line.
            return (String::new(), Base::Unknown);
        }
        let Some(text) = self.expand(word, diagnostics) else {
            return (String::new(), Base::Unknown);
        };
        if text.trim().is_empty() {
            let error = Diagnostic::error(
                code::BASE_NAME,
                format!("base name ({}) should not be blank", word.raw()),
                word.span,
            );
            diagnostics.push(error.help(
                "give the ARG a default before the first FROM, or pass it with `--build-arg`",
            ));
            return (text, Base::Unknown);
        }
        let base = match self
            .earlier
            .iter()
            .rposition(|earlier| earlier.name() == Some(text.as_str()))
        {
            Some(index) => Base::Stage(index),
            None if text == "scratch" => Base::Scratch,
            None => self.image(&text, word.span, diagnostics),
        };
        (text, base)
    }

    fn image(&self, text: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Base {
        match text.parse::<Reference>() {
            Ok(reference) => Base::Image(reference.into()),
            Err(error) => {
                let lower = text.to_lowercase();
                let stage = self
                    .earlier
                    .iter()
                    .filter_map(ResolvedStage::name)
                    .find(|name| *name == lower);
                let error = Diagnostic::error(
                    code::BASE_NAME,
                    format!("failed to parse stage name {text:?}: {error}"),
                    span,
                );
                diagnostics.push(match stage {
                    Some(name) => error
                        .note("FROM finds stages by their name in lower case")
                        .did_you_mean(Some(name)),
                    None => error,
                });
                Base::Unknown
            }
        }
    }

    fn platform(&self, stage: &Stage, diagnostics: &mut Vec<Diagnostic>) -> Option<Platform> {
        let word = stage
            .from
            .platform
            .as_ref()
            .filter(|word| !word.raw().is_empty())?;
        let text = self.expand(word, diagnostics)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.raw());
            diagnostics.push(Diagnostic::error(code::PLATFORM, message, word.span));
            return None;
        }
        match text.parse() {
            Ok(platform) => Some(platform),
            Err(error) => {
                let message = format!("failed to parse platform {text}: {error}");
                diagnostics.push(Diagnostic::error(code::PLATFORM, message, word.span));
                None
            }
        }
    }

    fn expand(
        &self,
        word: &Spanned<kiln_parser::Word>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<String> {
        match word.expand(&self.globals.values) {
            Ok(expanded) => {
                let is_known = |name: &&String| {
                    self.globals.declared.contains(*name)
                        || self.globals.values.names().any(|known| known == *name)
                };
                // A default stands in for a value that nobody can ever give, so it is told too.
                for name in expanded.used.iter().filter(|name| !is_known(name)) {
                    let known = self
                        .globals
                        .values
                        .names()
                        .chain(self.globals.declared.iter().map(String::as_str));
                    let message = format!("FROM argument '{name}' is not declared");
                    let warning =
                        Diagnostic::warning(code::UNDEFINED_ARG_IN_FROM, message, word.span);
                    diagnostics.push(warning.did_you_mean(suggest(name, known)));
                }
                Some(expanded.text)
            }
            Err(error) => {
                diagnostics.push(Diagnostic::error(
                    code::EXPANSION,
                    error.to_string(),
                    word.span,
                ));
                None
            }
        }
    }
}

/// The stage to build (R-STG-1).
fn find_target(
    stages: &[ResolvedStage<'_>],
    parsed: &Parsed,
    options: &PlanOptions,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<usize> {
    let Some(last) = stages.len().checked_sub(1) else {
        if !parsed.has_errors() {
            diagnostics.push(Diagnostic::error(
                code::NO_STAGES,
                "dockerfile contains no stages to build",
                None,
            ));
        }
        return None;
    };
    let Some(wanted) = &options.target else {
        return Some(last);
    };
    find_stage(stages, wanted, diagnostics)
}

/// The stage of this name; the last of several (R-STG-7).
fn find_stage(
    stages: &[ResolvedStage<'_>],
    wanted: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<usize> {
    let lower = wanted.to_lowercase();
    let found = stages
        .iter()
        .rposition(|stage| stage.name() == Some(lower.as_str()));
    if found.is_none() {
        let names: Vec<&str> = stages.iter().filter_map(ResolvedStage::name).collect();
        let error = Diagnostic::error(
            code::UNKNOWN_TARGET,
            format!("target stage {wanted:?} could not be found"),
            None,
        );
        let error = if names.is_empty() {
            error.note("no stage of this Dockerfile has a name; name one with `FROM … AS name`")
        } else {
            error.note(format!("the stages are {}", quoted_list(&names)))
        };
        diagnostics.push(error.did_you_mean(suggest(&lower, names.iter().copied())));
    }
    found
}

fn quoted_list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What `name` means in a stage (R-COPY-2, R-MNT-7). Of stages with one name the latest that precedes counts (R-STG-7); a later one
/// is found only to say that it is too late.
fn origin(
    stages: &[ResolvedStage<'_>],
    stage: usize,
    name: &str,
    numbers: bool,
    options: &PlanOptions,
) -> Result<Origin, Box<Diagnostic>> {
    let refuse = |code, message: String| Err(Box::new(Diagnostic::error(code, message, None)));
    if numbers && let Ok(index) = name.parse::<i64>() {
        return match usize::try_from(index) {
            Ok(index) if index < stages.len() => Ok(Origin::Stage(index)),
            _ => refuse(code::STAGE_INDEX, format!("invalid stage index {index}")),
        };
    }
    let lower = name.to_lowercase();
    let is_named = |candidate: &ResolvedStage<'_>| candidate.name() == Some(lower.as_str());
    let earlier = stages[..stage].iter().rposition(is_named);
    if let Some(index) = earlier.or_else(|| stages.iter().position(is_named)) {
        return Ok(Origin::Stage(index));
    }
    if name == "scratch" {
        return Ok(Origin::Scratch);
    }
    if let Some((name, context)) = options.contexts.find(name, &options.target_platform) {
        return Ok(context_origin(name, context));
    }
    match name.parse::<Reference>() {
        Ok(reference) => Ok(Origin::Image(reference.into())),
        Err(error) => refuse(code::BASE_NAME, format!("{error}")),
    }
}

/// Notes what a statement of a stage reads. What a trigger reads is placed at the FROM. When it fires, its stage may be read as it is by
/// then, as the reference builder allows; an instruction of the stage itself may not.
fn add_dependencies(
    stages: &mut [ResolvedStage<'_>],
    index: usize,
    statement: &Statement,
    trigger: Option<&str>,
    options: &PlanOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for from in from_names(statement) {
        let span = if trigger.is_some() {
            stages[index].stage.span
        } else {
            from.span
        };
        match origin(stages, index, from.name, from.numbers, options) {
            Ok(Origin::Stage(stage)) if stage == index && trigger.is_some() => {}
            Ok(Origin::Stage(stage)) => stages[index].dependencies.push(Dependency {
                stage,
                span,
                mount: from.mount,
            }),
            Ok(Origin::Image(image)) => stages[index].images.push((image, span)),
            Ok(Origin::Scratch | Origin::Files(_)) => {}
            Err(error) => {
                let error = Diagnostic {
                    span: Some(span),
                    ..*error
                };
                diagnostics.push(match trigger {
                    Some(text) => in_trigger(error, text, span),
                    None => error,
                });
            }
        }
    }
}

fn from_names(statement: &Statement) -> Vec<FromName<'_>> {
    let names = match &statement.instruction {
        Instruction::Copy(copy) => copy_from(copy).into_iter().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(mount_from).collect(),
        _ => Vec::new(),
    };
    // Variables were refused by the parser (R-COPY-3, R-MNT-3).
    names
        .into_iter()
        .filter(|from| !from.name.is_empty() && !from.name.contains('$'))
        .collect()
}

fn copy_from(copy: &Copy) -> Option<FromName<'_>> {
    let reads = copy
        .sources
        .iter()
        .any(|source| matches!(source.value, CopySource::Path(_)));
    let from = copy.from.as_ref().filter(|_| reads)?;
    Some(FromName {
        name: &from.value,
        span: from.span,
        numbers: true,
        mount: None,
    })
}

fn mount_from(mount: &Spanned<MountFlag>) -> Option<FromName<'_>> {
    let from = mount.value("from")?;
    let target = ["target", "dst", "destination"]
        .iter()
        .find_map(|key| mount.value(key));
    let target = target
        .map(|target| target.raw().to_owned())
        .unwrap_or_default();
    Some(FromName {
        name: from.raw(),
        span: mount.span,
        numbers: false,
        mount: Some(target),
    })
}

/// Reads the triggers of the bases of reachable stages until no more stages become reachable (R-ONB-3, R-ONB-4).
fn fire_triggers(
    stages: &mut [ResolvedStage<'_>],
    needed: &[usize],
    options: &PlanOptions,
    bases: &Bases,
    diagnostics: &mut Vec<Diagnostic>,
) {
    loop {
        mark_reachable(stages, needed);
        let is_new = |stage: &ResolvedStage<'_>| stage.reachable && !stage.triggers_known;
        let indices = 0..stages.len();
        let new: Vec<usize> = indices.filter(|index| is_new(&stages[*index])).collect();
        if new.is_empty() {
            return;
        }
        for stage in new {
            fire(stages, stage, options, bases, diagnostics);
        }
    }
}

/// Reads the triggers of one stage's base, and notes what they read in turn.
fn fire(
    stages: &mut [ResolvedStage<'_>],
    stage: usize,
    options: &PlanOptions,
    bases: &Bases,
    diagnostics: &mut Vec<Diagnostic>,
) {
    stages[stage].triggers_known = true;
    let texts = trigger_texts(stages, &stages[stage], bases);
    let from = stages[stage].stage.span;
    let triggers: Vec<Trigger> = texts
        .into_iter()
        .filter_map(|text| read_trigger(text, from, diagnostics))
        .collect();
    for trigger in &triggers {
        let (statement, text) = (&trigger.statement, Some(trigger.text.as_str()));
        add_dependencies(stages, stage, statement, text, options, diagnostics);
    }
    stages[stage].triggers = triggers;
}

fn trigger_texts(
    stages: &[ResolvedStage<'_>],
    stage: &ResolvedStage<'_>,
    bases: &Bases,
) -> Vec<String> {
    if stage.replaced {
        return Vec::new();
    }
    match (&stage.base, stage.base_key()) {
        (Base::Stage(parent), _) => {
            let statements = stages[*parent].statements().iter();
            let triggers = statements.filter_map(|statement| match &statement.instruction {
                Instruction::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                _ => None,
            });
            triggers.collect()
        }
        (_, Some(key)) => bases
            .get(&key)
            .map(|base| base.config.config.on_build.clone())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn read_trigger(text: String, from: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Trigger> {
    match parse_trigger(&text) {
        Ok(statement) => match refused_trigger(&statement) {
            None => Some(Trigger { text, statement }),
            Some(message) => {
                diagnostics.push(Diagnostic::error(code::TRIGGER, message, from));
                None
            }
        },
        Err(errors) => {
            diagnostics.extend(
                errors
                    .into_iter()
                    .map(|error| in_trigger(error, &text, from)),
            );
            None
        }
    }
}

/// Base images may hold triggers that no Dockerfile could have given them (R-ONB-2).
fn refused_trigger(statement: &Statement) -> Option<&'static str> {
    match statement.instruction {
        Instruction::Onbuild(_) => Some("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        Instruction::Maintainer(_) => Some("MAINTAINER isn't allowed as an ONBUILD trigger"),
        _ => None,
    }
}

/// Places what is wrong in a trigger at the FROM that fired it (R-ONB-7).
pub(crate) fn in_trigger(diagnostic: Diagnostic, text: &str, from: Span) -> Diagnostic {
    let first_line = text.lines().next().unwrap_or_default();
    Diagnostic {
        span: Some(from),
        label: None,
        ..diagnostic
    }
    .note(format!("in the trigger `ONBUILD {first_line}` of the base"))
}

/// Marks the needed stages and those they need in turn (R-STG-2).
fn mark_reachable(stages: &mut [ResolvedStage<'_>], needed: &[usize]) {
    let mut waiting = needed.to_vec();
    let mut seen = HashSet::new();
    while let Some(index) = waiting.pop() {
        if seen.insert(index) {
            stages[index].reachable = true;
            waiting.extend(
                stages[index]
                    .dependencies
                    .iter()
                    .map(|dependency| dependency.stage),
            );
            if let Base::Stage(parent) = stages[index].base {
                waiting.push(parent);
            }
        }
    }
}

/// Refuses cycles (R-STG-8) and reading later stages (R-COPY-4). Where nothing is built, only a cycle of stages that read each
/// other is wrong: one that goes through a FROM is found as reading a later stage, when that is evaluated.
fn check_order(stages: &[ResolvedStage<'_>], diagnostics: &mut Vec<Diagnostic>) {
    let mut told = HashSet::new();
    for members in groups(stages, false) {
        if let Some(error) = cycle_error(stages, &members) {
            diagnostics.push(error);
            told.extend(members);
        }
    }
    let mut cycle_of = vec![0; stages.len()];
    for (number, members) in groups(stages, true).into_iter().enumerate() {
        members.iter().for_each(|member| cycle_of[*member] = number);
        let is_built = members.iter().any(|member| stages[*member].reachable);
        if is_built && !members.iter().any(|member| told.contains(member)) {
            diagnostics.extend(cycle_error(stages, &members));
        }
    }
    for (index, stage) in stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| stage.reachable)
    {
        let later = stage.dependencies.iter().filter(|dependency| {
            dependency.stage > index && cycle_of[dependency.stage] != cycle_of[index]
        });
        diagnostics.extend(later.map(|dependency| later_error(stages, index, dependency)));
    }
}

/// The stages in groups of those that need each other, in the order of the file within a group. Most groups have one member.
fn groups(stages: &[ResolvedStage<'_>], with_bases: bool) -> Vec<Vec<usize>> {
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    let nodes: Vec<_> = (0..stages.len())
        .map(|index| graph.add_node(index))
        .collect();
    for (index, stage) in stages.iter().enumerate() {
        for dependency in &stage.dependencies {
            graph.add_edge(nodes[index], nodes[dependency.stage], ());
        }
        if let (Base::Stage(parent), true) = (&stage.base, with_bases) {
            graph.add_edge(nodes[index], nodes[*parent], ());
        }
    }
    let in_order = |group: Vec<_>| {
        let mut members: Vec<usize> = group.into_iter().map(|node| graph[node]).collect();
        members.sort_unstable();
        members
    };
    tarjan_scc(&graph).into_iter().map(in_order).collect()
}

fn cycle_error(stages: &[ResolvedStage<'_>], members: &[usize]) -> Option<Diagnostic> {
    let mut on_cycle = members.iter().flat_map(|member| {
        let inside = stages[*member]
            .dependencies
            .iter()
            .filter(|dependency| members.contains(&dependency.stage));
        inside.map(|dependency| (*member, dependency))
    });
    let (first, dependency) = on_cycle.next()?;
    let message = format!(
        "circular dependency detected on stage: {}",
        stage_name(stages, first)
    );
    let mut error = Diagnostic::error(code::CYCLE, message, dependency.span);
    for (member, dependency) in std::iter::once((first, dependency)).chain(on_cycle) {
        error = error.note(format!(
            "stage `{}` reads stage `{}`",
            stage_name(stages, member),
            stage_name(stages, dependency.stage)
        ));
    }
    let bases = members
        .iter()
        .filter_map(|member| match stages[*member].base {
            Base::Stage(parent) if members.contains(&parent) => Some((*member, parent)),
            _ => None,
        });
    for (member, parent) in bases {
        error = error.note(format!(
            "stage `{}` is based on stage `{}`",
            stage_name(stages, member),
            stage_name(stages, parent)
        ));
    }
    Some(error)
}

fn later_error(stages: &[ResolvedStage<'_>], index: usize, dependency: &Dependency) -> Diagnostic {
    let (here, there) = (
        stage_name(stages, index),
        stage_name(stages, dependency.stage),
    );
    let message = match &dependency.mount {
        Some(target) => format!(
            "cannot mount from stage {there:?} to {target:?}, stage needs to be defined before current command"
        ),
        None => format!(
            "cannot copy from stage {there:?}, it needs to be defined before current stage {here:?}"
        ),
    };
    Diagnostic::error(code::LATER_STAGE, message, dependency.span)
        .help(format!("move stage `{there}` above stage `{here}`"))
}

/// A stage's name as progress shows it (R-STG-6).
fn stage_name(stages: &[ResolvedStage<'_>], index: usize) -> String {
    stages[index]
        .name()
        .map_or_else(|| format!("stage-{index}"), str::to_owned)
}

/// The images of reachable stages that nobody has resolved yet.
fn missing_images(
    stages: &[ResolvedStage<'_>],
    options: &PlanOptions,
    bases: &Bases,
) -> Vec<BaseRequest> {
    let mut missing: Vec<BaseRequest> = Vec::new();
    for stage in stages.iter().filter(|stage| stage.reachable) {
        let base = stage.base_key().map(|key| BaseRequest {
            reference: key.reference,
            platform: key.platform,
            layout: key.layout,
            span: stage.stage.span,
        });
        let copied = stage.images.iter().map(|(image, span)| BaseRequest {
            reference: image.reference.clone(),
            platform: options.target_platform.clone(),
            layout: image.layout.clone(),
            span: *span,
        });
        for request in base.into_iter().chain(copied) {
            let key = request.key();
            if !bases.contains_key(&key) && missing.iter().all(|other| other.key() != key) {
                missing.push(request);
            }
        }
    }
    missing
}
