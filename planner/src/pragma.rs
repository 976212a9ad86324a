//! Pragmas: `# kiln: timeout=5m retry=2 ttl=24h no-cache` in the comments right above an instruction. To other builders they are
//! comments. They say how kiln goes about a step, never what the step is: no key, config or history knows of them.

use std::time::Duration;

use kiln_parser::{Code, Diagnostic, Dockerfile, Instruction, Span, Spanned, go_duration, suggest};

/// What a comment begins with to be one.
const MARK: &str = "kiln:";
const KEYS: [&str; 4] = ["timeout", "retry", "ttl", "no-cache"];
const WHERE: &str = "pragmas stand right above the RUN, COPY or ADD that they are for";
const CODE: Code = Code("invalid-pragma");

/// How a step is gone about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepPolicy {
    /// A RUN that takes longer than this is stopped and has failed.
    pub timeout: Option<Duration>,
    /// How often a RUN that failed is run again.
    pub retries: u32,
    /// A cached result older than this is not used.
    pub max_age: Option<Duration>,
}

/// What the comments above one instruction say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pragmas {
    pub(crate) policy: StepPolicy,
    /// As if `--no-cache` were given for this step alone.
    pub(crate) no_cache: bool,
}

/// What an instruction can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// RUN: everything.
    Run,
    /// COPY and ADD: how their cached results are used.
    Copy,
    /// The others, by keyword: nothing.
    Other(&'static str),
}

impl Place {
    pub(crate) fn of(instruction: &Instruction) -> Place {
        match instruction {
            Instruction::Run(_) => Place::Run,
            Instruction::Copy(_) | Instruction::Add(_) => Place::Copy,
            Instruction::Onbuild(_) => Place::Other("ONBUILD"),
            Instruction::Workdir(_) => Place::Other("WORKDIR"),
            _ => Place::Other("an instruction that only changes the config"),
        }
    }
}

/// Reads the comments above an instruction; what is wrong with them goes to `diagnostics`.
pub(crate) fn read(
    comments: &[Spanned<String>],
    place: Place,
    diagnostics: &mut Vec<Diagnostic>,
) -> Pragmas {
    let mut pragmas = Pragmas::default();
    for comment in comments {
        let Some(fields) = comment.value.strip_prefix(MARK) else {
            continue;
        };
        // The comment ends where its text does.
        let start = comment.span.end - fields.len();
        for field in fields.split_whitespace() {
            let at = start + (field.as_ptr() as usize - fields.as_ptr() as usize);
            let span = Span::new(at, at + field.len());
            if let Err(error) = pragmas.set(field, place) {
                diagnostics.push(error.diagnostic(span));
            }
        }
    }
    pragmas
}

/// Pragmas where they can't mean anything: above an ARG before the first FROM, and above no instruction.
pub(crate) fn check_loose(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    for argument in &dockerfile.global_args {
        read(&argument.comments, Place::Other("ARG"), diagnostics);
    }
    for comment in &dockerfile.loose_comments {
        if comment.value.starts_with(MARK) {
            let message = "a pragma that stands above no instruction has no effect".to_owned();
            diagnostics.push(Diagnostic::error(CODE, message, comment.span).help(WHERE));
        }
    }
}

/// What is wrong with a field, and what helps.
struct Wrong {
    message: String,
    help: Option<String>,
}

impl Wrong {
    fn new(message: String) -> Wrong {
        Wrong {
            message,
            help: None,
        }
    }

    fn with_help(self, help: impl Into<String>) -> Wrong {
        Wrong {
            help: Some(help.into()),
            ..self
        }
    }

