//! COPY and ADD as a vertex: which key, and on a miss, the layer's tar straight from where the files are.

mod at_once;
mod contents;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_cache::{CacheKey, FileDigest, OutputId, Preimage, Selected, key};
use kiln_image::contents::Contents;
use kiln_image::tar::write_layer;
use kiln_image::{Changeset, DiffId, ImagePath, Timestamp, Tree};
use kiln_planner::{CopyOp, CopySourceOp, Op, SourceOp, Vertex, VertexId, inputs};

use self::contents::SourceContents;
use super::archive::Unpacked;
use super::file::{
    CopyError, CopyOutcome, Destination, Selection, SourceTree, SourceTrees, copy,
    possible_archives, select, unread_files,
};
use crate::Services;
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::layers::Layers;
use crate::rootfs::RootFs;
use crate::solve::{Output, Solver, Step};
use crate::source::context::{BUILD_CONTEXT, Context};

/// Of more files than these a build doesn't look for the reason of a miss: reading the earlier key would take longer than some
/// copies.
const MOST_EXPLAINED: usize = 10_000;

/// Finds or makes the layer of a COPY.
pub(crate) fn solve(
    solver: &Solver<'_>,
    id: VertexId,
    vertex: &Vertex,
    op: &CopyOp,
    root: &Arc<RootFs>,
    task: &Task<'_>,
) -> Result<Step, Cause> {
    let step = look_up_or_copy(solver, id, vertex, op, root, task)
        .map_err(|cause| of_context(cause, solver, id))?;
    on_root(solver, op, root, step, task)
}

/// What a copy gives on this root. A linked layer is the same on any root; what comes out on this one is not.
pub(crate) fn on_root(
    solver: &Solver<'_>,
    op: &CopyOp,
    root: &RootFs,
    step: Step,
    task: &Task<'_>,
) -> Result<Step, Cause> {
    if !op.link {
        return Ok(step);
    }
    let Step {
        key,
        mut result,
        cached,
    } = step;
    if let Some(layer) = result.layer {
        result.output = root
            .id
            .above(&*solver.services.layers.changeset(layer, task)?);
    }
    Ok(Step {
        key,
        result,
        cached,
    })
}

fn look_up_or_copy(
    solver: &Solver<'_>,
    id: VertexId,
    vertex: &Vertex,
    op: &CopyOp,
    root: &Arc<RootFs>,
    task: &Task<'_>,
) -> Result<Step, Cause> {
    let keyed_root = keyed_root(op, root.id);
    let sources = Sources::of(solver, id, op);
    let by_output = sources.key(op, keyed_root);
    if let Some(step) = by_output.and_then(|key| solver.look_up(vertex, &key)) {
        return Ok(step);
    }
    let mut trees = sources.listed(&solver.services.layers, task)?;
    let unread = sources.unread(op, &trees)?;
    let mut made = None;
    if !unread.is_empty() {
        if solver.is_new(vertex) {
            made = at_once::make(solver, op, root, &sources, trees, task)?;
            trees = sources.listed(&solver.services.layers, task)?;
        }
        trees = sources.read(trees, unread)?;
    }
    let read = select(op, &borrowed(&trees)).map_err(|error| not_found(error, op, &sources))?;
    let preimage = preimage(solver, vertex, op, keyed_root, &read);
    let step = match solver.look_up(vertex, &preimage.key()) {
        Some(step) => {
            if read.iter().any(|selection| !selection.ways.is_empty()) {
                // Only to explain with, so it may as well be lost.
                let actions = solver.services.store.actions();
                let _ = actions.retell(&step.key, files(op, &sources, &read));
            }
            step
        }
        None => {
            let preimage = preimage.clone().with_files(files(op, &sources, &read));
            drop(read);
            tell_of_modes(solver, vertex, &preimage, task);
            solver.once(id, vertex, root, &preimage, task, || match made {
                Some(made) => made.commit(&solver.services.layers),
                None => make(solver, op, root, &sources, &trees, task),
            })?
        }
    };
    if let Some(key) = by_output {
        solver.alias(key, &preimage.key())?;
    }
    Ok(step)
}

