//! A build's flags as the planner's options. Clauses R-CLI-4, R-LABEL-2, R-RT-19, R-SDE-1.

use kiln_executor::LogLimit;
use kiln_image::Platform;
use kiln_planner::{NoCache, PlanOptions};

use super::Args;
use crate::args::KeyValue;
use crate::config::Config;

/// What the plan depends on besides the Dockerfile.
pub(super) fn plan_options(args: &Args, config: &Config) -> PlanOptions {
    let machine = Platform::host();
    let mut options = PlanOptions::new(args.platform.clone().unwrap_or_else(|| machine.clone()));
    options.target = args.target.clone();
    options.build_args = build_args(&args.build_args, |name| config.variable(name));
    options.labels = labels(&args.labels);
    options.platform_requested = args.platform.is_some();
    options.build_platform = machine;
    options.no_cache = if args.no_cache {
        NoCache::All
    } else {
        NoCache::None
    };
    options
}

/// BuildKit's variables: a number of bytes, or -1 for no limit. What is no number is passed over, as there.
pub(super) fn log_limit(environment: impl Fn(&str) -> Option<String>) -> LogLimit {
    let limit = |name, default| match environment(name).and_then(|value| value.parse::<i64>().ok())
    {
        Some(bytes) => u64::try_from(bytes).ok(),
        None => default,
    };
    let default = LogLimit::default();
    LogLimit {
        size: limit("BUILDKIT_STEP_LOG_MAX_SIZE", default.size),
        speed: limit("BUILDKIT_STEP_LOG_MAX_SPEED", default.speed),
    }
}

/// `K=V` as it is, `K` with the environment's value if it has one. `SOURCE_DATE_EPOCH` of the environment is passed on
/// unless it was given.
fn build_args(
    given: &[KeyValue],
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    const EPOCH: &str = "SOURCE_DATE_EPOCH";
    let value = |arg: &KeyValue| arg.value.clone().or_else(|| environment(&arg.key));
    let mut all: Vec<_> = given
        .iter()
        .filter_map(|arg| Some((arg.key.clone(), value(arg)?)))
        .collect();
    if !given.iter().any(|arg| arg.key == EPOCH) {
        all.extend(environment(EPOCH).map(|value| (EPOCH.to_owned(), value)));
    }
    all
}

/// `K` alone is a label with an empty value.
fn labels(given: &[KeyValue]) -> Vec<(String, String)> {
    given
        .iter()
        .map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str, value: Option<&str>) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_name_alone_takes_the_environment() {
        // R-CLI-4, R-SDE-1
        let environment = |name: &str| match name {
            "HERE" => Some("there".to_owned()),
            "SOURCE_DATE_EPOCH" => Some("7".to_owned()),
            _ => None,
        };
        let args = [
            given("A", Some("1")),
            given("HERE", None),
            given("GONE", None),
            given("E", Some("")),
        ];
        let expected = [
            pair("A", "1"),
            pair("HERE", "there"),
            pair("E", ""),
            pair("SOURCE_DATE_EPOCH", "7"),
        ];
        assert_eq!(build_args(&args, environment), expected);
        let epoch = [given("SOURCE_DATE_EPOCH", Some("0"))];
        assert_eq!(
            build_args(&epoch, environment),
            [pair("SOURCE_DATE_EPOCH", "0")]
        );
    }

    #[test]
    fn log_limits_come_from_buildkits_variables() {
        // R-RT-19
        let environment = |name: &str| match name {
            "BUILDKIT_STEP_LOG_MAX_SIZE" => Some("-1".to_owned()),
            "BUILDKIT_STEP_LOG_MAX_SPEED" => Some("10".to_owned()),
            _ => None,
        };
        let (size, speed) = (None, Some(10));
        assert_eq!(log_limit(environment), LogLimit { size, speed });
        assert_eq!(log_limit(|_| None), LogLimit::default());
    }

    #[test]
    fn a_label_alone_is_empty() {
        assert_eq!(
            labels(&[given("a", None), given("b", Some("=c"))]),
            [pair("a", ""), pair("b", "=c")]
        );
    }
}
