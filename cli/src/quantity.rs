//! Sizes and durations as flags write them.

use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `64m`, `1.5g`, `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        kiln_planner::size_in_bytes(text)
            .map(Self)
            .ok_or_else(|| "write a size as `64m`, `2g` or a number of bytes".to_owned())
    }
}

/// A duration that is not 0: `90s`, `5m`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        kiln_parser::go_duration(text)
            .filter(|duration| !duration.is_zero())
            .map(Self)
            .ok_or_else(|| "write a duration as `90s`, `5m` or `1h30m`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        assert_eq!("64m".parse(), Ok(Bytes(64 << 20)));
        assert!("64x".parse::<Bytes>().is_err());
        assert_eq!("1m30s".parse(), Ok(Span(Duration::from_secs(90))));
        assert!("0".parse::<Span>().is_err());
        assert!("90".parse::<Span>().is_err());
    }
}
