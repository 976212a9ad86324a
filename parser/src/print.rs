//! A tree as a Dockerfile again, for tools that make or change trees.
//!
//! The text is canonical: keywords upper case, one blank between words, an instruction a line, flags in a fixed order. What a tree does
//! not hold is not in it: continuations, comments that belong to no instruction. Reading the text gives the same tree (places aside),
//! when the tree came from a file without errors. To change a file and keep the rest as it is written, replace spans of its text instead.

use std::fmt::Write as _;
use std::time::Duration;

use crate::instruction::{
    Add, Arg, CommandLine, Copy, CopySource, From, Healthcheck, Instruction, Network, Run,
    RunCommand, Security,
};
use crate::{CheckDirective, Dockerfile, Escape, Heredoc, RuleSet, Spanned, Stage, Word, heredoc};

/// The tree as text.
///
/// ```
/// use kiln_parser::{Source, parse, print::print};
///
/// let source = Source::new("Dockerfile", "from alpine\n# why\nrun  --network=none echo \\\n  hi");
/// let text = print(&parse(&source).dockerfile);
/// assert_eq!(text, "FROM alpine\n# why\nRUN --network=none echo   hi\n");
/// ```
#[must_use]
pub fn print(dockerfile: &Dockerfile) -> String {
    let mut printer = Printer {
        text: String::new(),
        escape: dockerfile.directives.escape,
    };
    printer.dockerfile(dockerfile);
    printer.text
}

struct Printer {
    text: String,
    escape: Escape,
}

impl Printer {
    fn dockerfile(&mut self, dockerfile: &Dockerfile) {
        let directives = &dockerfile.directives;
        if let Some(syntax) = &directives.syntax {
            self.pieces(&["# syntax=", syntax, "\n"]);
        }
        if directives.escape != Escape::default() {
            self.pieces(&["# escape=`\n"]);
        }
        if let Some(check) = &directives.check {
            self.pieces(&["# check=", &check_options(check), "\n"]);
        }
        for statement in &dockerfile.global_args {
            self.comments(&statement.comments);
            self.line(vec!["ARG".to_owned(), arguments(&statement.instruction)]);
        }
        for stage in &dockerfile.stages {
            self.stage(stage);
        }
    }

    fn pieces(&mut self, pieces: &[&str]) {
        self.text.extend(pieces.iter().copied());
    }

    /// Comments of an instruction. At the head of the file a bare `#` keeps the first from being a directive (R-DIR-2).
    fn comments(&mut self, comments: &[Spanned<String>]) {
        let in_head = self.text.lines().all(|line| line.starts_with("# "));
        if in_head && !comments.is_empty() {
            self.pieces(&["#\n"]);
        }
        for comment in comments {
            self.pieces(&["# ", comment, "\n"]);
        }
    }

    /// An instruction's line from its words; empty ones are left out.
    fn line(&mut self, words: Vec<String>) {
        let start = self.text.len();
        for word in words.iter().filter(|word| !word.is_empty()) {
            if self.text.len() > start {
                self.text.push(' ');
            }
            self.text.push_str(word);
        }
        self.text.extend(self.end_of_line());
        self.text.push('\n');
    }

