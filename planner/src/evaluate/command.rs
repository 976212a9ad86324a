//! CMD and ENTRYPOINT, and how they get along.

use kiln_parser::{Cmd, CommandLine, Entrypoint};

use super::{Evaluator, go_text};
use crate::code;

/// The shell when no SHELL chose another (R-SHELL-1).
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Evaluator<'_, '_> {
    /// R-CMD-1..3, R-CMD-5
    pub(super) fn cmd(&mut self, cmd: &Cmd) {
        self.recommend_json(&cmd.command);
        let argv = self.command_argv(&cmd.command);
        self.metadata(format!("CMD {}", quoted_list(&argv)));
        self.state.config.config.cmd = Some(argv);
        self.state.config.config.args_escaped = true;
        self.state.command_set = true;
    }

    /// An ENTRYPOINT drops the CMD of the base, but not that of its own stage (R-ENTRY-2).
    pub(super) fn entrypoint(&mut self, entrypoint: &Entrypoint) {
        self.recommend_json(&entrypoint.command);
        let argv = self.command_argv(&entrypoint.command);
        self.metadata(format!("ENTRYPOINT {}", quoted_list(&argv)));
        self.state.config.config.entrypoint = Some(argv);
        if !self.state.command_set {
            self.state.config.config.cmd = None;
        }
    }

    fn command_argv(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Shell(text) => self.in_shell(text),
            CommandLine::Exec(argv) => argv.clone(),
        }
    }

    /// A command for the current shell.
    pub(super) fn in_shell(&self, text: &str) -> Vec<String> {
        let mut argv = self.state.config.config.shell.clone();
        if argv.is_empty() {
            argv = DEFAULT_SHELL.map(str::to_owned).to_vec();
        }
        argv.push(text.to_owned());
        argv
    }

    fn recommend_json(&mut self, command: &CommandLine) {
        if matches!(command, CommandLine::Shell(_)) && self.state.config.config.shell.is_empty() {
            let written = &self.here.text;
            let keyword = written.split_whitespace().next().unwrap_or(written);
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.warn(code::JSON_ARGS_RECOMMENDED, message, self.here.span);
        }
    }
}

/// `["a" "b c"]`
fn quoted_list(argv: &[String]) -> String {
    format!(
        "[{}]",
        argv.iter()
            .map(|argument| go_text::quoted(argument))
            .collect::<Vec<_>>()
            .join(" ")
    )
}
