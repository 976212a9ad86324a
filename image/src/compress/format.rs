//! How the layers of an output are compressed.

use super::{Compression, CompressionError};

/// What an exporter's `compression`, `compression-level` and `force-compression` ask for (R-MAN-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerFormat {
    /// The compression, with its level.
    pub compression: Compression,
    /// Whether gzip is to be eStargz (R-MAN-5).
    pub estargz: bool,
    /// Whether layers of base images, which keep the form they came in otherwise, get this one too.
    pub force: bool,
}

impl LayerFormat {
    /// The format of this name: those of [`Compression::parse`], and `estargz` with gzip's levels.
    pub fn parse(name: &str, level: Option<i32>, force: bool) -> Result<Self, CompressionError> {
        let estargz = name == "estargz";
        let compression = match name {
            "estargz" => Compression::parse("gzip", level)?,
            name => Compression::parse(name, level)?,
        };
        Ok(Self {
            compression,
            estargz,
            force,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn estargz_is_gzip_with_a_table() {
        // R-MAN-4
        let format = LayerFormat::parse("estargz", Some(9), true).unwrap();
        assert_eq!(format.compression, Compression::Gzip { level: 9 });
        assert!(format.estargz && format.force);
        let plain = LayerFormat::parse("gzip", None, false).unwrap();
        assert_eq!(plain, LayerFormat::default());
        assert!(LayerFormat::parse("estargz", Some(10), false).is_err());
        let unknown = LayerFormat::parse("lz4", None, false).unwrap_err();
        assert_eq!(unknown.to_string(), "unsupported compression type lz4");
    }
}
