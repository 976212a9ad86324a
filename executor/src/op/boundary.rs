//! What is around the steps of the sandbox `chroot`, which root can leave (chroot(2)).

use std::sync::Once;

use crate::event::{Stream, Task};
use crate::sandbox::{Rung, is_contained};

const WARNING: &str = "kiln: WARNING: there is no container around kiln, and the sandbox `chroot` is no boundary of its own: \
steps that run as root can reach all of this machine\nkiln:   `kiln doctor` says what would unlock a better sandbox\n";

/// Tells once in a build that its steps could reach the machine.
#[derive(Debug)]
pub(crate) struct Boundary(Once);

impl Default for Boundary {
    fn default() -> Self {
        Self(Once::new())
    }
}

impl Boundary {
    /// In the log of the first step, where its sandbox needs a container around it and there is none.
    pub(crate) fn tell(&self, rung: Rung, task: &Task<'_>) {
        if rung.has_namespaces() {
            return;
        }
        self.0.call_once(|| {
            if !is_contained() {
                task.log(Stream::Stderr, WARNING.as_bytes());
            }
        });
    }
}
