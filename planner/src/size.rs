//! Sizes in bytes as flags and options of mounts write them.

/// Bytes, with a suffix of 1024s: `64m`, `1.5GiB`. `None` for anything else.
#[must_use]
pub fn size_in_bytes(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let suffix = suffix.to_lowercase();
    let unit = suffix
        .strip_suffix("ib")
        .or_else(|| suffix.strip_suffix('b'))
        .unwrap_or(&suffix);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let number: f64 = number.parse().ok().filter(|number| *number >= 0.0)?;
    // Exact for whole numbers below 2^53, and checked to fit.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let bytes = (number * (1_u64 << shift) as f64) as u64;
    (bytes < u64::MAX).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_1024s() {
        for (text, expected) in [
            ("64m", 64 << 20),
            ("100", 100),
            ("1.5k", 1536),
            ("2GiB", 2 << 30),
            ("3 kb", 3072),
            ("1b", 1),
            ("1e3", 1000), // the number is read as Go reads it
        ] {
            assert_eq!(size_in_bytes(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1e", "99999999999p"] {
            assert!(size_in_bytes(text).is_none(), "{text}");
        }
    }
}