/// Says so if the step was done before with the same files but for their modes, as after a checkout with another umask.
fn tell_of_modes(solver: &Solver<'_>, vertex: &Vertex, preimage: &Preimage, task: &Task<'_>) {
    if vertex.no_cache || preimage.files.len() > MOST_EXPLAINED {
        return;
    }
    let reason = solver.explain(preimage);
    if reason.is_modes_alone() {
        let text = format!("not cached: {reason}; with canonical modes it would be\n");
        task.log(Stream::Stderr, text.as_bytes());
    }
}

/// What is known of a copy before it is done.
pub(crate) enum Peek {
    /// It was done before.
    Hit(CacheKey, Step),
    /// It was not.
    Miss(Preimage),
    /// The store doesn't know what is in the root filesystem that this input reads from.
    NotHere(usize),
}

/// Looks a copy up without pulling anything.
pub(crate) fn peek(
    solver: &Solver<'_>,
    id: VertexId,
    vertex: &Vertex,
    op: &CopyOp,
    keyed_root: OutputId,
    task: &Task<'_>,
) -> Result<Peek, Cause> {
    let sources = Sources::of(solver, id, op);
    if let Some(key) = sources.key(op, keyed_root)
        && let Some(step) = solver.look_up(vertex, &key)
    {
        return Ok(Peek::Hit(key, step));
    }
    if let Some(input) = sources.not_here(solver) {
        return Ok(Peek::NotHere(input));
    }
    let trees = sources.listed(&solver.services.layers, task)?;
    let unread = sources.unread(op, &trees)?;
    let trees = sources.read(trees, unread)?;
    let read = select(op, &borrowed(&trees)).map_err(|error| not_found(error, op, &sources))?;
    let preimage = preimage(solver, vertex, op, keyed_root, &read);
    let key = preimage.key();
    Ok(match solver.look_up(vertex, &key) {
        Some(step) => Peek::Hit(key, step),
        None => Peek::Miss(preimage.with_files(files(op, &sources, &read))),
    })
}

/// The root that a copy's key is over: none of its own for a linked one (R-CACHE-8).
pub(crate) fn keyed_root(op: &CopyOp, root: OutputId) -> OutputId {
    match op.link {
        true => OutputId::scratch(),
        false => root,
    }
}

/// What the key over the content is made of.
fn preimage(
    solver: &Solver<'_>,
    vertex: &Vertex,
    op: &CopyOp,
    keyed_root: OutputId,
    read: &[Selection],
) -> Preimage {
    solver.of_step(vertex, key::copy(op, keyed_root, &selections(read)))
}

/// What a copy reads from, by input number.
struct Sources<'a>(BTreeMap<usize, From<'a>>);

#[derive(Clone)]
enum From<'a> {
    Context(&'a Context),
    Root(Arc<RootFs>),
}

/// The trees of the sources.
type Trees = BTreeMap<usize, (Arc<Tree>, bool)>;

/// Files by input number.
type Unread = BTreeMap<usize, Vec<ImagePath>>;

impl<'a> Sources<'a> {
    fn of(solver: &'a Solver<'_>, id: VertexId, op: &CopyOp) -> Self {
        let inputs = op.sources.iter().filter_map(|source| match source {
            CopySourceOp::Path { input, .. } => Some(*input),
            CopySourceOp::Inline { .. } => None,
        });
        let from = |input| match solver.input(id, input) {
            Output::Root(root) => From::Root(root.clone()),
            Output::Context(name) => From::Context(solver.context(name.as_ref())),
        };
        Sources(inputs.map(|input| (input, from(input))).collect())
    }

    /// The key over the outputs that are read from; `None` with the build context among them.
    fn key(&self, op: &CopyOp, keyed_root: OutputId) -> Option<CacheKey> {
        key::copy_by_output(op, keyed_root, &self.outputs()).map(|preimage| preimage.key())
    }

