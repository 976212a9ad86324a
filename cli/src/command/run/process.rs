//! What `kiln run` starts: the image's config joined with the flags, as Docker joins them.

use kiln_image::RunConfig;

use super::Args;
use crate::args::KeyValue;
use crate::failure::Failure;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program and its arguments: ENTRYPOINT then CMD; arguments replace CMD, and `--entrypoint` replaces both.
pub(super) fn argv(config: &RunConfig, args: &Args) -> Result<Vec<String>, Failure> {
    let cmd = config.cmd.clone().unwrap_or_default();
    let (mut argv, default) = match args.entrypoint.as_deref() {
        None => (config.entrypoint.clone().unwrap_or_default(), cmd),
        Some("") => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.to_owned()], Vec::new()),
    };
    argv.extend(if args.command.is_empty() { default } else { args.command.clone() });
    match argv.is_empty() {
        true => Err(Failure::usage(format!("image `{}` has no CMD or ENTRYPOINT", args.image)).help("give a command after the image")),
        false => Ok(argv),
    }
}

/// The environment: a `PATH`, the host name, a terminal's type, then the image's ENV, then `-e`; a later value replaces
/// an earlier one in its place. `-e K` takes the value from `client` or, without one, removes K.
pub(super) fn environment(config: &RunConfig, args: &Args, client: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut all = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOSTNAME".to_owned(), super::HOSTNAME.to_owned())];
    if args.tty {
        all.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for entry in &config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(&mut all, name, Some(value.to_owned()));
    }
    for KeyValue { key, value } in &args.env {
        set(&mut all, key, value.clone().or_else(|| client(key)));
    }
    all
}

fn set(all: &mut Vec<(String, String)>, name: &str, value: Option<String>) {
    let at = all.iter().position(|(known, _)| known == name);
    match (at, value) {
        (Some(at), Some(value)) => all[at].1 = value,
        (Some(at), None) => drop(all.remove(at)),
        (None, Some(value)) => all.push((name.to_owned(), value)),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn args(line: &str) -> Args {
        match Cli::try_parse_from(format!("kiln run {line}").split(' ')).unwrap().command {
            Command::Run(args) => args,
            other => panic!("not a run: {other:?}"),
        }
    }

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn arguments_replace_cmd_and_entrypoint_replaces_both() {
        let config = RunConfig { entrypoint: words("entry -e"), cmd: words("cmd -c"), ..RunConfig::default() };
        let cases = [
            ("i", "entry -e cmd -c"),
            ("i a b", "entry -e a b"),
            ("--entrypoint e i", "e"),
            ("--entrypoint e i a", "e a"),
            ("--entrypoint= i a", "a"),
        ];
        for (line, expected) in cases {
            assert_eq!(argv(&config, &args(line)).ok(), words(expected), "{line}");
        }
        assert!(argv(&RunConfig::default(), &args("i")).is_err());
    }

    #[test]
    fn later_variables_replace_earlier_ones_in_place() {
        let config = RunConfig { env: vec!["A=1".into(), "PATH=/p".into(), "B=2".into()], ..RunConfig::default() };
        let client = |name: &str| (name == "HERE").then(|| "there".to_owned());
        let env = environment(&config, &args("-t -e A=9 -e HERE -e B -e GONE i"), client);
        let text: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["PATH=/p", "HOSTNAME=kiln", "TERM=xterm", "A=9", "HERE=there"]);
    }
}
