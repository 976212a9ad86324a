//! Programs that are executed by way of `/proc`: `/proc/self/exe`, as those do that start themselves again, and `/proc/self/fd/3`.
//!
//! An execution can only be left to the kernel, which must find the program at the path that it is given. So a link to the program
//! is put into the root's `/dev`, and the path in the caller's memory becomes that link's. It is another way to the same file for
//! as long as that memory lives.

use super::caller::Answered;
use super::resolve::joined;
use super::*;
use rustix::fs::CWD;

impl Broker {
    /// Has the kernel execute what a magic link leads to, which is at `below` in `base`.
    pub(super) fn execute(
        &mut self,
        asked: &Asked<'_>,
        base: &OwnedFd,
        below: &[Vec<u8>],
    ) -> Answered<Reply> {
        let text = rustix::fs::readlinkat(base, joined(below), Vec::new());
        let text = text.map_err(Errno::raw_os_error)?.into_bytes();
        let same =
            |at: rustix::io::Result<rustix::fs::Stat>| at.map(|at| (at.st_dev, at.st_ino)).ok();
        let object = same(rustix::fs::statat(base, joined(below), AtFlags::empty()));
        if object.is_none() || same(rustix::fs::stat(&text[..])) != object {
            return Err(libc::ENOENT); // it has no name any more
        }
        let link = self.link_to(text)?;
        self.guise.wear(&asked.status.who)?; // whose memory root may not change
        let fits = link.len() <= asked.told.text.len() + 1;
        match fits && asked.caller.overwrite(asked.told.address, &link).is_ok() {
            true => Ok(Reply::Continue),
            false => Err(libc::ENOENT),
        }
    }

    /// The path of a link to a program, ended by a zero.
    fn link_to(&mut self, program: Vec<u8>) -> Answered<Vec<u8>> {
        let known = self.programs.iter().position(|known| *known == program);
        let number = match known {
            Some(number) => number,
            None => {
                self.be_root();
                let directory = format!("/dev/.{}", self.programs.len());
                let made =
                    rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o755)).and_then(|()| {
                        rustix::fs::symlinkat(&program[..], CWD, format!("{directory}/exe"))
                    });
                made.map_err(Errno::raw_os_error)?;
                self.programs.push(program);
                self.programs.len() - 1
            }
        };
        Ok(format!("/dev/.{number}/exe\0").into_bytes())
    }
}
