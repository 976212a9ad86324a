//! The parts that all addresses have: escapes, queries, user and password.

use std::fmt;

use crate::names_a_secret;

/// Who an address says to be. `Debug` and `Display` don't show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password; `None` where there is no colon.
    pub password: Option<String>,
}

/// An address of the form `scheme://[user[:password]@]host[:port]/path[?query][#fragment]`, in pieces that are not decoded.
pub(super) struct Parts<'a> {
    pub(super) scheme: String,
    pub(super) login: Option<Login>,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) fragment: &'a str,
}

impl<'a> Parts<'a> {
    /// The pieces; `None` if it isn't an address at all, or one that could not be sent anywhere.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let scheme = scheme(text)?;
        let rest = &text[scheme.len() + "://".len()..];
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(Login::parse(login)?), host),
            None => (None, authority),
        };
        let is_sound = is_host(host)
            && decoded(path).is_some()
            && decoded(fragment).is_some()
            && !text.chars().any(char::is_control);
        is_sound.then(|| Parts {
            scheme: scheme.to_ascii_lowercase(),
            login,
            host,
            path,
            query,
            fragment,
        })
    }
}

impl Login {
    fn parse(text: &str) -> Option<Self> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (text, None),
        };
        let user = decoded(user)?;
        Some(Login { user, password })
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        match self.password {
            Some(_) => f.write_str(":xxxxx"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({self})")
    }
}

/// `1*ALPHANUMERIC` before `://`
pub(super) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_word = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric());
    is_word.then_some(scheme)
}

fn is_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if !port.chars().all(|c| c.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    let is_address = name.starts_with('[') && name.ends_with(']');
    let is_odd = |c: char| c.is_whitespace() || "<>\"\\^`{|}%[]:/?#@".contains(c);
    !name.is_empty() && (is_address || !name.chars().any(is_odd))
}

/// With `%XX` resolved; `None` for escapes that are none. What is no UTF-8 then becomes the replacement character.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = tail.get(..2)?;
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
            bytes.push(u8::from_str_radix(text, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// With what may not stand in an address as `%XX`; escapes that are there stay.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The parameters of a query in their order, decoded. Those that can't be read are passed over.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| decoded(&text.replace('+', " "));
        Some((decoded(key)?, decoded(value)?))
    };
    pairs.filter_map(pair).collect()
}

/// The address without its password, for people.
pub(super) fn redacted(text: &str) -> String {
    let Some(scheme) = scheme(text) else {
        return text.to_owned();
    };
    let start = scheme.len() + "://".len();
    let rest = &text[start..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rsplit_once('@').map(|(login, _)| login) {
        Some(login) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            format!(
                "{}{user}:xxxxx{}",
                &text[..start],
                &text[start + login.len()..]
            )
        }
        _ => text.to_owned(),
    }
}

/// The address without its password, and with what `hide` makes of the values of parameters whose names tell of a secret.
pub(super) fn without_secrets(text: &str, hide: impl Fn(&str) -> String) -> String {
    let text = redacted(text);
    let Some((front, query)) = text.split_once('?').filter(|_| scheme(&text).is_some()) else {
        return text;
    };
    let (query, fragment) = query.split_at(query.find('#').unwrap_or(query.len()));
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => {
            format!("{name}={}", hide(value))
        }
        _ => pair.to_owned(),
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{front}?{}{fragment}", pairs.join("&"))
}

/// Whether a parameter's name tells of a secret: `access_token`, `X-Amz-Signature`.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let signs = |part: &str| matches!(part, "sig" | "signature");
    names_a_secret(&name) || name.split('_').any(signs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_are_not_shown() {
        let cases = [
            ("https://h/f?token=abc", "https://h/f?token=xxxxx"),
            (
                "https://h/f?a=b&Access-Token=a=b&c#d",
                "https://h/f?a=b&Access-Token=xxxxx&c#d",
            ),
            (
                "https://u:p@h/f?X-Amz-Signature=0a",
                "https://u:xxxxx@h/f?X-Amz-Signature=xxxxx",
            ),
            ("https://h/f?token=&b", "https://h/f?token=&b"),
            ("src/a?token=b", "src/a?token=b"),
        ];
        for (text, expected) in cases {
            let shown = without_secrets(text, |_| "xxxxx".to_owned());
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, expected) in [
            ("https://h/p", "https://h/p"),
            ("https://u:p@h/p", "https://u:xxxxx@h/p"),
            (
                "https://u:p@x:y@h:1/p?q=a:b@c",
                "https://u:xxxxx@h:1/p?q=a:b@c",
            ),
            ("https://u@h", "https://u@h"),
            ("git@h:p", "git@h:p"),
            ("https://h/a:b@c", "https://h/a:b@c"),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
        let parts = Parts::of("https://u:hunter%32@h/p").unwrap();
        let login = parts.login.unwrap();
        assert_eq!(login.password.as_deref(), Some("hunter2"));
        assert!(!format!("{login:?} {login}").contains("hunter"));
    }

    #[test]
    fn what_could_not_be_sent_is_no_address() {
        for text in [
            "http://",
            "http:///p",
            "http://h:x/",
            "http://a b/",
            "http://h/%zz",
            "http://h/\n",
            "://h",
            "a b://h",
        ] {
            assert!(Parts::of(text).is_none(), "{text}");
        }
        for text in ["http://h", "http://[::1]:80/", "http://h:/", "http://h/ä b"] {
            assert!(Parts::of(text).is_some(), "{text}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            query("a=b%20c+d&e&&f=%zz&g;h=1&i=j=k"),
            [pair("a", "b c d"), pair("e", ""), pair("i", "j=k")]
        );
    }
}
