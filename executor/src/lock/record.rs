//! Finds out what the names of a Dockerfile stand for.

use kiln_planner::{Bases, Op, Plan, SourceOp};

use super::Lock;
use crate::build::{BuildFailure, BuildRequest, Planned, resolve_bases};
use crate::cancel::Cancel;
use crate::event::Reporter;
use crate::solve::failure;
use crate::source::remote::Fetcher;
use crate::source::{git, http};
use crate::{BuildError, Services};

/// What all names stand for that the request's target needs, and, where they can be planned, the stages that `others` names. What
/// `kept` has is not asked for again.
///
/// # Errors
/// What would fail a build before anything runs, and downloads and repositories that can't be had.
pub fn lock(
    request: &mut BuildRequest<'_>,
    others: &[String],
    kept: Lock,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Lock, BuildFailure> {
    services.hold.fill(kept);
    let (bases, asked) = planned(request, services, reporter)?;
    sources(&asked, request, services, reporter, cancel)?;
    drop(bases);
    for other in others {
        for options in &mut request.images {
            options.target = Some(other.clone());
        }
        match planned(request, services, reporter) {
            Ok((_, plan)) => sources(&plan, request, services, reporter, cancel)?,
            // Nobody has asked for this stage; it may need arguments that were not given.
            Err(BuildFailure::Dockerfile(_)) => {}
            Err(failed) => return Err(failed),
        }
    }
    Ok(services.hold.filled())
}

fn planned(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<(Bases, Plan), BuildFailure> {
    let Planned { bases, plans } = resolve_bases(request, services, reporter)?;
    let plans = plans.map_err(BuildFailure::Dockerfile)?;
    let any = plans.into_iter().next(); // all have one graph
    Ok((bases, any.expect("an image is asked for")))
}

/// Asks for what a plan downloads.
fn sources(
    plan: &Plan,
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<(), BuildError> {
    let fetcher = Fetcher {
        services,
        secrets: &request.steps.secrets,
        halt: cancel,
    };
    for vertex in plan.graph.node_weights() {
        let Op::Source(source) = &vertex.op else {
            continue;
        };
        let found = match source {
            SourceOp::Http(source) => {
                let task = reporter.start(&vertex.name);
                let fetched = http::fetch(source, &fetcher, &task).map(drop);
                task.end_with(fetched)
            }
            SourceOp::Git(source) => {
                let task = reporter.start(&vertex.name);
                let asked = git::ask(source, &fetcher, &task);
                task.end_with(asked)
            }
            _ => Ok(()),
        };
        found.map_err(|cause| failure(vertex, cause))?;
    }
    Ok(())
}
