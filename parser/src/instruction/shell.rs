//! SHELL (R-SHELL).

use crate::request::{Request, Strings};
use crate::{Diagnostic, code};

/// `SHELL ["<program>", "<argument>"…]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// The shell to put before shell-form commands; never empty.
    pub argv: Vec<String>,
}

/// `"SHELL" exec-form`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Shell> {
    request.no_flags(diagnostics);
    if request.text.is_empty() {
        diagnostics.push(request.missing("a JSON array"));
        return None;
    }
    match request.strings(request.text, diagnostics) {
        Strings::List(strings) if strings.is_empty() => {
            diagnostics.push(request.missing("at least one argument"));
            None
        }
        Strings::List(strings) => Some(Shell {
            argv: strings.into_iter().map(|(_, value)| value).collect(),
        }),
        Strings::Wrong => None,
        Strings::Text => {
            let message = "SHELL needs its arguments as a JSON array";
            let help = "write it as `SHELL [\"/bin/bash\", \"-c\"]`";
            diagnostics.push(
                Diagnostic::error(
                    code::SHELL_NOT_JSON,
                    message,
                    request.line.place(request.text),
                )
                .help(help),
            );
            None
        }
    }
}
