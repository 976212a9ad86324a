//! Text made harmless for what it is put into, as Go's templates do it.

use std::fmt::Write as _;

/// For HTML, in text and in attributes.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\0' => escaped.push('\u{fffd}'),
            '"' => escaped += "&#34;",
            '\'' => escaped += "&#39;",
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            _ => escaped.push(c),
        }
    }
    escaped
}

/// For a string of JavaScript.
pub(super) fn js(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => escaped.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..' ' | '\u{7f}' => {
                let _ = write!(escaped, "\\u{:04X}", u32::from(c)); // a string takes all
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// For the query of an address.
pub(super) fn url_query(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            b' ' => escaped.push('+'),
            _ => {
                let _ = write!(escaped, "%{byte:02X}"); // a string takes all
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Docker's own command prints.
    #[test]
    fn text_is_escaped_as_go_does_it() {
        assert_eq!(html("<a b=\"c\">'&"), "&lt;a b=&#34;c&#34;&gt;&#39;&amp;");
        assert_eq!(
            js("a\"b'\\<=&>\n"),
            "a\\\"b\\'\\\\\\u003C\\u003D\\u0026\\u003E\\u000A"
        );
        assert_eq!(url_query("a b&c/ü~"), "a+b%26c%2F%C3%BC~");
    }
}