    /// What keeps a line that ends in one escape character from being continued; several do not continue it (R-LEX-8, R-LEX-9).
    fn end_of_line(&self) -> Option<char> {
        let escape = self.escape.char();
        let line = self.text.trim_end_matches([' ', '\t']);
        let before = line.strip_suffix(escape)?;
        if before.ends_with(escape) {
            None
        } else if line.len() == self.text.len() {
            // A blank that is no space or tab, and is trimmed (R-LEX-11).
            Some('\u{b}')
        } else {
            // A trigger, of which blanks are a part, at the end of a file that was continued (R-LEX-10).
            Some(escape)
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let From {
            image,
            platform,
            name_as_written,
            ..
        } = &stage.from;
        self.comments(&stage.comments);
        let mut words = vec!["FROM".to_owned()];
        words.extend(self.word_flag("platform", platform.as_ref()));
        words.push(image.raw().to_owned());
        if let Some(name) = name_as_written {
            words.extend(["AS".to_owned(), name.clone()]);
        }
        self.line(words);
        for statement in &stage.statements {
            self.comments(&statement.comments);
            self.instruction(&statement.instruction);
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let (flags, arguments) = match instruction {
            Instruction::Add(add) => (self.add_flags(add), sources(&add.sources, &add.dest)),
            Instruction::Arg(arg) => (Vec::new(), arguments(arg)),
            Instruction::Cmd(cmd) => (Vec::new(), command(&cmd.command)),
            Instruction::Copy(copy) => (self.copy_flags(copy), sources(&copy.sources, &copy.dest)),
            Instruction::Entrypoint(entrypoint) => (Vec::new(), command(&entrypoint.command)),
            Instruction::Env(env) => (Vec::new(), pairs(&env.pairs, env.legacy)),
            Instruction::Expose(expose) => (Vec::new(), words(&expose.ports)),
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Label(label) => (Vec::new(), pairs(&label.pairs, label.legacy)),
            Instruction::Maintainer(maintainer) => (Vec::new(), maintainer.author.clone()),
            Instruction::Onbuild(onbuild) => (Vec::new(), onbuild.trigger.clone()),
            Instruction::Run(run) => (self.run_flags(run), run_text(run)),
            Instruction::Shell(shell) => (Vec::new(), json(&shell.argv)),
            Instruction::Stopsignal(stopsignal) => (Vec::new(), stopsignal.value.raw().to_owned()),
            Instruction::User(user) => (Vec::new(), user.value.raw().to_owned()),
            Instruction::Volume(volume) => (Vec::new(), paths(&volume.paths)),
            Instruction::Workdir(workdir) => (Vec::new(), workdir.value.raw().to_owned()),
        };
        let mut line = vec![instruction.keyword().to_owned()];
        line.extend(flags);
        if arguments.starts_with("--") {
            // The end of the flags (R-FLAG-1).
            line.push("--".to_owned());
        }
        line.push(arguments);
        let start = self.text.len();
        self.line(line);
        self.bodies(start, &heredocs(instruction));
    }

    /// The bodies of the heredocs that the line from `start` on opens: with unbalanced quotes it opens none, whatever the arguments
    /// of COPY look like (R-HD-3).
    fn bodies(&mut self, start: usize, heredocs: &[&Heredoc]) {
        if heredocs.is_empty() {
            return;
        }
        let openings = heredoc::openings(self.text[start..].trim_end());
        let names: Vec<String> = openings
            .into_iter()
            .map(|(_, opened)| opened.name)
            .collect();
        for (index, name) in names.iter().enumerate() {
            let same = |heredoc: &&&Heredoc| heredoc.name == *name;
            let body = heredocs.get(index).filter(same);
            let body = body.or_else(|| heredocs.iter().find(same));
            self.pieces(&[body.map_or("", |heredoc| &heredoc.body), name, "\n"]);
        }
    }

    /// `--name=value`, in quotes where needed (R-FLAG-2).
    fn flag(&self, name: &str, value: &str) -> String {
        let escape = self.escape.char();
        let special = |c: char| c.is_whitespace() || matches!(c, '"' | '\'') || c == escape;
        if !value.contains(special) {
            return format!("--{name}={value}");
        }
        let mut text = format!("--{name}=\"");
        for character in value.chars() {
            if character == '"' || character == escape {
                text.push(escape);
            }
            text.push(character);
        }
        text.push('"');
        text
    }

    fn word_flag(&self, name: &str, word: Option<&Spanned<Word>>) -> Option<String> {
        word.map(|word| self.flag(name, word.raw()))
    }

    fn text_flags<'a>(
        &'a self,
        name: &'a str,
        values: impl IntoIterator<Item = &'a Spanned<String>> + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        values.into_iter().map(move |value| self.flag(name, value))
    }

    fn copy_flags(&self, copy: &Copy) -> Vec<String> {
        let mut flags = Vec::new();
        flags.extend(self.text_flags("from", &copy.from));
        flags.extend(self.word_flag("chown", copy.chown.as_ref()));
        flags.extend(self.word_flag("chmod", copy.chmod.as_ref()));
        flags.extend(copy.link.then(|| "--link".to_owned()));
        flags.extend(copy.parents.then(|| "--parents".to_owned()));
        flags.extend(self.text_flags("exclude", &copy.exclude));
        flags
    }

    fn add_flags(&self, add: &Add) -> Vec<String> {
        let switch = |name: &str, on: Option<bool>| on.map(|on| format!("--{name}={on}"));
        let mut flags = Vec::new();
        flags.extend(self.word_flag("chown", add.chown.as_ref()));
        flags.extend(self.word_flag("chmod", add.chmod.as_ref()));
        flags.extend(add.link.then(|| "--link".to_owned()));
        flags.extend(switch("keep-git-dir", add.keep_git_dir));
        flags.extend(self.word_flag("checksum", add.checksum.as_ref()));
        flags.extend(switch("unpack", add.unpack));
        flags.extend(self.text_flags("exclude", &add.exclude));
        flags
    }

    fn run_flags(&self, run: &Run) -> Vec<String> {
        let mut flags: Vec<String> = run
            .mounts
            .iter()
            .map(|mount| self.flag("mount", &mount.raw))
            .collect();
        flags.extend(run.network.as_ref().map(|network| {
            let network = match network.value {
                Network::Default => "default",
                Network::None => "none",
                Network::Host => "host",
            };
            self.flag("network", network)
        }));
        flags.extend(run.security.as_ref().map(|security| {
            let security = match security.value {
                Security::Sandbox => "sandbox",
                Security::Insecure => "insecure",
            };
            self.flag("security", security)
        }));
        flags.extend(self.text_flags("device", &run.device));
        flags
    }

    fn healthcheck(&self, healthcheck: &Healthcheck) -> (Vec<String>, String) {
        let Healthcheck::Check {
            command: line,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = healthcheck
        else {
            return (Vec::new(), "NONE".to_owned());
        };
        let times = [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
        ];
        let mut flags: Vec<String> = times
            .into_iter()
            .filter_map(|(name, time)| Some(self.flag(name, &duration((*time)?))))
            .collect();
        flags.extend(retries.map(|retries| format!("--retries={retries}")));
        (flags, format!("CMD {}", command(line)))
    }
}

/// The value of a check directive (R-DIR-9).
fn check_options(check: &CheckDirective) -> String {
    let rules = |rules: &RuleSet| match rules {
        RuleSet::All => "all".to_owned(),
        RuleSet::Named(names) => names.join(","),
    };
    let mut options = format!("skip={}", rules(&check.skip));
    if check.experimental != RuleSet::default() {
        let _ = write!(options, ";experimental={}", rules(&check.experimental));
    }
    if let Some(error) = check.error {
        let _ = write!(options, ";error={error}");
    }
    options
}

fn duration(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    match (nanoseconds % 1_000_000_000, nanoseconds % 1_000_000) {
        (0, _) => format!("{}s", nanoseconds / 1_000_000_000),
        (_, 0) => format!("{}ms", nanoseconds / 1_000_000),
        _ => format!("{nanoseconds}ns"),
    }
}

fn words(words: &[Spanned<Word>]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.raw()).collect();
    words.join(" ")
}

fn arguments(arg: &Arg) -> String {
    let pairs = arg.pairs.iter().map(|pair| match &pair.default {
        Some(default) => format!("{}={}", pair.name.value, default.raw()),
        None => pair.name.value.clone(),
    });
    pairs.collect::<Vec<_>>().join(" ")
}

fn pairs(pairs: &[(Spanned<Word>, Spanned<Word>)], legacy: bool) -> String {
    let between = if legacy { " " } else { "=" };
    let pairs = pairs
        .iter()
        .map(|(key, value)| format!("{}{between}{}", key.raw(), value.raw()));
    pairs.collect::<Vec<_>>().join(" ")
}

fn command(command: &CommandLine) -> String {
    match command {
        CommandLine::Shell(text) => text.clone(),
        CommandLine::Exec(argv) => json(argv),
    }
}

fn run_text(run: &Run) -> String {
    match &run.command {
        RunCommand::Line(line) => command(line),
        RunCommand::Heredocs { line, .. } => line.clone(),
    }
}

/// Paths as words where that means the same, else as a JSON array.
fn paths(paths: &[Spanned<Word>]) -> String {
    let raw: Vec<&str> = paths.iter().map(|path| path.raw()).collect();
    let blank = |path: &&str| path.is_empty() || path.contains(char::is_whitespace);
    let start = |path: &&str| path.starts_with(['[', '-']);
    if raw.iter().any(blank) || raw.first().is_some_and(start) || raw.concat().contains("<<") {
        json(&raw)
    } else {
        raw.join(" ")
    }
}

fn sources(sources: &[Spanned<CopySource>], dest: &Spanned<Word>) -> String {
    let mut all = Vec::new();
    let mut inline = false;
    for source in sources {
        all.push(match &source.value {
            CopySource::Path(word) => Spanned::new(word.clone(), source.span),
            CopySource::Heredoc(heredoc) => {
                inline = true;
                Spanned::new(Word::new(opening(heredoc), dest.escape()), source.span)
            }
        });
    }
    all.push(dest.clone());
    if inline { words(&all) } else { paths(&all) }
}

/// The word that opens a heredoc.
fn opening(heredoc: &Heredoc) -> String {
    let mut word = heredoc.fd.map(|fd| fd.to_string()).unwrap_or_default();
    word.push_str(if heredoc.chomp { "<<-" } else { "<<" });
    let mut quoted = heredoc.expand;
    for character in heredoc.name.chars() {
        match character {
            // One quoted character makes the whole body literal (R-HD-4).
            '"' if !quoted => word.push_str("'\"'"),
            other if !quoted => word.extend(['"', other, '"']),
            '\'' | '"' | '\\' => word.extend(['\\', character]),
            other => word.push(other),
        }
        quoted = true;
    }
    word
}

/// The heredocs whose bodies follow the line. A trigger holds its own.
fn heredocs(instruction: &Instruction) -> Vec<&Heredoc> {
    let sources = match instruction {
        Instruction::Run(Run {
            command: RunCommand::Heredocs { heredocs, .. },
            ..
        }) => return heredocs.iter().collect(),
        Instruction::Add(add) => &add.sources,
        Instruction::Copy(copy) => &copy.sources,
        _ => return Vec::new(),
    };
    let heredocs = sources.iter().filter_map(|source| match &source.value {
        CopySource::Heredoc(heredoc) => Some(heredoc),
        CopySource::Path(_) => None,
    });
    heredocs.collect()
}

/// A JSON array of strings.
fn json<S: AsRef<str>>(strings: &[S]) -> String {
    let mut text = "[".to_owned();
    for (index, string) in strings.iter().enumerate() {
        text.push_str(if index == 0 { "\"" } else { ", \"" });
        for character in string.as_ref().chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                control if control < ' ' => {
                    let _ = write!(text, "\\u{:04x}", u32::from(control));
                }
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.push(']');
    text
}
