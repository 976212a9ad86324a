//! The tree as readable text, for tests and for people who want to see what was read.
//!
//! One line a node, indented below its parent: the place (`line:column-line:column`), what it is, and its parts. Texts are quoted as
//! Rust does. What is absent is left out.

use std::fmt::Write;

use crate::instruction::{
    Add, Arg, CommandLine, Copy, CopySource, Healthcheck, Instruction, Run, RunCommand, Script,
};
use crate::{
    CheckDirective, Heredoc, Parsed, RuleSet, Source, Span, Spanned, Stage, Statement, Word,
};

/// The whole tree.
#[must_use]
pub fn dump(parsed: &Parsed, source: &Source) -> String {
    let mut dump = Dump {
        source,
        text: String::new(),
        depth: 0,
    };
    dump.directives(parsed);
    for statement in &parsed.dockerfile.global_args {
        dump.header(statement.span, "global ARG", &statement.comments);
        dump.below(|dump| dump.arg(&statement.instruction));
    }
    for (index, stage) in parsed.dockerfile.stages.iter().enumerate() {
        dump.stage(index, stage);
    }
    dump.text
}

struct Dump<'s> {
    source: &'s Source,
    text: String,
    depth: usize,
}

impl Dump<'_> {
    fn line(&mut self, what: impl AsRef<str>) {
        let _ = writeln!(
            self.text,
            "{:indent$}{}",
            "",
            what.as_ref(),
            indent = 2 * self.depth
        );
    }

    fn below(&mut self, inner: impl FnOnce(&mut Self)) {
        self.depth += 1;
        inner(self);
        self.depth -= 1;
    }

    fn place(&self, span: Span) -> String {
        let (start, end) = (
            self.source.line_col(span.start),
            self.source.line_col(span.end),
        );
        format!("{}:{}-{}:{}", start.0, start.1, end.0, end.1)
    }

    fn header(&mut self, span: Span, what: &str, comments: &[Spanned<String>]) {
        self.line(format!("{} {what}", self.place(span)));
        for comment in comments {
            self.below(|dump| dump.line(format!("# {}", comment.value)));
        }
    }

    fn directives(&mut self, parsed: &Parsed) {
        let directives = &parsed.dockerfile.directives;
        if let Some(syntax) = &directives.syntax {
            self.line(format!(
                "{} syntax {}",
                self.place(syntax.span),
                syntax.value
            ));
        }
        if directives.escape.char() != '\\' {
            self.line(format!("escape {}", directives.escape.char()));
        }
        if let Some(check) = &directives.check {
            self.line(format!(
                "{} check {}",
                self.place(check.span),
                check_text(check)
            ));
        }
    }

    fn stage(&mut self, index: usize, stage: &Stage) {
        self.header(stage.span, &format!("stage {index}"), &stage.comments);
        self.below(|dump| {
            dump.word("image", &stage.from.image);
            dump.option("platform", stage.from.platform.as_ref());
            if let Some(name) = &stage.from.name {
                dump.line(format!("{} name {:?}", dump.place(name.span), name.value));
            }
            for statement in &stage.statements {
                dump.statement(statement);
            }
        });
    }

    fn statement(&mut self, statement: &Statement) {
        self.header(
            statement.span,
            statement.instruction.keyword(),
            &statement.comments,
        );
        self.below(|dump| dump.instruction(&statement.instruction));
    }

    fn instruction(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Add(add) => self.add(add),
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::Cmd(cmd) => self.command(&cmd.command),
            Instruction::Copy(copy) => self.copy(copy),
            Instruction::Entrypoint(entrypoint) => self.command(&entrypoint.command),
            Instruction::Env(env) => self.pairs(&env.pairs),
            Instruction::Expose(expose) => {
                self.words("port", &expose.ports);
            }
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Label(label) => self.pairs(&label.pairs),
            Instruction::Maintainer(maintainer) => {
                self.line(format!("author {:?}", maintainer.author));
            }
            Instruction::Onbuild(onbuild) => {
                self.line(format!("trigger {:?}", onbuild.trigger));
                if let Some(instruction) = &onbuild.instruction {
                    self.line(instruction.keyword());
                    self.below(|dump| dump.instruction(instruction));
                }
            }
            Instruction::Run(run) => self.run(run),
            Instruction::Shell(shell) => self.line(format!("exec {:?}", shell.argv)),
            Instruction::Stopsignal(stopsignal) => self.word("signal", &stopsignal.value),
            Instruction::User(user) => self.word("user", &user.value),
            Instruction::Volume(volume) => {
                self.words("path", &volume.paths);
            }
            Instruction::Workdir(workdir) => self.word("path", &workdir.value),
        }
    }

    fn word(&mut self, what: &str, word: &Spanned<Word>) {
        self.line(format!("{} {what} {:?}", self.place(word.span), word.raw()));
    }

    fn words(&mut self, what: &str, words: &[Spanned<Word>]) {
        for word in words {
            self.word(what, word);
        }
    }

    fn option(&mut self, what: &str, word: Option<&Spanned<Word>>) {
        if let Some(word) = word {
            self.word(what, word);
        }
    }

    fn texts(&mut self, what: &str, texts: &[Spanned<String>]) {
        for text in texts {
            self.line(format!("{} {what} {:?}", self.place(text.span), text.value));
        }
    }

    fn switch(&mut self, what: &str, switch: Option<bool>) {
        if let Some(switch) = switch {
            self.line(format!("{what} {switch}"));
        }
    }

    fn command(&mut self, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) => self.line(format!("shell {text:?}")),
            CommandLine::Exec(argv) => self.line(format!("exec {argv:?}")),
        }
    }

    fn arg(&mut self, arg: &Arg) {
        for pair in &arg.pairs {
            self.texts("name", std::slice::from_ref(&pair.name));
            self.below(|dump| dump.option("default", pair.default.as_ref()));
        }
    }

    fn pairs(&mut self, pairs: &[(Spanned<Word>, Spanned<Word>)]) {
        for (key, value) in pairs {
            self.word("key", key);
            self.below(|dump| dump.word("value", value));
        }
    }

    fn copy(&mut self, copy: &Copy) {
        self.texts("from", copy.from.as_slice());
        self.option("chown", copy.chown.as_ref());
        self.option("chmod", copy.chmod.as_ref());
        self.switch("link", copy.link.then_some(true));
        self.switch("parents", copy.parents.then_some(true));
        self.texts("exclude", &copy.exclude);
        self.sources(&copy.sources, &copy.dest);
    }

    fn add(&mut self, add: &Add) {
        self.option("chown", add.chown.as_ref());
        self.option("chmod", add.chmod.as_ref());
        self.switch("link", add.link.then_some(true));
        self.switch("keep-git-dir", add.keep_git_dir);
        self.option("checksum", add.checksum.as_ref());
        self.switch("unpack", add.unpack);
        self.texts("exclude", &add.exclude);
        self.sources(&add.sources, &add.dest);
    }

    fn sources(&mut self, sources: &[Spanned<CopySource>], dest: &Spanned<Word>) {
        for source in sources {
            match &source.value {
                CopySource::Path(word) => self.line(format!(
                    "{} source {:?}",
                    self.place(source.span),
                    word.raw()
                )),
                CopySource::Heredoc(heredoc) => self.heredoc(heredoc),
            }
        }
        self.word("dest", dest);
    }

    fn heredoc(&mut self, heredoc: &Heredoc) {
        let literal = if heredoc.expand { "" } else { " literal" };
        let chomp = if heredoc.chomp { " chomp" } else { "" };
        let fd = heredoc.fd.map(|fd| format!(" fd {fd}")).unwrap_or_default();
        let place = self.place(heredoc.span);
        self.line(format!(
            "{place} heredoc {:?}{literal}{chomp}{fd} {:?}",
            heredoc.name, heredoc.body
        ));
    }

    fn run(&mut self, run: &Run) {
        for mount in &run.mounts {
            self.line(format!("{} mount {:?}", self.place(mount.span), mount.raw));
            for field in &mount.fields {
                let value = field
                    .value
                    .as_ref()
                    .map(|value| format!("={:?} at {}", value.raw(), self.place(value.span)));
                let field = format!(
                    "{} {}{}",
                    self.place(field.key.span),
                    field.key.value,
                    value.unwrap_or_default()
                );
                self.below(|dump| dump.line(field));
            }
        }
        if let Some(network) = &run.network {
            self.line(format!(
                "{} network {:?}",
                self.place(network.span),
                network.value
            ));
        }
        if let Some(security) = &run.security {
            self.line(format!(
                "{} security {:?}",
                self.place(security.span),
                security.value
            ));
        }
        self.texts("device", &run.device);
        if let RunCommand::Heredocs { line, heredocs } = &run.command {
            self.line(format!("line {line:?}"));
            for heredoc in heredocs {
                self.heredoc(heredoc);
            }
        }
        match run.script() {
            Script::Exec(argv) => self.line(format!("exec {argv:?}")),
            Script::Shell(text) => self.line(format!("shell {text:?}")),
            Script::File { name, body } => self.line(format!("file {name:?} {body:?}")),
        }
    }

    fn healthcheck(&mut self, healthcheck: &Healthcheck) {
        let Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = healthcheck
        else {
            return self.line("none");
        };
        let times = [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                self.line(format!("{name} {time:?}"));
            }
        }
        if let Some(retries) = retries {
            self.line(format!("retries {retries}"));
        }
        self.command(command);
    }
}

fn check_text(check: &CheckDirective) -> String {
    let rules = |rules: &RuleSet| match rules {
        RuleSet::All => "all".to_owned(),
        RuleSet::Named(names) => format!("{names:?}"),
    };
    let error = check
        .error
        .map(|error| format!(" error={error}"))
        .unwrap_or_default();
    format!(
        "skip={} experimental={}{error}",
        rules(&check.skip),
        rules(&check.experimental)
    )
}
