//! The stable names of the planner's diagnostics. Each has a page with a bad and a good example.

use kiln_parser::Code;

pub(crate) const BASE_NAME: Code = Code("invalid-base-name");
pub(crate) const BASE_NOT_RESOLVED: Code = Code("base-not-resolved");
pub(crate) const PLATFORM: Code = Code("invalid-platform");
pub(crate) const NO_STAGES: Code = Code("no-stages");
pub(crate) const UNKNOWN_TARGET: Code = Code("unknown-target");
pub(crate) const EXPANSION: Code = Code("expansion");
pub(crate) const STAGE_INDEX: Code = Code("invalid-stage-index");
pub(crate) const CYCLE: Code = Code("circular-dependency");
pub(crate) const LATER_STAGE: Code = Code("later-stage");
pub(crate) const TRIGGER: Code = Code("invalid-onbuild-trigger");
pub(crate) const SOURCE_DATE_EPOCH: Code = Code("invalid-source-date-epoch");
pub(crate) const PORT: Code = Code("invalid-port");
pub(crate) const SIGNAL: Code = Code("invalid-signal");
pub(crate) const VOLUME: Code = Code("empty-volume");
pub(crate) const NO_COMMAND: Code = Code("no-command");
pub(crate) const NOT_ALLOWED: Code = Code("not-allowed");
pub(crate) const MOUNT: Code = Code("invalid-mount");
pub(crate) const CHMOD: Code = Code("invalid-chmod");
pub(crate) const EXCLUDE: Code = Code("invalid-exclude");
pub(crate) const COPY_SOURCE: Code = Code("invalid-copy-source");
pub(crate) const CHECKSUM: Code = Code("invalid-checksum");
pub(crate) const REMOTE: Code = Code("invalid-remote");
pub(crate) const UNSUPPORTED: Code = Code("unsupported");

// Warnings keep BuildKit's names (R-CHK).
pub(crate) const UNDEFINED_VAR: Code = Code("UndefinedVar");
pub(crate) const UNDEFINED_ARG_IN_FROM: Code = Code("UndefinedArgInFrom");
pub(crate) const WORKDIR_RELATIVE_PATH: Code = Code("WorkdirRelativePath");
pub(crate) const EXPOSE_PROTO_CASING: Code = Code("ExposeProtoCasing");
pub(crate) const EXPOSE_INVALID_FORMAT: Code = Code("ExposeInvalidFormat");
pub(crate) const INVALID_BASE_IMAGE_PLATFORM: Code = Code("InvalidBaseImagePlatform");
pub(crate) const JSON_ARGS_RECOMMENDED: Code = Code("JSONArgsRecommended");
