//! Descriptions in comments: `# NAME text` right above the ARG or FROM of that name (R-LEX-15, R-CLI-7).

use kiln_parser::Spanned;

/// What the comments above an instruction say of `name`.
pub(crate) fn description(comments: &[Spanned<String>], name: &str) -> Option<String> {
    comments.iter().find_map(|comment| {
        let (first, text) = comment.value.split_once(char::is_whitespace)?;
        let text = text.trim();
        (first == name && !text.is_empty()).then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::description;
    use kiln_parser::{Span, Spanned};

    #[test]
    fn the_name_comes_first() {
        // R-LEX-15
        let comments: Vec<_> = ["check=skip=X", "other one", "app  the server ", "app again"]
            .map(|text| Spanned::new(text.to_owned(), Span { start: 0, end: 0 }))
            .into();
        let cases = [
            ("app", Some("the server")),
            ("other", Some("one")),
            ("ap", None),
        ];
        for (name, expected) in cases {
            assert_eq!(description(&comments, name).as_deref(), expected, "{name}");
        }
    }
}
