//! Flags of `docker buildx build` and `docker run` that kiln does not have: whoever types one is told so, not that it is a slip.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;
use crate::failure::Failure;

/// All of buildx's, the hidden ones too (R-CLI-4, R-CLI-5). Those that kiln has are sorted out when it matters.
const FLAGS: [&str; 50] = [
    "--add-host",
    "--allow",
    "--annotation",
    "--attest",
    "--build-arg",
    "--build-context",
    "--builder",
    "--cache-from",
    "--cache-to",
    "--call",
    "--cgroup-parent",
    "--check",
    "--compress",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--debug",
    "--file",
    "--force-rm",
    "--iidfile",
    "--isolation",
    "--label",
    "--load",
    "--memory",
    "--memory-swap",
    "--metadata-file",
    "--network",
    "--no-cache",
    "--no-cache-filter",
    "--output",
    "--platform",
    "--policy",
    "--progress",
    "--provenance",
    "--pull",
    "--push",
    "--quiet",
    "--resource",
    "--rm",
    "--sbom",
    "--secret",
    "--security-opt",
    "--shm-size",
    "--squash",
    "--ssh",
    "--tag",
    "--target",
    "--ulimit",
];

/// Flags of `docker run` that kiln does not have, and what to do instead.
const OF_RUN: [(&[&str], &str); 15] = [
    (
        &["-d", "--detach", "--restart", "--detach-keys"],
        "containers run in the foreground: let the shell (`&`), systemd or the CI job put it into the background",
    ),
    (
        &["--replace"],
        "`kiln rm NAME` removes the container that has the name",
    ),
    (
        &[
            "-p",
            "--publish",
            "-P",
            "--publish-all",
            "--expose",
            "--ip",
            "--ip6",
            "--mac-address",
            "--link",
            "--link-local-ip",
            "--network-alias",
            "--net-alias",
        ],
        "containers are in the machine's own network: what listens there is reached without it",
    ),
    (
        &["--dns", "--dns-opt", "--dns-option", "--dns-search"],
        "`-v FILE:/etc/resolv.conf:ro` gives it another one",
    ),
    (&["--domainname"], "`--hostname NAME.DOMAIN` has both"),
    (
        &["--volumes-from", "--volume-driver"],
        "kiln has no volumes; `-v PATH:TARGET` shows a folder",
    ),
    (
        &["--device", "--gpus", "--device-cgroup-rule"],
        "`--privileged` gives it the machine's devices",
    ),
    (
        &["-l", "--label", "--label-file", "--annotation"],
        "labels are the image's: `kiln build --label`",
    ),
    (
        &["--pid", "--ipc", "--uts", "--userns", "--cgroupns"],
        "each container has namespaces of its own",
    ),
    (
        &[
            "--health-cmd",
            "--health-interval",
            "--health-retries",
            "--health-start-interval",
            "--health-start-period",
            "--health-timeout",
            "--no-healthcheck",
            "--stop-signal",
            "--stop-timeout",
        ],
        "nobody watches or stops a container but who started it: signals to kiln are the program's",
    ),
    (
        &["--log-driver", "--log-opt", "-a", "--attach", "--sig-proxy"],
        "its output is kiln's own: redirect it",
    ),
    (
        &[
            "--blkio-weight",
            "--blkio-weight-device",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--device-read-bps",
            "--device-read-iops",
            "--device-write-bps",
            "--device-write-iops",
            "--kernel-memory",
            "--memory-reservation",
            "--memory-swappiness",
            "--oom-kill-disable",
        ],
        "limits are `--memory`, `--memory-swap`, `--cpus`, `--cpu-quota` and the like, `--pids-limit`, `--ulimit` and `--shm-size`",
    ),
    (
        &["--sysctl"],
        "the kernel's settings are the machine's: they are set there",
    ),
    (
        &[
            "--isolation",
            "--runtime",
            "--storage-opt",
            "--use-api-socket",
        ],
        "there is neither a daemon nor a runtime; `--sandbox` says how it is kept apart",
    ),
    (
        &["--disable-content-trust"],
        "kiln compares digests, and knows no signatures",
    ),
];

/// Commands of `docker` that kiln does not have, and what it has.
const COMMANDS: [(&[&str], &str); 9] = [
    (
        &["image"],
        "`kiln images`, `build`, `history`, `import`, `inspect`, `load`, `prune`, `pull`, `push`, `rmi`, `save` and `tag` are commands of their own",
    ),
    (
        &["container"],
        "`kiln run`, `ps`, `rm`, `commit`, `diff`, `export` and `prune` are commands of their own",
    ),
    (
        &[
            "attach", "create", "exec", "kill", "pause", "port", "restart", "start", "stats",
            "stop", "top", "unpause", "update", "wait",
        ],
        "containers run in the foreground, as long as `kiln run` does; `kiln shell CONTAINER` opens a shell in what one left",
    ),
    (
        &["logs"],
        "what a container prints is what `kiln run` prints; `kiln builds logs` has what steps printed",
    ),
    (
        &["cp"],
        "`kiln export CONTAINER | tar -x PATH` takes files out, `kiln run -v` and `COPY` bring some in",
    ),
    (
        &["builder", "buildx"],
        "`kiln build` builds; `kiln cache du` and `kiln cache gc` are about the cache",
    ),
    (
        &["system"],
        "`kiln cache du` says what takes space, `kiln prune` gives it back",
    ),
    (
        &["info", "version"],
        "`kiln doctor` tells what works here, `kiln --version` which kiln it is",
    ),
    (
        &["network", "volume"],
        "containers are in the machine's own network, and `-v PATH:TARGET` shows them folders",
    ),
];

