//! `RUN --mount`: what mounts are known by, and where what they show comes from.
//!
//! A source is looked at as a tree, the same way COPY does it, so its key is the content of what is selected (R-CACHE-2),
//! and what `.dockerignore` leaves out is not there (R-MNT-8). What a step then sees is a copy of that selection in a
//! directory of its own: right owners, no way to what lies beside it, and writes that nobody keeps (R-MNT-7). Only where
//! one unpacked layer already holds the selection and nothing else, and the step can't write, the layer's own directory
//! is mounted.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::{FileDigest, InputId, ScratchDir};
use kiln_image::contents::Contents;
use kiln_image::tar::{ApplyError, apply_changeset};
use kiln_image::{Change, Changeset, ImagePath, Node, NodeRef, Tree};
use kiln_planner::{
    BindMount, CacheMount, ExecOp, Mount, SecretMount, SshMount, TmpfsMount, Vertex, VertexId,
};

use super::agent_forward::AgentForward;
use super::cache_mount::{self, CacheDir};
use super::exec::owned_links;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::changed_source;
use crate::rootfs::{RootContents, RootFs, unshared};
use crate::sandbox::{MountKind, MountSpec, Removals};
use crate::solve::{Output, Solver};
use crate::source::context::Context;

/// Of more files than these nobody keeps what they were.
const MOST_EXPLAINED: usize = 20_000;

/// Name of a selection in the directory it is copied to.
const COPIED: &str = "source";

/// What a mount shows, or a new cache starts with: an object of a tree and all below it.
pub(crate) struct Source<'a> {
    origin: Origin<'a>,
    tree: Arc<Tree>,
    path: ImagePath,
}

enum Origin<'a> {
    Context(&'a Context),
    Root(Arc<RootFs>),
}

/// The mounts of a step, ready. What they stand on goes when this is dropped; caches stay.
#[derive(Default)]
pub(crate) struct Mounts {
    pub specs: Vec<MountSpec>,
    /// Variables of secrets.
    pub env: Vec<(String, String)>,
    /// The socket of the first SSH agent.
    pub agent_socket: Option<String>,
    /// Symlinks, FIFOs and agents' sockets, if these can't say who owns them: target, path below it, owner.
    pub links: Vec<(String, ImagePath, (u32, u32))>,
    forwards: Vec<AgentForward>,
    copies: Vec<ScratchDir>,
    caches: BTreeMap<String, CacheDir>,
}

/// The input and path that a mount reads from.
fn input(mount: &Mount) -> Option<(usize, &str)> {
    match mount {
        Mount::Bind(bind) => Some((bind.input, &bind.source)),
        Mount::Cache(cache) => Some((cache.input?, &cache.source)),
        Mount::Tmpfs(_) | Mount::Secret(_) | Mount::Ssh(_) => None,
    }
}

/// What the sources are known by without a look at their trees, position by position. `None` with the build context
/// among them, which has no output, and with no sources at all.
pub(crate) fn by_output(
    solver: &Solver<'_>,
    id: VertexId,
    op: &ExecOp,
) -> Option<Vec<Option<InputId>>> {
    let mut ids = Vec::with_capacity(op.mounts.len());
    for mount in &op.mounts {
        ids.push(match input(mount) {
            None => None,
            Some((number, _)) => match solver.input(id, number) {
                Output::Root(root) => Some(InputId::Output(root.id)),
                Output::Context(_) => return None,
            },
        });
    }
    ids.iter().any(Option::is_some).then_some(ids)
}

/// The first input that a mount reads whose files are not known without a pull.
pub(crate) fn not_here(solver: &Solver<'_>, id: VertexId, op: &ExecOp) -> Option<usize> {
    let layers = solver.services.store.layers();
    let mut numbers = op.mounts.iter().filter_map(input).map(|(number, _)| number);
    numbers.find(|number| match solver.input(id, *number) {
        Output::Root(root) => !root.layers.iter().all(|layer| layers.contains(layer)),
        Output::Context(_) => false,
    })
}

