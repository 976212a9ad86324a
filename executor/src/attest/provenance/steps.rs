//! The steps of a build, in the frame that BuildKit writes its own in.

use kiln_cache::key::conceal;
use kiln_planner::{
    Chmod, CopyOp, CopySourceOp, ExecOp, FileOp, Mount, Network, Op, SourceOp, Vertex, VertexId,
    inputs,
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
            let inputs = inputs(&self.plan.graph, *id).into_iter();
            let inputs: Vec<Value> = inputs
                .filter_map(|input| Some(format!("step{}:0", number(input)?).into()))
                .collect();
            step.insert("op".to_owned(), op(vertex, inputs.len()));
            if !inputs.is_empty() {
                step.insert("inputs".to_owned(), inputs.into());
            }
            Value::from(step)
        });
        // The last one says which of them is the image.
        let image = number(self.plan.target).map(|target| {
            json!({
                "id": format!("step{}", needed.len()),
                "inputs": [format!("step{target}:0")],
                "op": {"Op": {}},
            })
        });
        json!({"llbDefinition": steps.chain(image).collect::<Vec<Value>>()})
    }
}

fn op(vertex: &Vertex, inputs: usize) -> Value {
    let what = match &vertex.op {
        Op::Source(source) => json!({"source": self::source(source)}),
        Op::Exec(op) => json!({"exec": exec(op)}),
        Op::File(FileOp::Copy(op)) => json!({"file": {"actions": copies(op, inputs)}}),
        Op::File(FileOp::Mkdir(op)) => json!({"file": {"actions": [{
            "input": 0,
            "secondaryInput": NONE,
            "output": 0,
            "Action": {"mkdir": {"path": op.path, "makeParents": true, "mode": 0o755, "timestamp": NONE}},
        }]}}),
    };
    let mut op = json!({"Op": what, "constraints": {}});
    if matches!(vertex.op, Op::Exec(_) | Op::Source(SourceOp::Image { .. })) {
        op["platform"] = json!({
            "Architecture": vertex.platform.architecture,
            "OS": vertex.platform.os,
        });
    }
    op
}

/// What BuildKit writes where there is nothing.
const NONE: i32 = -1;

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
    meta.insert("removeMountStubsRecursive".to_owned(), true.into());
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

/// The actions of a copy, each on what the one before made, which is numbered after the `inputs`.
fn copies(op: &CopyOp, inputs: usize) -> Vec<Value> {
    let last = op.sources.len() - 1;
    let copies = op.sources.iter().enumerate().map(|(at, source)| {
        let (from, action) = match source {
            CopySourceOp::Path { input, path, .. } => {
                (json!(input), json!({"copy": copy(op, path)}))
            }
            CopySourceOp::Inline { .. } => (
                NONE.into(),
                json!({"mkfile": {"path": op.dest, "timestamp": NONE}}),
            ),
        };
        json!({
            "input": if at == 0 { 0 } else { inputs + at - 1 },
            "secondaryInput": from,
            "output": if at == last { 0 } else { NONE },
            "Action": action,
        })
    });
    copies.collect()
}

fn copy(op: &CopyOp, path: &str) -> Value {
    let mut copy = json!({
        "src": path,
        "dest": op.dest,
        "mode": NONE,
        "timestamp": NONE,
        "followSymlink": true,
        "dirCopyContents": true,
        "createDestPath": true,
        "allowWildcard": true,
        "allowEmptyWildcard": true,
    });
    if op.dest_is_dir && op.dest != "/" {
        copy["dest"] = format!("{}/", op.dest).into();
    }
    if let Some(owner) = &op.chown {
        copy["owner"] = owner_of(owner);
    }
    match &op.chmod {
        Some(Chmod::Octal(mode)) => copy["mode"] = (*mode).into(),
        Some(symbolic) => copy["modeStr"] = symbolic.to_string().into(),
        None => {}
    }
    if !op.exclude.is_empty() {
        copy["exclude_patterns"] = json!(op.exclude);
    }
    copy
}

/// `user[:group]`, each a number or a name.
fn owner_of(owner: &str) -> Value {
    let one = |text: &str| match text.parse::<u32>() {
        Ok(id) => json!({"User": {"byId": id}}),
        Err(_) => json!({"User": {"byName": {"name": text}}}),
    };
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let mut owner = json!({"user": one(user)});
    if !group.is_empty() {
        owner["group"] = one(group);
    }
    owner
}
