//! A plan as text a person can read, for tests and for `kiln plan`.

use std::fmt::{self, Write as _};

use crate::{
    CopyOp, CopySourceOp, ExecOp, FileOp, GitSource, GitTimes, Mount, Op, Plan, SourceOp, Vertex,
    VertexId, inputs,
};

/// The operations, the history and the stages. The config is a JSON document of its own.
#[must_use]
pub fn dump(plan: &Plan) -> String {
    let mut text = String::new();
    write_plan(&mut text, plan).expect("writing to a String cannot fail");
    text
}

fn write_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "target v{} {}", plan.target.index(), plan.platform)?;
    if let Some(epoch) = plan.source_date_epoch {
        writeln!(out, "source date epoch {epoch}")?;
    }
    if !plan.unused_build_args.is_empty() {
        writeln!(
            out,
            "unused build args {}",
            plan.unused_build_args.join(" ")
        )?;
    }
    for id in plan.graph.node_indices() {
        write_vertex(out, plan, id)?;
    }
    writeln!(out, "\nhistory")?;
    if !plan.base_layers.is_empty() {
        writeln!(out, "  {} layers of the base", plan.base_layers.len())?;
    }
    for step in &plan.history {
        let vertex = step
            .vertex
            .map_or_else(|| "-".to_owned(), |id| format!("v{}", id.index()));
        writeln!(out, "  {vertex:<3} {:?}", step.entry.created_by)?;
    }
    writeln!(out, "\nstages")?;
    for (index, stage) in plan.stages.iter().enumerate() {
        let output = stage
            .output
            .map_or_else(|| "not needed".to_owned(), |id| format!("v{}", id.index()));
        writeln!(
            out,
            "  {index} {} from {}: {output}",
            stage.name.as_deref().unwrap_or("-"),
            stage.base
        )?;
    }
    for diagnostic in &plan.diagnostics {
        writeln!(
            out,
            "\n{}[{}]: {}",
            diagnostic.severity, diagnostic.code, diagnostic.message
        )?;
    }
    Ok(())
}

fn write_vertex(out: &mut String, plan: &Plan, id: VertexId) -> fmt::Result {
    let Vertex {
        op,
        name,
        no_cache,
        policy,
        platform,
        ..
    } = &plan.graph[id];
    writeln!(out, "\nv{} {name}", id.index())?;
    match op {
        Op::Source(source) => write_source(out, source)?,
        Op::Exec(exec) => write_exec(out, exec)?,
        Op::File(FileOp::Copy(copy)) => write_copy(out, copy)?,
        Op::File(FileOp::Mkdir(mkdir)) => {
            writeln!(out, "  mkdir {:?}", mkdir.path)?;
            write_unless_empty(out, "owner", &mkdir.owner)?;
        }
    }
    let inputs: Vec<String> = inputs(&plan.graph, id)
        .iter()
        .map(|input| format!("v{}", input.index()))
        .collect();
    write_unless_empty(out, "inputs", &inputs.join(" "))?;
    if *platform != plan.platform {
        writeln!(out, "  platform {platform}")?;
    }
    if *no_cache {
        writeln!(out, "  no cache")?;
    }
    if let Some(timeout) = policy.timeout {
        writeln!(out, "  timeout {timeout:?}")?;
    }
    if policy.retries > 0 {
        writeln!(out, "  retry {}", policy.retries)?;
    }
    if let Some(age) = policy.max_age {
        writeln!(out, "  ttl {age:?}")?;
    }
    Ok(())
}

fn write_source(out: &mut String, source: &SourceOp) -> fmt::Result {
    match source {
        SourceOp::Image {
            reference,
            manifest_digest,
            diff_ids,
        } => {
            writeln!(out, "  image {reference}")?;
            if let Some(digest) = manifest_digest {
                writeln!(out, "  manifest {digest}")?;
            }
            diff_ids
                .iter()
                .try_for_each(|diff_id| writeln!(out, "  layer {diff_id}"))
        }
        SourceOp::Local { name: None } => writeln!(out, "  local context"),
        SourceOp::Local { name: Some(name) } => writeln!(out, "  local context {name}"),
        SourceOp::Http(http) => {
            writeln!(out, "  http {}", http.url)?;
            writeln!(out, "  name {:?}", http.name)?;
            match &http.checksum {
                Some(checksum) => writeln!(out, "  checksum {checksum}"),
                None => Ok(()),
            }
        }
        SourceOp::Git(git) => write_git(out, git),
        SourceOp::Scratch => writeln!(out, "  scratch"),
    }
}

fn write_git(out: &mut String, git: &GitSource) -> fmt::Result {
    writeln!(out, "  git {git}")?;
    write_unless_empty(out, "checksum", git.checksum.as_deref().unwrap_or_default())?;
    for (name, set) in [
        ("keep git directory", git.keep_git_dir),
        ("without submodules", !git.submodules),
        ("times of the commit", git.times == GitTimes::Commit),
        ("fetch by commit", git.fetch_by_commit),
    ] {
        if set {
            writeln!(out, "  {name}")?;
        }
    }
    Ok(())
}

