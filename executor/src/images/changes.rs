//! `--change` of commit and import: instructions of a Dockerfile that change how an image is run, and make no layer.

use kiln_image::{ImageConfig, Platform, RunConfig};
use kiln_parser::{Code, Diagnostic, Instruction, Source, Span, Statement, parse};
use kiln_planner::{BaseImage, Bases, PlanOptions, base_images, plan};

/// What the instructions stand on while they are read.
const BASE: &str = "localhost/image";

/// The text that gives these instructions, for [`changed`].
pub fn changes_source(changes: &[String]) -> Source {
    let lines: Vec<&str> = changes.iter().map(String::as_str).collect();
    Source::new("--change", format!("FROM {BASE}\n{}\n", lines.join("\n")))
}

/// How an image with this config is run once `source`, which is [`changes_source`]'s, has changed it.
///
/// # Errors
/// What is wrong with the instructions, or that one of them would do more than change the config.
pub fn changed(config: &ImageConfig, source: &Source) -> Result<RunConfig, Vec<Diagnostic>> {
    let parsed = parse(source);
    if parsed.has_errors() {
        return Err(parsed.diagnostics);
    }
    let [stage] = &parsed.dockerfile.stages[..] else {
        let second = parsed.dockerfile.stages.get(1);
        return Err(vec![refused("FROM", second.map(|stage| stage.span))]);
    };
    for statement in &stage.statements {
        if !only_changes_config(&statement.instruction) {
            return Err(vec![refused(
                &statement.keyword.value,
                Some(statement.span),
            )]);
        }
    }
    // Triggers are for builds on the image, not for a change of it.
    let mut base = config.clone();
    let has_path = |env: &[String]| env.iter().any(|pair| pair.starts_with("PATH="));
    let without_path = !has_path(&base.config.env);
    let triggers = std::mem::take(&mut base.config.on_build);
    let platform = match base.architecture.is_empty() {
        true => Platform::host(),
        false => base.platform(),
    };
    let options = PlanOptions::new(platform);
    let missing = base_images(&parsed, &options, &Bases::new())?;
    let image = BaseImage {
        manifest_digest: None,
        config: base,
    };
    let bases: Bases = missing
        .iter()
        .map(|request| (request.key(), image.clone()))
        .collect();
    let mut config = plan(&parsed, &options, &bases)?.config.config;
    config.on_build.splice(0..0, triggers);
    // A build begins with a PATH; a change says no more than it is told to.
    let names_path = |statement: &Statement| statement.text.contains("PATH");
    if without_path && !stage.statements.iter().any(names_path) {
        config.env.retain(|pair| !pair.starts_with("PATH="));
    }
    Ok(config)
}

fn only_changes_config(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Env(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Onbuild(_)
            | Instruction::Shell(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_)
    )
}

fn refused(keyword: &str, span: Option<Span>) -> Diagnostic {
    let message = format!("`{keyword}` can't be a change of a config");
    Diagnostic::error(Code("config-change"), message, span)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config_after(changes: &[&str]) -> Result<RunConfig, Vec<Diagnostic>> {
        let mut config = ImageConfig::for_platform(&Platform::host());
        config.config.env = vec!["A=1".to_owned()];
        config.config.working_dir = "/srv".to_owned();
        config.config.on_build = vec!["RUN false".to_owned()];
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        changed(&config, &changes_source(&changes))
    }

    #[test]
    fn instructions_change_the_config() {
        let config = config_after(&[
            "CMD [\"a\", \"b\"]",
            "ENV B=${A}2",
            "WORKDIR www",
            "USER 1:2",
            "LABEL x=\"y z\"",
            "EXPOSE 80",
            "VOLUME /data",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN true",
        ]);
        let config = config.unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b"]);
        assert_eq!(config.env, ["A=1", "B=12"]);
        assert_eq!(config.working_dir, "/srv/www");
        assert_eq!((&*config.user, &*config.stop_signal), ("1:2", "SIGINT"));
        assert_eq!(config.labels["x"], "y z");
        assert!(config.exposed_ports.contains("80/tcp") && config.volumes.contains("/data"));
        assert_eq!(config.on_build, ["RUN false", "RUN true"]);
        assert!(config_after(&[]).is_ok());
    }

    #[test]
    fn what_would_do_more_is_refused() {
        for change in [
            "RUN true",
            "COPY a b",
            "FROM x",
            "NOPE",
            "ADD a b",
            "CMD true\nRUN x",
        ] {
            assert!(config_after(&[change]).is_err(), "{change}");
        }
    }
}
