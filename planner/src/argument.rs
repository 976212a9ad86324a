//! Where the value of an ARG came from.

use kiln_parser::Span;

/// An ARG that was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it has none, or one that depends on a base image that is not known.
    pub value: Option<String>,
    /// Who gave it the value.
    pub origin: ArgumentOrigin,
    /// The name on its ARG line; for an ONBUILD trigger the FROM that fired it.
    pub span: Span,
}

/// Who gave an ARG its value: the first of these that has one (R-ARG-1, R-ARG-3, R-ARG-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArgumentOrigin {
    /// `--build-arg`.
    BuildArg,
    /// The default on its line.
    Default,
    /// An ARG before the first FROM.
    Global,
    /// kiln itself: platforms and the name of the target (R-ARG-2).
    Automatic,
    /// An ENV or ARG above it, or the stage or image it is based on: an ARG without a value changes nothing.
    Environment,
    /// Nobody.
    Unset,
}
