//! From tokens to a tree.

use std::collections::BTreeSet;
use std::vec;

use serde_json::Value;

use super::function::Function;
use super::lex::{Action, Piece, Token};

/// How deep actions and parentheses may be nested.
const DEEPEST: usize = 100;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `{{$name := …}}` or `{{$name = …}}`.
    Set {
        name: String,
        declares: bool,
        value: Pipeline,
    },
    /// Conditions with what each is followed by, tried in order.
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        names: Names,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        name: Option<String>,
        value: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{break}}`: nothing more of the innermost `range`.
    Break,
    /// `{{continue}}`: nothing more of its turn.
    Continue,
}

/// The variables of `range $key, $value :=`; one alone is the value.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Names {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

/// Commands, each taking the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) first: Command,
    pub(super) then: Vec<Call>,
}

/// A value, or a function with arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Value(Term),
    Call(Call),
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) arguments: Vec<Term>,
}

/// A value, and fields of it: `$.Config.Cmd`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

/// What a term begins with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Nested(Box<Command>, Vec<Call>),
}

type Pieces = vec::IntoIter<Piece>;

/// What stands before `{{end}}` or `{{else}}`.
enum End {
    Closed,
    /// With the action after the word: `{{else if …}}`.
    Else(Action),
    OfTemplate,
}

/// How far inside a template a body is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// How many actions are around it.
    depth: usize,
    in_range: bool,
}

/// Reads a whole template.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    let mut pieces = pieces.into_iter();
    let mut names = vec![String::new()];
    let (nodes, end) = body(&mut pieces, &mut names, Place::default())?;
    match end {
        End::OfTemplate => Ok(nodes),
        End::Closed => Err("`{{end}}` belongs to nothing".to_owned()),
        End::Else(action) => Err(format!("`{}` belongs to nothing", action.source)),
    }
}

/// Everything up to the end of an action's body. `names` are the variables that are set.
fn body(
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<(Vec<Node>, End), String> {
    if place.depth > DEEPEST {
        return Err(format!("more than {DEEPEST} actions are nested"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        match action.keyword() {
            Some("end") => return Ok((nodes, End::Closed)),
            Some("else") => return Ok((nodes, End::Else(action))),
            Some("if") => nodes.push(if_node(action, pieces, names, place)?),
            Some("range") => nodes.push(range_node(action, pieces, names, place)?),
            Some("with") => nodes.push(with_node(action, pieces, names, place)?),
            Some("break") => nodes.push(turn(&action, Node::Break, place)?),
            Some("continue") => nodes.push(turn(&action, Node::Continue, place)?),
            Some(word @ ("define" | "template" | "block")) => {
                return Err(format!("`{word}` is not supported in templates"));
            }
            _ => nodes.push(plain_node(action, names)?),
        }
    }
    Ok((nodes, End::OfTemplate))
}

/// `{{break}}` or `{{continue}}`.
fn turn(action: &Action, node: Node, place: Place) -> Result<Node, String> {
    match (action.tokens.len(), place.in_range) {
        (1, true) => Ok(node),
        (1, false) => Err(format!("`{}` is in no `range`", action.source)),
        _ => Err(format!("`{}` can't be read to its end", action.source)),
    }
}

/// A body with its own variables, which must be closed.
fn closed_body(
    opened_by: &Action,
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<(Vec<Node>, Option<Action>), String> {
    let known = names.len();
    let place = Place {
        depth: place.depth + 1,
        ..place
    };
    let (nodes, end) = body(pieces, names, place)?;
    names.truncate(known);
    match end {
        End::Closed => Ok((nodes, None)),
        End::Else(action) => Ok((nodes, Some(action))),
        End::OfTemplate => Err(format!("`{}` has no `{{{{end}}}}`", opened_by.source)),
    }
}

/// What follows a plain `{{else}}`.
fn otherwise(
    opened_by: &Action,
    action: Option<Action>,
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<Vec<Node>, String> {
    let Some(action) = action else {
        return Ok(Vec::new());
    };
    if action.tokens.len() > 1 {
        return Err(format!(
            "`{}` is not supported here, only `{{{{else}}}}`",
            action.source
        ));
    }
    match closed_body(opened_by, pieces, names, place)? {
        (nodes, None) => Ok(nodes),
        (_, Some(more)) => Err(format!("`{}` comes after `{{{{else}}}}`", more.source)),
    }
}

fn if_node(
    action: Action,
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<Node, String> {
    let known = names.len();
    let opened_by = action.clone();
    let mut branches = Vec::new();
    let mut condition = action.without(1);
    loop {
        let test = Reader::new(&condition, names).whole()?;
        let (nodes, more) = closed_body(&opened_by, pieces, names, place)?;
        branches.push((test, nodes));
        match more {
            Some(more) if more.word(1) == Some("if") => condition = more.without(2),
            more => {
                let otherwise = otherwise(&opened_by, more, pieces, names, place)?;
                names.truncate(known);
                return Ok(Node::If {
                    branches,
                    otherwise,
                });
            }
        }
    }
}

fn range_node(
    action: Action,
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<Node, String> {
    let known = names.len();
    let source = action.without(1);
    let (variables, from) = match &source.tokens[..] {
        [Token::Variable(value), Token::Declare, ..] => (vec![value.clone()], 2),
        [
            Token::Variable(key),
            Token::Comma,
            Token::Variable(value),
            Token::Declare,
            ..,
        ] => (vec![key.clone(), value.clone()], 4),
        _ => (Vec::new(), 0),
    };
    let over = Reader::new(&source.without(from), names).whole()?;
    names.extend(variables.iter().cloned());
    let within = Place {
        in_range: true,
        ..place
    };
    let (body, more) = closed_body(&action, pieces, names, within)?;
    names.truncate(known);
    let otherwise = otherwise(&action, more, pieces, names, place)?;
    let mut variables = variables.into_iter().rev();
    let value = variables.next();
    let names = Names {
        value,
        key: variables.next(),
    };
    Ok(Node::Range {
        names,
        over,
        body,
        otherwise,
    })
}

fn with_node(
    action: Action,
    pieces: &mut Pieces,
    names: &mut Vec<String>,
    place: Place,
) -> Result<Node, String> {
    let known = names.len();
    let source = action.without(1);
    let (name, from) = match &source.tokens[..] {
        [Token::Variable(name), Token::Declare, ..] => (Some(name.clone()), 2),
        _ => (None, 0),
    };
    let value = Reader::new(&source.without(from), names).whole()?;
    names.extend(name.iter().cloned());
    let (body, more) = closed_body(&action, pieces, names, place)?;
    names.truncate(known);
    let otherwise = otherwise(&action, more, pieces, names, place)?;
    Ok(Node::With {
        name,
        value,
        body,
        otherwise,
    })
}

/// A value to print, or a variable to set.
fn plain_node(action: Action, names: &mut Vec<String>) -> Result<Node, String> {
    let (name, declares) = match &action.tokens[..] {
        [Token::Variable(name), Token::Declare, ..] => (name.clone(), true),
        [Token::Variable(name), Token::Assign, ..] => (name.clone(), false),
        _ => return Reader::new(&action, names).whole().map(Node::Print),
    };
    let value = Reader::new(&action.without(2), names).whole()?;
    match declares {
        true => names.push(name.clone()),
        false => known(&name, names)?,
    }
    Ok(Node::Set {
        name,
        declares,
        value,
    })
}

fn known(name: &String, names: &[String]) -> Result<(), String> {
    match names.contains(name) {
        true => Ok(()),
        false => Err(format!("`${name}` is not set")),
    }
}

impl Action {
    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn keyword(&self) -> Option<&str> {
        self.word(0)
    }

    /// The same without its first tokens.
    fn without(&self, count: usize) -> Self {
        Self {
            source: self.source.clone(),
            tokens: self.tokens[count..].to_vec(),
        }
    }
}

/// Reads the tokens of one action.
struct Reader<'a> {
    source: &'a str,
    tokens: &'a [Token],
    names: &'a [String],
}

impl<'a> Reader<'a> {
    fn new(action: &'a Action, names: &'a [String]) -> Self {
        Self {
            source: &action.source,
            tokens: &action.tokens,
            names,
        }
    }

    /// pipeline := command ("|" call)*
    fn whole(mut self) -> Result<Pipeline, String> {
        let pipeline = self.pipeline(0)?;
        match self.tokens {
            [] => Ok(pipeline),
            _ => Err(format!("`{}` can't be read to its end", self.source)),
        }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, String> {
        if depth > DEEPEST {
            return Err(format!("more than {DEEPEST} parentheses are nested"));
        }
        let first = self.command(depth)?;
        let mut then = Vec::new();
        while let [Token::Pipe, rest @ ..] = self.tokens {
            self.tokens = rest;
            let next = rest.first().map(shown).unwrap_or_default();
            match self.command(depth)? {
                Command::Call(call) => then.push(call),
                Command::Value(_) => {
                    return Err(format!("`{next}` in `{}` is not a function", self.source));
                }
            }
        }
        Ok(Pipeline { first, then })
    }

    /// command := function term* | term
    fn command(&mut self, depth: usize) -> Result<Command, String> {
        let [Token::Word(word), rest @ ..] = self.tokens else {
            let term = self.term(depth)?;
            return match term {
                Some(term) => Ok(Command::Value(term)),
                None => Err(format!("a value is missing in `{}`", self.source)),
            };
        };
        let function = Function::named(word).ok_or_else(|| {
            format!(
                "there is no function `{word}`, as in `{}`; there are {}",
                self.source,
                Function::all()
            )
        })?;
        self.tokens = rest;
        let mut arguments = Vec::new();
        while let Some(term) = self.term(depth)? {
            arguments.push(term);
        }
        Ok(Command::Call(Call {
            function,
            arguments,
        }))
    }

    /// term := ("." | field | variable | literal | "(" pipeline ")") field*
    fn term(&mut self, depth: usize) -> Result<Option<Term>, String> {
        let mut fields = Vec::new();
        let (base, rest) = match self.tokens {
            [Token::Dot, rest @ ..] => (Base::Dot, rest),
            [Token::Field { name, .. }, rest @ ..] => {
                fields.push(name.clone());
                (Base::Dot, rest)
            }
            [Token::Variable(name), rest @ ..] => {
                known(name, self.names)?;
                (Base::Variable(name.clone()), rest)
            }
            [Token::Literal(value), rest @ ..] => (Base::Literal(value.clone()), rest),
            [Token::Word(word), rest @ ..] => {
                let function = Function::named(word);
                let function = function.ok_or_else(|| {
                    format!("there is no function `{word}`, as in `{}`", self.source)
                })?;
                let call = Call {
                    function,
                    arguments: Vec::new(),
                };
                (
                    Base::Nested(Box::new(Command::Call(call)), Vec::new()),
                    rest,
                )
            }
            [Token::Open, rest @ ..] => {
                self.tokens = rest;
                let Pipeline { first, then } = self.pipeline(depth + 1)?;
                let [Token::Close, rest @ ..] = self.tokens else {
                    return Err(format!("a parenthesis is not closed in `{}`", self.source));
                };
                (Base::Nested(Box::new(first), then), rest)
            }
            _ => return Ok(None),
        };
        self.tokens = rest;
        while let [Token::Field { name, joined: true }, rest @ ..] = self.tokens {
            fields.push(name.clone());
            self.tokens = rest;
        }
        Ok(Some(Term { base, fields }))
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Literal(value) => value.to_string(),
        Token::Field { name, .. } => format!(".{name}"),
        Token::Variable(name) => format!("${name}"),
        Token::Dot => ".".to_owned(),
        _ => String::new(),
    }
}

impl Node {
    /// Adds the fields of the row that it speaks of.
    pub(super) fn fields<'n>(&'n self, found: &mut BTreeSet<&'n str>) {
        let (pipelines, bodies): (Vec<&Pipeline>, Vec<&Vec<Node>>) = match self {
            Self::Text(_) | Self::Break | Self::Continue => return,
            Self::Print(pipeline)
            | Self::Set {
                value: pipeline, ..
            } => (vec![pipeline], Vec::new()),
            Self::If {
                branches,
                otherwise,
            } => {
                let bodies = branches.iter().map(|(_, body)| body).chain([otherwise]);
                (
                    branches.iter().map(|(test, _)| test).collect(),
                    bodies.collect(),
                )
            }
            Self::Range {
                over: value,
                body,
                otherwise,
                ..
            }
            | Self::With {
                value,
                body,
                otherwise,
                ..
            } => (vec![value], vec![body, otherwise]),
        };
        for pipeline in pipelines {
            pipeline.first.fields(found);
            pipeline.then.iter().for_each(|call| call.fields(found));
        }
        for node in bodies.into_iter().flatten() {
            node.fields(found);
        }
    }
}

impl Command {
    fn fields<'n>(&'n self, found: &mut BTreeSet<&'n str>) {
        match self {
            Self::Value(term) => term.fields(found),
            Self::Call(call) => call.fields(found),
        }
    }
}

impl Call {
    fn fields<'n>(&'n self, found: &mut BTreeSet<&'n str>) {
        self.arguments.iter().for_each(|term| term.fields(found));
    }
}

impl Term {
    fn fields<'n>(&'n self, found: &mut BTreeSet<&'n str>) {
        match &self.base {
            Base::Dot | Base::Variable(_) => found.extend(self.fields.first().map(String::as_str)),
            Base::Literal(_) => {}
            Base::Nested(command, then) => {
                command.fields(found);
                then.iter().for_each(|call| call.fields(found));
            }
        }
    }
}