    /// The first input whose files are not known without a pull.
    fn not_here(&self, solver: &Solver<'_>) -> Option<usize> {
        let layers = solver.services.store.layers();
        let is_here = |from: &From<'_>| match from {
            From::Context(_) => true,
            From::Root(root) => root.layers.iter().all(|layer| layers.contains(layer)),
        };
        let mut inputs = self.0.iter();
        inputs.find_map(|(input, from)| (!is_here(from)).then_some(*input))
    }

    /// In front of paths of a source: files of a stage or image are told from those of a context.
    fn root_sign(&self, op: &CopyOp, source: usize) -> &'static str {
        match op.sources.get(source) {
            Some(CopySourceOp::Path { input, .. }) => match self.0.get(input) {
                Some(From::Root(_)) => "/",
                _ => "",
            },
            _ => "",
        }
    }

    /// The outputs of the inputs, position by position.
    fn outputs(&self) -> Vec<Option<OutputId>> {
        let last = self.0.keys().last().copied().unwrap_or(0);
        let output = |input: usize| match self.0.get(&input) {
            Some(From::Root(root)) => Some(root.id),
            _ => None,
        };
        (0..=last).map(output).collect()
    }

    /// The trees, with the digests of context files as far as they are known.
    fn listed(&self, layers: &Layers<'_>, task: &Task<'_>) -> Result<Trees, Cause> {
        let tree = |(input, from): (&usize, &From<'_>)| {
            let tree = match from {
                From::Context(context) => (context.tree_with(&[])?, context.is_ownerless()),
                From::Root(root) => (root.tree(layers, task)?, false),
            };
            Ok((*input, tree))
        };
        self.0.iter().map(tree).collect()
    }

    /// The context files that the copy reads and whose digests are not known, by input.
    fn unread(&self, op: &CopyOp, trees: &Trees) -> Result<Unread, Cause> {
        let mut unread = Unread::new();
        let is_known = |from: &From<'_>| match from {
            From::Context(context) => context.is_remembered(),
            From::Root(_) => true,
        };
        if self.0.values().all(is_known) {
            return Ok(unread);
        }
        for (input, path) in
            unread_files(op, &borrowed(trees)).map_err(|error| not_found(error, op, self))?
        {
            unread.entry(input).or_default().push(path);
        }
        Ok(unread)
    }

    /// The trees with the digests of these files, which are read unless they have been in the meantime.
    fn read(&self, mut trees: Trees, unread: Unread) -> Result<Trees, Cause> {
        for (input, paths) in unread {
            if let From::Context(context) = &self.0[&input] {
                // Gone before it is changed: a tree that two hold is copied.
                trees.remove(&input);
                trees.insert(input, (context.tree_with(&paths)?, context.is_ownerless()));
            }
        }
        Ok(trees)
    }

    /// Reads the archives among the files that ADD names, in the build context (R-ADD-2) or to download (R-ADD-5).
    fn unpack(
        &self,
        op: &CopyOp,
        trees: &Trees,
        services: &Services<'_>,
        task: &Task<'_>,
    ) -> Result<Unpacked, Cause> {
        let mut unpacked = Unpacked::default();
        for (input, path) in possible_archives(op, &borrowed(trees))? {
            let Some(found) = trees[&input].0.lookup(&path) else {
                continue;
            };
            let node = found.node();
            match &self.0[&input] {
                From::Context(context) => {
                    let open = || context.open(&path, &node);
                    unpacked.read(input, &path, &node, open, services.store, task)?;
                }
                From::Root(root) => {
                    let layer = root.layers[found.layer as usize];
                    let contents = services.layers.contents(layer, task)?;
                    let open = || contents.open(&path, &node);
                    unpacked.read(input, &path, &node, open, services.store, task)?;
                }
            }
        }
        Ok(unpacked)
    }
}

fn borrowed(trees: &Trees) -> SourceTrees<'_> {
    trees
        .iter()
        .map(|(input, (tree, is_context))| {
            (
                *input,
                SourceTree {
                    tree,
                    is_context: *is_context,
                },
            )
        })
        .collect()
}

fn selections(read: &[Selection]) -> Vec<Vec<Selected>> {
    let selected = |one: &super::file::Selected| Selected {
        name: one.name.clone(),
        digest: one.digest,
    };
    read.iter()
        .map(|selection| selection.matches.iter().map(selected).collect())
        .collect()
}

