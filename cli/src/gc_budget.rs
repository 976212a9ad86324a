//! `--gc` and `KILN_GC`: how much space the cache may take before a build makes room by itself. Clause-free: other builders
//! have a daemon for this, with a file of its own.

use std::str::FromStr;

use kiln_cache::{Amount, Budget};

use crate::quantity::{Bytes, Span};

/// What `--gc` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GcBudget {
    /// Nothing is collected unasked.
    Off,
    /// After a build the cache is brought within this.
    Within(Budget),
}

/// A number of bytes, or a share of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) Amount);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().ok().filter(|percent| *percent <= 100);
            return percent
                .map(|percent| Self(Amount::Percent(percent)))
                .ok_or_else(|| "a share of the disk is between 0% and 100%".to_owned());
        }
        let bytes = text.parse::<Bytes>();
        bytes
            .map(|bytes| Self(Amount::Bytes(bytes.0)))
            .map_err(|_| {
                "write a size as `10g`, a number of bytes, or `20%` of the disk".to_owned()
            })
    }
}

/// `off`, or limits with commas between them; those that are left out are as by default.
impl FromStr for GcBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let mut budget = Budget::default();
        for field in text.split(',').map(str::trim) {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("`{field}` is neither `off` nor KEY=VALUE"))?;
            let share = || value.parse::<Share>().map(|share| Some(share.0));
            match key {
                "keep-duration" => budget.keep_duration = Some(value.parse::<Span>()?.0),
                "keep-storage" => budget.keep_storage = share()?,
                "max-used" => budget.max_used = share()?,
                "min-free" => budget.min_free = share()?,
                _ => {
                    return Err(format!(
                        "`{key}` is none of keep-duration, keep-storage, max-used, min-free"
                    ));
                }
            }
        }
        Ok(Self::Within(budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sizes_or_shares() {
        let budget = Budget {
            max_used: Some(Amount::Bytes(10 << 30)),
            min_free: Some(Amount::Percent(20)),
            ..Budget::default()
        };
        assert_eq!(
            "max-used=10g, min-free=20%".parse(),
            Ok(GcBudget::Within(budget))
        );
        assert_eq!("off".parse(), Ok(GcBudget::Off));
        for text in ["", "on", "max-used=x", "min-free=101%", "a=1"] {
            assert!(text.parse::<GcBudget>().is_err(), "{text}");
        }
    }
}
