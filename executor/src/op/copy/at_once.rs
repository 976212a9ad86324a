//! A copy made before its key is known: its files are read once, for their digests and for the layer.
//!
//! The key of a copy is over the content of its files, so files that nobody has read yet would be read twice: to look
//! the key up, and to make the layer. Where a step was never done in this store there is next to no chance of finding
//! anything, and the layer is written while the digests are made. Should its key be found after all, or the files
//! not hold still, the layer is dropped and all goes the ordinary way.

use std::sync::Arc;

use kiln_cache::LayerStaging;
use kiln_image::scan::Draft;
use kiln_image::tar::{TarSummary, WriteError, write_draft};
use kiln_image::{Change, Changeset, DiffId, Digest, ImagePath, Kind, Tree};
use kiln_planner::CopyOp;

use super::contents::SourceContents;
use super::{From, Sources, Trees, borrowed, outcome};
use crate::error::Cause;
use crate::event::Task;
use crate::layers::Layers;
use crate::op::archive::Unpacked;
use crate::op::file::{CopyOutcome, Origin, possible_archives};
use crate::rootfs::RootFs;
use crate::solve::Solver;

/// A layer that is not in the store yet.
pub(super) struct Made<'s> {
    staging: LayerStaging<'s>,
    changeset: Changeset,
    summary: TarSummary,
}

/// Makes the layer and tells the contexts the digests of their files; `None` where the ordinary way has to be gone.
pub(super) fn make<'s>(
    solver: &'s Solver<'_>,
    op: &CopyOp,
    root: &Arc<RootFs>,
    sources: &Sources<'_>,
    trees: Trees,
    task: &Task<'_>,
) -> Result<Option<Made<'s>>, Cause> {
    // What is in an archive is not known before it was read.
    if !possible_archives(op, &borrowed(&trees))?.is_empty() {
        return Ok(None);
    }
    let layers = &solver.services.layers;
    let archives = Unpacked::default();
    let CopyOutcome { changeset, origins } = outcome(solver, op, root, &trees, &archives, task)?;
    if !op.link && may_change_nothing(&changeset, &*root.tree(layers, task)?) {
        return Ok(None);
    }
    let mut began = Vec::new();
    for (input, from) in &sources.0 {
        if let From::Context(context) = from
            && let Some(moment) = context.moment()?
        {
            began.push((*input, *context, moment));
        }
    }
    let staging = solver.services.store.layers().stage()?;
    let written = {
        let contents = SourceContents::of(&origins, sources, &trees, &archives, layers, task)?;
        match write_draft(Draft::from(changeset), &contents, staging.create_tar()?) {
            Err(WriteError::Content { .. } | WriteError::ContentChanged { .. }) => return Ok(None),
            Err(error) => return Err(contents.write_error(error, layers)),
            Ok(written) => written,
        }
    };
    let (changeset, summary) = written;
    let mut learned = Vec::new();
    for (input, context, began) in began {
        let found = origins.iter().filter_map(|(path, origin)| match origin {
            Origin::Input {
                input: of,
                path: source,
            } if *of == input => {
                let is_new = digest_in(&trees[&input].0, source)? == Digest::UNKNOWN;
                is_new.then_some((source.clone(), digest_of(changeset.get(path)?)?))
            }
            _ => None,
        });
        let found: Vec<(ImagePath, Digest)> = found.collect();
        learned.push((context, found, began));
    }
    // Gone before the contexts change theirs: a tree that two hold is copied.
    drop((trees, origins));
    for (context, found, began) in learned {
        context.learn(&found, began);
    }
    Ok(Some(Made {
        staging,
        changeset,
        summary,
    }))
}

impl Made<'_> {
    pub(super) fn commit(self, layers: &Layers<'_>) -> Result<(DiffId, Arc<Changeset>), Cause> {
        let Made {
            staging,
            changeset,
            summary,
        } = self;
        staging.commit(&summary.diff_id, &changeset, summary.size)?;
        Ok((summary.diff_id, layers.remember(summary.diff_id, changeset)))
    }
}

/// Whether a file may be the one that is there already, which only its content could tell (R-COPY-21).
fn may_change_nothing(changeset: &Changeset, lower: &Tree) -> bool {
    if lower.is_empty() {
        return false;
    }
    changeset.iter().any(|(path, change)| {
        digest_of(change) == Some(Digest::UNKNOWN) && digest_in(lower, path).is_some()
    })
}

fn digest_of(change: &Change) -> Option<Digest> {
    match change.node()?.kind {
        Kind::File { digest, .. } => Some(digest),
        _ => None,
    }
}

fn digest_in(tree: &Tree, path: &ImagePath) -> Option<Digest> {
    match tree.lookup(path)?.kind {
        Kind::File { digest, .. } => Some(*digest),
        _ => None,
    }
}
