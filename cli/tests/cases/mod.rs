//! Folders below `testdata` that are tests: what they hold, and how what is expected is compared or rewritten.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

pub mod acts;
pub mod archive;
pub mod context_tree;

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that is a test, and what its `case.toml` says.
pub struct Case {
    pub folder: PathBuf,
    /// What holds, which is also what the folder is called.
    pub name: String,
    /// Whether something is run in a sandbox; a base image `busybox` is there then.
    pub needs_sandbox: bool,
    /// Whether it needs what only a mount can give: a real `/proc`, a directory that can't be written to.
    pub needs_mounts: bool,
    /// Further arguments of `kiln build`.
    pub args: Vec<String>,
}

impl Case {
    /// All cases of a part of `testdata`, by name.
    pub fn all(part: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../testdata")
            .join(part);
        let entries = fs::read_dir(&root).unwrap();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        assert!(!folders.is_empty(), "no cases in {}", root.display());
        folders.into_iter().map(Self::read).collect()
    }

    fn read(folder: PathBuf) -> Self {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(folder.join("case.toml"))
            .unwrap_or_else(|error| panic!("{name}/case.toml: {error}"));
        let table: toml_edit::Document<String> = text
            .parse()
            .unwrap_or_else(|error| panic!("{name}/case.toml: {error}"));
        let known = ["why", "clauses", "expectation", "needs", "args"];
        for (key, _) in table.iter() {
            assert!(known.contains(&key), "{name}/case.toml: what is `{key}`?");
        }
        for key in ["why", "clauses", "expectation"] {
            assert!(table.contains_key(key), "{name}/case.toml: no `{key}`");
        }
        let strings = |key: &str| -> Vec<String> {
            let array = table.get(key).and_then(toml_edit::Item::as_array);
            array
                .into_iter()
                .flatten()
                .map(|value| value.as_str().unwrap().to_owned())
                .collect()
        };
        let needs = strings("needs");
        assert!(
            needs
                .iter()
                .all(|need| need == "sandbox" || need == "mounts"),
            "{name}: {needs:?}"
        );
        Self {
            needs_sandbox: !needs.is_empty(),
            needs_mounts: needs.iter().any(|need| need == "mounts"),
            args: strings("args"),
            folder,
            name,
        }
    }

    /// A file of the folder, if it is there.
    pub fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Files of the folder that no test reads.
    pub fn unknown_files(&self, known: &[&str]) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name != "case.toml" && !known.contains(&name.as_str()))
            .map(|name| format!("{}/{name} is read by nobody", self.name))
            .collect()
    }

    /// Compares a file of the folder with what came out, or writes it with `KILN_BLESS=1`. No file: nothing is expected.
    pub fn expect(&self, file: &str, actual: Option<&str>) -> Option<String> {
        let path = self.folder.join(file);
        if std::env::var("KILN_BLESS").is_ok_and(|value| value == "1") {
            match actual {
                Some(text) => fs::write(&path, text).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
            return None;
        }
        let expected = self.file(file)?;
        (actual != Some(&expected)).then(|| {
            let difference = difference(&expected, actual.unwrap_or_default());
            format!("{}/{file} (- expected, + actual):\n{difference}", self.name)
        })
    }
}

/// Panics with all failures, and says how many cases there were.
pub fn report(cases: usize, failures: &[String]) {
    eprintln!("{cases} cases, {} failures", failures.len());
    assert!(
        failures.is_empty(),
        "{cases} cases, {} failures\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The lines from the first to the last that differ.
fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let shorter = old.len().min(new.len());
    let front = (0..shorter)
        .take_while(|&index| old[index] == new[index])
        .count();
    let back = (0..shorter - front)
        .take_while(|&index| old[old.len() - 1 - index] == new[new.len() - 1 - index])
        .count();
    let above = old[..front].last().map(|line| format!("  {line}\n"));
    let lines = |sign: &str, lines: &[&str]| -> String {
        lines
            .iter()
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    let removed = lines("-", &old[front..old.len() - back]);
    let added = lines("+", &new[front..new.len() - back]);
    above.unwrap_or_default() + &removed + &added
}
