//! What is kept of a build.

use std::fmt;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest};
use kiln_parser::IgnoreFile;
use serde::{Deserialize, Serialize};

use crate::{CacheKey, OutputId};

/// Names a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(pub(super) String);

/// What is the same when a Dockerfile is built again: the Dockerfile and its context, in a few letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecipeId(pub(super) String);

/// What was to be built, known from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildHeader {
    /// The build.
    pub id: BuildId,
    /// Which Dockerfile and context.
    pub recipe: RecipeId,
    /// The version of kiln.
    pub kiln: String,
    /// When it began.
    pub started: Timestamp,
    /// The context: an absolute path, or as the user called it.
    pub context: String,
    /// The Dockerfile, as the user called it.
    pub dockerfile: String,
    /// The target that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The names the image was to get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A build that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildRecord {
    /// What was to be built.
    #[serde(flatten)]
    pub header: BuildHeader,
    /// How it was asked for; `None` in the records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<Invocation>,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: BuildOutcome,
    /// The plan and what came of its steps; `None` if it never came to a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphRecord>,
    /// What else was done: pulls, exports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<WorkRecord>,
}

/// How a build was asked for, so that it can be done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invocation {
    /// Where kiln was started.
    pub directory: String,
    /// What was typed after the command's name, without the build arguments. Passwords in addresses are left out.
    pub words: Vec<String>,
    /// Build arguments and their values; `None` where that is a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_args: Vec<(String, Option<String>)>,
    /// The text of the Dockerfile; `None` if a secret is in it, or it is very long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
}

/// What a name of a source stood for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum SourceRecord {
    /// An image.
    Image {
        /// Its name, with registry and tag or digest.
        name: String,
        /// The platform it was asked for.
        platform: String,
        /// The digest of its manifest; `None` for one that was made here.
        manifest: Option<Digest>,
        /// The digest of the index that the name stood for, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<Digest>,
        /// The digest of its config.
        id: Digest,
    },
    /// A git repository.
    Repository {
        /// Its address, without a login.
        address: String,
        /// The ref that was asked for; `None` for the default branch.
        asked: Option<String>,
        /// The commit.
        commit: String,
        /// The object of the annotated tag that names the commit.
        tag: Option<String>,
        /// The whole name of the ref.
        reference: String,
    },
    /// A download.
    Download {
        /// Its address, without a login.
        address: String,
        /// The digest of the content.
        content: Digest,
    },
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum BuildOutcome {
    /// Well.
    Done {
        /// The image's id: of several, that of the first.
        image: Digest,
        /// The ids of the others: each target's, in the order in which its platforms were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<Digest>,
    },
    /// Not well.
    Failed {
        /// What went wrong.
        message: String,
    },
    /// It was stopped.
    Canceled,
}

/// A plan and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphRecord {
    /// The stage that was built, as progress calls it.
    pub target: String,
    /// The platform of the result.
    pub platform: String,
    /// ARGs before the first FROM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub global_arguments: Vec<ArgumentRecord>,
    /// The stages that the target needs.
    pub stages: Vec<StageRecord>,
    /// The steps; each stands after all that it reads.
    pub steps: Vec<StepRecord>,
    /// What the names of sources stood for, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRecord>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageRecord {
    /// As progress calls it: `stage-0` without a name.
    pub name: String,
    /// Its FROM, as written.
    pub text: String,
    /// Where that stands.
    pub line: usize,
    /// The variables that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<(String, String)>,
    /// Its ARGs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<ArgumentRecord>,
}

/// An ARG. The value of one whose name tells of a secret is a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentRecord {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// A step and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// As progress calls it: `[build 2/4] RUN make`.
    pub name: String,
    /// `exec`, `copy`, `mkdir`, or what a source is: `image`, `context`, `http`, `git`, `scratch`.
    pub kind: String,
    /// The stage it is in, by position in [`GraphRecord::stages`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Where its instruction stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The instruction as written; empty for a source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The variables that the instruction names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<(String, String)>,
    /// What it reads, by position; the first is the root filesystem that it changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<usize>,
    /// The platform that it is for, and a step runs on; `None` in the records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Of a source: the digest of an image, the address of a download, that of a repository with its ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of a context: what it leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<IgnoreRecord>,
    /// What its mounts show of the steps it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<ShownRecord>,
    /// The key that the same step had on another machine, whose cache was imported, where nothing was found under its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<CacheKey>,
    /// What came of it; `None` if the build ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StepEnd>,
}

