//! USER (R-USER).

use crate::request::Request;
use crate::{Diagnostic, Spanned, Word};

/// `USER <user>[:<group>]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The rest of the line.
    pub value: Spanned<Word>,
}

/// `"USER" user`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<User> {
    request.no_flags(diagnostics);
    request
        .only_word("a user", diagnostics)
        .map(|value| User { value })
}
