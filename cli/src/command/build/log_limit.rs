//! How much of what steps print is shown. Clause R-RT-19.

use kiln_executor::LogLimit;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
