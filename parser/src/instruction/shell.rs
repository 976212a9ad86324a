//! SHELL (R-SHELL).

/// `SHELL ["<program>", "<argument>"…]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// The shell to put before shell-form commands; never empty.
    pub argv: Vec<String>,
}
