//! Two corresponding steps beside each other: what of the difference is their own.

use std::collections::BTreeMap;

use super::{Cause, FileCause, folders, ignored};
use crate::builds::{ArgumentRecord, GraphRecord, SourceRecord, StageRecord, StepRecord};
use crate::{Difference, Field, Value};

/// A step in its build.
pub(super) struct Side<'a> {
    graph: &'a GraphRecord,
    step: &'a StepRecord,
}

/// What two steps differ in.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// What is about the step itself.
    pub(super) own: Vec<Cause>,
    /// What is about the files of contexts that it reads, which nobody but people change.
    pub(super) edited: Vec<Cause>,
    /// What is about the files of other steps that it reads, which may be the work of these.
    pub(super) read: Vec<Cause>,
    /// Whether the root filesystem that it changes is another one.
    pub(super) root_differs: bool,
}

impl<'a> Side<'a> {
    pub(super) fn new(graph: &'a GraphRecord, step: &'a StepRecord) -> Self {
        Self { graph, step }
    }

    fn stage(&self) -> Option<&'a StageRecord> {
        self.graph.stage_of(self.step)
    }

    /// The steps that it reads files of, by position.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (usize, &'a StepRecord)> {
        let inputs = self.step.inputs.iter();
        inputs.map(|at| (*at, &self.graph.steps[*at]))
    }

    /// What the name of a download or repository stood for.
    fn stood_for(&self) -> Option<String> {
        let name = self.step.source.as_deref()?;
        let mut sources = self.graph.sources.iter();
        sources.find_map(|source| match source {
            SourceRecord::Download { address, content } if address == name => {
                Some(content.to_string())
            }
            SourceRecord::Repository {
                address,
                asked,
                commit,
                ..
            } => {
                let asked = asked.as_deref().map(|asked| format!("#{asked}"));
                let address = format!("{address}{}", asked.unwrap_or_default());
                (address == name).then(|| commit.clone())
            }
            _ => None,
        })
    }

    /// Whether what is mounted somewhere is from a context.
    fn shows_context(&self, target: &str) -> bool {
        let mut shown = self.step.shown.iter();
        let shown = shown.find(|shown| shown.target == target);
        shown.is_some_and(|shown| self.graph.steps[shown.from].kind == "context")
    }

    /// What a path that the step reads is called in the context at a position; `None` if it isn't of that.
    pub(super) fn path_in(&self, context: usize, path: &str) -> Option<String> {
        if self.step.kind != "exec" {
            // Those of stages have a slash in front.
            return (!path.starts_with('/')).then(|| path.to_owned());
        }
        self.step.shown.iter().find_map(|shown| {
            let below = path.strip_prefix(shown.target.trim_end_matches('/'))?;
            let is_it = shown.from == context && (below.is_empty() || below.starts_with('/'));
            let source = shown.source.trim_matches('/');
            is_it.then(|| {
                format!("{source}{below}")
                    .trim_start_matches('/')
                    .to_owned()
            })
        })
    }

    /// Whether an ARG of the step's stage, or of one that it may be based on, gives a variable its value.
    fn declares(&self, name: &str, value: Option<&str>) -> bool {
        let is_it = |argument: &ArgumentRecord| {
            argument.name == name && argument.value.as_deref() == value && value.is_some()
        };
        let last = self.step.stage.map_or(0, |stage| stage + 1);
        let stages = self.graph.stages.iter().take(last);
        stages.flat_map(|stage| &stage.arguments).any(is_it)
    }
}

/// Two sources. Contexts have no causes: what was read of them is told by who read it.
pub(super) fn sources(now: &Side<'_>, before: &Side<'_>) -> Vec<Cause> {
    let (one, other) = (now.step, before.step);
    let cause = match one.kind.as_str() {
        "image" => match base(now, before) {
            Some(cause) => Some(cause),
            None if one.source != other.source => Some(base_image(now, before)),
            None => None,
        },
        "http" | "git" if one.output() != other.output() => Some(Cause::Source {
            name: one.source.clone().unwrap_or_default(),
            before: before.stood_for(),
            after: now.stood_for(),
        }),
        _ => None,
    };
    cause.into_iter().collect()
}

