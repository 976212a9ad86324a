//! Running other programs: shown before they run, judged by how they end.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains([' ', '(', '|', '\'']) {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Shows a command and runs it; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Standard output of a command that succeeds quietly.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command runs and succeeds; what it prints is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program is on the `PATH`, or in the folders of the administrator's.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .into_iter()
        .any(|folder| folder.join(program).is_file())
}

/// How root's privileges are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// This is root.
    Already,
    /// By `sudo`, without a question.
    BySudo,
    /// Not at all.
    No,
}

impl Root {
    pub(crate) fn find() -> Self {
        let own = output(Command::new("id").arg("-u"));
        if own.is_ok_and(|uid| uid.trim() == "0") {
            return Root::Already;
        }
        if succeeds(Command::new("sudo").args(["-n", "true"])) {
            Root::BySudo
        } else {
            Root::No
        }
    }

    /// A command that runs `program` as root, with these environment variables; `None` where that can't be had.
    pub(crate) fn command(self, program: &str, env: &[(&str, &str)]) -> Option<Command> {
        let mut command = match self {
            Root::Already => Command::new("env"),
            Root::BySudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", "env"]);
                command
            }
            Root::No => return None,
        };
        command.args(env.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(program);
        Some(command)
    }
}
