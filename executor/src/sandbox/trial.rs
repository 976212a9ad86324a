//! Trying something out in a process of its own: a user namespace that was entered can't be left again.

use super::Unavailable;
use crate::sys::{self, Context as _, Forked, SingleThreaded};
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write as _};

/// Does `work` in a copy of this process, and brings its outcome back.
pub(super) fn apart<T: Serialize + for<'a> Deserialize<'a>>(
    proof: &SingleThreaded,
    work: impl FnOnce() -> Result<T, Unavailable>,
) -> sys::Result<Result<T, Unavailable>> {
    let (mut answer, mut say) = io::pipe().call("pipe2", String::new)?;
    match sys::fork_process(proof)? {
        Forked::Child => {
            drop(answer);
            let bytes = postcard::to_stdvec(&work()).unwrap_or_default();
            let said = say.write_all(&bytes);
            std::process::exit(i32::from(said.is_err()))
        }
        Forked::Parent(child) => {
            drop(say);
            let mut bytes = Vec::new();
            answer
                .read_to_end(&mut bytes)
                .call("read", || "pipe".into())?;
            nix::sys::wait::waitpid(child, None)
                .map(drop)
                .call("waitpid", String::new)?;
            Ok(postcard::from_bytes(&bytes).unwrap_or_else(|_| {
                Err(Unavailable::new(
                    "the attempt ended unexpectedly",
                    "please report it as a bug of kiln",
                ))
            }))
        }
    }
}
