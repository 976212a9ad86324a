//! What a target takes from outside: build arguments, secrets, SSH agents. `--call=outline` (R-CLI-7).
//!
//! The instructions are evaluated as for a plan, but an outline asks no registry: images are taken to set nothing, and their triggers
//! are not known.

use std::collections::{HashMap, HashSet};

use kiln_image::ImageConfig;
use kiln_parser::{
    Arg, Diagnostic, Dockerfile, Instruction, Parsed, Span, Spanned, Statement, Variables,
};

use crate::doc_comment::description;
use crate::evaluate::Builder;
use crate::resolve::{Base, Resolution};
use crate::{
    Argument, ArgumentOrigin, BaseImage, Bases, Mount, Op, PlanOptions, Vertex, base_images, code,
};

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The target's name; `None` for a last stage without one.
    pub name: Option<String>,
    /// What the comment above its FROM says of it.
    pub description: Option<String>,
    /// The arguments that the stages use which the target needs, each name once.
    pub arguments: Vec<OutlineArgument>,
    /// Secrets that RUNs mount, each id once.
    pub secrets: Vec<OutlineMount>,
    /// SSH agents that RUNs mount, each id once.
    pub ssh: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArgument {
    /// Its name.
    pub name: String,
    /// The value it has with the options given.
    pub value: Option<String>,
    /// What the comment above its ARG says of it.
    pub description: Option<String>,
    /// The ARG instruction.
    pub span: Span,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether that RUN fails without it.
    pub required: bool,
    /// The first RUN that mounts it.
    pub span: Option<Span>,
}

/// Finds out what the target takes.
///
/// # Errors
/// All that is wrong with the Dockerfile, as far as that can be known without base images.
pub fn outline(parsed: &Parsed, options: &PlanOptions) -> Result<Outline, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let bases = plain_images(parsed, options);
    let Some(resolution) = Resolution::of(parsed, options, &bases, &mut diagnostics) else {
        return Err(errors_of(diagnostics));
    };
    let mut builder = Builder::new(options, &resolution, &bases, None);
    builder.evaluate();
    diagnostics.append(&mut builder.diagnostics);
    let errors = errors_of(diagnostics);
    if !errors.is_empty() {
        return Err(errors);
    }
    let target = resolution.stages[resolution.target].stage;
    let asked = asked(&resolution);
    let (secrets, ssh) = mounts(&builder, &asked);
    Ok(Outline {
        name: target.name().map(str::to_owned),
        description: target
            .name()
            .and_then(|name| description(&target.comments, name)),
        arguments: arguments(&resolution, &builder, parsed, &asked),
        secrets,
        ssh,
    })
}

/// Images that set nothing, in the place of all that are needed.
fn plain_images(parsed: &Parsed, options: &PlanOptions) -> Bases {
    let mut bases = Bases::new();
    while let Ok(missing) = base_images(parsed, options, &bases) {
        let before = bases.len();
        bases.extend(missing.iter().map(|request| {
            let image = BaseImage {
                manifest_digest: None,
                config: ImageConfig::for_platform(&request.platform),
            };
            (request.key(), image)
        }));
        if bases.len() == before {
            break;
        }
    }
    bases
}

fn errors_of(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.retain(|one| one.is_error() && one.code != code::BASE_NOT_RESOLVED);
    diagnostics
}

/// The target, its bases, and what they read. Where two of them say something of one name, the first counts.
fn asked(resolution: &Resolution<'_>) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    let mut next = vec![resolution.target];
    while let Some(stage) = next.pop() {
        if !seen.insert(stage) {
            continue;
        }
        asked.push(stage);
        let resolved = &resolution.stages[stage];
        next.extend(resolved.dependencies.iter().rev().map(|read| read.stage));
        if let Base::Stage(base) = resolved.base {
            next.push(base);
        }
    }
    asked
}

