//! Caches elsewhere, written when a build has ended.

use std::sync::Arc;

use kiln_executor::{Product, export_cache};
use kiln_parser::Source;

use super::Args;
use crate::cache_flags::{CacheTo, Export};
use crate::failure::Failure;
use crate::session::Watched;

/// Whether the image itself tells what is known of its steps.
pub(super) fn is_inline(args: &Args) -> bool {
    args.cache_to.contains(&CacheTo::Inline)
}

/// Writes what `--cache-to` asks for (R-CEXP-7).
pub(super) fn export(
    exports: &[Export],
    products: &[Product],
    source: &Arc<Source>,
    watched: &Watched<'_>,
) -> Result<(), Failure> {
    for Export {
        export,
        ignore_error,
    } in exports
    {
        let exported = export_cache(products, export, &watched.services, &watched.reporter);
        match exported {
            Err(error) if !ignore_error => {
                return Err(Failure::from_build_error(Some(source), &error));
            }
            _ => {} // the step has told it
        }
    }
    Ok(())
}
