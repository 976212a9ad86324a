//! Flags of `docker buildx build` that kiln does not have: whoever types one is told so, not that it is a slip.

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

/// What to say instead of clap's own message, if that flag is one that `docker buildx build` has.
pub(crate) fn explain(error: &clap::Error) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::StyledStr(text)) => Some(text.to_string()),
        _ => None,
    };
    if error.kind() != ErrorKind::UnknownArgument
        || !context(ContextKind::Usage)?.contains("kiln build")
    {
        return None;
    }
    let typed = context(ContextKind::InvalidArg)?;
    let flag = match typed
        .split_once('=')
        .map_or(typed.as_str(), |(name, _)| name)
    {
        "-m" => "--memory",
        "-c" => "--cpu-shares",
        flag => flag,
    };
    is_missing(flag).then(|| {
        Failure::usage(format!("`kiln build` does not support `{flag}` yet"))
            .note("`docker buildx build` has it; kiln takes no flag that it does not honour")
    })
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
        explain(&error).map(|failure| failure.reports[0].message.clone())
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
}