fn base_image(now: &Side<'_>, before: &Side<'_>) -> Cause {
    let name = now.step.instruction();
    let name = name.strip_prefix("FROM ").unwrap_or(name);
    // What it stands for is told by itself, unless somebody wrote it.
    let is_written = now.stage().is_none_or(|stage| stage.text.contains('@'));
    let name = match name.split_once('@') {
        Some((name, _)) if !is_written => name,
        _ => name,
    };
    let digest = |side: &Side<'_>| side.step.source.clone().unwrap_or_default();
    Cause::BaseImage {
        name: name.to_owned(),
        before: digest(before),
        after: digest(now),
    }
}

/// What another FROM the stage of the step has; `None` if it is the same.
pub(super) fn base(now: &Side<'_>, before: &Side<'_>) -> Option<Cause> {
    let (one, other) = (now.stage()?, before.stage()?);
    if let Some(cause) = platform(now, before) {
        return Some(cause);
    }
    if from(&one.text) != from(&other.text) {
        return Some(Cause::Instruction {
            before: other.text.clone(),
            after: one.text.clone(),
        });
    }
    changed_variables(&one.variables, &other.variables, |_, _, _| true)
        .into_iter()
        .next()
}

/// For which other platform the step is; `None` if it is for the same, or nobody knows.
fn platform(now: &Side<'_>, before: &Side<'_>) -> Option<Cause> {
    let (one, other) = (now.step.platform.as_ref()?, before.step.platform.as_ref()?);
    (one != other).then(|| Cause::Setting {
        name: "platform".to_owned(),
        before: other.clone(),
        after: one.clone(),
    })
}

/// A FROM without the stage's name, which makes no difference.
fn from(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split_whitespace().skip(1).collect();
    if let [.., keyword, _] = words[..]
        && keyword.eq_ignore_ascii_case("as")
    {
        words.truncate(words.len() - 2);
    }
    words
}

/// A step beside the same one of another machine, of which only the preimage is known.
pub(super) fn with_elsewhere(now: &Side<'_>, differences: &[Difference]) -> Compared {
    let mut compared = Compared::default();
    for difference in differences {
        let Difference::Field {
            name,
            before: old,
            after: new,
        } = difference
        else {
            if let Difference::Order { .. } = difference {
                compared.own.push(Cause::VariableOrder);
            }
            continue;
        };
        if name == "root filesystem" {
            compared.root_differs = true;
        } else if let Some(name) = name.strip_prefix("env ") {
            let (old, new) = (text(old), text(new));
            let is_argument = now.declares(name, new.as_deref());
            compared.own.push(variable(name, old, new, is_argument));
        } else if let (Some(Value::List(before)), Some(Value::List(after))) = (old, new)
            && let (Some(before), Some(after)) = (before.last(), after.last())
            && before != after
        {
            compared.own.push(Cause::Instruction {
                before: before.clone(),
                after: after.clone(),
            });
        } else if !is_content(name, old.as_ref(), new.as_ref()) {
            let setting = setting(name, old.as_ref(), new.as_ref());
            compared.own.push(setting.unwrap_or_else(|| Cause::Setting {
                name: name.clone(),
                before: shown(old.as_ref()),
                after: shown(new.as_ref()),
            }));
        }
    }
    let files: Vec<FileCause> = differences.iter().flat_map(FileCause::of).collect();
    if !files.is_empty() {
        compared.read.push(Cause::Files { files });
    }
    compared
}

