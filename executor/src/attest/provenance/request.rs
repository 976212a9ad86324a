//! What was asked for: flags as BuildKit's frontend calls them.

use std::collections::BTreeMap;

use kiln_cache::key::conceal;
use kiln_planner::{Network, NoCache, PlanOptions};
use serde_json::{Map, Value, json};

use super::Facts;
use crate::attest::ProvenanceMode;
use crate::source::context::ContextSource;

/// Which of BuildKit's behaviours, where they have changed, builds have.
const COMPATIBILITY: u32 = 30;

/// The request of a build, as far as it is told.
pub(super) struct Request {
    args: BTreeMap<String, String>,
    secrets: Vec<String>,
    agents: Vec<String>,
    /// Whether the context is a folder, or a tar that nobody can name.
    is_local: bool,
    /// Where the context is, if it has an address.
    context: Option<String>,
    file: Option<String>,
    /// Whether all that was asked for is told.
    pub(super) is_complete: bool,
}

impl Request {
    pub(super) fn of(facts: &Facts<'_>, mode: ProvenanceMode) -> Self {
        let options = facts.options;
        let mut args = flags(options);
        let mut is_complete = true;
        let kept: Vec<(String, String)> = build_args(options).collect();
        if mode == ProvenanceMode::Max {
            // What tells of a secret is concealed, and so not told.
            is_complete = options
                .build_args
                .iter()
                .all(|(name, value)| conceal(name, value) == *value);
            args.extend(kept);
        } else if !kept.is_empty() {
            is_complete = false;
        }
        let steps = &facts.request.steps;
        let (secrets, agents) = match mode {
            ProvenanceMode::Max => (steps.secrets.ids(), steps.agents.ids()),
            ProvenanceMode::Min => (Vec::new(), Vec::new()),
        };
        let context = match &facts.request.contexts.main {
            Some(ContextSource::Fetched(fetched)) => Some(fetched.shown().to_owned()),
            _ => None,
        };
        let file = file_name(facts.request.source.name());
        Self {
            args,
            secrets,
            agents,
            is_local: context.is_none(),
            context,
            file: (file != "Dockerfile").then_some(file),
            is_complete,
        }
    }

    /// The context's address and the Dockerfile in it, under the name that the version has for that.
    pub(super) fn config_source(&self, file: &str) -> Value {
        let mut source = Map::new();
        if let Some(context) = &self.context {
            source.insert("uri".to_owned(), context.clone().into());
        }
        if let Some(name) = &self.file {
            source.insert(file.to_owned(), name.clone().into());
        }
        source.into()
    }

    pub(super) fn parameters(&self) -> Value {
        let mut parameters = Map::new();
        parameters.insert("frontend".to_owned(), "dockerfile.v0".into());
        parameters.insert("compatibilityVersion".to_owned(), COMPATIBILITY.into());
        if !self.args.is_empty() {
            parameters.insert("args".to_owned(), json!(self.args));
        }
        let named = |ids: &[String]| -> Value {
            let ids = ids.iter();
            ids.map(|id| json!({"id": id, "optional": true})).collect()
        };
        if !self.secrets.is_empty() {
            parameters.insert("secrets".to_owned(), named(&self.secrets));
        }
        if !self.agents.is_empty() {
            parameters.insert("ssh".to_owned(), named(&self.agents));
        }
        if self.is_local {
            let locals = json!([{"name": "context"}, {"name": "dockerfile"}]);
            parameters.insert("locals".to_owned(), locals);
        }
        parameters.into()
    }
}

/// Build arguments and labels.
fn build_args(options: &PlanOptions) -> impl Iterator<Item = (String, String)> + '_ {
    let args = options.build_args.iter();
    let args = args.map(|(name, value)| (format!("build-arg:{name}"), conceal(name, value)));
    let labels = options.labels.iter();
    args.chain(labels.map(|(name, value)| (format!("label:{name}"), conceal(name, value))))
}

/// All other flags that change what is built.
fn flags(options: &PlanOptions) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut flag = |name: &str, value: String| {
        flags.insert(name.to_owned(), value);
    };
    if let Some(target) = &options.target {
        flag("target", target.clone());
    }
    match &options.no_cache {
        NoCache::None => {}
        NoCache::All => flag("no-cache", String::new()),
        NoCache::Stages(stages) => flag("no-cache", stages.join(",")),
    }
    if !options.extra_hosts.is_empty() {
        let hosts = options.extra_hosts.iter();
        let hosts: Vec<String> = hosts.map(|(name, at)| format!("{name}={at}")).collect();
        flag("add-hosts", hosts.join(","));
    }
    match options.network {
        Network::Host => flag("force-network-mode", "host".to_owned()),
        Network::None => flag("force-network-mode", "none".to_owned()),
        Network::Default => {}
    }
    flags
}

/// The last part of a path: where a Dockerfile is on this machine is nobody's business.
pub(super) fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
