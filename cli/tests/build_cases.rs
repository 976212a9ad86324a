//! Every folder of `testdata/build` is a test: a context is built, and the image compared path by path and field by field.
//!
//! | file | holds |
//! |---|---|
//! | `case.toml` | why the case exists, the clauses, where the expectation comes from; `needs`, `args` |
//! | `Dockerfile`, `context.tree` | what is built; for the latter see [`cases::context_tree`] |
//! | `expected.layers` | what each new layer holds, see [`cases::archive`] |
//! | `expected.config.json` | the config without dates and digests |
//! | `expected.stderr` | the message of a build that fails |
//!
//! `KILN_BLESS=1` rewrites what is expected; review the difference against the clauses.

#![allow(clippy::unwrap_used)]

mod cases;
mod test_env;

use cases::archive::ArchivedImage;
use cases::{Case, context_tree};
use test_env::TestEnv;

const READ: [&str; 5] = [
    "Dockerfile",
    "context.tree",
    "expected.layers",
    "expected.config.json",
    "expected.stderr",
];

#[test]
fn folders_that_run_nothing_give_what_they_expect() {
    check_all(&TestEnv::new(), |case| !case.needs_sandbox);
}

#[test]
fn sandbox_every_folder_gives_what_it_expects() {
    let env = TestEnv::new();
    if env.import_busybox() {
        let rung = env.rung_name();
        let shown = |case: &Case| match rung.as_str() {
            "chroot" => !case.needs_mounts,
            _ => true,
        };
        check_all(&env, |case| case.needs_sandbox && shown(case));
    }
}

/// The same layers come out where nothing can be mounted.
#[test]
fn sandbox_every_folder_gives_what_it_expects_in_a_chroot() {
    let env = TestEnv::on_rung("chroot");
    if env.import_busybox() {
        check_all(&env, |case| case.needs_sandbox && !case.needs_mounts);
    }
}

fn check_all(env: &TestEnv, wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = Case::all("build").into_iter().filter(wanted).collect();
    let failures: Vec<String> = cases.iter().flat_map(|case| check(env, case)).collect();
    cases::report(cases.len(), &failures);
}

/// What is wrong with a case.
fn check(env: &TestEnv, case: &Case) -> Vec<String> {
    let tree = case.file("context.tree").unwrap_or_default();
    let dockerfile = case.file("Dockerfile").unwrap();
    context_tree::make(&env.work().join(&case.name), &tree, &dockerfile);
    let archive = format!("{}.tar", case.name);
    let output = format!("type=docker,dest={archive}");
    let mut args = vec!["build", "--progress=quiet", "-t", "case", "-o", &output];
    args.push("--keep-failed=false"); // the message would name it, another each time
    args.extend(case.args.iter().map(String::as_str));
    args.push(&case.name);
    let outcome = env.kiln(&args);
    let mut failures = case.unknown_files(&READ);
    let (layers, config, message) = match outcome.code {
        0 => {
            let image = ArchivedImage::read(&env.work().join(archive));
            (Some(image.layers()), Some(image.config()), None)
        }
        _ => (None, None, Some(format!("{}\n", outcome.error()))),
    };
    let expectations = [
        ("expected.layers", layers),
        ("expected.config.json", config),
        ("expected.stderr", message),
    ];
    for (file, actual) in &expectations {
        failures.extend(case.expect(file, actual.as_deref()));
    }
    if expectations
        .iter()
        .all(|(file, _)| case.file(file).is_none())
    {
        failures.push(format!("{} expects nothing", case.name));
    }
    if case.file("expected.stderr").is_none() && outcome.code != 0 {
        failures.push(format!("{} failed:\n{}", case.name, outcome.stderr));
    }
    failures
}