/// What a step stands on, if that is another thing than on another machine.
pub(super) fn root_elsewhere(differences: &[Difference]) -> Option<Cause> {
    differences.iter().find_map(|difference| match difference {
        Difference::Field {
            name,
            before,
            after,
        } if name == "root filesystem" => Some(Cause::Setting {
            name: "the root filesystem it starts from".to_owned(),
            before: shown(before.as_ref()),
            after: shown(after.as_ref()),
        }),
        _ => None,
    })
}

/// Two steps with keys. Without `differences` the instructions are compared, and all they read may be different.
pub(super) fn steps(
    now: &Side<'_>,
    before: &Side<'_>,
    differences: Option<&[Difference]>,
) -> Compared {
    if let Some(cause) = platform(now, before) {
        return Compared {
            own: vec![cause],
            ..Compared::default()
        };
    }
    let Some(differences) = differences else {
        let text = text_change(now.step, before.step);
        return Compared {
            own: text.into_iter().collect(),
            root_differs: true,
            ..Compared::default()
        };
    };
    let mut compared = Compared::default();
    let mut rest = Vec::new();
    for difference in differences {
        match difference {
            Difference::Field { name, .. } if name == "root filesystem" => {
                compared.root_differs = true;
            }
            Difference::Field {
                name,
                before: old,
                after: new,
            } if name.starts_with("env ") => {
                let name = &name["env ".len()..];
                let (old, new) = (text(old), text(new));
                let is_argument =
                    before.declares(name, old.as_deref()) || now.declares(name, new.as_deref());
                compared.own.push(variable(name, old, new, is_argument));
            }
            Difference::Order { .. } => compared.own.push(Cause::VariableOrder),
            Difference::Field { .. } => rest.push(difference),
            _ => {}
        }
    }
    compared.fields(now, before, &rest);
    compared.files(now, before, differences, &rest);
    compared
}

impl Compared {
    /// Fields that an instruction's text, or a setting, speaks through.
    fn fields(&mut self, now: &Side<'_>, before: &Side<'_>, fields: &[&Difference]) {
        let mut is_text_told = false;
        for field in fields {
            let Difference::Field {
                name,
                before: old,
                after: new,
            } = field
            else {
                continue;
            };
            if is_content(name, old.as_ref(), new.as_ref()) {
                continue;
            }
            if let Some(setting) = setting(name, old.as_ref(), new.as_ref()) {
                self.own.push(setting);
                continue;
            }
            if is_text_told {
                continue;
            }
            is_text_told = true;
            let found = text_causes(now, before);
            match found.is_empty() {
                false => self.own.extend(found),
                true => self
                    .own
                    .push(hidden(name, now, before, old.as_ref(), new.as_ref())),
            }
        }
    }

    /// Files and what is mounted.
    fn files(
        &mut self,
        now: &Side<'_>,
        before: &Side<'_>,
        differences: &[Difference],
        fields: &[&Difference],
    ) {
        let files = differences.iter().flat_map(FileCause::of).collect();
        let mut files = folders::told(ignored::told(now, before, files));
        if now.step.kind == "exec" {
            let changed = fields.iter().filter_map(|field| mounted(field));
            for target in changed {
                let prefix = format!("{}/", target.trim_end_matches('/'));
                let of_mount =
                    |file: &FileCause| file.path == target || file.path.starts_with(&prefix);
                let (of_mount, others) = files.into_iter().partition(of_mount);
                files = others;
                let told = match now.shows_context(&target) {
                    true => &mut self.edited,
                    false => &mut self.read,
                };
                told.push(Cause::Mount {
                    target,
                    files: of_mount,
                });
            }
            return;
        }
        // Another instruction reads other files; what it does not read any more is not gone.
        let causes = text_causes(now, before);
        if !causes.is_empty() {
            files.retain(|file| {
                let is_selection = [
                    "added",
                    "removed",
                    "renamed",
                    "ignored",
                    "unignored",
                    "type",
                ];
                !is_selection.contains(&file.change)
            });
            let has_source = |field: &&Difference| matches!(field, Difference::Field { name, .. } if name.starts_with("source "));
            let is_source = fields.iter().any(has_source) || differences.len() > fields.len();
            if self.own.is_empty() && is_source && files.is_empty() {
                self.own.extend(causes);
            }
        }
        let is_of_step = |file: &FileCause| file.path.starts_with('/');
        let (read, edited): (Vec<_>, Vec<_>) = files.into_iter().partition(is_of_step);
        for (files, told) in [(edited, &mut self.edited), (read, &mut self.read)] {
            if !files.is_empty() {
                told.push(Cause::Files { files });
            }
        }
    }
}

