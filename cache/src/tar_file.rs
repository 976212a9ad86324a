//! The file a layer's tar is written to.
//!
//! A large one is brought to the disk while it is being written: at the end, when somebody waits for it, only its
//! last part is left to be.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::thread::{self, JoinHandle};

/// How many bytes are brought to the disk at a time.
const PART: u64 = 32 << 20;

/// A tar being written. [`Write::flush`] tells of failures to bring it to the disk so far.
#[derive(Debug)]
pub struct TarFile {
    file: File,
    /// Bytes written since the last part was complete.
    waiting: u64,
    /// A part on its way to the disk.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl TarFile {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            waiting: 0,
            syncing: None,
        }
    }

    /// Starts to bring to the disk what was written, unless the part before is still on its way.
    fn sync_behind(&mut self) -> io::Result<()> {
        if self
            .syncing
            .as_ref()
            .is_some_and(|part| !part.is_finished())
        {
            return Ok(());
        }
        self.wait()?;
        self.waiting = 0;
        let file = self.file.try_clone()?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        match mem::take(&mut self.syncing) {
            Some(part) => part.join().expect("a sync does not panic"),
            None => Ok(()),
        }
    }
}

impl Write for TarFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.waiting += written as u64;
        if self.waiting >= PART {
            self.sync_behind()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait()
    }
}
