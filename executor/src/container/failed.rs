//! What a RUN that failed leaves: a container of it, so that people can go to where it failed and look around.
//!
//! Each step has one at most, of the last time it failed, and all of them together are [`MOST_KEPT`]. They go when their Dockerfile can be
//! built, and else as any container does.

use std::collections::HashSet;

use jiff::Timestamp;
use kiln_cache::key::is_secret;
use kiln_cache::{ContainerRecord, FailedStep, StepFile, Store, StoreError};
use kiln_image::{DiffId, RunConfig};
use kiln_parser::{Network, Security};
use kiln_planner::{ExecOp, Mount, Vertex};

use super::kept::new_id;
use crate::Services;
use crate::error::Cause;
use crate::rootfs::RootFs;

/// So many failed steps are kept; the oldest go.
const MOST_KEPT: usize = 8;

const NAME: &str = "failed-";

/// Whether a container of this name is, or was, that of a step that failed.
pub fn is_name_of_failed(name: &str) -> bool {
    name.strip_prefix(NAME)
        .is_some_and(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A step that failed.
pub(crate) struct Failed<'a> {
    /// Names its Dockerfile and context.
    pub recipe: &'a str,
    /// Names it from build to build.
    pub step: String,
    pub vertex: &'a Vertex,
    pub op: &'a ExecOp,
    /// What it stood on.
    pub root: &'a RootFs,
    /// What it had changed; `None` if that is nothing.
    pub changes: Option<DiffId>,
    /// When it started.
    pub started: Timestamp,
    /// Its exit status, as a shell has it.
    pub status: i32,
}

impl Failed<'_> {
    /// Keeps it, and tells its name.
    pub(crate) fn keep(self, services: &Services<'_>) -> Result<String, Cause> {
        let container = self.container();
        services.store.sync()?;
        services.store.containers().put(&container)?;
        remove_older(services.store)?;
        Ok(container.name)
    }

    fn container(self) -> ContainerRecord {
        let Failed { op, vertex, .. } = self;
        let id = new_id(&self.step);
        let place = vertex.name.split_once(']').map(|(place, _)| place);
        let place = place.and_then(|place| place.strip_prefix('['));
        let (env, mut lacks) = environment(op);
        lacks.extend(mounts(op));
        if op.security == Security::Insecure {
            lacks.push("`--security=insecure` (`--privileged` gives it back)".to_owned());
        }
        ContainerRecord {
            name: format!("{NAME}{}", &id[..8]),
            id,
            image: None,
            image_name: place.unwrap_or("step").to_owned(),
            layers: self.root.layers.clone(),
            changes: self.changes,
            config: RunConfig {
                user: op.user.clone(),
                env,
                cmd: Some(op.argv.clone()),
                working_dir: op.cwd.clone(),
                ..RunConfig::default()
            },
            argv: op.argv.clone(),
            started: self.started,
            ended: Timestamp::now(),
            status: self.status,
            platform: Some(vertex.platform.clone()),
            step: Some(FailedStep {
                recipe: self.recipe.to_owned(),
                step: self.step,
                name: vertex.name.clone(),
                hostname: op.hostname.clone(),
                hosts: op.extra_hosts.clone(),
                offline: op.network == Network::None,
                files: files(op),
                tmpfs: tmpfs(op),
                lacks,
            }),
        }
    }
}

/// A Dockerfile can be built: nobody needs to see where it could not.
pub(crate) fn forget(store: &Store, recipe: &str) -> Result<(), StoreError> {
    let containers = store.containers();
    for container in containers.list()? {
        let is_of_it = |step: &FailedStep| step.recipe == recipe;
        if container.step.as_ref().is_some_and(is_of_it) {
            containers.remove(&container.id)?;
        }
    }
    Ok(())
}

/// Removes what steps left when they failed before, and what is too much. Whoever does the same at this moment keeps the same ones.
fn remove_older(store: &Store) -> Result<(), StoreError> {
    let containers = store.containers();
    let mut kept = HashSet::new();
    for container in containers.list()? {
        let Some(failed) = container.step else {
            continue;
        };
        if kept.len() == MOST_KEPT || !kept.insert(failed.step) {
            containers.remove(&container.id)?;
        }
    }
    Ok(())
}

