//! MAINTAINER (R-MAINT), long deprecated.

use crate::request::Request;
use crate::{Diagnostic, code};

/// `MAINTAINER <author>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintainer {
    /// The author, not expanded.
    pub author: String,
}

/// `"MAINTAINER" author`
pub(super) fn parse(
    mut request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Maintainer> {
    request.no_flags(diagnostics);
    let message = "Maintainer instruction is deprecated in favor of using label";
    let deprecated = Diagnostic::warning(
        code::MAINTAINER_DEPRECATED,
        message,
        request.line.place(request.written),
    );
    diagnostics.push(deprecated.help("write `LABEL org.opencontainers.image.authors=…`"));
    let author = request.only_word("an author", diagnostics)?;
    Some(Maintainer {
        author: author.raw().to_owned(),
    })
}