/// What to say instead of clap's own message, if Docker has what was typed.
pub(crate) fn explain(error: &clap::Error, is_of_run: bool) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::StyledStr(text)) => Some(text.to_string()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {}
        ErrorKind::InvalidSubcommand => {
            let is_first = context(ContextKind::Usage)?.split(' ').nth(2) == Some("[OPTIONS]");
            let typed = context(ContextKind::InvalidSubcommand)?;
            return command(&typed).filter(|_| is_first);
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidArg)?.starts_with("--network ") => {
            return Some(network(&context(ContextKind::InvalidValue)?));
        }
        _ => return None,
    }
    let typed = context(ContextKind::InvalidArg)?;
    let name = typed.split_once('=').map_or(&*typed, |(name, _)| name);
    if is_of_run {
        return of_run(name);
    }
    if !context(ContextKind::Usage)?.contains("kiln build") {
        return None;
    }
    let flag = match name {
        "-m" => "--memory",
        "-c" => "--cpu-shares",
        flag => flag,
    };
    is_missing(flag).then(|| {
        Failure::usage(format!("`kiln build` does not support `{flag}` yet"))
            .note("`docker buildx build` has it; kiln takes no flag that it does not honour")
    })
}

/// Whether a command line is one of `kiln run` or `kiln shell`.
pub(crate) fn is_of_run(words: impl IntoIterator<Item = String>) -> bool {
    let cli = Cli::command();
    let mut words = words.into_iter().skip(1);
    let command = words.find(|word| cli.find_subcommand(word).is_some());
    command.is_some_and(|command| matches!(&*command, "run" | "shell"))
}

fn of_run(flag: &str) -> Option<Failure> {
    let known = OF_RUN.iter().find(|(flags, _)| flags.contains(&flag));
    known.map(|(_, instead)| {
        Failure::usage(format!("`kiln run` does not support `{flag}`"))
            .note("`docker run` has it; kiln takes no flag that it does not honour")
            .help(*instead)
    })
}

fn command(typed: &str) -> Option<Failure> {
    let known = COMMANDS
        .iter()
        .find(|(commands, _)| commands.contains(&typed));
    known.map(|(_, instead)| {
        Failure::usage(format!("`docker {typed}` has no counterpart in kiln")).help(*instead)
    })
}

fn network(name: &str) -> Failure {
    Failure::usage(format!("there is no network `{name}`"))
        .note("kiln sets up no networks: what runs is in this machine's own (`default`, `host`) or has a loopback interface only (`none`)")
        .help("leave the flag out, or write `--network=none`")
}

fn is_missing(flag: &str) -> bool {
    let cli = Cli::command();
    let build = cli.find_subcommand("build");
    let name = flag.trim_start_matches("--");
    let has = |command: &clap::Command| {
        let mut arguments = command.get_arguments();
        arguments.any(|argument| argument.get_long() == Some(name))
    };
    FLAGS.contains(&flag) && !build.is_some_and(has)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    fn said(line: &str) -> Option<String> {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        let is_of_run = is_of_run(line.split(' ').map(str::to_owned));
        explain(&error, is_of_run).map(|failure| failure.reports[0].message.clone())
    }

    #[test]
    fn a_flag_of_buildx_is_known_by_name() {
        // R-CLI-4, R-CLI-5
        let message = |flag| Some(format!("`kiln build` does not support `{flag}` yet"));
        assert_eq!(said("kiln build --policy x ."), message("--policy"));
        assert_eq!(said("kiln build --builder=other ."), message("--builder"));
        assert_eq!(said("kiln build --nonsense ."), None);
        assert_eq!(said("kiln images --policy"), None);
    }

    #[test]
    fn commands_and_networks_of_docker_are_known() {
        let none = |name: &str| Some(format!("`docker {name}` has no counterpart in kiln"));
        assert_eq!(said("kiln exec x sh"), none("exec"));
        assert_eq!(said("kiln image ls"), none("image"));
        assert_eq!(said("kiln cache image"), None);
        assert_eq!(said("kiln imagine"), None);
        let network = Some("there is no network `bridge`".to_owned());
        assert_eq!(said("kiln run --network bridge busybox"), network);
        assert_eq!(said("kiln build --network=bridge ."), network);
        assert_eq!(
            said("kiln run --net x busybox"),
            Some("there is no network `x`".to_owned())
        );
    }

    #[test]
    fn a_flag_of_run_is_known_by_name() {
        let message = |flag| Some(format!("`kiln run` does not support `{flag}`"));
        assert_eq!(said("kiln run -d busybox"), message("-d"));
        assert_eq!(
            said("kiln run --publish=80:80 busybox"),
            message("--publish")
        );
        assert_eq!(said("kiln run --nonsense busybox"), None);
    }
}