/// Its variables, and those that are not kept because they tell of a secret.
fn environment(op: &ExecOp) -> (Vec<String>, Vec<String>) {
    let pairs = op.env.to_vec().into_iter().chain(op.proxy_env.clone());
    let (secret, open): (Vec<_>, Vec<_>) = pairs.partition(|(name, value)| is_secret(name, value));
    let env = open.iter().map(|(name, value)| format!("{name}={value}"));
    let lacks = secret
        .iter()
        .map(|(name, _)| format!("the variable `{name}` (`-e {name}=…` gives it back)"));
    (env.collect(), lacks.collect())
}

/// What it had mounted that a container has not.
fn mounts(op: &ExecOp) -> impl Iterator<Item = String> {
    let told = |what: &str, target: &str| {
        format!("{what} at `{target}` (`-v SOURCE:{target}` puts something there)")
    };
    op.mounts.iter().filter_map(move |mount| match mount {
        Mount::Bind(bind) => Some(told("what was mounted", &bind.target)),
        Mount::Cache(cache) => Some(told("the cache", &cache.target)),
        Mount::Secret(secret) => Some(match (&secret.target, &secret.env) {
            (Some(target), _) => told("the secret", target),
            (None, Some(name)) => format!("the secret `{name}` (`-e {name}=…` gives it back)"),
            (None, None) => return None,
        }),
        Mount::Ssh(ssh) => Some(format!("the SSH agent at `{}`", ssh.target)),
        Mount::Tmpfs(_) => None,
    })
}

fn tmpfs(op: &ExecOp) -> Vec<(String, Option<u64>)> {
    let asked = op.mounts.iter().filter_map(|mount| match mount {
        Mount::Tmpfs(tmpfs) => Some((tmpfs.target.clone(), tmpfs.size)),
        _ => None,
    });
    asked.collect()
}

fn files(op: &ExecOp) -> Vec<StepFile> {
    let files = op.files.iter().map(|file| StepFile {
        path: file.path.clone(),
        content: file.content.clone(),
        mode: file.mode,
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn failed(id: &str, step: &str, ended: i64) -> ContainerRecord {
        let at = Timestamp::from_second(ended).unwrap();
        ContainerRecord {
            id: id.to_owned(),
            name: format!("failed-{id}"),
            image: None,
            image_name: "step".to_owned(),
            layers: Vec::new(),
            changes: None,
            config: RunConfig::default(),
            argv: vec!["false".to_owned()],
            started: at,
            ended: at,
            status: 1,
            platform: None,
            step: Some(FailedStep {
                recipe: "recipe".to_owned(),
                step: step.to_owned(),
                name: step.to_owned(),
                hostname: String::new(),
                hosts: Vec::new(),
                offline: false,
                files: Vec::new(),
                tmpfs: Vec::new(),
                lacks: Vec::new(),
            }),
        }
    }

    fn ids(store: &Store) -> Vec<String> {
        let kept = store.containers().list().unwrap();
        kept.into_iter().map(|container| container.id).collect()
    }

    /// As when two builds fail at the same step at once: each has put its own before either looks.
    #[test]
    fn of_a_step_that_fails_twice_at_once_the_later_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        for container in [failed("a", "1/2", 1), failed("b", "1/2", 2)] {
            store.containers().put(&container).unwrap();
        }
        for _ in 0..2 {
            remove_older(&store).unwrap();
            assert_eq!(ids(&store), ["b"]);
        }
    }

    #[test]
    fn the_latest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        for number in 0..12 {
            let container = failed(&format!("{number:02}"), &number.to_string(), number);
            store.containers().put(&container).unwrap();
        }
        let own = ContainerRecord {
            step: None,
            ..failed("run", "", 0)
        };
        store.containers().put(&own).unwrap();
        remove_older(&store).unwrap();
        assert_eq!(
            ids(&store),
            ["11", "10", "09", "08", "07", "06", "05", "04", "run"]
        );
    }
}
