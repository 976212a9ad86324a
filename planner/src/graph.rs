//! The build graph: operations and which outputs they read.

use kiln_image::Platform;
use kiln_parser::Span;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, EdgeRef, Reversed};

use crate::{Op, StepPolicy};

/// A directed acyclic graph of operations. An edge leads from an operation to one that reads its output, so that a
/// topological order is an order of execution.
pub type Graph = DiGraph<Vertex, Edge>;

/// Which vertex of a [`Graph`].
pub type VertexId = NodeIndex;

/// One step of the build. Its output is a filesystem tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What to do.
    pub op: Op,
    /// What progress shows: `[build 2/4] RUN make` (R-PROG-2).
    pub name: String,
    /// The instruction it comes from, or the part of one that names a remote source. For an ONBUILD trigger the FROM that fired it (R-ONB-7); `None` for the build context.
    pub span: Option<Span>,
    /// That instruction as written; empty for a source.
    pub text: String,
    /// The variables that it names, with their values; for a RUN those of its operation say more.
    pub variables: Vec<(String, String)>,
    /// The index of its stage; `None` for what belongs to none.
    pub stage: Option<usize>,
    /// Whether a cached result must not be used (it is still stored).
    pub no_cache: bool,
    /// What the pragmas above its instruction say.
    pub policy: StepPolicy,
    /// The platform it runs on.
    pub platform: Platform,
}

/// That an operation reads the output of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The position among the reader's inputs: 0 is the root filesystem that an [`Op::Exec`] or [`Op::File`] modifies.
    /// Positions have no gaps. Two edges may join the same vertices with different positions.
    pub input: usize,
}

/// The inputs of an operation by position.
#[must_use]
pub fn inputs(graph: &Graph, vertex: VertexId) -> Vec<VertexId> {
    let mut edges: Vec<_> = graph
        .edges_directed(vertex, Direction::Incoming)
        .map(|edge| (edge.weight().input, edge.source()))
        .collect();
    edges.sort_unstable_by_key(|(input, _)| *input);
    edges.into_iter().map(|(_, source)| source).collect()
}

/// The graph with only what the targets need, and where each vertex went. The order of vertices stays.
pub(crate) fn needed(graph: &Graph, targets: &[VertexId]) -> (Graph, Vec<Option<VertexId>>) {
    let mut is_needed = vec![false; graph.node_count()];
    let mut search = Dfs::empty(Reversed(graph));
    for target in targets {
        search.move_to(*target);
        while let Some(id) = search.next(Reversed(graph)) {
            is_needed[id.index()] = true;
        }
    }
    let mut next = 0;
    let mut place = |is_needed: &bool| {
        is_needed.then(|| {
            next += 1;
            VertexId::new(next - 1)
        })
    };
    let places = is_needed.iter().map(&mut place).collect();
    let kept = graph.filter_map(
        |id, vertex| is_needed[id.index()].then(|| vertex.clone()),
        |_, edge| Some(*edge),
    );
    (kept, places)
}
