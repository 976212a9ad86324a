//! The resources that can be limited, by their names in `--ulimit` (R-CLI-4, R-RT-14). `as` is not among them, as for Docker.

use kiln_planner::Ulimit;

use crate::sandbox::{Resource, Rlimit};

/// Name and resource.
pub const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The resource of a name.
pub fn resource(name: &str) -> Option<Resource> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, resource)| *resource)
}

/// The limits as the sandbox sets them; a name that nobody knows limits nothing.
pub(crate) fn rlimits(ulimits: &[Ulimit]) -> Vec<Rlimit> {
    let limits = ulimits.iter().filter_map(|ulimit| {
        Some(Rlimit {
            resource: resource(&ulimit.name)?,
            soft: ulimit.soft,
            hard: ulimit.hard,
        })
    });
    limits.collect()
}
