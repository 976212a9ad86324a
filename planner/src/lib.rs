//! From Dockerfile syntax to a build graph.
//!
//! A plan is made in two steps, because the planner does no IO. [`base_images`] names the images whose
//! configs it has to know; the caller resolves them; [`plan`] then evaluates the instructions from top to
//! bottom and gives the [`Plan`]: a graph of operations, the config of the image they make and its
//! history.
//!
//! ```
//! use kiln_parser::{Source, parse};
//! use kiln_planner::{Bases, PlanOptions, plan};
//!
//! let source = Source::new("Dockerfile", "FROM scratch\nCOPY app /\nCMD [\"/app\"]\n");
//! let options = PlanOptions::new("linux/amd64".parse()?);
//! let plan = plan(&parse(&source), &options, &Bases::new()).expect("a correct Dockerfile");
//! assert_eq!(plan.graph[plan.target].name, "[1/1] COPY app /");
//! assert_eq!(plan.config.config.cmd, Some(vec!["/app".to_owned()]));
//! # Ok::<(), kiln_image::PlatformError>(())
//! ```
//!
//! A [`Vertex`] holds an [`Op`]: a source (image, build context, download, git repository, nothing), the execution of a RUN, or a change of
//! files (COPY, ADD, WORKDIR). Metadata instructions make no vertices; their effect is in the config and in the
//! operations after them. Stages that the target doesn't need are dropped (R-STG-2).
//!
//! [`fn@outline`] and [`fn@targets`] answer smaller questions about a Dockerfile, without any image.
//!
//! [`lint`] says what in a Dockerfile is likely not meant, over a [`survey()`] of it: an evaluation as far as the known images allow.
//!
//! The plan carries all that an executor needs and nothing of how it does it: no digests of files, no cache keys.
//! What is wrong with a Dockerfile is told as [`Diagnostic`](kiln_parser::Diagnostic)s, all of them, not only the first.

mod argument;
mod base;
mod chmod;
mod code;
mod context;
mod doc_comment;
mod evaluate;
mod graph;
mod join;
mod limits;
mod op;
mod options;
mod outline;
mod paths;
mod plan;
mod pragma;
mod remote;
mod resolve;
mod scope;
mod size;
mod stage;
mod survey;
mod targets;

pub mod dump;
pub mod lint;

pub use argument::{Argument, ArgumentOrigin};
pub use base::{BaseImage, BaseKey, BaseRequest, Bases, Outlook, base_images, outlook};
pub use chmod::{Chmod, ChmodError, SymbolicMode};
pub use context::{ContextName, ContextNameError, NamedContext, NamedContexts};
pub use graph::{Edge, Graph, Vertex, VertexId, inputs};
pub use join::join;
pub use kiln_parser::{Network, Security};
pub use limits::{Limits, Ulimit};
pub use lint::names_a_secret;
pub use op::{
    BindMount, CacheMount, CopyOp, CopySourceOp, EnvList, ExecOp, FileOp, InlineFile, MkdirOp,
    Mount, Op, SecretMount, Sharing, SourceOp, SshMount, TmpfsMount,
};
pub use options::{Entitlements, NoCache, PlanOptions};
pub use outline::{Outline, OutlineArgument, OutlineMount, outline};
pub use plan::{HistoryStep, Plan, plan};
pub use pragma::StepPolicy;
pub use remote::{GitSource, GitTimes, GitUrl, HttpSource, HttpUrl, Login, Remote, RemoteError};
pub use size::size_in_bytes;
pub use stage::{Need, NeedReason, StageSummary};
pub use survey::{ContextRead, Survey, SurveyedStage, survey};
pub use targets::{Target, targets};