/// What is said of an instruction otherwise: its text, or the variables in it.
pub(super) fn text_causes(now: &Side<'_>, before: &Side<'_>) -> Vec<Cause> {
    let text = text_change(now.step, before.step);
    let is_argument = |name: &str, old: Option<&str>, new: Option<&str>| {
        before.declares(name, old) || now.declares(name, new)
    };
    let mut variables = changed_variables(&now.step.variables, &before.step.variables, is_argument);
    if text.is_some() || now.step.text.contains("<<") {
        variables.retain(|cause| !is_only_named(cause, now, before));
    }
    text.into_iter().chain(variables).collect()
}

/// Whether a variable came or went with the text that names it, and is what it was.
fn is_only_named(cause: &Cause, now: &Side<'_>, before: &Side<'_>) -> bool {
    let (Cause::Argument {
        name,
        before: old,
        after: new,
    }
    | Cause::Variable {
        name,
        before: old,
        after: new,
    }) = cause
    else {
        return false;
    };
    let is_declared = |value: &str| {
        let value = Some(value);
        now.declares(name, value) && before.declares(name, value)
    };
    match (old, new) {
        (Some(value), None) | (None, Some(value)) => {
            matches!(cause, Cause::Variable { .. }) || is_declared(value)
        }
        _ => false,
    }
}

fn text_change(now: &StepRecord, before: &StepRecord) -> Option<Cause> {
    let is_same = match now.kind.as_str() {
        // A shell may make something of every blank.
        "exec" => now.text == before.text,
        _ => {
            let (mut now, mut before) = (words(&now.text), words(&before.text));
            now.0.eq_ignore_ascii_case(before.0) && now.1.by_ref().eq(before.1.by_ref())
        }
    };
    (!is_same).then(|| Cause::Instruction {
        before: before.text.clone(),
        after: now.text.clone(),
    })
}

/// The keyword of an instruction, and what follows it.
fn words(text: &str) -> (&str, std::str::SplitWhitespace<'_>) {
    let mut words = text.split_whitespace();
    (words.next().unwrap_or_default(), words)
}

fn changed_variables(
    now: &[(String, String)],
    before: &[(String, String)],
    is_argument: impl Fn(&str, Option<&str>, Option<&str>) -> bool,
) -> Vec<Cause> {
    let map = |pairs: &'_ [(String, String)]| -> BTreeMap<String, String> {
        pairs.iter().cloned().collect()
    };
    let (now, before) = (map(now), map(before));
    let mut names: Vec<&String> = now.keys().chain(before.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let changed = names
        .into_iter()
        .filter(|name| now.get(*name) != before.get(*name));
    changed
        .map(|name| {
            let (old, new) = (before.get(name).cloned(), now.get(name).cloned());
            let is_argument = is_argument(name, old.as_deref(), new.as_deref());
            variable(name, old, new, is_argument)
        })
        .collect()
}

fn variable(name: &str, before: Option<String>, after: Option<String>, is_argument: bool) -> Cause {
    let name = name.to_owned();
    match is_argument {
        true => Cause::Argument {
            name,
            before,
            after,
        },
        false => Cause::Variable {
            name,
            before,
            after,
        },
    }
}

