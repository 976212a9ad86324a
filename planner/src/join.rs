//! Several plans as one: what is equal in them is there once, and so is done once (R-STG-9).

use std::collections::HashMap;
use std::sync::Arc;

use kiln_parser::Span;

use crate::Op;
use crate::graph::{Edge, Graph, Vertex, VertexId, inputs};
use crate::plan::{HistoryStep, Plan};

/// The plans over one graph, which has all their vertices.
///
/// A stage that is built on the same platform for several targets is the same in all of them as long as it reads nothing that
/// differs, such as `TARGETARCH`.
#[must_use]
pub fn join(plans: Vec<Plan>) -> Vec<Plan> {
    if plans.len() < 2 {
        return plans;
    }
    let mut union = Union::default();
    let places: Vec<Vec<VertexId>> = plans.iter().map(|plan| union.add(&plan.graph)).collect();
    let graph = Arc::new(union.graph);
    let plans = plans.into_iter().zip(places);
    plans
        .map(|(plan, places)| moved(plan, &graph, &places))
        .collect()
}

/// Where a vertex may have an equal one: the same instruction of a stage, on the same inputs.
type Place = (Option<usize>, Option<Span>, Vec<VertexId>);

#[derive(Default)]
struct Union {
    graph: Graph,
    known: HashMap<Place, Vec<VertexId>>,
}

impl Union {
    /// Adds a graph, and tells where each of its vertices is.
    fn add(&mut self, graph: &Graph) -> Vec<VertexId> {
        let mut places: Vec<VertexId> = Vec::with_capacity(graph.node_count());
        // A vertex comes after all that it reads.
        for id in graph.node_indices() {
            let inputs = inputs(graph, id);
            let inputs = inputs.iter().map(|input| places[input.index()]).collect();
            places.push(self.vertex(&graph[id], inputs));
        }
        places
    }

    fn vertex(&mut self, vertex: &Vertex, inputs: Vec<VertexId>) -> VertexId {
        let place = (vertex.stage, vertex.span, inputs.clone());
        let known = self.known.entry(place).or_default();
        let same = known.iter().find(|id| same_work(&self.graph[**id], vertex));
        if let Some(same) = same {
            return *same;
        }
        let new = self.graph.add_node(vertex.clone());
        known.push(new);
        for (input, source) in inputs.into_iter().enumerate() {
            self.graph.add_edge(source, new, Edge { input });
        }
        new
    }
}

/// Whether both do the same, whatever they are called. What a source gives is all in what it is.
fn same_work(one: &Vertex, other: &Vertex) -> bool {
    let how = |vertex: &Vertex| (vertex.no_cache, vertex.policy);
    let same_platform = one.platform == other.platform || matches!(one.op, Op::Source(_));
    same_platform && how(one) == how(other) && one.op == other.op
}

fn moved(plan: Plan, graph: &Arc<Graph>, places: &[VertexId]) -> Plan {
    let place = |vertex: VertexId| places[vertex.index()];
    let history = plan.history.into_iter().map(|step| HistoryStep {
        vertex: step.vertex.map(place),
        ..step
    });
    let mut stages = plan.stages;
    for stage in &mut stages {
        stage.output = stage.output.map(place);
    }
    Plan {
        graph: Arc::clone(graph),
        target: place(plan.target),
        attached: plan.attached.map(place),
        history: history.collect(),
        stages,
        ..plan
    }
}
