//! `kiln build --fail-if-waste`: an image that wastes too much is not handed out.

use kiln_executor::{Built, Product, images};
use kiln_image::{ImageConfig, Waste};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::quantity::Bytes;
use crate::session::Watched;
use crate::waste_report::{percent, piece_line};

/// As many pieces are named in the message.
const NAMED: usize = 5;

/// How much may be wasted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum WasteLimit {
    /// This part of the image.
    Part(f64),
    /// So many bytes.
    Bytes(u64),
}

impl std::str::FromStr for WasteLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(part) = text.strip_suffix('%') else {
            return text.parse::<Bytes>().map(|bytes| Self::Bytes(bytes.0));
        };
        match part.parse::<f64>() {
            Ok(part) if (0.0..=100.0).contains(&part) => Ok(Self::Part(part / 100.0)),
            _ => Err(format!("`{text}` is no part of an image, such as `10%`")),
        }
    }
}

impl WasteLimit {
    fn is_exceeded(self, waste: &Waste) -> bool {
        match self {
            Self::Part(part) => waste.ratio() > part,
            Self::Bytes(bytes) => waste.wasted() > bytes,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Part(part) => percent(part),
            Self::Bytes(bytes) => human::size(bytes),
        }
    }
}

/// Fails if an image wastes more than `limit`.
pub(super) fn check(
    limit: Option<WasteLimit>,
    products: &[Product],
    watched: &Watched<'_>,
) -> Result<(), Failure> {
    let Some(limit) = limit else {
        return Ok(());
    };
    let mut images = products.iter().flat_map(|product| &product.images);
    images.try_for_each(|built| check_image(limit, built, watched))
}

fn check_image(limit: WasteLimit, built: &Built, watched: &Watched<'_>) -> Result<(), Failure> {
    let waste = watched.task("looking for waste".to_owned(), |task| {
        let layers = built.config.diff_ids();
        images::waste(&watched.services, layers, task).map_err(Failure::from_engine)
    })?;
    match limit.is_exceeded(&waste) {
        true => Err(too_much(limit, &waste, &built.config)),
        false => Ok(()),
    }
}

fn too_much(limit: WasteLimit, waste: &Waste, config: &ImageConfig) -> Failure {
    let message = format!(
        "{} of the image are wasted ({} of {}), more than {}",
        percent(waste.ratio()),
        human::size(waste.wasted()),
        human::size(waste.size()),
        limit.shown()
    );
    let mut failure = Failure::new(Exit::Check, "waste", message);
    let hidden = waste.pieces.iter().filter(|piece| {
        use kiln_image::Reason::{Deleted, Shadowed};
        matches!(piece.reason, Shadowed(_) | Deleted(_))
    });
    for piece in hidden.take(NAMED) {
        failure = failure.note(piece_line(piece, config));
    }
    failure.help("delete files in the step that makes them, or build with `--squash`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parts_or_sizes() {
        let cases = [
            ("10%", Some(WasteLimit::Part(0.1))),
            ("0%", Some(WasteLimit::Part(0.0))),
            ("20m", Some(WasteLimit::Bytes(20 << 20))),
            ("101%", None),
            ("-1%", None),
            ("x%", None),
            ("much", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
