//! Control groups: how much of the machine a step may use, and what it used at most.
//!
//! A step gets a cgroup of its own only when limits or a parent are asked for: making one takes milliseconds. It is made below kiln's
//! own, so that what limits kiln limits its steps too, or below `--cgroup-parent`. Both kinds of hierarchy are known, and both at
//! once: the old ones, one directory for each controller, and the unified one, where a directory that has processes can't hand
//! controllers down, so that the nearest one above that can is taken (`place`). In a container neither may be open to us. Then the
//! step runs without limits, and the build says so.

mod place;
mod resources;
mod settings;
mod step;

pub(crate) use place::Hierarchies;
pub use resources::{Resources, Swap};
pub use step::CgroupError;
pub(crate) use step::StepCgroup;