    fn diagnostic(self, span: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(CODE, self.message, span);
        match self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

impl Pragmas {
    fn is_set(&self, key: &str) -> bool {
        match key {
            "timeout" => self.policy.timeout.is_some(),
            "retry" => self.policy.retries > 0,
            "ttl" => self.policy.max_age.is_some(),
            _ => self.no_cache,
        }
    }

    fn set(&mut self, field: &str, place: Place) -> Result<(), Wrong> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        if !KEYS.contains(&key) {
            return Err(unknown(key));
        }
        check_place(key, place)?;
        if self.is_set(key) {
            return Err(Wrong::new(format!("`{key}` is given twice")));
        }
        match (key, value) {
            ("no-cache", None) => self.no_cache = true,
            ("no-cache", Some(_)) => {
                return Err(Wrong::new("`no-cache` takes no value".to_owned()));
            }
            (_, None) => {
                return Err(Wrong::new(format!("`{key}` needs a value"))
                    .with_help(format!("write `{key}=…`")));
            }
            ("retry", Some(value)) => {
                self.policy.retries = value.parse().map_err(|_| {
                    Wrong::new(format!("invalid value `{value}` for `retry`"))
                        .with_help("it is how often a failed step is run again: a whole number")
                })?;
            }
            ("timeout", Some(value)) => {
                let timeout = duration(key, value)?;
                if timeout.is_zero() {
                    return Err(Wrong::new("`timeout` must be longer than 0".to_owned()));
                }
                self.policy.timeout = Some(timeout);
            }
            (_, Some(value)) => self.policy.max_age = Some(duration(key, value)?),
        }
        Ok(())
    }
}

fn unknown(key: &str) -> Wrong {
    let wrong = Wrong::new(format!("unknown pragma `{key}`"));
    match suggest(key, KEYS) {
        Some(near) => wrong.with_help(format!("did you mean `{near}`?")),
        None => wrong.with_help(format!(
            "after `# kiln:` come {}; any other comment may not begin with it",
            KEYS.join(", ")
        )),
    }
}

fn check_place(key: &str, place: Place) -> Result<(), Wrong> {
    match place {
        Place::Run => Ok(()),
        Place::Copy if matches!(key, "ttl" | "no-cache") => Ok(()),
        Place::Copy => Err(Wrong::new(format!("`{key}` is for RUN alone"))),
        Place::Other(what) => {
            Err(Wrong::new(format!("`{key}` has no effect on {what}")).with_help(WHERE))
        }
    }
}

fn duration(key: &str, value: &str) -> Result<Duration, Wrong> {
    go_duration(value).ok_or_else(|| {
        Wrong::new(format!("invalid duration `{value}` for `{key}`"))
            .with_help("write it as `90s`, `5m` or `24h`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str, place: Place) -> (Pragmas, Vec<(String, String)>) {
        // `# ` stands before the text, so that spans can be checked against the line.
        let line = format!("# {text}");
        let comment = Spanned::new(text.to_owned(), Span::new(0, line.len()));
        let mut diagnostics = Vec::new();
        let pragmas = read(&[comment], place, &mut diagnostics);
        let told = diagnostics.into_iter().map(|diagnostic| {
            let span = diagnostic.span.unwrap_or_default();
            (diagnostic.message, line[span.range()].to_owned())
        });
        (pragmas, told.collect())
    }

    #[test]
    fn all_keys_are_read() {
        let (pragmas, wrong) = read_one("kiln: timeout=5m retry=2  ttl=24h no-cache", Place::Run);
        assert_eq!(wrong, []);
        let expected = Pragmas {
            policy: StepPolicy {
                timeout: Some(Duration::from_secs(300)),
                retries: 2,
                max_age: Some(Duration::from_secs(86_400)),
            },
            no_cache: true,
        };
        assert_eq!(pragmas, expected);
        let (pragmas, wrong) = read_one("kilns are hot: timeout=5m", Place::Run);
        assert_eq!((pragmas, wrong), (Pragmas::default(), Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let cases = [
            (
                "kiln: timeuot=5m",
                Place::Run,
                "unknown pragma `timeuot`",
                "timeuot=5m",
            ),
            (
                "kiln: retry=1 retry=2",
                Place::Run,
                "`retry` is given twice",
                "retry=2",
            ),
            ("kiln:the oven", Place::Run, "unknown pragma `the`", "the"),
            (
                "kiln: timeout=5",
                Place::Run,
                "invalid duration `5` for `timeout`",
                "timeout=5",
            ),
            (
                "kiln: timeout=0s",
                Place::Run,
                "`timeout` must be longer than 0",
                "timeout=0s",
            ),
            ("kiln: ttl", Place::Run, "`ttl` needs a value", "ttl"),
            (
                "kiln: retry=-1",
                Place::Run,
                "invalid value `-1` for `retry`",
                "retry=-1",
            ),
            (
                "kiln: no-cache=1",
                Place::Run,
                "`no-cache` takes no value",
                "no-cache=1",
            ),
            (
                "kiln: retry=1",
                Place::Copy,
                "`retry` is for RUN alone",
                "retry=1",
            ),
            (
                "kiln: ttl=1h",
                Place::Other("FROM"),
                "`ttl` has no effect on FROM",
                "ttl=1h",
            ),
        ];
        for (text, place, message, at) in cases {
            let (_, wrong) = read_one(text, place);
            assert_eq!(
                wrong.first(),
                Some(&(message.to_owned(), at.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn none_is_passed_over_where_it_means_nothing() {
        let told = |text: &str| {
            let source = kiln_parser::Source::new("Dockerfile", text);
            let mut diagnostics = Vec::new();
            check_loose(&kiln_parser::parse(&source).dockerfile, &mut diagnostics);
            diagnostics
                .into_iter()
                .map(|it| it.message)
                .collect::<Vec<_>>()
        };
        let nothing: [&str; 0] = [];
        assert_eq!(
            told("FROM a\n# kiln: no-cache\nRUN x\n# the oven\n"),
            nothing
        );
        assert_eq!(told("FROM a\nRUN <<E\n# kiln: no-cache\nE\n"), nothing);
        let above_none = "a pragma that stands above no instruction has no effect";
        for text in [
            "FROM a\nRUN x\n# kiln: no-cache\n",
            "FROM a\nRUN x \\\n# kiln: no-cache\n  y\n",
            "FROM a\n#kiln:no-cache\n#\nRUN x\n",
        ] {
            assert_eq!(told(text), [above_none], "{text}");
        }
        assert_eq!(
            told("# kiln: no-cache\nARG A\nFROM a\n"),
            ["`no-cache` has no effect on ARG"]
        );
    }
}
