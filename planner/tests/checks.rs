//! Every folder of `testdata/check` is a test of a rule of its name. `KILN_BLESS=1` rewrites what is expected; review the difference
//! against the clauses.
//!
//! `Dockerfile` is checked and compared with `expected.txt`; `good.Dockerfile` gives nothing of the rule. What `--fix` makes of
//! `Dockerfile` is compared with `fixed.Dockerfile`, where there is something to fix. Optional: `args` (one option a line),
//! `dockerignore`, `names` (what is in the context), `bases.json` (image name to image config). Every file of
//! `testdata/check/clean` is a good Dockerfile of the usual kinds, and gives nothing at all.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "the planner does no IO; reading its test cases does"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use kiln_image::ImageConfig;
use kiln_parser::{IgnoreFile, Source, parse};
use kiln_planner::lint::{self, CheckConfig, ContextView, Finding, Rule, Subject};
use kiln_planner::{BaseImage, Bases, PlanOptions, base_images, survey};
use support::{Images, options};

const READ: [&str; 8] = [
    "Dockerfile",
    "good.Dockerfile",
    "fixed.Dockerfile",
    "expected.txt",
    "args",
    "dockerignore",
    "names",
    "bases.json",
];

/// Rules whose examples need more than a Dockerfile; their folders have it.
const NOT_BY_EXAMPLE: [&str; 4] = [
    "CopyIgnoredFile",
    "InvalidBaseImagePlatform",
    "InvalidDefinitionDescription",
    "K-context-clutter",
];

/// What surrounds a Dockerfile.
struct Surroundings {
    options: PlanOptions,
    images: Images,
    ignore: IgnoreFile,
    names: Vec<String>,
}

impl Surroundings {
    fn of(folder: &Path) -> Surroundings {
        let mut given = options();
        given.all_stages = true;
        for line in read(&folder.join("args")).lines() {
            let (option, value) = line.split_once(' ').unwrap();
            match option {
                "--target" => {
                    given.target = Some(value.to_owned());
                    given.all_stages = false;
                }
                "--build-arg" => {
                    let (key, value) = value.split_once('=').unwrap();
                    given.build_args.push((key.to_owned(), value.to_owned()));
                }
                "--platform" => {
                    given.target_platform = value.parse().unwrap();
                    given.platform_requested = true;
                }
                other => panic!("unknown option {other}"),
            }
        }
        Surroundings {
            options: given,
            images: images(&read(&folder.join("bases.json"))),
            ignore: IgnoreFile::parse(&read(&folder.join("dockerignore"))).unwrap(),
            names: read(&folder.join("names"))
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }

    fn nothing() -> Surroundings {
        Surroundings::of(Path::new("/nonexistent"))
    }

    fn context(&self) -> ContextView<'_> {
        ContextView {
            ignore: &self.ignore,
            visible: &self.names,
        }
    }

    fn bases(&self, source: &Source) -> Bases {
        let parsed = parse(source);
        let mut bases = Bases::new();
        while let Ok(missing) = base_images(&parsed, &self.options, &bases) {
            if missing.is_empty() {
                break;
            }
            for request in missing {
                let mut images = self.images.iter();
                let described =
                    images.find(|(name, _)| name.parse() == Ok(request.reference.clone()));
                let config = described.map_or_else(support::any_config, |(_, it)| it.clone());
                let image = BaseImage {
                    manifest_digest: None,
                    config,
                };
                bases.insert(request.key(), image);
            }
        }
        bases
    }

    fn config(&self, source: &Source) -> CheckConfig {
        let build_arg = self.options.build_arg("BUILDKIT_DOCKERFILE_CHECK");
        CheckConfig::of(&parse(source).dockerfile, build_arg).unwrap()
    }

    fn check(&self, source: &Source) -> Vec<Finding> {
        let parsed = parse(source);
        let survey = survey(&parsed, &self.options, &self.bases(source));
        let subject = Subject::new(source, &parsed, &survey, Some(self.context()));
        lint::check(&subject, &self.config(source))
    }

    /// What `--fix` makes of it; doing it again changes nothing.
    fn fixed(&self, source: &Source) -> String {
        let fix = |source: &Source| {
            let config = self.config(source);
            let bases = self.bases(source);
            lint::fix_all(source, &self.options, &bases, Some(self.context()), &config)
        };
        let once = fix(source);
        let twice = fix(&Source::new(source.name(), once.clone()));
        assert_eq!(once, twice, "fixing is not idempotent");
        once
    }
}

