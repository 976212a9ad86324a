//! Every folder of `testdata/plan` is a test. `KILN_BLESS=1` rewrites what is expected; review the difference against the clauses.
//!
//! `Dockerfile` and, optionally, `args` (one option of `kiln build` a line) and `bases.json` (image name to image config) make a
//! plan, compared with `expected.plan` and `expected.config.json`, or errors, compared with `expected.stderr`. Images that
//! `bases.json` doesn't describe have one layer and `CMD sh`.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "the planner does no IO; reading its test cases does"
)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_image::ImageConfig;
use kiln_parser::{Diagnostic, Network, Source, parse};
use kiln_planner::{NoCache, Plan, PlanOptions, dump};
use support::{Images, options, resolve_and_plan};

const READ: [&str; 6] = [
    "Dockerfile",
    "args",
    "bases.json",
    "expected.plan",
    "expected.config.json",
    "expected.stderr",
];

#[test]
fn every_folder_gives_what_it_expects() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/plan");
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no cases in {}", root.display());
    let failures: Vec<String> = folders.iter().flat_map(|folder| check(folder)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is wrong with a folder.
fn check(folder: &Path) -> Vec<String> {
    let mut failures = unknown_files(folder);
    let source = Source::new(
        "Dockerfile",
        fs::read_to_string(folder.join("Dockerfile")).unwrap(),
    );
    let parsed = parse(&source);
    let mut given: PlanOptions = options();
    for line in read(&folder.join("args")).lines() {
        set_option(&mut given, line);
    }
    let (asked, planned) = resolve_and_plan(&parsed, &given, &images(folder));
    let parse_errors: Vec<Diagnostic> = parsed
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .cloned()
        .collect();
    let actual = match planned {
        Ok(plan) if parse_errors.is_empty() => [
            Some(plan_text(&asked, &plan)),
            Some(config_text(&plan)),
            None,
        ],
        planned => {
            let errors = parse_errors
                .into_iter()
                .chain(planned.err().unwrap_or_default());
            [
                None,
                None,
                Some(errors.map(|error| error_text(&source, &error)).collect()),
            ]
        }
    };
    for (name, actual) in ["expected.plan", "expected.config.json", "expected.stderr"]
        .iter()
        .zip(actual)
    {
        failures.extend(compare(&folder.join(name), actual.as_deref()));
    }
    failures
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
        format!(
            "{}\n--- expected\n{}--- actual\n{}",
            path.display(),
            show(expected.as_deref()),
            show(actual)
        )
    })
}

fn read(path: &Path) -> String {
    if path.exists() {
        fs::read_to_string(path).unwrap()
    } else {
        String::new()
    }
}

fn images(folder: &Path) -> Images {
    let text = read(&folder.join("bases.json"));
    if text.is_empty() {
        return Images::new();
    }
    let values: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).unwrap();
    values
        .into_iter()
        .map(|(name, value)| {
            (
                name,
                ImageConfig::from_json(value.to_string().as_bytes()).unwrap(),
            )
        })
        .collect()
}

fn set_option(options: &mut PlanOptions, line: &str) {
    let (option, value) = line.split_once(['=', ' ']).unwrap_or((line, ""));
    let pair = || {
        value
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .unwrap()
    };
    match option {
        "--target" => options.target = Some(value.to_owned()),
        "--build-arg" => options.build_args.push(pair()),
        "--label" => options.labels.push(pair()),
        "--platform" => {
            options.target_platform = value.parse().unwrap();
            options.platform_requested = true;
        }
        "--no-cache" => options.no_cache = NoCache::All,
        "--no-cache-filter" => {
            options.no_cache = NoCache::Stages(value.split(',').map(str::to_owned).collect());
        }
        "--network" => {
            options.network = if value == "none" {
                Network::None
            } else {
                Network::Host
            }
        }
        "--add-host" => {
            let (name, address) = value.split_once(':').unwrap();
            options
                .extra_hosts
                .push((name.to_owned(), address.to_owned()));
        }
        "--allow" if value == "network.host" => options.entitlements.network_host = true,
        "--allow" if value == "security.insecure" => options.entitlements.security_insecure = true,
        other => panic!("unknown option {other}"),
    }
}

fn plan_text(asked: &[String], plan: &Plan) -> String {
    let asked: String = asked
        .iter()
        .map(|name| format!("asks for {name}\n"))
        .collect();
    asked + &dump::dump(plan)
}

/// The whole config as it would be written, but for what waits for the layers.
fn config_text(plan: &Plan) -> String {
    let mut config = plan.config.clone();
    let new: Vec<_> = plan.history.iter().map(|step| step.entry.clone()).collect();
    if !new.is_empty() {
        config.history.get_or_insert_default().extend(new);
    }
    let value: serde_json::Value = serde_json::from_slice(&config.to_json().unwrap()).unwrap();
    format!("{value:#}\n")
}

fn error_text(source: &Source, error: &Diagnostic) -> String {
    let mut text = format!("{}[{}]: {}\n", error.severity, error.code, error.message);
    if let Some(span) = error.span {
        let (line, column) = source.line_col(span.start);
        writeln!(
            text,
            "  --> {}:{line}:{column} {:?}",
            source.name(),
            source.snippet(span)
        )
        .unwrap();
    }
    error
        .notes
        .iter()
        .for_each(|note| writeln!(text, "  = note: {note}").unwrap());
    error
        .help
        .iter()
        .for_each(|help| writeln!(text, "  = help: {help}").unwrap());
    text
}