/// The files behind a key, so that a later miss can name the one that changed.
fn files(op: &CopyOp, sources: &Sources<'_>, read: &[Selection]) -> Vec<FileDigest> {
    let files = read.iter().flat_map(|selection| {
        let before = sources.root_sign(op, selection.source_index);
        let entries = selection.matches.iter().flat_map(|one| {
            let entries = one.entries.iter();
            entries.filter_map(|entry| Some((one.place.join(&entry.path), entry.facts.clone()?)))
        });
        let ways = selection.ways.iter().cloned();
        let ways = ways.map(|(path, facts)| (path, facts, true));
        let entries = entries.map(|(path, facts)| (path, facts, false));
        ways.chain(entries)
            .map(move |(path, facts, is_way)| FileDigest {
                path: format!("{before}{path}"),
                facts,
                is_way,
            })
    });
    files.collect()
}

fn make(
    solver: &Solver<'_>,
    op: &CopyOp,
    root: &Arc<RootFs>,
    sources: &Sources<'_>,
    trees: &Trees,
    task: &Task<'_>,
) -> Result<(DiffId, Arc<Changeset>), Cause> {
    let layers = &solver.services.layers;
    let archives = sources.unpack(op, trees, solver.services, task)?;
    let outcome = outcome(solver, op, root, trees, &archives, task)?;
    let contents = SourceContents::of(&outcome.origins, sources, trees, &archives, layers, task)?;
    let staging = solver.services.store.layers().stage()?;
    let summary = write_layer(&outcome.changeset, &contents, staging.create_tar()?)
        .map_err(|error| contents.write_error(error, layers))?;
    staging.commit(&summary.diff_id, &outcome.changeset, summary.size)?;
    Ok((
        summary.diff_id,
        layers.remember(summary.diff_id, outcome.changeset),
    ))
}

/// What the copy does to this root.
fn outcome(
    solver: &Solver<'_>,
    op: &CopyOp,
    root: &Arc<RootFs>,
    trees: &Trees,
    archives: &Unpacked,
    task: &Task<'_>,
) -> Result<CopyOutcome, Cause> {
    let layers = &solver.services.layers;
    let tree = root.tree(layers, task)?;
    let read = root.reader(layers, task);
    let destination = Destination {
        tree: &tree,
        read: &read,
        created: creation_time(solver.plan.source_date_epoch),
    };
    Ok(copy(
        op,
        &borrowed(trees),
        &archives.members(),
        &destination,
    )?)
}

/// The time of directories that nobody has a time for: that of the build, in seconds since 1970, or now.
pub(crate) fn creation_time(date: Option<i64>) -> Timestamp {
    let now = || jiff::Timestamp::now().as_second();
    Timestamp::from_secs(date.unwrap_or_else(now))
}

/// A build context that was fetched is a root filesystem like any other, but nobody has named it with `--from`.
fn of_context(mut cause: Cause, solver: &Solver<'_>, id: VertexId) -> Cause {
    let graph = &solver.plan.graph;
    let is_main =
        |input: &VertexId| matches!(graph[*input].op, Op::Source(SourceOp::Local { name: None }));
    if let Cause::SourceNotFound { path, origin, .. } = &mut cause
        && inputs(graph, id).iter().any(is_main)
    {
        *path = path.trim_start_matches('/').to_owned();
        *origin = BUILD_CONTEXT.to_owned();
    }
    cause
}

/// A source that is not there, with what is known about it.
fn not_found(error: CopyError, op: &CopyOp, sources: &Sources<'_>) -> Cause {
    let CopyError::NotFound { source_index, path } = &error else {
        return Cause::Copy(error);
    };
    let CopySourceOp::Path { input, span, .. } = &op.sources[*source_index] else {
        return Cause::Copy(error);
    };
    let shown = path.trim_start_matches('/').to_owned();
    match sources.0.get(input) {
        Some(From::Context(context)) => {
            let (notes, help) = context.explain_missing(path);
            Cause::SourceNotFound {
                path: shown,
                origin: context.called().to_owned(),
                span: *span,
                notes,
                help,
            }
        }
        _ => Cause::SourceNotFound {
            path: path.clone(),
            origin: "the stage or image that `--from` names".to_owned(),
            span: *span,
            notes: Vec::new(),
            help: Vec::new(),
        },
    }
}
