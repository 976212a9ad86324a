//! `kiln history --waste`: which layers have bytes that do nobody any good.

use std::io::Write;

use kiln_executor::images;
use kiln_image::{ImageConfig, Waste};
use serde_json::json;

use super::Args;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, Format};
use crate::human;
use crate::session::Session;
use crate::stored;
use crate::waste_report::{
    LayerRow, NAMED, layer_rows, percent, piece_line, piece_rows, shortened, summary,
};

/// Runs the command.
pub(super) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, true)?;
    let session = Session::open_with_files(config, None)?;
    let (found, _) = session.watch(mode, |watched| {
        let image = stored::find_for(&watched.services, &args.image, args.platform.as_ref())?;
        let waste = watched.task("history".to_owned(), |task| {
            let layers = image.config.diff_ids();
            images::waste(&watched.services, layers, task).map_err(Failure::from_engine)
        })?;
        Ok((image.config, waste))
    });
    let (image, waste) = found?;
    print(args, &image, &waste, &mut std::io::stdout().lock())?;
    Ok(Exit::Done)
}

/// The newest layer first, as in the rest of the history.
fn print(
    args: &Args,
    image: &ImageConfig,
    waste: &Waste,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut rows = layer_rows(waste, image);
    rows.reverse();
    match &args.format {
        Format::Json => {
            let whole = json!({
                "Size": waste.size(),
                "Wasted": waste.wasted(),
                "Efficiency": waste.efficiency(),
                "Layers": rows,
                "Files": piece_rows(waste),
            });
            writeln!(out, "{whole:#}")?;
        }
        format => format::print(format, &columns(args.no_trunc), rows, out)?,
    }
    if args.format != Format::Table {
        return Ok(());
    }
    let named = if args.no_trunc { usize::MAX } else { NAMED };
    writeln!(out)?;
    for piece in waste.pieces.iter().take(named) {
        writeln!(out, "{}", piece_line(piece, image))?;
    }
    if let Some(more) = waste
        .pieces
        .len()
        .checked_sub(named)
        .filter(|more| *more > 0)
    {
        writeln!(out, "and {more} more (`--no-trunc` shows all)")?;
    }
    if !waste.pieces.is_empty() {
        writeln!(out)?;
    }
    Ok(writeln!(out, "{}", summary(waste))?)
}

fn columns(whole: bool) -> [Column<LayerRow>; 7] {
    [
        Column::new("LAYER", "Layer", |row| row.layer.to_string()),
        Column::new("SIZE", "Size", |row| human::size(row.size)),
        Column::new("WASTED", "Wasted", |row| match row.size {
            0 => human::size(row.wasted),
            size => {
                let part = percent(row.wasted as f64 / size as f64);
                format!("{} ({part})", human::size(row.wasted))
            }
        }),
        Column::new("DELETED", "Deleted", |row| human::size(row.deleted)),
        Column::new("TWICE", "Duplicate", |row| human::size(row.duplicate)),
        Column::new("CACHES", "LeftBehind", |row| human::size(row.left_behind)),
        match whole {
            true => Column::new("CREATED BY", "CreatedBy", |row| {
                crate::render::shown(&row.created_by)
            }),
            false => Column::new("CREATED BY", "CreatedBy", |row| shortened(&row.created_by)),
        },
    ]
}
