//! What a target takes from outside: build arguments, secrets, SSH agents. `--call=outline` (R-CLI-7).
//!
//! The instructions are evaluated as for a plan, but without any base image: an outline asks no registry. A default that
//! depends on what an image sets has no value here, and triggers of images are not known.

use kiln_parser::{Arg, Diagnostic, Instruction, Parsed, Span, Spanned, Statement};

use crate::doc_comment::description;
use crate::evaluate::Builder;
use crate::resolve::Resolution;
use crate::{Argument, Bases, Mount, Op, PlanOptions, code};

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The target's name; `None` for a last stage without one.
    pub name: Option<String>,
    /// What the comment above its FROM says of it.
    pub description: Option<String>,
    /// Arguments of the global scope and of the stages that the target needs, each name once.
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
    /// The value it has with the options given: of its declarations the first that has one.
    pub value: Option<String>,
    /// What a comment above one of its ARGs says of it.
    pub description: Option<String>,
    /// Its first ARG.
    pub span: Span,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether a RUN fails without it.
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
    let bases = Bases::new();
    let Some(resolution) = Resolution::of(parsed, options, &bases, &mut diagnostics) else {
        return Err(errors_of(diagnostics));
    };
    let mut builder = Builder::new(options, &resolution, &bases);
    builder.evaluate();
    diagnostics.append(&mut builder.diagnostics);
    let errors = errors_of(diagnostics);
    if !errors.is_empty() {
        return Err(errors);
    }
    let target = resolution.stages[resolution.target].stage;
    let evaluated = resolution
        .globals
        .arguments
        .iter()
        .chain(builder.arguments.iter().flatten());
    let (secrets, ssh) = mounts(&builder);
    Ok(Outline {
        name: target.name().map(str::to_owned),
        description: target
            .name()
            .and_then(|name| description(&target.comments, name)),
        arguments: arguments(evaluated, parsed),
        secrets,
        ssh,
    })
}

fn errors_of(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.retain(|one| one.is_error() && one.code != code::BASE_NOT_RESOLVED);
    diagnostics
}

fn arguments<'a>(
    evaluated: impl Iterator<Item = &'a Argument>,
    parsed: &Parsed,
) -> Vec<OutlineArgument> {
    let mut rows: Vec<OutlineArgument> = Vec::new();
    for argument in evaluated {
        let described = described(argument, parsed);
        match rows.iter_mut().find(|row| row.name == argument.name) {
            Some(row) => {
                row.value = row.value.take().or_else(|| argument.value.clone());
                row.description = row.description.take().or(described);
            }
            None => rows.push(OutlineArgument {
                name: argument.name.clone(),
                value: argument.value.clone(),
                description: described,
                span: argument.span,
            }),
        }
    }
    rows
}

/// What the comments above an argument's own ARG say.
fn described(argument: &Argument, parsed: &Parsed) -> Option<String> {
    let is_it = |span: Span| span.start <= argument.span.start && argument.span.end <= span.end;
    let globals = parsed.dockerfile.global_args.iter();
    let mut global = globals.filter(|arg: &&Statement<Arg>| is_it(arg.span));
    let local = || {
        let stages = parsed.dockerfile.stages.iter();
        let mut statements = stages.flat_map(|stage| &stage.statements);
        let arg = |one: &&Statement| matches!(one.instruction, Instruction::Arg(_));
        statements.find(|one| arg(one) && is_it(one.span))
    };
    let comments: &[Spanned<String>] = match global.next() {
        Some(statement) => &statement.comments,
        None => &local()?.comments,
    };
    description(comments, &argument.name)
}

/// Secrets and agents, in the order of the steps.
fn mounts(builder: &Builder<'_>) -> (Vec<OutlineMount>, Vec<OutlineMount>) {
    let (mut secrets, mut ssh) = (Vec::new(), Vec::new());
    for vertex in builder.graph.node_weights() {
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
    (secrets, ssh)
}

fn note(rows: &mut Vec<OutlineMount>, name: &str, required: bool, span: Option<Span>) {
    match rows.iter_mut().find(|row| row.name == name) {
        Some(row) => row.required |= required,
        None => rows.push(OutlineMount {
            name: name.to_owned(),
            required,
            span,
        }),
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
            ("GO", Some("1.23"), Some("which compiler")),
            ("MODE", Some("fast"), Some("how fast")),
            ("FROM_BASE", None, None),
            ("TARGETOS", Some("linux"), None),
        ];
        assert_eq!(rows(&outline), expected);
    }

    #[test]
    fn a_mount_that_one_step_requires_is_required() {
        // R-CLI-7
        let outline = outlined(TEXT, &[]).unwrap();
        let named = |rows: &[OutlineMount]| -> Vec<(String, bool)> {
            rows.iter()
                .map(|row| (row.name.clone(), row.required))
                .collect()
        };
        assert_eq!(named(&outline.secrets), [("token".to_owned(), true)]);
        assert_eq!(named(&outline.ssh), [("default".to_owned(), false)]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let errors = outlined("FROM base\nCOPY --from=9 a b\n", &[]).unwrap_err();
        let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
        assert_eq!(codes, [code::STAGE_INDEX]);
    }
}
