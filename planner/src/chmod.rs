//! `--chmod`: octal and symbolic modes (R-COPY-27).

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Sets all of them, 0..=07777.
    Octal(u32),
    /// Changes some of them.
    Symbolic(SymbolicMode),
}

/// A mode in the syntax of chmod(1), as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode {
    text: String,
}

/// Why a `--chmod` value can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChmodError {
    /// Digits that are not an octal number up to 07777.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    NotOctal(String),
    /// Not a symbolic mode either.
    #[error("invalid chmod parameter: '{0}': invalid syntax")]
    BadSyntax(String),
}

impl Chmod {
    /// Reads a mode.
    ///
    /// # Errors
    /// When it is neither octal nor symbolic.
    pub fn parse(text: &str) -> Result<Chmod, ChmodError> {
        let _ = text;
        todo!()
    }

    /// The bits that a file or directory with the bits `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let _ = (mode, is_dir);
        todo!()
    }
}

impl std::fmt::Display for Chmod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chmod::Octal(bits) => write!(f, "{bits:o}"),
            Chmod::Symbolic(mode) => f.write_str(&mode.text),
        }
    }
}
