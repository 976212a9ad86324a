//! What steps and containers see and how they are limited, as flags say it. For steps it is part of a plan, so that `kiln plan` takes
//! it too. Clauses R-CLI-4, R-RUN-4, R-RUN-5, R-RT-12, R-RT-14.

use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum;
use kiln_planner::{Entitlements, Limits, Network};

use crate::quantity::Bytes;
use crate::ulimit::{self, UlimitFlag};

// No doc comment: clap would take it for the command's own.
#[derive(Debug, clap::Args)]
pub(crate) struct StepFlags {
    /// Line for /etc/hosts; `host-gateway` as the address stands for this machine; may be repeated
    #[arg(long = "add-host", value_name = "HOST=IP")]
    pub(crate) add_hosts: Vec<ExtraHost>,
    /// Network, of steps that don't choose one
    #[arg(long, alias = "net", value_enum, value_name = "MODE", default_value_t = NetworkMode::Default)]
    pub(crate) network: NetworkMode,
    /// Resource limit, -1 for none; may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<UlimitFlag>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<Bytes>,
    /// Cgroup that those of steps and containers are made in
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// This machine's network, as with host: kiln sets up no bridge
    Default,
    /// A loopback interface only
    None,
    /// This machine's network; allows `RUN --network=host` too
    Host,
}

/// `--allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entitlement {
    NetworkHost,
    SecurityInsecure,
}

impl FromStr for Entitlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "network.host" => Ok(Self::NetworkHost),
            "security.insecure" => Ok(Self::SecurityInsecure),
            _ => Err("kiln can allow `network.host` and `security.insecure`".to_owned()),
        }
    }
}

/// `--add-host`: a name and its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    name: String,
    address: String,
}

impl FromStr for ExtraHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = split
            .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
            .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let address = match address {
            // Steps are in the machine's own network.
            "host-gateway" => "127.0.0.1",
            address if address.parse::<IpAddr>().is_ok() => address,
            _ => return Err(format!("invalid IP address in add-host: {address:?}")),
        };
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
        })
    }
}

impl ExtraHost {
    pub(crate) fn pair(&self) -> (String, String) {
        (self.name.clone(), self.address.clone())
    }
}

impl StepFlags {
    /// Names and addresses for `/etc/hosts`.
    pub(crate) fn extra_hosts(&self) -> Vec<(String, String)> {
        self.add_hosts.iter().map(ExtraHost::pair).collect()
    }

    pub(crate) fn network(&self) -> Network {
        match self.network {
            NetworkMode::Default => Network::Default,
            NetworkMode::None => Network::None,
            NetworkMode::Host => Network::Host,
        }
    }

    /// What a step may ask for. A network for all is one that each may ask for, as for buildx.
    pub(crate) fn entitlements(&self, allowed: &[Entitlement]) -> Entitlements {
        let network_host = self.network == NetworkMode::Host;
        Entitlements {
            network_host: network_host || allowed.contains(&Entitlement::NetworkHost),
            security_insecure: allowed.contains(&Entitlement::SecurityInsecure),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            ulimits: ulimit::last_of_each(&self.ulimits),
            // Docker takes 0 for its default.
            shm_size: self.shm_size.map(|size| size.0).filter(|size| *size > 0),
            cgroup_parent: self
                .cgroup_parent
                .clone()
                .filter(|parent| !parent.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        // R-CLI-4
        let cases = [
            ("db=10.0.0.2", Ok(("db", "10.0.0.2"))),
            ("db:10.0.0.2", Ok(("db", "10.0.0.2"))),
            ("db:::1", Ok(("db", "::1"))),
            ("db=[fe80::1]", Ok(("db", "fe80::1"))),
            ("db=host-gateway", Ok(("db", "127.0.0.1"))),
            ("db", Err(r#"bad format for add-host: "db""#)),
            ("=1.2.3.4", Err(r#"bad format for add-host: "=1.2.3.4""#)),
            (
                "a b=1.2.3.4",
                Err(r#"bad format for add-host: "a b=1.2.3.4""#),
            ),
            ("db=", Err(r#"invalid IP address in add-host: """#)),
            (
                "db=1.2.3",
                Err(r#"invalid IP address in add-host: "1.2.3""#),
            ),
            (
                "db=1.2.3.4\n5.6.7.8 x",
                Err(r#"invalid IP address in add-host: "1.2.3.4\n5.6.7.8 x""#),
            ),
        ];
        for (text, expected) in cases {
            let found = text.parse().map(|host: ExtraHost| host.pair());
            let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