/// Whether a field is only about the content of files, which are told by themselves.
fn is_content(name: &str, before: Option<&Value>, after: Option<&Value>) -> bool {
    match (before, after) {
        (Some(Value::Contents(_)), Some(Value::Contents(_))) => true,
        (Some(Value::Group(before)), Some(Value::Group(after))) if name.starts_with("mount ") => {
            others(before).eq(others(after))
        }
        _ => false,
    }
}

/// The fields of a mount but for what it shows.
fn others(fields: &[Field]) -> impl Iterator<Item = &Field> {
    fields.iter().filter(|field| field.name != "from")
}

/// Where a mount is that shows something else.
fn mounted(difference: &Difference) -> Option<String> {
    let Difference::Field {
        name,
        before: Some(before),
        after: Some(after @ Value::Group(fields)),
    } = difference
    else {
        return None;
    };
    is_content(name, Some(before), Some(after)).then_some(())?;
    let target = fields.iter().find(|field| field.name == "target")?;
    text(&Some(target.value.clone()))
}

/// What other instructions and flags set for a step.
fn setting(name: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Cause> {
    let called = match name {
        "cwd" => "WORKDIR",
        "user" => "USER",
        "owner" => "USER",
        "date" => "SOURCE_DATE_EPOCH",
        "hostname" | "extra hosts" | "network" | "security" | "platform" | "ulimits"
        | "shm size" | "cgroup parent" => name,
        _ => return None,
    };
    Some(Cause::Setting {
        name: called.to_owned(),
        before: shown(before),
        after: shown(after),
    })
}

/// A field that differs though the instruction and its variables are the same: something outside changed its meaning.
fn hidden(
    name: &str,
    now: &Side<'_>,
    before: &Side<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Cause {
    let is_same_text = now.step.text == before.step.text;
    match (name, old, new) {
        // What differs is below the instruction's own line.
        ("argv", Some(Value::List(old)), Some(Value::List(new)))
            if is_same_text
                && now.step.text.contains("<<")
                && old.len() == new.len()
                && old[..old.len().saturating_sub(1)] == new[..new.len().saturating_sub(1)] =>
        {
            Cause::Instruction {
                before: before.step.text.clone(),
                after: now.step.text.clone(),
            }
        }
        ("argv", Some(Value::List(old)), Some(Value::List(new)))
            if old.last() == new.last() && old.len() + new.len() > 2 =>
        {
            let shell = |argv: &[String]| argv[..argv.len().saturating_sub(1)].join(" ");
            Cause::Setting {
                name: "SHELL".to_owned(),
                before: shell(old),
                after: shell(new),
            }
        }
        ("destination", Some(Value::Text(old)), Some(Value::Text(new))) if is_same_text => {
            let (before, after) = without_common_end(old, new);
            Cause::Setting {
                name: "WORKDIR".to_owned(),
                before: before.to_owned(),
                after: after.to_owned(),
            }
        }
        _ if name.starts_with("file ") || name.starts_with("source ") => Cause::Instruction {
            before: before.step.text.clone(),
            after: now.step.text.clone(),
        },
        _ => Cause::Setting {
            name: name.to_owned(),
            before: shown(old),
            after: shown(new),
        },
    }
}

/// Two paths without the components that both end with: `/v/x` and `/w/x` are `/v` and `/w`.
fn without_common_end<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let (mut one, mut other) = (one, other);
    while let (Some((above, name)), Some((other_above, other_name))) =
        (one.rsplit_once('/'), other.rsplit_once('/'))
        && name == other_name
    {
        (one, other) = (above, other_above);
    }
    let or_root = |path: &'a str| if path.is_empty() { "/" } else { path };
    (or_root(one), or_root(other))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::Text(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn text(value: &Option<Value>) -> Option<String> {
    match value {
        Some(Value::Text(text)) => Some(text.clone()),
        Some(value) => Some(value.to_string()),
        None => None,
    }
}
