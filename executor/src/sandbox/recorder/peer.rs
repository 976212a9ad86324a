//! Who is at the other end of a socket (`SO_PEERCRED`): servers let users in by it, as PostgreSQL does.

use super::Server;
use super::caller::{Answered, Caller, innermost};
use crate::sys::{self, Reply};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// A `struct ucred`: a process, a user and a group.
const LENGTH: usize = 12;

impl Server {
    /// getsockopt(2). Of whom there is nothing to be said, the kernel tells.
    pub(super) fn show_peer(
        &self,
        caller: &Caller<'_>,
        socket: i32,
        out: u64,
        length: u64,
    ) -> Answered<Reply> {
        let Some(credentials) = self.peer(caller, socket) else {
            return Ok(Reply::Continue);
        };
        let mut wanted = [0; 4];
        caller.read(length, &mut wanted)?;
        let Ok(wanted) = usize::try_from(i32::from_ne_bytes(wanted)) else {
            return Ok(Reply::Continue); // which refuses that
        };
        let bytes = credentials.map(u32::to_ne_bytes);
        let shown = &bytes.as_flattened()[..wanted.min(LENGTH)];
        if !shown.is_empty() {
            caller.write(out, shown)?;
        }
        let told = i32::try_from(shown.len()).unwrap_or_default();
        caller.write(length, &told.to_ne_bytes())?;
        Ok(Reply::Value(0))
    }

    /// The process at the other end, by the number that the caller knows, and who it is now.
    fn peer(&self, caller: &Caller<'_>, socket: i32) -> Option<[u32; 3]> {
        let peer = getsockopt(&caller.descriptor(socket)?, PeerCredentials)
            .ok()?
            .pid();
        let status = caller.status_in_step(peer)?;
        let who = sys::real_time_limit(peer)
            .is_ok()
            .then(|| self.identity_of(peer))?;
        let number = innermost(&status, "NStgid:")?;
        Some([number, who.user.effective, who.group.effective])
    }
}
