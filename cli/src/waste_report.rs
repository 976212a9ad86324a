//! What an image wastes, in words: for `kiln history --waste`, and for a build that is told to fail because of it.

use kiln_image::{ImageConfig, Piece, Reason, Waste};
use serde::Serialize;

use crate::human;
use crate::render::shown;

/// As many pieces are named where nobody asks for all.
pub(crate) const NAMED: usize = 10;

/// Commands are shortened to this many characters.
const COMMAND_WIDTH: usize = 45;

/// A layer with what it wastes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LayerRow {
    /// Its number, from 1 at the bottom.
    pub(crate) layer: usize,
    /// Bytes, as all that follow.
    pub(crate) size: u64,
    pub(crate) wasted: u64,
    pub(crate) shadowed: u64,
    pub(crate) deleted: u64,
    pub(crate) duplicate: u64,
    pub(crate) left_behind: u64,
    pub(crate) created_by: String,
}

/// A single thing that takes space for nothing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PieceRow {
    path: String,
    /// Bytes.
    size: u64,
    layer: usize,
    reason: &'static str,
    /// The layer that hides or deletes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<usize>,
    /// Where the same is, or what it is a cache of.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

/// The instruction that made each layer, bottom first; as many as there are layers.
fn instructions(config: &ImageConfig) -> Vec<String> {
    let entries = config.history.iter().flatten();
    let made = entries.filter(|entry| !entry.empty_layer);
    let mut made: Vec<String> = made.map(|entry| entry.created_by.clone()).collect();
    made.resize(config.diff_ids().len(), String::new());
    made
}

/// A row for each layer, bottom first.
pub(crate) fn layer_rows(waste: &Waste, config: &ImageConfig) -> Vec<LayerRow> {
    let layers = waste.layers.iter().zip(instructions(config)).enumerate();
    layers
        .map(|(at, (layer, created_by))| LayerRow {
            layer: at + 1,
            size: layer.size,
            wasted: layer.wasted(),
            shadowed: layer.shadowed,
            deleted: layer.deleted,
            duplicate: layer.duplicate,
            left_behind: layer.left_behind,
            created_by,
        })
        .collect()
}

/// All pieces, the largest first.
pub(crate) fn piece_rows(waste: &Waste) -> Vec<PieceRow> {
    waste.pieces.iter().map(piece_row).collect()
}

fn piece_row(piece: &Piece) -> PieceRow {
    let (reason, by, of) = match &piece.reason {
        Reason::Shadowed(by) => ("shadowed", Some(by + 1), None),
        Reason::Deleted(by) => ("deleted", Some(by + 1), None),
        Reason::Duplicate(of) => ("duplicate", None, Some(format!("/{of}"))),
        Reason::LeftBehind(what) => ("left-behind", None, Some((*what).to_owned())),
    };
    PieceRow {
        path: format!("/{}", piece.path),
        size: piece.bytes,
        layer: piece.layer + 1,
        reason,
        by,
        of,
    }
}

/// `20MB /big of layer 2, deleted by layer 3 (RUN rm /big)`
pub(crate) fn piece_line(piece: &Piece, config: &ImageConfig) -> String {
    let instructions = instructions(config);
    let row = piece_row(piece);
    let by = |number: usize| {
        let instruction = instructions.get(number).map_or("", String::as_str);
        match instruction.is_empty() {
            true => format!("layer {}", number + 1),
            false => format!("layer {} ({})", number + 1, shortened(instruction)),
        }
    };
    let why = match &piece.reason {
        Reason::Shadowed(number) => format!("another is in its place since {}", by(*number)),
        Reason::Deleted(number) => format!("deleted by {}", by(*number)),
        Reason::Duplicate(of) => format!("the same as /{}", shown(&of.to_string())),
        Reason::LeftBehind(what) => format!("{what} left behind"),
    };
    let size = human::size(row.size);
    format!("{size} {} of layer {}: {why}", shown(&row.path), row.layer)
}

/// `Efficiency 66.7%: of 30MB, 10MB are wasted (hidden or deleted by later layers)`
pub(crate) fn summary(waste: &Waste) -> String {
    let (mut duplicate, mut left_behind) = (0, 0);
    for layer in &waste.layers {
        duplicate += layer.duplicate;
        left_behind += layer.left_behind;
    }
    format!(
        "Efficiency {}: {} of {} are wasted, hidden or deleted by later layers; {} are there twice, {} are caches left behind",
        percent(waste.efficiency()),
        human::size(waste.wasted()),
        human::size(waste.size()),
        human::size(duplicate),
        human::size(left_behind),
    )
}

/// A part of one as `66.7%`.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// An instruction on one line of a table.
pub(crate) fn shortened(command: &str) -> String {
    let line = shown(&command.replace(['\n', '\t'], " "));
    match line.chars().count() > COMMAND_WIDTH {
        true => line.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened() {
        assert_eq!(shortened("RUN true"), "RUN true");
        assert_eq!(shortened(&"x".repeat(46)), "x".repeat(44) + "…");
        assert_eq!(shortened("RUN a\n\tb"), "RUN a  b");
    }
}
