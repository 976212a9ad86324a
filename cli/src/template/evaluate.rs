//! Filling a template in.

use serde_json::Value;

use super::function::{Functions, is_true, kind, printed};
use super::parse::{Base, Call, Command, Names, Node, Pipeline, Term};

/// The variables that are set, the innermost last, and which form the functions have.
pub(super) struct Scope {
    variables: Vec<(String, Value)>,
    functions: Functions,
}

impl Scope {
    /// With `$` alone.
    pub(super) fn new(dot: &Value, functions: Functions) -> Self {
        Self {
            variables: vec![(String::new(), dot.clone())],
            functions,
        }
    }

    fn variable(&mut self, name: &str) -> &mut Value {
        let found = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        &mut found
            .expect("the parser refuses variables that are not set")
            .1
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// At its end.
    On,
    /// With what ends this turn of a `range`.
    Continue,
    /// With what ends a `range`.
    Break,
}

/// Appends what the nodes give.
pub(super) fn evaluate(
    nodes: &[Node],
    dot: &Value,
    scope: &mut Scope,
    out: &mut String,
) -> Result<Flow, String> {
    let known = scope.variables.len();
    let flow = evaluate_each(nodes, dot, scope, out);
    scope.variables.truncate(known);
    flow
}

fn evaluate_each(
    nodes: &[Node],
    dot: &Value,
    scope: &mut Scope,
    out: &mut String,
) -> Result<Flow, String> {
    for node in nodes {
        let mut flow = Flow::On;
        match node {
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&printed(&value(pipeline, dot, scope)?)),
            Node::Set {
                name,
                declares,
                value: pipeline,
            } => {
                let value = value(pipeline, dot, scope)?;
                match declares {
                    true => scope.variables.push((name.clone(), value)),
                    false => *scope.variable(name) = value,
                }
            }
            Node::If {
                branches,
                otherwise,
            } => {
                let mut chosen = otherwise;
                for (test, body) in branches {
                    if is_true(&value(test, dot, scope)?) {
                        chosen = body;
                        break;
                    }
                }
                flow = evaluate(chosen, dot, scope, out)?;
            }
            Node::With {
                name,
                value: pipeline,
                body,
                otherwise,
            } => {
                let found = value(pipeline, dot, scope)?;
                flow = match is_true(&found) {
                    true => {
                        let outside = scope.variables.len();
                        scope
                            .variables
                            .extend(name.iter().map(|name| (name.clone(), found.clone())));
                        let flow = evaluate(body, &found, scope, out)?;
                        scope.variables.truncate(outside);
                        flow
                    }
                    false => evaluate(otherwise, dot, scope, out)?,
                };
            }
            Node::Range {
                names,
                over,
                body,
                otherwise,
            } => {
                let over = value(over, dot, scope)?;
                let items = items(over, scope.functions)?;
                if items.is_empty() {
                    flow = evaluate(otherwise, dot, scope, out)?;
                }
                for item in items {
                    if each(names, item, body, scope, out)? == Flow::Break {
                        break;
                    }
                }
            }
        }
        if flow != Flow::On {
            return Ok(flow);
        }
    }
    Ok(Flow::On)
}

fn each(
    names: &Names,
    (key, item): (Value, Value),
    body: &[Node],
    scope: &mut Scope,
    out: &mut String,
) -> Result<Flow, String> {
    let known = scope.variables.len();
    scope
        .variables
        .extend(names.key.iter().map(|name| (name.clone(), key.clone())));
    scope
        .variables
        .extend(names.value.iter().map(|name| (name.clone(), item.clone())));
    let flow = evaluate(body, &item, scope, out)?;
    scope.variables.truncate(known);
    Ok(flow)
}

/// What `range` goes over; maps in the order of their keys, as Go has it.
fn items(over: Value, functions: Functions) -> Result<Vec<(Value, Value)>, String> {
    match over {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(at, item)| (at.into(), item))
            .collect()),
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Ok(entries
                .into_iter()
                .map(|(key, item)| (key.into(), item))
                .collect())
        }
        heading @ Value::String(_) if functions == Functions::Headings => {
            Ok(vec![(0.into(), heading)])
        }
        other => Err(format!(
            "`range` is over {}, not over a list or a map",
            kind(&other)
        )),
    }
}

fn value(pipeline: &Pipeline, dot: &Value, scope: &mut Scope) -> Result<Value, String> {
    piped(&pipeline.first, &pipeline.then, dot, scope)
}

fn piped(first: &Command, then: &[Call], dot: &Value, scope: &mut Scope) -> Result<Value, String> {
    let mut result = match first {
        Command::Value(term) => term_value(term, dot, scope)?,
        Command::Call(call) => called(call, None, dot, scope)?,
    };
    for call in then {
        result = called(call, Some(result), dot, scope)?;
    }
    Ok(result)
}

fn called(
    call: &Call,
    last: Option<Value>,
    dot: &Value,
    scope: &mut Scope,
) -> Result<Value, String> {
    let arguments = call
        .arguments
        .iter()
        .map(|term| term_value(term, dot, scope));
    let mut arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    arguments.extend(last);
    call.function.call(arguments, scope.functions)
}

fn term_value(term: &Term, dot: &Value, scope: &mut Scope) -> Result<Value, String> {
    let base = match &term.base {
        Base::Dot => return field(dot, term),
        Base::Variable(name) => scope.variable(name).clone(),
        Base::Literal(value) => value.clone(),
        Base::Nested(first, then) => piped(first, then, dot, scope)?,
    };
    field(&base, term)
}

/// The field of a value that a term names. A map without it is an error, as Docker has it: a slip of the pen is noticed.
fn field(value: &Value, term: &Term) -> Result<Value, String> {
    let mut found = value;
    for name in &term.fields {
        found = match found {
            Value::Object(entries) => entries
                .get(name)
                .ok_or_else(|| missing(name, term, entries))?,
            Value::Null => found,
            other => {
                return Err(format!(
                    "`{}` asks for a field of {}",
                    path(term),
                    kind(other)
                ));
            }
        };
    }
    Ok(found.clone())
}

fn missing(name: &str, term: &Term, entries: &serde_json::Map<String, Value>) -> String {
    let mut names: Vec<_> = entries.keys().map(|name| format!("`{name}`")).collect();
    names.sort();
    let there = match names.is_empty() {
        true => "it is empty".to_owned(),
        false => format!("only {}", names.join(", ")),
    };
    format!("there is no field `{name}` in `{}`, {there}", path(term))
}

fn path(term: &Term) -> String {
    let base = match &term.base {
        Base::Variable(name) => format!("${name}"),
        Base::Nested(..) => "(…)".to_owned(),
        Base::Dot | Base::Literal(_) => String::new(),
    };
    format!("{base}.{}", term.fields.join("."))
}