#[test]
fn every_folder_gives_what_it_expects() {
    let mut failures = Vec::new();
    for folder in entries("").into_iter().filter(|it| !it.ends_with("clean")) {
        failures.extend(check_folder(&folder));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_rule_has_a_folder() {
    for rule in lint::rules() {
        let folder = root().join(rule.id);
        for file in ["Dockerfile", "good.Dockerfile", "expected.txt"] {
            assert!(folder.join(file).is_file(), "{}: no {file}", rule.id);
        }
        let expected = read(&folder.join("expected.txt"));
        let told = expected
            .lines()
            .any(|line| line.contains(&format!(" {}: ", rule.id)));
        assert!(told, "{}: its folder does not tell it", rule.id);
    }
}

#[test]
fn good_dockerfiles_give_nothing() {
    let files = entries("clean");
    assert!(files.len() >= 12, "only {} files", files.len());
    for file in files {
        let source = Source::new(file.display().to_string(), read(&file));
        assert!(!parse(&source).has_errors(), "{}", file.display());
        let findings = Surroundings::nothing().check(&source);
        let shown: String = findings.iter().map(|found| shown(&source, found)).collect();
        assert!(findings.is_empty(), "{}\n{shown}", file.display());
        assert_eq!(Surroundings::nothing().fixed(&source), source.text());
    }
}

#[test]
fn fixes_of_every_dockerfile_are_idempotent_and_break_nothing() {
    let mut folders = vec![root().join("..")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with("Dockerfile") {
                let source = Source::new(path.display().to_string(), read(&path));
                let fixed = Surroundings::nothing().fixed(&source);
                assert_line_ends_and_mark_stay(&source, &fixed);
                let fixed = parse(&Source::new(source.name(), fixed));
                let (before, after) = (parse(&source).has_errors(), fixed.has_errors());
                assert_eq!(before, after, "{}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 100, "only {count} files");
}

/// What is mended is the same with Windows' line ends or a byte order mark, which stay.
fn assert_line_ends_and_mark_stay(source: &Source, fixed: &str) {
    let text = source.text();
    if text.contains('\r') || text.starts_with('\u{feff}') {
        return;
    }
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let marked = |text: &str| format!("\u{feff}{text}");
    for change in [&crlf as &dyn Fn(&str) -> String, &marked] {
        let other = Source::new(source.name(), change(text));
        let other = Surroundings::nothing().fixed(&other);
        assert_eq!(other, change(fixed), "{}", source.name());
    }
}

#[test]
fn the_examples_of_the_pages_are_right() {
    for rule in lint::rules() {
        if NOT_BY_EXAMPLE.contains(&rule.id) {
            continue;
        }
        let [bad, good] = examples(rule);
        let tells = |text: &str| {
            let found = Surroundings::nothing().check(&Source::new("Dockerfile", text));
            found.iter().any(|finding| finding.rule == *rule)
        };
        assert!(tells(&bad), "{}: its bad example is good", rule.id);
        assert!(!tells(&good), "{}: its good example is bad", rule.id);
    }
}

fn examples(rule: &Rule) -> [String; 2] {
    let mut blocks = rule.page.split("```");
    let mut example = || {
        let block = blocks.nth(1).unwrap();
        block.strip_prefix("dockerfile\n").unwrap().to_owned()
    };
    [example(), example()]
}

fn check_folder(folder: &Path) -> Vec<String> {
    let mut failures = unknown_files(folder);
    let surroundings = Surroundings::of(folder);
    let source = Source::new("Dockerfile", read(&folder.join("Dockerfile")));
    let findings = surroundings.check(&source);
    let actual: String = findings.iter().map(|found| shown(&source, found)).collect();
    failures.extend(compare(&folder.join("expected.txt"), Some(&actual)));
    let fixed = surroundings.fixed(&source);
    let fixed = (fixed != source.text()).then_some(fixed);
    failures.extend(compare(&folder.join("fixed.Dockerfile"), fixed.as_deref()));
    let good = folder.join("good.Dockerfile");
    if good.exists() {
        let source = Source::new("good.Dockerfile", read(&good));
        let id = folder.file_name().unwrap().to_str().unwrap();
        let findings = surroundings.check(&source);
        let told = findings.iter().filter(|found| found.rule.id == id);
        failures.extend(told.map(|found| format!("{id}: {}", shown(&source, found))));
    }
    failures
}

fn shown(source: &Source, finding: &Finding) -> String {
    let diagnostic = &finding.diagnostic;
    let place = diagnostic.span.map_or_else(String::new, |span| {
        let (line, column) = source.line_col(span.start);
        format!("{line}:{column} {:?} ", source.snippet(span))
    });
    let (severity, id) = (finding.rule.severity, finding.rule.id);
    format!("{place}{severity} {id}: {}\n", diagnostic.message)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/check")
}

fn entries(below: &str) -> Vec<PathBuf> {
    let folder = root().join(below);
    let entries = fs::read_dir(folder).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn unknown_files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !READ.contains(&name.as_str()))
        .map(|name| format!("{}: nobody reads {name}", folder.display()))
        .collect()
}

fn images(text: &str) -> Images {
    if text.is_empty() {
        return Images::new();
    }
    let values: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).unwrap();
    let config = |value: serde_json::Value| ImageConfig::from_json(value.to_string().as_bytes());
    values
        .into_iter()
        .map(|(name, value)| (name, config(value).unwrap()))
        .collect()
}

fn compare(path: &Path, actual: Option<&str>) -> Option<String> {
    if std::env::var_os("KILN_BLESS").is_some() {
        match actual {
            Some(actual) => fs::write(path, actual).unwrap(),
            None if path.exists() => fs::remove_file(path).unwrap(),
            None => {}
        }
        return None;
    }
    let expected = path.exists().then(|| read(path));
    (expected.as_deref() != actual).then(|| {
        let show = |text: Option<&str>| text.unwrap_or("(nothing)\n").to_owned();
        let (expected, actual) = (show(expected.as_deref()), show(actual));
        format!(
            "{}\n--- expected\n{expected}--- actual\n{actual}",
            path.display()
        )
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
