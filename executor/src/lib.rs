//! Do what must be done: run vertices in order, in parallel, in sandboxes; emit layers; export images.
//!
//! [`fn@build`] takes a parsed Dockerfile to images: it resolves base images, plans, solves the plan and puts the
//! images together. [`fn@preview`] says what that would do. [`export`] hands them to a sink; [`images`] has what can
//! be done with images without a build, and [`container`] runs a program in one. All of them report what happens as
//! [`Event`]s and print nothing.
//!
//! Start reading at [`mod@build`], then `solve` (one vertex: look up, do, record), then the operations in `op`.
//! [`sandbox`] runs a process in namespaces; [`sys`] is the only place with unsafe code.

mod agents;
pub mod attest;
pub mod build;
pub mod cancel;
mod cgroup;
mod compare;
pub mod container;
mod emulation;
mod error;
pub mod event;
pub mod export;
pub mod images;
mod inflight;
mod journal;
mod key_agent;
mod layers;
pub mod lock;
mod locked;
mod network_files;
pub mod op;
pub mod preview;
mod product;
mod remote_cache;
mod rootfs;
pub mod sandbox;
mod schedule;
mod secrets;
mod services;
mod snapshot;
mod solve;
mod source;
mod step_options;
mod stream;
pub mod sys;
pub mod ulimit;
mod unwritten;
mod usage;

pub use agents::{Agent, Agents};
pub use build::{
    BuildFailure, BuildRequest, Built, Planned, build, build_on, resolve_bases, resolve_known_bases,
};
pub use cancel::Cancel;
pub use cgroup::{CgroupError, Resources, Swap};
pub use compare::{Attribute, FileDifference, compare_layers};
pub use error::{BuildError, Cause, ErrorKind};
pub use event::{Event, EventKind, Reporter, Stream, Task, VertexId};
pub use journal::Journal;
pub use key_agent::{Key, KeyAgent, KeyError};
pub use op::LogLimit;
pub use preview::{KeyState, Preview, ResolvedBase, preview};
pub use product::Product;
pub use remote_cache::{
    BucketCache, CacheExport, CacheExported, CacheMode, CacheSource, CacheTarget, Imports, Uploads,
    export_cache,
};
pub use secrets::{Redactor, SecretSource, Secrets};
pub use services::Services;
pub use source::context::{ContextSource, ContextSources};
pub use source::folder::ContextOptions;
pub use source::git::{GitSettings, HeadError, head_time};
pub use source::inventory::{ContextEntry, EntryKind, inventory};
pub use source::load::{FetchedContext, LONE_FILE, Loader, starts_archive};
pub use source::modes::ContextModes;
pub use source::spooled::Spooled;
pub use step_options::StepOptions;
pub use usage::{Shortage, Usage};
