//! `--cap-add`, `--cap-drop`, `--security-opt` and `--privileged` of `kiln run`, as Docker has them.

use std::str::FromStr;

use kiln_executor::container::Rights;
use kiln_executor::sandbox::{CapabilitySet, capability};

// No doc comment: clap would take it for the command's own.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RightsFlags {
    /// Capability to have besides, or ALL; may be repeated
    #[arg(long = "cap-add", value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<Capabilities>,
    /// Capability to do without, or ALL; may be repeated
    #[arg(long = "cap-drop", value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<Capabilities>,
    /// no-new-privileges, or seccomp=unconfined; may be repeated
    #[arg(long = "security-opt", value_name = "OPTION")]
    security: Vec<SecurityOption>,
    /// All capabilities, no filter of system calls, nothing hidden of /proc and /sys, the machine's devices
    #[arg(long)]
    privileged: bool,
}

/// One capability, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capabilities {
    All,
    One(u8),
}

impl FromStr for Capabilities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("ALL") || text.eq_ignore_ascii_case("CAP_ALL") {
            return Ok(Self::All);
        }
        let one = capability::by_name(text).map(Self::One);
        one.ok_or_else(|| {
            format!("there is no capability `{text}`; one is called `NET_ADMIN`, say")
        })
    }
}

/// What `--security-opt` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Unfiltered,
    /// The absence of what kiln never has: AppArmor profiles, SELinux labels.
    AsItIs,
}

impl FromStr for SecurityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("seccomp", Some("unconfined")) => Ok(Self::Unfiltered),
            ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(Self::AsItIs),
            ("seccomp", Some(_)) => {
                Err("kiln has one filter of its own: `seccomp=unconfined` does without".to_owned())
            }
            _ => Err("kiln knows `no-new-privileges` and `seccomp=unconfined`".to_owned()),
        }
    }
}

impl RightsFlags {
    pub(super) fn rights(&self) -> Rights {
        let mut rights = Rights {
            privileged: self.privileged,
            capabilities: self.capabilities(),
            ..Rights::default()
        };
        for option in &self.security {
            match option {
                SecurityOption::NoNewPrivileges(asked) => rights.no_new_privileges = *asked,
                SecurityOption::Unfiltered => rights.seccomp = false,
                SecurityOption::AsItIs => {}
            }
        }
        rights
    }

    /// `ALL` is where the others start from.
    fn capabilities(&self) -> CapabilitySet {
        let start = match () {
            () if self.cap_add.contains(&Capabilities::All) => CapabilitySet::named(),
            () if self.cap_drop.contains(&Capabilities::All) => CapabilitySet::EMPTY,
            () => Rights::default().capabilities,
        };
        let dropped = numbers(&self.cap_drop).fold(start, CapabilitySet::without);
        numbers(&self.cap_add).fold(dropped, CapabilitySet::with)
    }
}

fn numbers(capabilities: &[Capabilities]) -> impl Iterator<Item = u8> {
    capabilities.iter().filter_map(|one| match one {
        Capabilities::One(number) => Some(*number),
        Capabilities::All => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flags(add: &[&str], drop: &[&str], security: &[&str]) -> Rights {
        let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let flags = RightsFlags {
            cap_add: parse(add),
            cap_drop: parse(drop),
            security: security.iter().map(|one| one.parse().unwrap()).collect(),
            privileged: false,
        };
        flags.rights()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let default = CapabilitySet::DOCKER_DEFAULT;
        let cases = [
            (&[][..], &[][..], default),
            (&["net_admin"], &[], default.with(capability::NET_ADMIN)),
            (&[], &["CAP_CHOWN"], default.without(capability::CHOWN)),
            (&[], &["ALL"], CapabilitySet::EMPTY),
            (
                &["CHOWN"],
                &["all"],
                CapabilitySet::EMPTY.with(capability::CHOWN),
            ),
            (
                &["ALL"],
                &["CHOWN"],
                CapabilitySet::named().without(capability::CHOWN),
            ),
        ];
        for (add, drop, expected) in cases {
            assert_eq!(
                flags(add, drop, &[]).capabilities,
                expected,
                "{add:?} {drop:?}"
            );
        }
        assert!("FLY".parse::<Capabilities>().is_err());
    }

    #[test]
    fn security_options_are_honoured_or_refused() {
        assert!(flags(&[], &[], &["no-new-privileges"]).no_new_privileges);
        assert!(!flags(&[], &[], &["no-new-privileges:false"]).no_new_privileges);
        assert!(!flags(&[], &[], &["seccomp=unconfined"]).seccomp);
        assert_eq!(flags(&[], &[], &["label=disable"]), Rights::default());
        for text in ["seccomp=profile.json", "apparmor=mine", "fly"] {
            assert!(text.parse::<SecurityOption>().is_err(), "{text}");
        }
    }
}
