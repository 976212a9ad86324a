//! The steps of a build, in the frame that BuildKit writes its own in.

use kiln_cache::key::conceal;
use kiln_planner::{
    CopyOp, CopySourceOp, ExecOp, FileOp, Mount, Network, Op, SourceOp, Vertex, VertexId, inputs,
};
use serde_json::{Map, Value, json};

use super::Facts;

impl Facts<'_> {
    /// All steps, numbered, each with the numbers of those it reads.
    pub(super) fn build_config(&self, needed: &[VertexId]) -> Value {
        let number = |vertex: VertexId| needed.iter().position(|at| *at == vertex);
        let steps = needed.iter().enumerate().map(|(at, id)| {
            let vertex = &self.plan.graph[*id];
            let mut step = Map::new();
            step.insert("id".to_owned(), format!("step{at}").into());
            step.insert("op".to_owned(), op(vertex));
            let inputs = inputs(&self.plan.graph, *id).into_iter();
            let inputs: Vec<Value> = inputs
                .filter_map(|input| Some(format!("step{}:0", number(input)?).into()))
                .collect();
            if !inputs.is_empty() {
                step.insert("inputs".to_owned(), inputs.into());
            }
            Value::from(step)
        });
        json!({"llbDefinition": steps.collect::<Vec<Value>>()})
    }
}

fn op(vertex: &Vertex) -> Value {
    let what = match &vertex.op {
        Op::Source(source) => json!({"source": self::source(source)}),
        Op::Exec(op) => json!({"exec": exec(op)}),
        Op::File(FileOp::Copy(op)) => json!({"file": {"actions": copies(op)}}),
        Op::File(FileOp::Mkdir(op)) => json!({"file": {"actions": [{
            "input": 0,
            "Action": {"mkdir": {"path": op.path, "makeParents": true, "mode": 0o755}},
        }]}}),
    };
    json!({
        "Op": what,
        "platform": {
            "Architecture": vertex.platform.architecture,
            "OS": vertex.platform.os,
        },
        "constraints": {},
    })
}

fn source(source: &SourceOp) -> Value {
    let identifier = match source {
        SourceOp::Image {
            reference,
            manifest_digest,
            ..
        } => {
            let pinned = manifest_digest.map(|digest| reference.with_digest(digest));
            format!("docker-image://{}", pinned.as_ref().unwrap_or(reference))
        }
        SourceOp::Local { name } => match name {
            Some(name) => format!("local://context:{name}"),
            None => "local://context".to_owned(),
        },
        SourceOp::Http(source) => {
            return json!({
                "identifier": source.url.to_string(),
                "attrs": {"http.filename": source.name},
            });
        }
        SourceOp::Git(source) => match &source.reference {
            Some(reference) => format!("git://{}#{reference}", source.remote),
            None => format!("git://{}", source.remote),
        },
        SourceOp::Scratch => "scratch".to_owned(),
    };
    json!({"identifier": identifier})
}

fn exec(op: &ExecOp) -> Value {
    let env = op.env.to_vec();
    let env = env.iter();
    let env: Vec<String> = env
        .map(|(name, value)| format!("{name}={}", conceal(name, value)))
        .collect();
    let mut meta = Map::new();
    meta.insert("args".to_owned(), json!(op.argv));
    meta.insert("env".to_owned(), json!(env));
    meta.insert("cwd".to_owned(), op.cwd.clone().into());
    if !op.user.is_empty() {
        meta.insert("user".to_owned(), op.user.clone().into());
    }
    let root = json!({"dest": "/"});
    let mounts = op.mounts.iter().map(mount);
    let mounts: Vec<Value> = std::iter::once(root).chain(mounts).collect();
    let mut exec = json!({"meta": meta, "mounts": mounts});
    match op.network {
        Network::Default => {}
        Network::Host => exec["network"] = 1.into(),
        Network::None => exec["network"] = 2.into(),
    }
    exec
}

fn mount(mount: &Mount) -> Value {
    match mount {
        Mount::Bind(bind) => json!({
            "input": bind.input,
            "selector": bind.source,
            "dest": bind.target,
            "readonly": !bind.writable,
        }),
        Mount::Cache(cache) => json!({
            "dest": cache.target,
            "mountType": 3,
            "cacheOpt": {"ID": cache.id},
        }),
        Mount::Tmpfs(tmpfs) => json!({"dest": tmpfs.target, "mountType": 4}),
        Mount::Secret(secret) => json!({
            "dest": secret.target,
            "mountType": 1,
            "secretOpt": {"ID": secret.id, "optional": !secret.required},
        }),
        Mount::Ssh(ssh) => json!({
            "dest": ssh.target,
            "mountType": 2,
            "SSHOpt": {"ID": ssh.id, "optional": !ssh.required},
        }),
    }
}

fn copies(op: &CopyOp) -> Vec<Value> {
    let copies = op.sources.iter().map(|source| match source {
        CopySourceOp::Path { input, path, .. } => {
            let mut copy = Map::new();
            copy.insert("src".to_owned(), path.clone().into());
            copy.insert("dest".to_owned(), op.dest.clone().into());
            if let Some(owner) = &op.chown {
                copy.insert("owner".to_owned(), owner.clone().into());
            }
            if let Some(chmod) = &op.chmod {
                copy.insert("modeStr".to_owned(), chmod.to_string().into());
            }
            if !op.exclude.is_empty() {
                copy.insert("exclude_patterns".to_owned(), json!(op.exclude));
            }
            json!({
                "input": 0,
                "secondaryInput": input,
                "Action": {"copy": copy},
            })
        }
        CopySourceOp::Inline { .. } => json!({
            "input": 0,
            "Action": {"mkfile": {"path": op.dest}},
        }),
    });
    copies.collect()
}
