//! Caches elsewhere, written while a build goes on and when it has ended.

use std::sync::Arc;

use kiln_executor::{CacheExport, Product, Secrets, export_cache};
use kiln_parser::Source;
use kiln_registry::Client;

use super::Args;
use crate::cache_flags::{CacheTo, Export};
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Watched;

/// Whether the image itself tells what is known of its steps.
pub(super) fn is_inline(args: &Args) -> bool {
    args.cache_to.contains(&CacheTo::Inline)
}

/// Has layers sent to where `--cache-to` says as steps end.
pub(super) fn begin(exports: &[Export], watched: &Watched<'_>, config: &Config) {
    let exports: Vec<CacheExport> = exports.iter().map(|to| to.export.clone()).collect();
    let services = &watched.services;
    let client = || Client::new(config.registry());
    services
        .uploads
        .begin(&exports, services.store, services.footing, client);
}

/// Writes what `--cache-to` asks for (R-CEXP-7).
pub(super) fn export(
    exports: &[Export],
    products: &[Product],
    secrets: &Secrets,
    source: &Arc<Source>,
    watched: &Watched<'_>,
) -> Result<(), Failure> {
    for Export {
        export,
        ignore_error,
    } in exports
    {
        let (services, reporter) = (&watched.services, &watched.reporter);
        let exported = export_cache(products, export, secrets, services, reporter);
        match exported {
            Err(error) if !ignore_error => {
                return Err(Failure::from_build_error(Some(source), &error));
            }
            _ => {} // the step has told it
        }
    }
    Ok(())
}
