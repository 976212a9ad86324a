//! A plan as text a person can read, for tests and for `kiln plan`.

use crate::Plan;

/// The graph, the stages and the history. The config is a JSON document of its own.
#[must_use]
pub fn dump(plan: &Plan) -> String {
    let _ = plan;
    todo!()
}
