//! Shell text, read only as far as that is certain: simple commands, what joins them, and their words without quotes.
//!
//! A text with here-documents, `case` or anything unbalanced is not read at all, and no rule says anything about it.

/// The commands of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ShellScript {
    pub(super) commands: Vec<Command>,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Its words: the program first, assignments and keywords before it left out. Quotes are removed; `$` and backticks stay.
    pub(super) words: Vec<String>,
    /// What joins it to the command before.
    pub(super) joint: Joint,
}

/// What stands between two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// `;`, a newline, a parenthesis, `&`; or it is the first.
    Then,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|`
    Pipe,
}

/// Words that stand before a command without being it.
const KEYWORDS: [&str; 12] = [
    "if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "exec", "command",
];

/// Words that end something.
const ENDS: [&str; 4] = ["fi", "done", "}", "esac"];

impl ShellScript {
    /// An exec form: one command.
    pub(super) fn exec(argv: &[String]) -> ShellScript {
        let command = Command {
            words: argv.to_vec(),
            joint: Joint::Then,
        };
        ShellScript {
            commands: vec![command],
        }
    }

    /// Whether `set -o pipefail` or the like is in it.
    pub(super) fn sets_pipefail(&self) -> bool {
        let sets = |command: &Command| {
            command.name() == "set" && command.words.iter().any(|word| word == "pipefail")
        };
        self.commands.iter().any(sets)
    }
}

impl Command {
    /// The program, without its folder.
    pub(super) fn name(&self) -> &str {
        let word = self.words.first().map_or("", String::as_str);
        word.rsplit('/').next().unwrap_or(word)
    }

    /// The words after the program.
    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(super) fn has(&self, argument: &str) -> bool {
        self.arguments().iter().any(|word| word == argument)
    }

    /// The arguments that are no options.
    pub(super) fn operands(&self) -> impl Iterator<Item = &str> {
        let words = self.arguments().iter().map(String::as_str);
        words.filter(|word| !word.starts_with('-'))
    }

    /// The first argument that is no option.
    pub(super) fn subcommand(&self) -> Option<&str> {
        self.operands().next()
    }

    /// Its words up to the subcommand, for people.
    pub(super) fn shown(&self, subcommand: &str) -> String {
        format!("{} {subcommand}", self.name())
    }

    /// The subcommand of `apt-get` or `apt`: the first word that is neither an option nor an option's value.
    pub(super) fn apt(&self) -> Option<&str> {
        if !matches!(self.name(), "apt-get" | "apt") {
            return None;
        }
        let mut words = self.arguments().iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-o" | "-t" | "-c" | "-a" | "--option" | "--target-release" => {
                    words.next();
                }
                option if option.starts_with('-') => {}
                subcommand => return Some(subcommand),
            }
        }
        None
    }
}

/// Reads a script. `None` when it is not certain what it does.
pub(super) fn read(text: &str) -> Option<ShellScript> {
    let mut reader = Reader {
        rest: text,
        commands: Vec::new(),
        words: Vec::new(),
        joint: Joint::Then,
    };
    reader.script()?;
    Some(ShellScript {
        commands: reader.commands,
    })
}

struct Reader<'t> {
    rest: &'t str,
    commands: Vec<Command>,
    words: Vec<String>,
    joint: Joint,
}

impl Reader<'_> {
    fn script(&mut self) -> Option<()> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            if let Some(rest) = self.rest.strip_prefix("\\\n") {
                self.rest = rest;
                continue;
            }
            let Some(first) = self.rest.chars().next() else {
                self.end(Joint::Then);
                return Some(());
            };
            if first == '#' {
                self.rest = self.rest.find('\n').map_or("", |at| &self.rest[at..]);
            } else if self.rest.starts_with("<<") || self.rest.starts_with(";;") {
                return None;
            } else if let Some((operator, joint)) = operator(self.rest) {
                self.rest = &self.rest[operator.len()..];
                self.end(joint);
            } else {
                let word = self.word()?;
                if word == "case" && self.words.is_empty() {
                    return None;
                }
                self.words.push(word);
            }
        }
    }

    /// Ends a command; `joint` is what follows it.
    fn end(&mut self, joint: Joint) {
        let mut words = std::mem::take(&mut self.words);
        let is_prefix = |word: &String| KEYWORDS.contains(&word.as_str()) || is_assignment(word);
        let start = words.iter().position(|word| !is_prefix(word));
        words.drain(..start.unwrap_or(words.len()));
        let is_end = words
            .first()
            .is_some_and(|word| ENDS.contains(&word.as_str()));
        if !words.is_empty() && !is_end {
            self.commands.push(Command {
                words,
                joint: self.joint,
            });
        }
        self.joint = joint;
    }

    /// `word = 1*( quoted | "\" any | substitution | any-but-space-or-operator )`
    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        while let Some(first) = self.rest.chars().next() {
            match first {
                ' ' | '\t' | '\n' | '\r' | ';' | '|' | '(' | ')' => break,
                // `2>&1` and `&>file` are redirections; so is `>|`.
                '&' if !word.ends_with(['>', '<']) && !self.rest.starts_with("&>") => break,
                '\'' => word.push_str(self.until('\'')?),
                '"' => word.push_str(&self.double_quoted()?),
                '`' => {
                    let inner = self.until('`')?;
                    word.extend(["`", inner, "`"]);
                }
                '\\' => {
                    let mut rest = self.rest[1..].chars();
                    match rest.next() {
                        Some('\n') | None => {}
                        Some(escaped) => word.push(escaped),
                    }
                    self.rest = rest.as_str();
                }
                '$' if self.rest.starts_with("$(") || self.rest.starts_with("${") => {
                    word.push_str(self.substitution()?);
                }
                '<' if self.rest.starts_with("<<") => return None,
                other => {
                    word.push(other);
                    self.rest = &self.rest[other.len_utf8()..];
                }
            }
        }
        Some(word)
    }

    /// The text up to the partner of the quote that comes next.
    fn until(&mut self, quote: char) -> Option<&str> {
        let inner = &self.rest[1..];
        let end = inner.find(quote)?;
        self.rest = &inner[end + 1..];
        Some(&inner[..end])
    }

    fn double_quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.rest = &self.rest[1..];
        loop {
            let first = self.rest.chars().next()?;
            match first {
                '"' => {
                    self.rest = &self.rest[1..];
                    return Some(text);
                }
                '\\' => {
                    let escaped = self.rest[1..].chars().next()?;
                    text.push(escaped);
                    self.rest = &self.rest[1 + escaped.len_utf8()..];
                }
                '$' if self.rest.starts_with("$(") || self.rest.starts_with("${") => {
                    text.push_str(self.substitution()?);
                }
                other => {
                    text.push(other);
                    self.rest = &self.rest[other.len_utf8()..];
                }
            }
        }
    }

    /// `$(…)` or `${…}`, as written. Quotes in it hide brackets.
    fn substitution(&mut self) -> Option<&str> {
        let (open, close) = match self.rest.as_bytes()[1] {
            b'(' => ('(', ')'),
            _ => ('{', '}'),
        };
        let mut depth = 0;
        let mut quote = None;
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match (quote, character) {
                (_, '\\') if quote != Some('\'') => {
                    characters.next();
                }
                (Some(open), character) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(character),
                (None, character) if character == open => depth += 1,
                (None, character) if character == close => {
                    depth -= 1;
                    if depth == 0 {
                        let (whole, rest) = self.rest.split_at(at + 1);
                        self.rest = rest;
                        return Some(whole);
                    }
                }
                (None, _) => {}
            }
        }
        None
    }
}