/// The arguments that a stage declares or its FROM uses, and those that their defaults are made of.
fn arguments(
    resolution: &Resolution<'_>,
    builder: &Builder<'_>,
    parsed: &Parsed,
    asked: &[usize],
) -> Vec<OutlineArgument> {
    let globals: HashMap<&str, OutlineArgument> = (resolution.globals.arguments.iter())
        .map(|argument| (argument.name.as_str(), row(argument, parsed)))
        .collect();
    let made_of = made_of(&parsed.dockerfile, &resolution.globals.values);
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for &stage in asked {
        let own = own(resolution, &builder.arguments[stage], parsed);
        let declared = builder.arguments[stage].iter();
        let mut used: Vec<String> = declared.map(|argument| argument.name.clone()).collect();
        used.extend(used_by_from(resolution, stage));
        let mut followed = HashSet::new();
        let mut next = 0;
        while let Some(name) = used.get(next).cloned() {
            next += 1;
            if !followed.insert(name.clone()) {
                continue;
            }
            let known = own.get(name.as_str()).or_else(|| {
                used.extend(made_of.get(name.as_str()).into_iter().flatten().cloned());
                globals.get(name.as_str())
            });
            if let Some(row) = known
                && seen.insert(name)
            {
                rows.push(row.clone());
            }
        }
    }
    rows.sort_by_key(|row: &OutlineArgument| row.span);
    rows
}

/// What a stage itself says of its arguments; of one that has the value of the global scope or of kiln it says nothing.
fn own<'a>(
    resolution: &Resolution<'_>,
    arguments: &'a [Argument],
    parsed: &Parsed,
) -> HashMap<&'a str, OutlineArgument> {
    let values = &resolution.globals.values;
    let mut own = HashMap::new();
    for argument in arguments {
        let given = matches!(
            argument.origin,
            ArgumentOrigin::BuildArg | ArgumentOrigin::Default
        );
        let row = row(argument, parsed);
        if given || values.lookup(&argument.name).is_none() {
            own.insert(argument.name.as_str(), row);
        }
    }
    own
}

fn row(argument: &Argument, parsed: &Parsed) -> OutlineArgument {
    let is_it = |span: Span| span.start <= argument.span.start && argument.span.end <= span.end;
    let globals = parsed.dockerfile.global_args.iter();
    let mut global = globals.filter(|arg: &&Statement<Arg>| is_it(arg.span));
    let local = || {
        let stages = parsed.dockerfile.stages.iter();
        let mut statements = stages.flat_map(|stage| &stage.statements);
        let arg = |one: &&Statement| matches!(one.instruction, Instruction::Arg(_));
        statements.find(|one| arg(one) && is_it(one.span))
    };
    let (comments, span): (&[Spanned<String>], Span) = match global.next() {
        Some(statement) => (&statement.comments, statement.span),
        None => local().map_or((&[], argument.span), |arg| (&arg.comments, arg.span)),
    };
    // What ENV or kiln itself sets is not the ARG's.
    let given = matches!(
        argument.origin,
        ArgumentOrigin::BuildArg | ArgumentOrigin::Default
    );
    OutlineArgument {
        name: argument.name.clone(),
        value: argument.value.clone().filter(|_| given),
        description: description(comments, &argument.name),
        span,
    }
}

/// For each ARG of the global scope the variables in its default.
fn made_of(dockerfile: &Dockerfile, values: &dyn Variables) -> HashMap<String, Vec<String>> {
    let mut made_of: HashMap<String, Vec<String>> = HashMap::new();
    let pairs = dockerfile.global_args.iter();
    for pair in pairs.flat_map(|arg| &arg.instruction.pairs) {
        let default = pair.default.as_ref();
        let expanded = default.and_then(|word| word.expand(values).ok());
        let mut used = expanded.map(|it| it.used).unwrap_or_default();
        let before = made_of.remove(&pair.name.value).unwrap_or_default();
        if used.contains(&pair.name.value) {
            used.extend(before);
        }
        made_of.insert(pair.name.value.clone(), used);
    }
    made_of
}

/// The variables with a value that the FROM of a stage uses.
fn used_by_from(resolution: &Resolution<'_>, stage: usize) -> Vec<String> {
    let from = &resolution.stages[stage].stage.from;
    let words = std::iter::once(&from.image).chain(&from.platform);
    let values = &resolution.globals.values;
    let expanded = words.filter_map(|word| word.expand(values).ok());
    let used = expanded.flat_map(|it| it.used);
    used.filter(|name| values.lookup(name).is_some()).collect()
}

