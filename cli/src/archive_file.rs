//! Archives that commands write: to a file, which is taken away again when it could not be finished, or to stdout.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

use crate::failure::Failure;

/// Refuses to garble a terminal.
pub(crate) fn check_output(output: Option<&Path>) -> Result<(), Failure> {
    if output.is_none() && std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("stdout is a terminal, and an archive would garble it")
                .help("redirect stdout, or name a file with `--output`"),
        );
    }
    Ok(())
}

/// Has `work` write to the file, or to stdout. Half an archive looks too much like a whole one, so none is left.
pub(crate) fn write_to(
    output: Option<&Path>,
    work: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(path) = output else {
        let mut out = BufWriter::new(std::io::stdout().lock());
        work(&mut out)?;
        return Ok(out.flush()?);
    };
    let file = File::create(path).map_err(|error| Failure::unwritable(path, &error))?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut out = BufWriter::new(file);
    let written = work(&mut out).and_then(|()| {
        out.flush()
            .map_err(|error| Failure::unwritable(path, &error))
    });
    if written.is_err() && regular {
        let _ = std::fs::remove_file(path);
    }
    written
}
