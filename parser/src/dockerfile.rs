//! The syntax tree: a Dockerfile as directives, global arguments and stages.

use crate::instruction::{Arg, From, Instruction};
use crate::{Diagnostic, Span, Spanned};

/// What [`parse`](crate::parse) makes of a source: all that could be read, and everything wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The tree. Instructions that could not be read are missing from it; each of them has an error.
    pub dockerfile: Dockerfile,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether anything stops the build.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The `# name=value` lines at its head.
    pub directives: Directives,
    /// The ARGs before the first FROM (R-ARG-1).
    pub global_args: Vec<Statement<Arg>>,
    /// The stages in the order of the file; a stage's index is its position (R-STG-6).
    pub stages: Vec<Stage>,
    /// The comments that belong to no instruction: inside of one, above a bare `#`, at the end.
    pub loose_comments: Vec<Spanned<String>>,
}

/// Parser directives (R-DIR).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// The frontend asked for; kiln accepts and ignores it (R-DIR-7).
    pub syntax: Option<Spanned<String>>,
    /// The escape character in force.
    pub escape: Escape,
    /// Which checks to run.
    pub check: Option<Spanned<CheckDirective>>,
}

/// The character that continues lines and escapes characters (R-DIR-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Escape {
    /// `\`, unless a directive says otherwise.
    #[default]
    Backslash,
    /// `` ` ``, for Windows paths.
    Backtick,
}

impl Escape {
    /// The character.
    #[must_use]
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// The value of a `# check=` directive (R-DIR-9).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckDirective {
    /// Rules not to run.
    pub skip: RuleSet,
    /// Experimental rules to run.
    pub experimental: RuleSet,
    /// Whether a warning fails the build; `None` when not said.
    pub error: Option<bool>,
}

/// A set of check rules by name; unknown names are kept and mean nothing (R-CHK-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleSet {
    /// Every rule.
    All,
    /// The named ones.
    Named(Vec<String>),
}

impl Default for RuleSet {
    fn default() -> RuleSet {
        RuleSet::Named(Vec::new())
    }
}

impl RuleSet {
    /// Whether a rule is in the set. Names are case-sensitive.
    #[must_use]
    pub fn contains(&self, rule: &str) -> bool {
        match self {
            RuleSet::All => true,
            RuleSet::Named(names) => names.iter().any(|name| name == rule),
        }
    }
}

/// A FROM and the instructions up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it starts from.
    pub from: From,
    /// The FROM instruction, first to last physical line.
    pub span: Span,
    /// `FROM` as written.
    pub keyword: Spanned<String>,
    /// The FROM's logical line.
    pub text: String,
    /// Comments attached to the FROM (R-LEX-15).
    pub comments: Vec<Spanned<String>>,
    /// Its other instructions.
    pub statements: Vec<Statement>,
}

impl Stage {
    /// The name after AS, lower-cased (R-FROM-2).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.from.name.as_ref().map(|name| name.value.as_str())
    }
}

/// An instruction with where and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<I = Instruction> {
    /// What it says.
    pub instruction: I,
    /// From the keyword to the end of its last physical line, heredoc bodies and terminators included (R-HD-8).
    pub span: Span,
    /// The keyword as written.
    pub keyword: Spanned<String>,
    /// The logical line, keyword included and continuations joined, without heredoc bodies: what progress and messages show.
    pub text: String,
    /// The comments attached to it, without `#` and outer blanks (R-LEX-15).
    pub comments: Vec<Spanned<String>>,
}
