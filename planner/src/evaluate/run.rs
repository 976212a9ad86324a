//! RUN (R-RUN, R-HD-11..13).

use kiln_parser::{Network, Run, RunCommand, Script, Security, Variables};

use super::{Evaluator, name};
use crate::{ExecOp, InlineFile, Op, code, scope};

/// The host name inside RUN (R-RT-11).
const HOSTNAME: &str = "buildkitsandbox";
/// Where scripts of their own appear (R-HD-11).
const SCRIPT_DIR: &str = "/dev/pipes";

impl Evaluator<'_, '_> {
    pub(super) fn run(&mut self, run: &Run) {
        let name = self.run_name(run);
        let (argv, files) = self.run_argv(run);
        if argv.is_empty() {
            self.error(code::NO_COMMAND, "arguments are required", self.here.span);
        }
        for device in &run.device {
            self.error(
                code::UNSUPPORTED,
                "`RUN --device` is not supported yet",
                device.span,
            );
        }
        let mut inputs = vec![self.state.output];
        let mounts = self.mounts(&run.mounts, &mut inputs);
        let (Some(network), Some(security)) = (self.network(run), self.security(run)) else {
            return;
        };
        let Some(mounts) = mounts.filter(|_| !argv.is_empty()) else {
            return;
        };
        let created_by = format!("RUN {}{} # buildkit", self.history_args(), argv.join(" "));
        let options = self.builder.options;
        let op = Op::Exec(ExecOp {
            argv,
            env: self.state.environment.list().clone(),
            proxy_env: scope::proxies(options),
            cwd: self.workdir_path().to_owned(),
            user: self.state.config.config.user.clone(),
            hostname: options
                .build_arg("BUILDKIT_SANDBOX_HOSTNAME")
                .or(options.hostname.as_deref())
                .unwrap_or(HOSTNAME)
                .to_owned(),
            extra_hosts: options.extra_hosts.clone(),
            limits: options.limits.clone(),
            network,
            security,
            mounts,
            files,
        });
        self.step(op, name, &inputs, created_by);
    }

    fn run_argv(&self, run: &Run) -> (Vec<String>, Vec<InlineFile>) {
        match run.script() {
            Script::Exec(argv) => (argv.to_vec(), Vec::new()),
            Script::Shell(text) => (self.in_shell(&text), Vec::new()),
            Script::File { name, body } => {
                let path = format!("{SCRIPT_DIR}/{name}");
                let argv = self.in_shell(&path);
                (
                    argv,
                    vec![InlineFile {
                        path,
                        content: body.into_owned().into_bytes(),
                        mode: 0o755,
                    }],
                )
            }
        }
    }

    /// `[2/3] RUN <<EOF (first line...)`; the command itself is the shell's to expand, so it is shown as written.
    fn run_name(&mut self, run: &Run) -> String {
        let mut shown = name::shown(&self.here.text);
        if let RunCommand::Heredocs { heredocs, .. } = &run.command
            && let [heredoc] = heredocs.as_slice()
        {
            shown.push_str(&format!(" ({})", name::summary(heredoc)));
        }
        self.step_name(&shown)
    }

    /// The ARGs of a RUN's history entry: `|2 A=1 B= ` (R-HIST-4).
    fn history_args(&self) -> String {
        let args = &self.state.args;
        if args.is_empty() {
            return String::new();
        }
        let environment = &self.state.environment;
        let pairs: Vec<String> = args
            .iter()
            .map(|(name, declared)| {
                format!("{name}={}", environment.lookup(name).unwrap_or(declared))
            })
            .collect();
        format!("|{} {} ", pairs.len(), pairs.join(" "))
    }

    fn network(&mut self, run: &Run) -> Option<Network> {
        let Some(network) = &run.network else {
            return Some(self.builder.options.network);
        };
        if network.value == Network::Host && !self.builder.options.entitlements.network_host {
            self.not_allowed("network.host", network.span);
            return None;
        }
        // As for BuildKit, `default` is what the build has chosen for all.
        Some(match network.value {
            Network::Default => self.builder.options.network,
            chosen => chosen,
        })
    }

    fn security(&mut self, run: &Run) -> Option<Security> {
        let Some(security) = &run.security else {
            return Some(Security::Sandbox);
        };
        if security.value == Security::Insecure
            && !self.builder.options.entitlements.security_insecure
        {
            self.not_allowed("security.insecure", security.span);
            return None;
        }
        Some(security.value)
    }

    fn not_allowed(&mut self, entitlement: &str, span: kiln_parser::Span) {
        let error = kiln_parser::Diagnostic::error(
            code::NOT_ALLOWED,
            format!("{entitlement} is not allowed"),
            span,
        );
        self.tell(error.help(format!("allow it with `--allow {entitlement}`")));
    }
}
