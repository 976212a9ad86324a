//! How much of the machine a step or container may use: `--resource` of `kiln build`, and Docker's own flags. Clauses R-CLI-4, R-CLI-5.

use std::str::FromStr;

use kiln_executor::{Resources, Swap};

use crate::quantity::Bytes;

// No doc comment: clap would take it for the command's own.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ResourceFlags {
    /// Memory
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<Bytes>,
    /// Memory and swap together; -1 for as much swap as there is [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<SwapFlag>,
    /// Weight when processors are busy; 1024 is usual
    #[arg(short, long, value_name = "SHARES")]
    pub(crate) cpu_shares: Option<u64>,
    /// Period of --cpu-quota in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Time of processors in each period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Processors to run on: 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to allocate on
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// How many processes and threads there may be; -1 for no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
}

/// `--memory-swap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SwapFlag(Swap);

impl FromStr for SwapFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-1" => Ok(Self(Swap::Unlimited)),
            _ => text.parse().map(|Bytes(bytes)| Self(Swap::Bytes(bytes))),
        }
    }
}

/// `--resource KEY=VALUE[,KEY=VALUE…]`, written into `flags`.
pub(crate) fn add(flags: &mut ResourceFlags, text: &str) -> Result<(), String> {
    for field in text.split(',') {
        match field.split_once('=') {
            Some((key, value)) => set(flags, key, value)?,
            // Lists of processors have commas too.
            None => continue_list(flags, field)?,
        }
    }
    Ok(())
}

fn set(flags: &mut ResourceFlags, key: &str, value: &str) -> Result<(), String> {
    let wrong = |reason: String| format!("`{key}={value}`: {reason}");
    let number = |_| wrong("it takes a whole number".to_owned());
    match key {
        "memory" => flags.memory = Some(value.parse().map_err(wrong)?),
        "memory-swap" => flags.memory_swap = Some(value.parse().map_err(wrong)?),
        "cpu-shares" => flags.cpu_shares = Some(value.parse().map_err(number)?),
        "cpu-period" => flags.cpu_period = Some(value.parse().map_err(number)?),
        "cpu-quota" => flags.cpu_quota = Some(value.parse().map_err(number)?),
        "cpuset-cpus" => flags.cpuset_cpus = Some(value.to_owned()),
        "cpuset-mems" => flags.cpuset_mems = Some(value.to_owned()),
        "pids-limit" => flags.pids_limit = Some(value.parse().map_err(number)?),
        _ => {
            return Err(format!(
                "unknown resource `{key}`; it is one of memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, \
                 cpuset-mems, pids-limit"
            ));
        }
    }
    Ok(())
}

fn continue_list(flags: &mut ResourceFlags, field: &str) -> Result<(), String> {
    let list = flags.cpuset_mems.as_mut().or(flags.cpuset_cpus.as_mut());
    let is_range = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match list.filter(|_| is_range) {
        Some(list) => {
            list.push(',');
            list.push_str(field);
            Ok(())
        }
        None => Err(format!("`{field}` is not KEY=VALUE")),
    }
}

impl ResourceFlags {
    /// As the executor wants them.
    ///
    /// # Errors
    /// Values that contradict each other or themselves.
    pub(crate) fn resources(&self) -> Result<Resources, String> {
        let memory = self.memory.map(|bytes| bytes.0).filter(|bytes| *bytes > 0);
        let swap = self
            .memory_swap
            .map(|flag| flag.0)
            .filter(|swap| *swap != Swap::Bytes(0));
        if let (Some(memory), Some(Swap::Bytes(both))) = (memory, swap)
            && both < memory
        {
            return Err("memory and swap together can't be less than memory alone".to_owned());
        }
        if memory.is_none() && matches!(swap, Some(Swap::Bytes(_))) {
            return Err("memory-swap counts memory and swap together: give memory too".to_owned());
        }
        Ok(Resources {
            memory,
            memory_swap: swap,
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self
                .cpu_quota
                .filter(|quota| *quota != 0)
                .map(|quota| u64::try_from(quota).ok()),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|list| !list.is_empty()),
            cpuset_mems: self.cpuset_mems.clone().filter(|list| !list.is_empty()),
            pids: self
                .pids_limit
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Resources, String> {
        let mut flags = ResourceFlags::default();
        add(&mut flags, text)?;
        flags.resources()
    }

    #[test]
    fn fields_are_limits() {
        // R-CLI-4
        let all = "memory=64m,memory-swap=-1,cpu-shares=512,cpu-period=1000,cpu-quota=500,cpuset-cpus=0,2-3,pids-limit=9";
        let expected = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(Swap::Unlimited),
            cpu_shares: Some(512),
            cpu_period: Some(1000),
            cpu_quota: Some(Some(500)),
            cpuset_cpus: Some("0,2-3".to_owned()),
            cpuset_mems: None,
            pids: Some(9),
        };
        assert_eq!(read(all), Ok(expected));
        // Docker's zeros mean nothing.
        let nothing = "memory=0,memory-swap=0,cpu-shares=0,cpu-quota=0,pids-limit=-1,cpuset-cpus=";
        assert_eq!(read(nothing), Ok(Resources::default()));
        assert_eq!(
            read("cpu-quota=-1").map(|all| all.cpu_quota),
            Ok(Some(None))
        );
    }

    #[test]
    fn what_can_not_be_is_said() {
        for (text, message) in [
            ("memory", "`memory` is not KEY=VALUE"),
            (
                "memory=x",
                "`memory=x`: write a size as `64m`, `2g` or a number of bytes",
            ),
            ("cpu-shares=-1", "`cpu-shares=-1`: it takes a whole number"),
            (
                "memory=2m,memory-swap=1m",
                "memory and swap together can't be less than memory alone",
            ),
            (
                "memory-swap=1m",
                "memory-swap counts memory and swap together: give memory too",
            ),
        ] {
            assert_eq!(read(text), Err(message.to_owned()), "{text}");
        }
        assert!(read("gpus=1").is_err_and(|error| error.starts_with("unknown resource `gpus`")));
    }
}
