//! `--ulimit NAME=SOFT[:HARD]`. Clauses R-CLI-4, R-RT-14.

use std::collections::BTreeMap;
use std::str::FromStr;

use kiln_executor::ulimit;
use kiln_planner::Ulimit;

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UlimitFlag(Ulimit);

impl FromStr for UlimitFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limits) = text
            .split_once('=')
            .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
        if ulimit::resource(name).is_none() {
            let names: Vec<_> = ulimit::NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "invalid ulimit type: {name}; it is one of {}",
                names.join(", ")
            ));
        }
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (limit(soft)?, limit(hard)?);
        // No limit is above every limit.
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {limits}"
            ));
        }
        Ok(Self(Ulimit {
            name: name.to_owned(),
            soft,
            hard,
        }))
    }
}

/// -1 is no limit.
fn limit(text: &str) -> Result<Option<u64>, String> {
    match text {
        "-1" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|_| format!("`{text}` is no number, or too large")),
    }
}

/// The last of each name, by name, so that the order of flags changes no key.
pub(crate) fn last_of_each(flags: &[UlimitFlag]) -> Vec<Ulimit> {
    let by_name: BTreeMap<&str, &Ulimit> = flags
        .iter()
        .map(|UlimitFlag(ulimit)| (ulimit.name.as_str(), ulimit))
        .collect();
    by_name.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_name_and_one_or_two_numbers() {
        // R-CLI-4
        let cases = [
            ("nofile=1024", Ok("nofile=1024:1024")),
            ("nofile=1024:2048", Ok("nofile=1024:2048")),
            ("core=0:-1", Ok("core=0:-1")),
            ("core=-1", Ok("core=-1:-1")),
            ("nofile", Err("invalid ulimit argument: nofile")),
            ("nofile=", Err("`` is no number, or too large")),
            ("nofile=a", Err("`a` is no number, or too large")),
            (
                "nofile=2:1",
                Err("ulimit soft limit must be less than or equal to hard limit: 2:1"),
            ),
            (
                "nofile=-1:1",
                Err("ulimit soft limit must be less than or equal to hard limit: -1:1"),
            ),
        ];
        for (text, expected) in cases {
            let found = text.parse().map(|UlimitFlag(ulimit)| ulimit.to_string());
            assert_eq!(
                found,
                expected.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
        assert!(
            "files=1"
                .parse::<UlimitFlag>()
                .is_err_and(|error| error.starts_with("invalid ulimit type: files"))
        );
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let flags: Vec<UlimitFlag> = ["nproc=5", "core=1", "nproc=6"]
            .into_iter()
            .flat_map(str::parse)
            .collect();
        let shown: Vec<_> = last_of_each(&flags)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["core=1:1", "nproc=6:6"]);
    }
}
