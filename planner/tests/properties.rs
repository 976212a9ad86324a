//! What holds for every input.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use kiln_parser::{Source, parse};
use kiln_planner::{Chmod, Op, inputs};
use proptest::prelude::*;
use support::{Images, options, resolve_and_plan};

/// Lines that make sense together often enough.
const LINES: [&str; 26] = [
    "FROM scratch AS a",
    "FROM a AS b",
    "FROM base",
    "FROM $X",
    "ARG X=a",
    "ENV X=$X$Y Y=${X:-z}",
    "WORKDIR ../$X",
    "USER $X",
    "COPY --from=a x $X/",
    "COPY --from=b x y",
    "COPY --from=1 x y",
    "COPY --from=img:1 x y",
    "COPY x \"y z\" .",
    "RUN true",
    "COPY --from=b <<E /\nx\nE",
    "RUN --mount=type=tmpfs,target=/t,from=b t",
    "RUN --mount=from=a,target=$X --mount=type=cache,target=/c t",
    "EXPOSE $X 1-3",
    "VOLUME $X",
    "ONBUILD COPY --from=b x y",
    "ONBUILD RUN x",
    "CMD x",
    "ENTRYPOINT [\"x\"]",
    "LABEL $X=1",
    "STOPSIGNAL ${X:?}",
    "HEALTHCHECK CMD x",
];

proptest! {
    // R-STG-5: every vertex is needed, the graph has no cycle, and layers correspond to entries of the history.
    #[test]
    fn plans_are_sound(lines in prop::collection::vec(prop::sample::select(&LINES[..]), 1..14)) {
        let parsed = parse(&Source::new("Dockerfile", lines.join("\n")));
        let planned = resolve_and_plan(&parsed, &options(), &Images::new()).1;
        if let Ok(plan) = planned {
            for id in plan.graph.node_indices() {
                let edges = plan.graph.edges_directed(id, petgraph::Direction::Incoming).count();
                let mut positions: Vec<_> =
                    plan.graph.edges_directed(id, petgraph::Direction::Incoming).map(|edge| edge.weight().input).collect();
                positions.sort_unstable();
                prop_assert_eq!(positions, (0..edges).collect::<Vec<_>>());
                prop_assert!(inputs(&plan.graph, id).iter().all(|input| input.index() < id.index()));
                let is_source = matches!(plan.graph[id].op, Op::Source(_));
                prop_assert_eq!(is_source, edges == 0);
                let read = plan.graph.edges_directed(id, petgraph::Direction::Outgoing).count() > 0;
                prop_assert!(read || id == plan.target, "nobody reads v{}", id.index());
            }
            for step in &plan.history {
                prop_assert_eq!(step.entry.empty_layer, step.vertex.is_none());
            }
        }
    }

    #[test]
    fn no_text_makes_the_planner_panic(text in "(FROM|RUN|COPY|ARG|ENV|EXPOSE|ONBUILD|WORKDIR|\\$|\\{|\\}|[ -~\n]|é){0,60}") {
        let parsed = parse(&Source::new("Dockerfile", format!("FROM base\n{text}")));
        let _ = resolve_and_plan(&parsed, &options(), &Images::new());
    }

    // R-COPY-27
    #[test]
    fn modes_stay_in_their_bits(text in "[ugoa]{0,2}[-+=][rwxXst]{0,3}", mode in 0..0o10000_u32, is_dir: bool) {
        prop_assert!(Chmod::parse(&text).unwrap().apply(mode, is_dir) <= 0o7777);
    }
}
