//! Instructions that only change the config: LABEL, MAINTAINER, USER, VOLUME, STOPSIGNAL, HEALTHCHECK, SHELL, ONBUILD.

use std::time::Duration;

use kiln_image::Healthcheck as HealthcheckConfig;
use kiln_parser::{
    CommandLine, Healthcheck, Label, Maintainer, Onbuild, Shell, Stopsignal, User, Volume,
};

use super::environment::joined;
use super::{Evaluator, go_text, signal};
use crate::code;

impl Evaluator<'_, '_> {
    /// R-LABEL-1
    pub(super) fn label(&mut self, label: &Label) {
        let Some(pairs) = self.expand_pairs(&label.pairs) else {
            return;
        };
        self.metadata(format!("LABEL {}", joined(&pairs)));
        self.state.config.config.labels.extend(pairs);
    }

    /// R-MAINT-1
    pub(super) fn maintainer(&mut self, maintainer: &Maintainer) {
        self.state.config.author.clone_from(&maintainer.author);
        self.metadata(format!("MAINTAINER {}", maintainer.author));
    }

    /// R-USER-1
    pub(super) fn user(&mut self, user: &User) {
        let Some(user) = self.expand(&user.value) else {
            return;
        };
        self.metadata(format!("USER {user}"));
        self.state.config.config.user = user;
    }

    /// R-VOLUME-1, R-VOLUME-2
    pub(super) fn volume(&mut self, volume: &Volume) {
        let mut paths = Vec::with_capacity(volume.paths.len());
        for word in &volume.paths {
            match self.expand(word) {
                Some(path) if path.is_empty() => {
                    self.error(
                        code::VOLUME,
                        "VOLUME specified can not be an empty string",
                        word.span,
                    );
                }
                Some(path) => paths.push(path),
                None => {}
            }
        }
        self.metadata(format!("VOLUME [{}]", paths.join(" ")));
        self.state.config.config.volumes.extend(paths);
    }

    /// R-STOP-1
    pub(super) fn stopsignal(&mut self, stopsignal: &Stopsignal) {
        let Some(text) = self.expand(&stopsignal.value) else {
            return;
        };
        if !signal::is_signal(&text) {
            self.error(
                code::SIGNAL,
                format!("invalid signal: {text}"),
                stopsignal.value.span,
            );
            return;
        }
        self.metadata(format!("STOPSIGNAL {text}"));
        self.state.config.config.stop_signal = text;
    }

    /// R-HC-1, R-HC-2, R-HC-7
    pub(super) fn healthcheck(&mut self, healthcheck: &Healthcheck) {
        let (test, durations, retries) = match healthcheck {
            Healthcheck::None => (vec!["NONE".to_owned()], [Duration::ZERO; 4], 0),
            Healthcheck::Check {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let durations = [*interval, *timeout, *start_period, *start_interval]
                    .map(Option::unwrap_or_default);
                (health_command(command), durations, retries.unwrap_or(0))
            }
        };
        let [interval, timeout, start_period, start_interval] = durations.map(go_text::duration);
        self.metadata(format!(
            "HEALTHCHECK {{Test:[{}] Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} StartInterval:{start_interval} \
             Retries:{retries}}}",
            test.join(" ")
        ));
        let [interval, timeout, start_period, start_interval] = durations.map(nanoseconds);
        let retries = i64::from(retries);
        self.state.config.config.healthcheck = Some(HealthcheckConfig {
            test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        });
    }

    /// R-SHELL-1
    pub(super) fn shell(&mut self, shell: &Shell) {
        self.state.config.config.shell.clone_from(&shell.argv);
        self.metadata(format!("SHELL [{}]", shell.argv.join(" ")));
    }

    /// R-ONB-1
    pub(super) fn onbuild(&mut self, onbuild: &Onbuild) {
        self.state
            .config
            .config
            .on_build
            .push(onbuild.trigger.clone());
    }
}

/// The SHELL has no say here (R-HC-2).
fn health_command(command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        CommandLine::Exec(argv) => std::iter::once("CMD".to_owned())
            .chain(argv.iter().cloned())
            .collect(),
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