/// The rules of an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreRecord {
    /// What it is called: `.dockerignore`.
    pub name: String,
    /// Lines, from 1, and what stands there.
    pub rules: Vec<(usize, String)>,
}

/// A path that a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRecord {
    /// Where the step sees it.
    pub target: String,
    /// The step that it is from, by position.
    pub from: usize,
    /// Its path there.
    pub source: String,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEnd {
    /// Its number in progress and log; none for what shows no progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertex: Option<u32>,
    /// When it ended, in milliseconds since the build began.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub state: StepState,
    /// Its key, if it came to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CacheKey>,
    /// The root filesystem after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputId>,
    /// The layer that it made, or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<DiffId>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// A source, which has no key.
    Read,
    /// Its result was in the cache.
    Hit {
        /// When the result was made.
        created: Timestamp,
    },
    /// It was done.
    Rebuilt {
        /// Why nothing was found, as far as the store knows.
        miss: Miss,
        /// Whether it gave what the step gave the last time.
        same_output: bool,
    },
    /// It failed.
    Failed {
        /// Why it was not in the cache, if it came that far.
        miss: Option<Miss>,
        /// What went wrong.
        message: String,
    },
    /// It was stopped.
    Canceled,
}

/// What the store knows of a result that was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Miss {
    /// There was none, as far as is known.
    Absent,
    /// There was one, and it was collected.
    Collected,
    /// Nothing was looked for.
    Disabled {
        /// The flag or comment that says so, as the user writes it.
        by: String,
    },
    /// There is one that is too old.
    Expired {
        /// Its age in seconds.
        age: u64,
        /// The age it may have, in seconds.
        ttl: u64,
    },
    /// There is one that can't be used.
    Damaged {
        /// What is damaged or gone.
        what: String,
    },
}

/// Work that is no step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRecord {
    /// Its number in progress and log.
    pub vertex: u32,
    /// As progress calls it.
    pub name: String,
    /// When it ended, in milliseconds since the build began.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What went wrong, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RecipeId {
    /// Of a Dockerfile and a context, however they are called. Both should be called the same every time.
    #[must_use]
    pub fn of(context: &str, dockerfile: &str) -> Self {
        let text = format!("{context}\0{dockerfile}");
        Self(Digest::of(text.as_bytes()).hex()[..super::NAME_LENGTH].to_owned())
    }
}

impl BuildRecord {
    /// The steps; none if it never came to a plan.
    #[must_use]
    pub fn steps(&self) -> &[StepRecord] {
        self.graph.as_ref().map_or(&[], |graph| &graph.steps)
    }

    /// The keys of its steps, and those that they were compared with.
    pub fn keys(&self) -> impl Iterator<Item = CacheKey> {
        let keys = |step: &StepRecord| step.key().into_iter().chain(step.elsewhere);
        self.steps().iter().flat_map(keys)
    }
}

impl IgnoreRecord {
    /// The rules as they were read; `None` if they can't be.
    pub(crate) fn file(&self) -> Option<IgnoreFile> {
        let mut text = String::new();
        let mut at = 1;
        for (line, pattern) in &self.rules {
            while at < *line {
                text.push('\n');
                at += 1;
            }
            // What begins with `#` had a blank before it, or it were a comment.
            text.push(' ');
            text.push_str(pattern);
        }
        IgnoreFile::parse(&text).ok()
    }
}

impl GraphRecord {
    /// The stage of a step.
    #[must_use]
    pub fn stage_of(&self, step: &StepRecord) -> Option<&StageRecord> {
        self.stages.get(step.stage?)
    }
}

impl StepRecord {
    /// What it is called without its number: `RUN make`.
    #[must_use]
    pub fn instruction(&self) -> &str {
        match self.name.split_once("] ") {
            Some((_, instruction)) if self.name.starts_with('[') => instruction,
            _ => &self.name,
        }
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<CacheKey> {
        self.end.as_ref()?.key
    }

    /// The root filesystem after it, if it came to have one.
    #[must_use]
    pub fn output(&self) -> Option<OutputId> {
        self.end.as_ref()?.output
    }

    /// Whether it was done, well or not.
    #[must_use]
    pub fn was_rebuilt(&self) -> bool {
        matches!(
            self.end.as_ref().map(|end| &end.state),
            Some(StepState::Rebuilt { .. } | StepState::Failed { .. })
        )
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BuildId {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
