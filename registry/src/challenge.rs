//! The `WWW-Authenticate` header: how a registry says what it wants to see (RFC 9110, 11.6.1).

use std::collections::BTreeMap;

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic` or `bearer`, in lower case; others are kept and ignored.
    pub(crate) scheme: String,
    /// `realm`, `service`, `scope`, …
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// All challenges of one header value. What can't be understood ends the list; what was read before it stays.
///
/// ```text
/// challenges := scheme (parameter ("," parameter)*)? ("," challenges)?
/// parameter  := token "=" (token | '"' (char | "\" char)* '"')
/// ```
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        // An equals sign without a name is the padding of a `token68`, as `Negotiate` has it.
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parameter_value(value.trim_start());
            let Some(challenge) = challenges.last_mut() else {
                return challenges;
            };
            challenge
                .parameters
                .insert(word.to_ascii_lowercase(), value);
            rest = after;
        } else {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: BTreeMap::new(),
            });
            rest = after;
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Vec<String> {
        parse(header)
            .into_iter()
            .map(|c| {
                let parameters: Vec<String> = c
                    .parameters
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect();
                format!("{} {}", c.scheme, parameters.join(" "))
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn challenges_are_read() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![
                    "bearer realm=https://auth.docker.io/token scope=repository:a/b:pull,push service=registry.docker.io",
                ],
            ),
            (
                r#"Basic realm="a \"b\"", charset=UTF-8"#,
                vec![r#"basic charset=UTF-8 realm=a "b""#],
            ),
            (
                r#"Negotiate, BASIC realm=x, Bearer Realm = "y" "#,
                vec!["negotiate", "basic realm=x", "bearer realm=y"],
            ),
            ("", vec![]),
            (r#"Bearer realm="cut"#, vec!["bearer realm=cut"]),
            ("=x", vec!["x"]),
            // Schemes with something else than parameters.
            (
                r#"Negotiate YIIabc==, NTLM, Bearer realm="r""#,
                vec!["negotiate yiiabc=", "ntlm", "bearer realm=r"],
            ),
            // Odd spaces, no commas, a comma in quotes, the same name twice.
            (
                "\tbearer\trealm\t=\t\"a,b=c\"  service=s ,, scope=\"\",scope=t",
                vec!["bearer realm=a,b=c scope=t service=s"],
            ),
            (r#"Bearer realm="é\\ü""#, vec![r"bearer realm=é\ü"]),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }
}