/// Whether a name in the text of a RUN is that of a command, judged by what stands around it.
pub(super) fn is_command_at(text: &str, at: usize, name: &str) -> bool {
    let ends = text[at + name.len()..]
        .chars()
        .next()
        .is_none_or(|next| next.is_whitespace() || matches!(next, ';' | '|' | '&' | ')'));
    let before = &text[..at];
    let folder = before.rfind(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
    let before = &before[..folder.map_or(0, |at| at + 1)];
    let is_path = before.len() == at || text[..at].ends_with('/');
    let previous = before.trim_end_matches([' ', '\t', '\r', '\n', '\\']);
    let is_new_line =
        before[previous.len()..].contains('\n') && !before[previous.len()..].contains('\\');
    let word = previous.rsplit(char::is_whitespace).next().unwrap_or("");
    ends && is_path
        && (is_new_line
            || previous.ends_with(['&', '|', ';', '(', '{', '`'])
            || word.contains('=')
            || word.eq_ignore_ascii_case("run")
            || KEYWORDS.contains(&word))
}

/// What joins or groups commands.
fn operator(text: &str) -> Option<(&'static str, Joint)> {
    const OPERATORS: [(&str, Joint); 9] = [
        ("&&", Joint::And),
        ("||", Joint::Or),
        ("|&", Joint::Pipe),
        ("|", Joint::Pipe),
        (";", Joint::Then),
        ("\n", Joint::Then),
        ("(", Joint::Then),
        (")", Joint::Then),
        ("&", Joint::Then),
    ];
    if text.starts_with("&>") {
        return None;
    }
    OPERATORS
        .into_iter()
        .find(|(operator, _)| text.starts_with(operator))
}

/// `NAME=value`
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        let script = read(text).unwrap();
        let shown = script
            .commands
            .iter()
            .map(|command| format!("{:?} {}", command.joint, command.words.join("_")));
        shown.collect()
    }

    #[test]
    fn commands_are_split_with_quotes_respected() {
        assert_eq!(
            commands("A=1 apt-get update && echo 'a && b' \"c; d\" | tee x; y || z"),
            [
                "Then apt-get_update",
                "And echo_a && b_c; d",
                "Pipe tee_x",
                "Then y",
                "Or z"
            ]
        );
        assert_eq!(
            commands("if [ -f x ]; then a $(b | c); fi # d | e\nf 2>&1"),
            ["Then [_-f_x_]", "Then a_$(b | c)", "Then f_2>&1"]
        );
        assert_eq!(commands("a \\\n  b"), ["Then a_b"]);
        assert_eq!(commands(""), [""; 0]);
    }

    #[test]
    fn what_is_not_certain_is_not_read() {
        for text in [
            "cat <<E\nx\nE",
            "case $x in a) b;; esac",
            "echo 'a",
            "echo $(a",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z =<>&|;()'\"`$\\\\{}\n#é]|\\$\\(|<<){0,40}") {
            read(&text);
        }
    }

    #[test]
    fn commands_are_told_from_words() {
        let text = "RUN --mount=type=cache apt install curl && \\\n  A=1 /usr/bin/curl x; if curl y; then echo curl; fi | curl";
        let places: Vec<usize> = text
            .match_indices("curl")
            .map(|(at, _)| at)
            .filter(|at| is_command_at(text, *at, "curl"))
            .collect();
        let after = |at: &usize| &text[at + 4..(at + 6).min(text.len())];
        let shown: Vec<&str> = places.iter().map(after).collect();
        assert_eq!(shown, [" x", " y", ""]);
    }

    #[test]
    fn subcommands_of_apt_come_after_options() {
        let script = read("apt-get -qq -o A::B=1 -y install x").unwrap();
        assert_eq!(script.commands[0].apt(), Some("install"));
    }
}