/// Secrets and agents, in the order of the file.
fn mounts(builder: &Builder<'_>, asked: &[usize]) -> (Vec<OutlineMount>, Vec<OutlineMount>) {
    let (mut secrets, mut ssh) = (Vec::new(), Vec::new());
    let turns: HashMap<usize, usize> = asked.iter().copied().zip(0..).collect();
    let turn = |vertex: &Vertex| vertex.stage.and_then(|stage| turns.get(&stage).copied());
    let vertices = builder.graph.node_weights();
    let mut vertices: Vec<_> = vertices
        .filter_map(|vertex| Some((turn(vertex)?, vertex)))
        .collect();
    vertices.sort_by_key(|(turn, _)| *turn);
    for (_, vertex) in vertices {
        let Op::Exec(exec) = &vertex.op else { continue };
        for mount in &exec.mounts {
            match mount {
                Mount::Secret(secret) => {
                    note(&mut secrets, &secret.id, secret.required, vertex.span);
                }
                Mount::Ssh(agent) => note(&mut ssh, &agent.id, agent.required, vertex.span),
                Mount::Bind(_) | Mount::Cache(_) | Mount::Tmpfs(_) => {}
            }
        }
    }
    secrets.sort_by_key(|row| row.span);
    ssh.sort_by_key(|row| row.span);
    (secrets, ssh)
}

/// The first RUN that mounts it counts.
fn note(rows: &mut Vec<OutlineMount>, name: &str, required: bool, span: Option<Span>) {
    if rows.iter().all(|row| row.name != name) {
        rows.push(OutlineMount {
            name: name.to_owned(),
            required,
            span,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kiln_parser::{Source, parse};

    const TEXT: &str = "\
# GO which compiler
ARG GO=1.22
FROM golang:$GO AS build
ARG GO
# MODE how fast
ARG MODE=${GO:+fast} FROM_BASE=$GOPATH
RUN --mount=type=secret,id=token --mount=type=ssh make
RUN --mount=type=secret,id=token,required make
FROM scratch AS unused
ARG NOT_HERE
# app the program
FROM scratch AS app
ARG TARGETOS
COPY --from=build /a /a
";

    fn outlined(text: &str, build_args: &[(&str, &str)]) -> Result<Outline, Vec<Diagnostic>> {
        let mut options = PlanOptions::new("linux/amd64".parse().unwrap());
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        options.build_args = build_args.iter().map(owned).collect();
        outline(&parse(&Source::new("Dockerfile", text)), &options)
    }

    fn rows(outline: &Outline) -> Vec<(&str, Option<&str>, Option<&str>)> {
        let rows = outline.arguments.iter();
        rows.map(|one| (&*one.name, one.value.as_deref(), one.description.as_deref()))
            .collect()
    }

    #[test]
    fn needed_stages_and_the_global_scope_count() {
        // R-CLI-7, R-LEX-15, R-STG-2
        let outline = outlined(TEXT, &[("GO", "1.23")]).unwrap();
        assert_eq!(outline.name.as_deref(), Some("app"));
        assert_eq!(outline.description.as_deref(), Some("the program"));
        let expected = [
            // The stage's own ARG is given, and has no comment.
            ("GO", Some("1.23"), None),
            ("MODE", Some("fast"), Some("how fast")),
            ("FROM_BASE", Some(""), None),
        ];
        assert_eq!(rows(&outline), expected);
    }

    #[test]
    fn arguments_that_nothing_uses_are_left_out() {
        // R-CLI-7, R-ARG-1
        let text = "\
# A first
ARG A=a
ARG B=${A}b UNUSED=1
# C in front
ARG C
FROM x:$B AS base
# C behind
ARG C
ARG A=other TARGETOS
FROM base
ENV E=e
ARG E
";
        let outline = outlined(text, &[]).unwrap();
        let expected = [
            ("B", Some("ab"), None),
            ("C", None, Some("behind")),
            ("A", Some("other"), None),
            ("E", None, None),
        ];
        assert_eq!(rows(&outline), expected);
    }

    #[test]
    fn the_first_mount_of_a_secret_counts() {
        // R-CLI-7
        let outline = outlined(TEXT, &[]).unwrap();
        let named = |rows: &[OutlineMount]| -> Vec<(String, bool)> {
            rows.iter()
                .map(|row| (row.name.clone(), row.required))
                .collect()
        };
        assert_eq!(named(&outline.secrets), [("token".to_owned(), false)]);
        assert_eq!(named(&outline.ssh), [("default".to_owned(), false)]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let errors = outlined("FROM base\nCOPY --from=9 a b\n", &[]).unwrap_err();
        let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
        assert_eq!(codes, [code::STAGE_INDEX]);
    }
}