/// The sources of a step's mounts, position by position.
pub(crate) fn sources<'a>(
    solver: &'a Solver<'_>,
    id: VertexId,
    vertex: &Vertex,
    op: &ExecOp,
    task: &Task<'_>,
) -> Result<Vec<Option<Source<'a>>>, Cause> {
    let source = |mount| match input(mount) {
        None => Ok(None),
        Some((number, path)) => Source::find(solver, id, vertex, number, path, task).map(Some),
    };
    op.mounts.iter().map(source).collect()
}

/// What the sources are known by: the content of what they select.
pub(crate) fn by_content(sources: &[Option<Source<'_>>]) -> Vec<Option<InputId>> {
    let id = |source: &Option<Source<'_>>| source.as_ref().map(Source::id);
    sources.iter().map(id).collect()
}

/// The files that the mounts show, by where a step sees them, so that a later miss can name the one that changed. Of very many
/// it is not worth the space.
pub(crate) fn files(op: &ExecOp, sources: &[Option<Source<'_>>]) -> Vec<FileDigest> {
    let mut files = Vec::new();
    for (mount, source) in op.mounts.iter().zip(sources) {
        let (
            Some(source),
            Mount::Bind(BindMount { target, .. }) | Mount::Cache(CacheMount { target, .. }),
        ) = (source, mount)
        else {
            continue;
        };
        let target = ImagePath::clean(target.as_bytes());
        for (path, node) in source.tree.walk(&source.path) {
            if files.len() == MOST_EXPLAINED {
                return Vec::new();
            }
            let below = path.strip_prefix(&source.path).unwrap_or_default();
            files.push(FileDigest::of(format!("/{}", target.join(&below)), node));
        }
    }
    files
}

/// Makes everything the mounts stand on.
pub(crate) fn make(
    solver: &Solver<'_>,
    op: &ExecOp,
    sources: &[Option<Source<'_>>],
    task: &Task<'_>,
) -> Result<Mounts, Cause> {
    let mut mounts = Mounts::default();
    mounts.take_caches(solver, op, sources, task)?;
    for (mount, source) in op.mounts.iter().zip(sources) {
        match (mount, source) {
            (Mount::Bind(bind), Some(source)) => mounts.bind(solver, bind, source, task)?,
            (Mount::Cache(cache), source) => mounts.cache(solver, cache, source.as_ref())?,
            (Mount::Tmpfs(tmpfs), _) => mounts.tmpfs(solver, tmpfs)?,
            (Mount::Bind(_), None) => {}
            (Mount::Secret(secret), _) => mounts.secret(solver, secret)?,
            (Mount::Ssh(ssh), _) => mounts.ssh(solver, ssh)?,
        }
    }
    Ok(mounts)
}

impl Mounts {
    fn bind(
        &mut self,
        solver: &Solver<'_>,
        bind: &BindMount,
        source: &Source<'_>,
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let in_place = match bind.writable {
            true => None,
            false => source.in_one_layer(solver, task)?,
        };
        let kind = match in_place {
            Some(layer) => MountKind::Bind {
                source: layer,
                inside: source.path.to_string(),
                writable: false,
            },
            None => {
                let scratch = solver.services.store.scratch_dir()?;
                let copied = source.copy_to(scratch.path(), bind.writable, solver, task)?;
                self.copies.push(scratch);
                MountKind::Bind {
                    source: copied,
                    inside: String::new(),
                    writable: bind.writable,
                }
            }
        };
        self.specs.push(MountSpec {
            target: bind.target.clone(),
            kind,
        });
        if solver.services.rung()?.records_owners() {
            let shown = owned_links(&source.tree, &source.path).map(|(path, owner)| {
                let below = path.strip_prefix(&source.path).unwrap_or_default();
                (bind.target.clone(), below, owner)
            });
            self.links.extend(shown);
        }
        Ok(())
    }

    /// Takes hold of all caches of the step before anything is done with one, in the same order in every build, so that
    /// two steps never wait for each other.
    fn take_caches(
        &mut self,
        solver: &Solver<'_>,
        op: &ExecOp,
        sources: &[Option<Source<'_>>],
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let mut wanted = BTreeMap::new();
        for (mount, source) in op.mounts.iter().zip(sources) {
            if let Mount::Cache(cache) = mount {
                let source = source.as_ref();
                wanted.insert(cache_name(cache, source), (cache, source));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let services = solver.services;
        let rung = services.rung()?;
        for (name, (cache, source)) in wanted {
            let held = solver.until(|| cache_mount::take(services.store, &name, cache, rung))?;
            services.mounts.note_use(&name);
            held.fill(
                services.store,
                services.footing,
                cache,
                |directory| solver.saved_mount(&cache.id, &name, directory),
                |directory| match source {
                    Some(source) => source.copy_to(directory, true, solver, task).map(Some),
                    None => Ok(None),
                },
            )?;
            self.caches.insert(name, held);
        }
        Ok(())
    }

    /// With `from`, `source` is what the cache starts with; without, it is a part of the cache, which must be there.
    fn cache(
        &mut self,
        solver: &Solver<'_>,
        cache: &CacheMount,
        source: Option<&Source<'_>>,
    ) -> Result<(), Cause> {
        let held = &self.caches[&cache_name(cache, source)];
        let writable = !cache.read_only;
        let kind = if source.is_some() || cache.source == "/" {
            MountKind::Bind {
                source: held.path().to_owned(),
                inside: String::new(),
                writable,
            }
        } else {
            let found = held.find(&cache.source)?;
            match solver.services.rung()?.has_namespaces() {
                // Others may change a link meanwhile: it is looked for again where it can't lead out.
                true => MountKind::Bind {
                    source: held.path().to_owned(),
                    inside: cache.source.trim_start_matches('/').to_owned(),
                    writable,
                },
                // Nobody else has it, and a part of a directory would be a copy.
                false => MountKind::Bind {
                    source: found,
                    inside: String::new(),
                    writable,
                },
            }
        };
        self.specs.push(MountSpec {
            target: cache.target.clone(),
            kind,
        });
        Ok(())
    }

    /// A file in memory, a variable, or both (R-MNT-14, R-MNT-15).
    fn secret(&mut self, solver: &Solver<'_>, secret: &SecretMount) -> Result<(), Cause> {
        let SecretMount { id, .. } = secret;
        let value = solver.steps.secrets.read(id)?;
        if secret.required && value.is_none() {
            return Err(Cause::Secret(format!("secret {id}: not found")));
        }
        if let Some(name) = &secret.env {
            if name.is_empty() {
                return Err(Cause::Secret(format!(
                    "secret {id}: `env` has no name of a variable"
                )));
            }
            let text = text(value.clone().unwrap_or_default(), id)?;
            self.env.push((name.clone(), text));
        }
        if let (Some(target), Some(contents)) = (&secret.target, value) {
            self.specs.push(MountSpec {
                target: target.clone(),
                kind: MountKind::File {
                    contents,
                    mode: secret.mode,
                    uid: secret.uid,
                    gid: secret.gid,
                },
            });
        }
        Ok(())
    }

    /// The first agent's socket is `SSH_AUTH_SOCK`, forwarded or not (R-MNT-16).
    fn ssh(&mut self, solver: &Solver<'_>, ssh: &SshMount) -> Result<(), Cause> {
        self.agent_socket.get_or_insert_with(|| ssh.target.clone());
        let id = &ssh.id;
        let socket =
            solver.steps.agents.socket(id).map_err(|error| {
                Cause::Agent(format!("could not start SSH agent {id:?}: {error}"))
            })?;
        let Some(agent) = socket else {
            return match ssh.required {
                true => Err(Cause::Agent(format!(
                    "no SSH key {id:?} forwarded from the client"
                ))),
                false => Ok(()),
            };
        };
        let scratch = solver.services.store.scratch_dir()?;
        let forward = AgentForward::start(agent, ssh, scratch.path()).map_err(|error| {
            Cause::Agent(format!("could not forward SSH agent {id:?}: {error}"))
        })?;
        self.specs
            .push(MountSpec::bind(forward.socket(), &*ssh.target, false));
        if solver.services.rung()?.records_owners() {
            let owner = (ssh.uid, ssh.gid);
            self.links
                .push((ssh.target.clone(), ImagePath::root(), owner));
        }
        self.forwards.push(forward);
        self.copies.push(scratch);
        Ok(())
    }

    /// One that can't be written to is an empty directory, whatever it is made of.
    fn tmpfs(&mut self, solver: &Solver<'_>, tmpfs: &TmpfsMount) -> Result<(), Cause> {
        const MODE: u32 = 0o1777; // R-MNT-12
        if !tmpfs.read_only {
            let spec = MountSpec::tmpfs(tmpfs.target.clone(), tmpfs.size, None);
            self.specs.push(spec);
            return Ok(());
        }
        let scratch = solver.services.store.scratch_dir()?;
        let empty = scratch.path().join(COPIED);
        DirBuilder::new()
            .mode(0o700)
            .create(&empty)
            .map_err(Cause::file("create", &empty))?;
        std::fs::set_permissions(&empty, Permissions::from_mode(MODE))
            .map_err(Cause::file("change the mode of", &empty))?;
        self.copies.push(scratch);
        self.specs
            .push(MountSpec::bind(empty, &*tmpfs.target, false));
        Ok(())
    }
}

/// A secret as a variable's value. No message has a part of it.
fn text(value: Vec<u8>, id: &str) -> Result<String, Cause> {
    String::from_utf8(value)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| Cause::Secret(format!("secret {id} can't be a variable: it is not text")))
}

fn cache_name(cache: &CacheMount, source: Option<&Source<'_>>) -> String {
    cache_mount::name(cache, source.map(Source::digest))
}

impl<'a> Source<'a> {
    fn find(
        solver: &'a Solver<'_>,
        id: VertexId,
        vertex: &Vertex,
        number: usize,
        path: &str,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        let (origin, tree) = match solver.input(id, number) {
            Output::Root(root) => (
                Origin::Root(root.clone()),
                root.tree(&solver.services.layers, task)?,
            ),
            Output::Context(name) => {
                let context = solver.context(name.as_ref());
                (Origin::Context(context), context.tree_with(&[])?)
            }
        };
        let resolved = tree.resolve(&ImagePath::root(), path.as_bytes(), true).ok();
        let Some(resolved) = resolved.filter(|resolved| resolved.exists) else {
            return Err(not_found(&origin, vertex, path));
        };
        let mut found = Source {
            origin,
            tree,
            path: resolved.path,
        };
        found.read_files()?;
        Ok(found)
    }

    /// Brings in the digests of the context's files.
    fn read_files(&mut self) -> Result<(), Cause> {
        if let Origin::Context(context) = self.origin {
            let all: Vec<ImagePath> = self.tree.walk(&self.path).map(|(path, _)| path).collect();
            self.tree = context.tree_with(&all)?;
        }
        Ok(())
    }
}

impl Source<'_> {
    fn id(&self) -> InputId {
        InputId::Content(self.digest())
    }

    fn digest(&self) -> kiln_image::Digest {
        self.tree
            .content_digest(&self.path, true)
            .expect("what was resolved is there")
    }

    /// The directory of the one layer that has all of this and nothing else below it, if there is one.
    fn in_one_layer(&self, solver: &Solver<'_>, task: &Task<'_>) -> Result<Option<PathBuf>, Cause> {
        let Origin::Root(root) = &self.origin else {
            return Ok(None);
        };
        let mut numbers = self.tree.walk(&self.path).map(|(_, node)| node.layer);
        let Some(number) = numbers.next() else {
            return Ok(None);
        };
        if self.path.is_root() || numbers.any(|other| other != number) {
            return Ok(None);
        }
        let layer = root.layers[number as usize];
        let changeset = solver.services.layers.changeset(layer, task)?;
        // A file that a layer above removed is still in the directory.
        let is_seen =
            |path: &ImagePath| self.tree.lookup(path).map(|found| found.layer) == Some(number);
        let plain = |(path, change): (&ImagePath, &Change)| {
            !path.starts_with(&self.path) || (matches!(change, Change::Put(_)) && is_seen(path))
        };
        match changeset.iter().all(plain) {
            true => solver.services.layers.unpacked(layer, task).map(Some),
            false => Ok(None),
        }
    }

    /// Copies it into an empty directory; returns where it is then. Where steps may change it, several names of a file are files of their own, as what
    /// an overlay shows becomes one when it is changed.
    fn copy_to(
        &self,
        directory: &Path,
        writable: bool,
        solver: &Solver<'_>,
        task: &Task<'_>,
    ) -> Result<PathBuf, Cause> {
        let contents = self.contents(solver, task)?;
        let options = solver.services.footing.unpack_options(Removals::Ignore);
        let changeset = self.changeset(|found| match writable {
            true => Node::new(found.metadata.clone(), found.kind.clone()),
            false => unshared(found),
        });
        apply_changeset(&changeset, &contents, directory, &options)
            .map_err(|error| self.copy_error(error, solver))?;
        Ok(directory.join(COPIED))
    }

    /// What makes it below [`COPIED`].
    fn changeset(&self, node: impl Fn(NodeRef<'_>) -> Node) -> Changeset {
        let top = ImagePath::clean(COPIED.as_bytes());
        let put = |(path, found): (ImagePath, NodeRef<'_>)| {
            let below = path.strip_prefix(&self.path).unwrap_or_default();
            (top.join(&below), Change::Put(node(found)))
        };
        self.tree.walk(&self.path).map(put).collect()
    }

    fn contents(&self, solver: &Solver<'_>, task: &Task<'_>) -> Result<SourceContents<'_>, Cause> {
        let root = match &self.origin {
            Origin::Root(root) => Some(root.contents(&self.path, &solver.services.layers, task)?),
            Origin::Context(_) => None,
        };
        Ok(SourceContents { source: self, root })
    }

    fn original(&self, copied: &ImagePath) -> ImagePath {
        let top = ImagePath::clean(COPIED.as_bytes());
        self.path
            .join(&copied.strip_prefix(&top).unwrap_or_default())
    }

    /// A file that is not what its tree says was changed in the context, or damaged in the store.
    fn copy_error(&self, error: ApplyError, solver: &Solver<'_>) -> Cause {
        let Some(path) = changed_source(&error).map(|copied| self.original(copied)) else {
            return Cause::layer("copy", "of the mount")(error);
        };
        match (&self.origin, self.tree.lookup(&path)) {
            (Origin::Root(root), Some(found)) => {
                let layer = root.layers[found.layer as usize];
                solver.services.layers.unreadable(layer, &path)
            }
            _ => Cause::ContextChanged {
                path: path.to_string(),
            },
        }
    }
}

/// The files of a source, each from where it is now.
struct SourceContents<'a> {
    source: &'a Source<'a>,
    root: Option<RootContents>,
}

impl Contents for SourceContents<'_> {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        let path = self.source.original(path);
        match (&self.source.origin, &self.root) {
            (Origin::Context(context), _) => Ok(context.open(&path, node)?),
            (Origin::Root(_), Some(root)) => root.open(&path, node),
            (Origin::Root(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A source that is not there, with what is known about it (R-MNT-7).
fn not_found(origin: &Origin<'_>, vertex: &Vertex, path: &str) -> Cause {
    let (path, origin, (notes, help)) = match origin {
        Origin::Context(context) => (
            path.trim_start_matches('/'),
            context.called(),
            context.explain_missing(path),
        ),
        Origin::Root(_) => (
            path,
            "the stage or image that `from` names",
            (Vec::new(), Vec::new()),
        ),
    };
    Cause::SourceNotFound {
        path: path.to_owned(),
        origin: origin.to_owned(),
        span: vertex.span.unwrap_or_default(),
        notes,
        help,
    }
}
