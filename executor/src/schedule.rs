//! Runs the vertices of a graph, each after everything it depends on, as many at once as may be.
//!
//! The queue knows nothing of building: it is tested with plain numbers. A lone ready vertex runs on the
//! calling thread, so that a chain of cached steps never pays for a thread.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

/// Calls `work` once for every vertex of an acyclic `graph` whose edges point from a vertex to those that
/// need it; at most `limit` calls run at a time.
///
/// After a failure nothing new starts; running calls are waited for and the first failure is returned.
pub(crate) fn run<N: Sync, E: Sync, Failure: Send>(
    graph: &DiGraph<N, E>,
    limit: usize,
    work: impl Fn(NodeIndex) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let mut queue = Queue::new(graph);
    let (sender, finished) = mpsc::channel();
    let work = &work;
    thread::scope(|scope| {
        let mut running = 0;
        let mut failure = None;
        loop {
            while failure.is_none() && running < limit.max(1) {
                let Some(vertex) = queue.ready.pop() else {
                    break;
                };
                if running == 0 && queue.ready.is_empty() {
                    match work(vertex) {
                        Ok(()) => queue.finish(vertex),
                        Err(first) => failure = Some(first),
                    }
                    continue;
                }
                let sender = sender.clone();
                running += 1;
                scope.spawn(move || {
                    let result = panic::catch_unwind(AssertUnwindSafe(|| work(vertex)));
                    let _ = sender.send((vertex, result));
                });
            }
            if running == 0 {
                return failure.map_or(Ok(()), Err);
            }
            let (vertex, result) = finished.recv().expect("a sender is held here");
            running -= 1;
            match result {
                Ok(Ok(())) => queue.finish(vertex),
                Ok(Err(later)) => failure = failure.or(Some(later)),
                Err(payload) => panic::resume_unwind(payload),
            }
        }
    })
}

/// Which vertices may start, and how many inputs the others wait for.
struct Queue<'g, N, E> {
    graph: &'g DiGraph<N, E>,
    waiting_for: Vec<usize>,
    ready: Vec<NodeIndex>,
}

impl<'g, N, E> Queue<'g, N, E> {
    fn new(graph: &'g DiGraph<N, E>) -> Self {
        let waiting_for: Vec<usize> = graph
            .node_indices()
            .map(|vertex| graph.edges_directed(vertex, Direction::Incoming).count())
            .collect();
        // Popped from the end: reversed, so that steps start in the order of the file.
        let ready = graph
            .node_indices()
            .rev()
            .filter(|vertex| waiting_for[vertex.index()] == 0)
            .collect();
        Queue {
            graph,
            waiting_for,
            ready,
        }
    }

    fn finish(&mut self, vertex: NodeIndex) {
        for edge in self.graph.edges_directed(vertex, Direction::Outgoing) {
            use petgraph::visit::EdgeRef;
            let waiting_for = &mut self.waiting_for[edge.target().index()];
            *waiting_for -= 1;
            if *waiting_for == 0 {
                self.ready.push(edge.target());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};

    fn diamond() -> DiGraph<(), ()> {
        DiGraph::from_edges([(0, 1), (0, 2), (1, 3), (2, 3)])
    }

    #[test]
    fn inputs_come_first() {
        let order = Mutex::new(Vec::new());
        run(&diamond(), 4, |vertex| {
            order.lock().expect("no panic").push(vertex.index());
            Ok::<(), ()>(())
        })
        .expect("nothing fails");
        let order = order.into_inner().expect("no panic");
        assert_eq!((order[0], order[3]), (0, 3));
    }

    #[test]
    fn independent_vertices_run_at_the_same_time() {
        let both = Barrier::new(2);
        run(&diamond(), 2, |vertex| {
            if matches!(vertex.index(), 1 | 2) {
                both.wait(); // hangs if they are run one after the other
            }
            Ok::<(), ()>(())
        })
        .expect("nothing fails");
    }

    #[test]
    fn nothing_starts_after_a_failure() {
        let ran = Mutex::new(Vec::new());
        let result = run(&diamond(), 1, |vertex| {
            ran.lock().expect("no panic").push(vertex.index());
            if vertex.index() == 0 {
                Err("broken")
            } else {
                Ok(())
            }
        });
        assert_eq!(result, Err("broken"));
        assert_eq!(*ran.lock().expect("no panic"), [0]);
    }

    #[test]
    fn an_edge_given_twice_counts_twice() {
        let graph = DiGraph::<(), ()>::from_edges([(0, 1), (0, 1)]);
        let ran = Mutex::new(0);
        run(&graph, 2, |_| {
            *ran.lock().expect("no panic") += 1;
            Ok::<(), ()>(())
        })
        .expect("nothing fails");
        assert_eq!(*ran.lock().expect("no panic"), 2);
    }
}
