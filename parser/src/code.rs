//! The codes of everything the parser reports, one place for all so that they stay unique.

use crate::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($text);)*
        /// Every code of this crate.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// Nothing at all in the file (R-LEX-1).
    EMPTY_DOCKERFILE = "empty-dockerfile";
    /// Only blanks, comments and directives (R-LEX-1).
    NO_INSTRUCTIONS = "no-instructions";
    /// Only ARGs (R-LEX-1).
    NO_STAGES = "no-stages";
    /// A physical line of more than 65535 bytes (R-LEX-4).
    LINE_TOO_LONG = "line-too-long";
    /// Bytes that are not UTF-8 in what a command or a file would get.
    NOT_UTF8 = "not-utf8";
    /// A keyword that does not exist (R-LEX-12).
    UNKNOWN_INSTRUCTION = "unknown-instruction";
    /// Something other than ARG before the first FROM (R-LEX-14).
    INSTRUCTION_BEFORE_FROM = "instruction-before-from";
    /// A parser directive given twice (R-DIR-3).
    DUPLICATE_DIRECTIVE = "duplicate-directive";
    /// An escape directive with another value than the two possible ones (R-DIR-4).
    INVALID_ESCAPE = "invalid-escape";
    /// A check directive with an unknown or malformed part (R-DIR-9).
    INVALID_CHECK = "invalid-check";
    /// A JSON array with something other than strings (R-JSON-2).
    EXEC_FORM_NOT_STRINGS = "exec-form-not-strings";
    /// `RUN []` and the like (R-JSON-4).
    EMPTY_COMMAND = "empty-command";
    /// A flag the instruction does not have (R-FLAG-6, R-FLAG-7).
    UNKNOWN_FLAG = "unknown-flag";
    /// A flag that needs `=value` (R-FLAG-3, R-FLAG-4).
    FLAG_WITHOUT_VALUE = "flag-without-value";
    /// A switch with another value than true or false (R-FLAG-3).
    FLAG_NOT_BOOLEAN = "flag-not-boolean";
    /// A flag given twice (R-FLAG-5).
    DUPLICATE_FLAG = "duplicate-flag";
    /// A heredoc whose terminator never comes (R-HD-6).
    UNTERMINATED_HEREDOC = "unterminated-heredoc";
    /// More heredocs in one instruction than anyone needs.
    TOO_MANY_HEREDOCS = "too-many-heredocs";
    /// COPY or ADD into a heredoc (R-HD-14).
    HEREDOC_DESTINATION = "heredoc-destination";
    /// FROM with other than one or three arguments (R-FROM-1).
    FROM_ARGUMENTS = "from-arguments";
    /// A stage name with characters it may not have (R-FROM-2).
    INVALID_STAGE_NAME = "invalid-stage-name";
    /// An instruction without what it is about.
    MISSING_ARGUMENT = "missing-argument";
    /// An ARG, ENV or LABEL whose name is empty (R-ARG-5, R-ENV-3).
    BLANK_NAME = "blank-name";
    /// An ENV or LABEL word without `=` (R-ENV-2).
    MISSING_EQUALS = "missing-equals";
    /// COPY or ADD with fewer than two arguments (R-COPY-1).
    MISSING_DESTINATION = "missing-destination";
    /// A variable in `COPY --from` (R-COPY-3) or in `from=` of a mount (R-MNT-3).
    VARIABLE_IN_FROM = "variable-in-from";
    /// A `--mount` that is not a comma-separated list (R-MNT-1, R-MNT-2).
    INVALID_MOUNT = "invalid-mount";
    /// A `--network` that does not exist (R-RUN-4).
    INVALID_NETWORK = "invalid-network";
    /// A `--security` that does not exist (R-RUN-5).
    INVALID_SECURITY = "invalid-security";
    /// A HEALTHCHECK that is neither CMD nor NONE (R-HC-3).
    UNKNOWN_HEALTHCHECK = "unknown-healthcheck";
    /// HEALTHCHECK NONE with more on the line (R-HC-1).
    HEALTHCHECK_NONE_ARGUMENTS = "healthcheck-none-arguments";
    /// A duration that is none, or too short (R-HC-4).
    INVALID_DURATION = "invalid-duration";
    /// `--retries` that is no number of times (R-HC-5).
    INVALID_RETRIES = "invalid-retries";
    /// SHELL in shell form (R-SHELL-1).
    SHELL_NOT_JSON = "shell-not-json";
    /// A VOLUME with an empty path (R-VOLUME-1).
    EMPTY_VOLUME = "empty-volume";
    /// An instruction that can't be a trigger (R-ONB-2).
    FORBIDDEN_TRIGGER = "forbidden-trigger";
    /// A trigger that is not exactly one instruction (R-ONB-3).
    INVALID_TRIGGER = "invalid-trigger";
    /// A stage name with capital letters.
    STAGE_NAME_CASING = "StageNameCasing";
    /// FROM and AS in different case.
    FROM_AS_CASING = "FromAsCasing";
    /// A blank line inside a continuation (R-LEX-7).
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation";
    /// MAINTAINER (R-MAINT-1).
    MAINTAINER_DEPRECATED = "MaintainerDeprecated";
    /// `ENV key value` (R-ENV-1).
    LEGACY_KEY_VALUE_FORMAT = "LegacyKeyValueFormat";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        for (index, code) in ALL.iter().enumerate() {
            assert!(!ALL[..index].contains(code), "{code}");
        }
    }
}
