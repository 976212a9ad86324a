//! Secrets that addresses have in their queries.

use std::ops::Range;

/// Names of parameters that are secrets themselves.
const NAMES: [&str; 4] = ["sig", "key", "pwd", "auth"];
/// What names of secrets have in them.
const PARTS: [&str; 9] = [
    "token",
    "secret",
    "password",
    "passwd",
    "signature",
    "credential",
    "apikey",
    "api_key",
    "access_key",
];

/// Where a text has values of parameters, in addresses, whose names tell of a secret: `https://h/f?token=…`.
///
/// ```
/// let text = "ADD https://h/f?a=b&access_token=xyz#c /";
/// assert_eq!(kiln_registry::secret_values(text).map(|at| &text[at]).collect::<Vec<_>>(), ["xyz"]);
/// ```
pub fn secret_values(text: &str) -> impl Iterator<Item = Range<usize>> {
    let addresses = text.match_indices("://").map(|(at, _)| at);
    addresses.flat_map(move |at| {
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '#');
        let end = text[at..].find(is_end).map_or(text.len(), |end| at + end);
        let query = text[at..end].find('?').map_or(end, |found| at + found + 1);
        values(query, &text[query..end])
    })
}

/// The values of a query that begins at `start`.
fn values(start: usize, query: &str) -> Vec<Range<usize>> {
    let mut at = start;
    let mut found = Vec::new();
    for pair in query.split(['&', ';']) {
        if let Some((name, value)) = pair.split_once('=')
            && is_secret(name)
        {
            let from = at + name.len() + 1;
            found.push(from..from + value.len());
        }
        at += pair.len() + 1;
    }
    found
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part))
}

/// An address as it may be shown.
pub(super) fn shown(address: &str) -> String {
    let mut shown = address.to_owned();
    let values: Vec<Range<usize>> = secret_values(address).collect();
    for value in values.into_iter().rev() {
        shown.replace_range(value, "***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_not_shown() {
        for (address, expected) in [
            ("https://h/f", "https://h/f"),
            ("https://h/f?v=1&raw", "https://h/f?v=1&raw"),
            ("https://h/f?token=abc", "https://h/f?token=***"),
            (
                "https://h/f?X-Amz-Signature=a&v=1&PRIVATE-TOKEN=b;sig=c#token=d",
                "https://h/f?X-Amz-Signature=***&v=1&PRIVATE-TOKEN=***;sig=***#token=d",
            ),
            ("token=abc", "token=abc"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }
}
