//! ONBUILD (R-ONB).

use crate::Instruction;

/// `ONBUILD <instruction>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger's text, heredoc bodies and terminators appended (R-ONB-1). Read again with [`parse_trigger`](crate::parse_trigger)
    /// when it fires.
    pub trigger: String,
    /// What it would be if it fired now; `None` when it can't be read, which is no error here (R-ONB-2).
    pub instruction: Option<Box<Instruction>>,
}