fn write_exec(out: &mut String, exec: &ExecOp) -> fmt::Result {
    writeln!(out, "  exec {:?}", exec.argv)?;
    for (name, value) in exec.env.pairs() {
        writeln!(out, "  env {name}={value:?}")?;
    }
    for (name, value) in &exec.proxy_env {
        writeln!(out, "  proxy {name}={value:?}")?;
    }
    writeln!(out, "  cwd {:?}", exec.cwd)?;
    write_unless_empty(out, "user", &exec.user)?;
    writeln!(out, "  hostname {}", exec.hostname)?;
    for (name, address) in &exec.extra_hosts {
        writeln!(out, "  host {name} {address}")?;
    }
    let limits = &exec.limits;
    for ulimit in &limits.ulimits {
        writeln!(out, "  ulimit {ulimit}")?;
    }
    if let Some(size) = limits.shm_size {
        writeln!(out, "  shm size {size}")?;
    }
    write_unless_empty(
        out,
        "cgroup parent",
        limits.cgroup_parent.as_deref().unwrap_or(""),
    )?;
    writeln!(
        out,
        "  network {:?}, security {:?}",
        exec.network, exec.security
    )?;
    for file in &exec.files {
        writeln!(
            out,
            "  file {:?} {:04o} {:?}",
            file.path,
            file.mode,
            String::from_utf8_lossy(&file.content)
        )?;
    }
    exec.mounts
        .iter()
        .try_for_each(|mount| write_mount(out, mount))
}

fn write_mount(out: &mut String, mount: &Mount) -> fmt::Result {
    match mount {
        Mount::Bind(bind) => {
            let access = if bind.writable { "rw" } else { "ro" };
            writeln!(
                out,
                "  bind {:?} from input {} {:?} {access}",
                bind.target, bind.input, bind.source
            )
        }
        Mount::Cache(cache) => {
            write!(
                out,
                "  cache {:?} id {:?}{} {:?}",
                cache.target,
                cache.id,
                if cache.explicit_id { "" } else { " (default)" },
                cache.sharing
            )?;
            if let Some(input) = cache.input {
                write!(out, " from input {input} {:?}", cache.source)?;
            }
            write_owner(out, cache.mode, cache.uid, cache.gid)?;
            writeln!(out, "{}", if cache.read_only { " ro" } else { "" })
        }
        Mount::Tmpfs(tmpfs) => {
            write!(out, "  tmpfs {:?}", tmpfs.target)?;
            if let Some(size) = tmpfs.size {
                write!(out, " {size} bytes")?;
            }
            writeln!(out, "{}", if tmpfs.read_only { " ro" } else { "" })
        }
        Mount::Secret(secret) => {
            write!(out, "  secret {:?}", secret.id)?;
            if let Some(target) = &secret.target {
                write!(out, " file {target:?}")?;
            }
            if let Some(env) = &secret.env {
                write!(out, " env {env:?}")?;
            }
            write_owner(out, Some(secret.mode), Some(secret.uid), Some(secret.gid))?;
            writeln!(out, "{}", if secret.required { " required" } else { "" })
        }
        Mount::Ssh(ssh) => {
            write!(out, "  ssh {:?} socket {:?}", ssh.id, ssh.target)?;
            write_owner(out, Some(ssh.mode), Some(ssh.uid), Some(ssh.gid))?;
            writeln!(out, "{}", if ssh.required { " required" } else { "" })
        }
    }
}

fn write_owner(
    out: &mut String,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
) -> fmt::Result {
    if let Some(mode) = mode {
        write!(out, " mode {mode:04o}")?;
    }
    if let Some(uid) = uid {
        write!(out, " uid {uid}")?;
    }
    if let Some(gid) = gid {
        write!(out, " gid {gid}")?;
    }
    Ok(())
}

fn write_copy(out: &mut String, copy: &CopyOp) -> fmt::Result {
    let slash = if copy.dest_is_dir { " (directory)" } else { "" };
    writeln!(
        out,
        "  {} to {:?}{slash}",
        if copy.add { "add" } else { "copy" },
        copy.dest
    )?;
    for source in &copy.sources {
        match source {
            CopySourceOp::Path {
                input,
                path,
                pivot,
                unpack,
                ..
            } => {
                write!(out, "  from input {input} {path:?}")?;
                if pivot != "/" {
                    write!(out, " below {pivot:?}")?;
                }
                writeln!(out, "{}", if *unpack { " unpacked" } else { "" })?;
            }
            CopySourceOp::Inline { name, content, .. } => writeln!(
                out,
                "  inline {name:?} {:?}",
                String::from_utf8_lossy(content)
            )?,
        }
    }
    write_unless_empty(out, "chown", copy.chown.as_deref().unwrap_or_default())?;
    if let Some(chmod) = &copy.chmod {
        writeln!(out, "  chmod {chmod}")?;
    }
    for pattern in &copy.exclude {
        writeln!(out, "  exclude {pattern:?}")?;
    }
    for (name, set) in [("link", copy.link), ("parents", copy.parents)] {
        if set {
            writeln!(out, "  {name}")?;
        }
    }
    Ok(())
}

fn write_unless_empty(out: &mut String, key: &str, value: &str) -> fmt::Result {
    if value.is_empty() {
        Ok(())
    } else {
        writeln!(out, "  {key} {value}")
    }
}
