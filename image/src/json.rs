//! JSON with the bytes that the reference engine's encoder gives, since configs and manifests are named by digest.

use std::borrow::Cow;

use serde::Serialize;

/// Compact JSON; `<`, `>`, `&`, U+2028 and U+2029 as `\u` escapes (R-CFG-3).
pub fn compact(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_string(value).map(|text| escaped(&text).into_owned().into_bytes())
}

/// The same, indented by two spaces (R-MAN-3).
pub fn indented(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_string_pretty(value).map(|text| escaped(&text).into_owned().into_bytes())
}

/// These characters can stand in strings only, so JSON text can be escaped as a whole.
fn escaped(json: &str) -> Cow<'_, str> {
    const ESCAPES: [(char, &str); 5] = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    let escape_of = |found: char| {
        ESCAPES
            .iter()
            .find(|(plain, _)| *plain == found)
            .map(|(_, escape)| *escape)
    };
    if !json.contains(|found| escape_of(found).is_some()) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 64);
    for character in json.chars() {
        match escape_of(character) {
            Some(escape) => text.push_str(escape),
            None => text.push(character),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn escapes_as_the_reference_encoder_does() {
        // R-CFG-3
        let text = compact(&"a<b>&c\u{2028}\u{2029}\n\t\u{8}\u{1}\u{7f}é\"\\").unwrap();
        let expected = r#""a\u003cb\u003e\u0026c\u2028\u2029\n\t\b\u0001"#;
        assert_eq!(
            String::from_utf8(text).unwrap(),
            format!("{expected}\u{7f}é\\\"\\\\\"")
        );
    }
}
