//! What a step did, in one line, from what its key was made of.

use crate::key::{Preimage, Value};

impl Preimage {
    /// As an instruction would say it: `RUN make`, `COPY src /app`.
    pub fn summary(&self) -> String {
        let text = |name: &str| match self.value(name) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        let words = match self.kind.as_str() {
            "exec" => format!("RUN {}", self.command()),
            "copy" => format!("COPY {} {}", self.copied().join(" "), text("destination")),
            "mkdir" => format!("WORKDIR {}", text("path")),
            "download" => format!("ADD {}", text("name")),
            "git repository" => format!("ADD commit {}", text("commit")),
            kind => kind.to_owned(),
        };
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Some(&field.value)
    }

    /// The shell is left out where there is one.
    fn command(&self) -> String {
        match self.value("argv") {
            Some(Value::List(argv)) => match &argv[..] {
                [_, flags @ .., script] if flags.iter().any(|flag| flag == "-c") => script.clone(),
                argv => argv.join(" "),
            },
            _ => String::new(),
        }
    }

    /// Base names of what was copied.
    fn copied(&self) -> Vec<String> {
        let sources = self.fields.iter().filter_map(|field| {
            let is_source = field.name.starts_with("source ");
            match &field.value {
                Value::Contents(matches) if is_source => Some(matches),
                _ => None,
            }
        });
        let names = sources.flatten().map(|(name, _)| name);
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::Digest;

    use super::*;

    #[test]
    fn a_step_is_told_as_its_instruction() {
        let run = |argv: &[&str]| {
            let argv = argv.iter().map(ToString::to_string).collect();
            Preimage::new("exec").field("argv", Value::List(argv))
        };
        let files = vec![(b"a".to_vec(), Digest::of(b"a"))];
        let copy = Preimage::new("copy")
            .field("destination", Value::Text("/b/".to_owned()))
            .field("source 1", Value::Contents(files));
        let mkdir = Preimage::new("mkdir").field("path", Value::Text("/w".to_owned()));
        let cases = [
            (run(&["/bin/sh", "-c", "make \\\n  all"]), "RUN make \\ all"),
            (run(&["make", "all"]), "RUN make all"),
            (copy, "COPY a /b/"),
            (mkdir, "WORKDIR /w"),
            (Preimage::new("other"), "other"),
        ];
        for (preimage, said) in cases {
            assert_eq!(preimage.summary(), said);
        }
    }
}
