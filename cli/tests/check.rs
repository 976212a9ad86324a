//! `kiln check`, `kiln build --check`, and checks that stop a build. Clauses R-CHK-1..9.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::TestEnv;

const CASING: &str = "FROM scratch AS Base\nCOPY a /\n";

fn env(dockerfile: &str) -> TestEnv {
    TestEnv::with_files(&[("Dockerfile", dockerfile), ("a", "")])
}

#[test]
fn a_finding_is_shown_with_its_line() {
    // R-CHK-6, R-CHK-9
    let outcome = env(CASING).kiln(&["check"]);
    let expected = "\
Check complete, 1 warning has been found!

warning[StageNameCasing]: Stage name 'Base' should be lowercase
  --> Dockerfile:1:17
   |
 1 | FROM scratch AS Base
   |                 ^^^^
   = note: see https://docs.docker.com/go/dockerfile/rule/stage-name-casing/ or `kiln check --explain StageNameCasing`; `--fix` mends it
";
    assert_eq!(outcome.stdout, expected);
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
}

#[test]
fn nothing_found_is_told_too() {
    // R-CHK-6
    let good = env("FROM scratch\nCOPY a /\n");
    for command in [
        &["check"][..],
        &["build", "--check", "."],
        &["build", "--call=check", "."],
    ] {
        let outcome = good.kiln(command);
        assert_eq!(outcome.stdout, "Check complete, no warnings found.\n");
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
}

#[test]
fn advice_alone_is_no_warning() {
    let outcome = env("FROM unknown\n").kiln(&["check", "--offline"]);
    assert!(
        outcome
            .stdout
            .starts_with("Check complete, no warnings found.\n\nadvice[K-unpinned-base]"),
        "{}",
        outcome.stdout
    );
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn a_check_needs_no_store() {
    // A file is where the store would be.
    let outcome = env("FROM unknown\n").kiln(&["check", "--root", "a"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .starts_with("advice: base images are not known: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn errors_come_after_the_warnings() {
    // R-CHK-6
    let outcome = env("FROM scratch AS Base\nCOPPY a /\n").kiln(&["check"]);
    assert!(outcome.stdout.contains("warning[StageNameCasing]"));
    outcome.fails_with(2, "error[unknown-instruction]: unknown instruction `COPPY`");
}

#[test]
fn all_stages_are_checked_unless_there_is_a_target() {
    // R-CHK-5
    let stages = env("FROM scratch AS a\nCOPY $x /\nFROM scratch AS b\nCOPY a /\n");
    let count = |args: &[&str]| {
        stages
            .kiln(args)
            .stdout
            .matches("undefined variable")
            .count()
    };
    assert_eq!(count(&["check"]), 1);
    assert_eq!(count(&["check", "--target", "b"]), 0);
    assert_eq!(count(&["build", "--check", "."]), 1);
}

#[test]
fn comments_configure_one_instruction() {
    // R-CHK-4
    let env = env(
        "# the file begins\n\n# check=skip=StageNameCasing because it is known\nFROM scratch AS One\nFROM scratch AS Two\n# check=skip=all\nMAINTAINER a\n",
    );
    let outcome = env.kiln(&["check"]);
    assert!(!outcome.stdout.contains("'One'"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("'Two'"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("Maintainer"), "{}", outcome.stdout);
}

#[test]
fn experimental_rules_run_when_asked_for() {
    // R-CHK-3: they know no skip.
    let text = "# other\nFROM scratch AS base\nMAINTAINER a\n";
    let rules = |directive: &str| -> Vec<String> {
        let outcome = env(&format!("{directive}{text}")).kiln(&["check"]);
        let found = outcome.stdout.lines();
        let ids = found.filter_map(|line| line.strip_prefix("warning[")?.split_once(']'));
        ids.map(|(id, _)| id.to_owned()).collect()
    };
    let (described, maintained) = ("InvalidDefinitionDescription", "MaintainerDeprecated");
    assert_eq!(rules(""), [maintained]);
    assert_eq!(
        rules("# check=experimental=all\n\n"),
        [described, maintained]
    );
    assert_eq!(
        rules("# check=skip=all;experimental=InvalidDefinitionDescription\n\n"),
        [described]
    );
    assert_eq!(rules("# check=experimental=Other\n\n"), [maintained]);
}

#[test]
fn comments_add_to_what_holds_for_the_file() {
    // R-CHK-3, R-CHK-4: the file's skip stays, `error` means nothing here, rule names keep their letter case.
    let text = "# check=skip=StageNameCasing\n\n# check=experimental=all;error=true\n# other\nFROM scratch AS Base\n# check=skip=maintainerdeprecated\nMAINTAINER a\nCOPY a /\n";
    let env = env(text);
    let outcome = env.kiln(&["check"]);
    assert!(!outcome.stdout.contains("StageNameCasing"));
    assert!(outcome.stdout.contains("InvalidDefinitionDescription"));
    assert!(outcome.stdout.contains("MaintainerDeprecated"));
    assert_eq!(env.kiln(&["build", "."]).code, 0);
}

#[test]
fn a_check_knows_base_images_and_runs_nothing() {
    // R-CHK-5
    let env = TestEnv::with_files(&[
        (
            "Dockerfile",
            "FROM base:1\nRUN exit 7\nCOPY a $SET/\nCOPY a $UNSET/\n",
        ),
        ("a", ""),
        ("base.Dockerfile", "FROM scratch\nENV SET=/set\n"),
    ]);
    let line = ["build", "-q", "-t", "base:1", "-f", "base.Dockerfile", "."];
    env.kiln(&line).succeeds();
    let outcome = env.kiln(&["build", "--check", "."]);
    let told = outcome
        .stdout
        .matches("Usage of undefined variable")
        .count();
    assert_eq!(told, 1, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("'$UNSET'"), "{}", outcome.stdout);
    assert_eq!(outcome.code, 1);
}

#[test]
fn build_check_is_as_buildx_prints_it() {
    // R-CHK-6, R-CHK-9, R-CLI-8: whole instructions, and exit code 1.
    let text = "FROM scratch AS Base\nEXPOSE 80 \\\n  81/TCP\nCOPY id_rsa a /\nCOPY a /b\n";
    let outcome = env(text).kiln(&["build", "--check", "."]);
    let expected = "\
Check complete, 2 warnings have been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Base' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM scratch AS Base
   2 |     EXPOSE 80 \\
   3 |       81/TCP
--------------------

WARNING: ExposeProtoCasing - https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/
Defined protocol '81/TCP' in EXPOSE instruction should be lowercase
Dockerfile:2
--------------------
   1 |     FROM scratch AS Base
   2 | >>> EXPOSE 80 \\
   3 | >>>   81/TCP
   4 |     COPY id_rsa a /
--------------------

WARNING: K-secret-copied - kiln check --explain K-secret-copied
`id_rsa` is in the image for everybody to read
Dockerfile:4
--------------------
   2 |     EXPOSE 80 \\
   3 |       81/TCP
   4 | >>> COPY id_rsa a /
   5 |     COPY a /b
   6 |     \n--------------------
";
    assert_eq!(outcome.stdout, expected);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
}

#[test]
fn rules_of_kilns_own_change_no_verdict_of_build_check() {
    // R-CHK-6
    let env = env("FROM scratch\nCOPY id_rsa /\n");
    let outcome = env.kiln(&["build", "--check", "."]);
    let verdict = "Check complete, no warnings found.\n\nWARNING: K-secret-copied ";
    assert!(outcome.stdout.starts_with(verdict), "{}", outcome.stdout);
    assert_eq!(outcome.code, 0);
}

#[test]
fn json_is_as_buildkit_has_it() {
    // R-CHK-7
    let text = "FROM scratch AS Base\nCOPY id_rsa \\\n  $x /\n";
    let outcome = env(text).kiln(&["build", "--call=check,format=json", "."]);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let at = |line: usize| serde_json::json!({ "line": line, "character": 0 });
    let place = |line: usize, from: usize, to: usize| {
        serde_json::json!({
            "start": { "line": line, "character": from },
            "end": { "line": line, "character": to },
        })
    };
    let lines = |lines: &[usize]| {
        let ranges = lines
            .iter()
            .map(|line| serde_json::json!({ "start": at(*line), "end": at(*line) }));
        serde_json::json!({ "sourceIndex": 0, "ranges": ranges.collect::<Vec<_>>() })
    };
    let expected = serde_json::json!({
        "warnings": [{
            "ruleName": "StageNameCasing",
            "description": "Stage names should be lowercase",
            "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
            "detail": "Stage name 'Base' should be lowercase",
            "severity": "warning",
            "location": lines(&[1]),
            "span": place(1, 16, 20),
        }, {
            "ruleName": "UndefinedVar",
            "description": "Variables should be defined before their use",
            "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "detail": "Usage of undefined variable '$x'",
            "severity": "warning",
            "location": lines(&[2, 3]),
            "span": place(3, 2, 4),
        }],
        "kiln": [{
            "ruleName": "K-secret-copied",
            "description": "Keys and credentials don't belong in an image",
            "detail": "`id_rsa` is in the image for everybody to read",
            "severity": "warning",
            "location": lines(&[2, 3]),
            "span": place(2, 5, 11),
        }],
        "sources": [{
            "filename": "Dockerfile",
            "language": "Dockerfile",
            "data": "RlJPTSBzY3JhdGNoIEFTIEJhc2UKQ09QWSBpZF9yc2EgXAogICR4IC8K",
        }],
    });
    assert_eq!(value, expected);
    assert_eq!(outcome.code, 1);
}

#[test]
fn an_error_is_in_the_json_too() {
    // R-CHK-7
    let outcome =
        env("FROM scratch\nCOPPY a /\n").kiln(&["build", "--call=check,format=json", "."]);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        value["buildError"]["message"],
        "unknown instruction `COPPY`"
    );
    assert_eq!(
        value["buildError"]["location"]["ranges"][0]["start"]["line"],
        2
    );
    assert_eq!(outcome.code, 2);
}

#[test]
fn a_build_tells_its_warnings_in_a_line_each() {
    // R-CHK-8
    let env = env("FROM scratch AS Base\nMAINTAINER a\nCOPY a $x/\n");
    let short = "
 3 warnings found (use --debug to expand):
 - StageNameCasing: Stage name 'Base' should be lowercase (line 1)
 - MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)
 - UndefinedVar: Usage of undefined variable '$x' (line 3)
";
    let outcome = env.kiln(&["build", "."]).succeeds();
    assert!(outcome.stderr.contains(short), "{}", outcome.stderr);
    let full = "
 3 warnings found:
warning[StageNameCasing]: Stage name 'Base' should be lowercase
  --> Dockerfile:1:17
   |
 1 | FROM scratch AS Base
   |                 ^^^^
   = note: Stage names should be lowercase
   = note: see https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
warning[";
    let outcome = env.kiln(&["build", "--debug", "."]).succeeds();
    assert!(outcome.stderr.contains(full), "{}", outcome.stderr);
    for mode in [&["--progress", "rawjson"][..], &["--quiet"]] {
        let outcome = env.kiln(&[&["build"], mode, &["."]].concat()).succeeds();
        assert!(!outcome.stderr.contains("found"), "{}", outcome.stderr);
    }
}

#[test]
fn a_build_that_fails_tells_its_warnings_too() {
    // R-CHK-8
    let outcome = env("FROM scratch AS Base\nCOPY missing /\n").kiln(&["build", "."]);
    let told = " 1 warning found (use --debug to expand):\n - StageNameCasing: ";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    assert_eq!(outcome.code, 1);
}

#[test]
fn machines_get_the_same_findings() {
    let env = env(CASING);
    let sarif = env.kiln(&["check", "--format", "sarif"]).stdout;
    let log: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "StageNameCasing");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region["startColumn"], 17);
    let driver = &log["runs"][0]["tool"]["driver"];
    let rule = &driver["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
    assert_eq!(rule["id"], "StageNameCasing");
    assert_eq!(
        rule["helpUri"],
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
    );
    let change = &result["fixes"][0]["artifactChanges"][0];
    assert_eq!(change["artifactLocation"]["uri"], "Dockerfile");
    let replacement = &change["replacements"][0];
    assert_eq!(replacement["insertedContent"]["text"], "base");
    assert_eq!(replacement["deletedRegion"], *region);
    let github = env.kiln(&["check", "--format", "github"]).stdout;
    assert_eq!(
        github,
        "::warning file=Dockerfile,line=1,endLine=1,col=17,endColumn=21,title=StageNameCasing::Stage name 'Base' should be lowercase\n"
    );
}

#[test]
fn fix_changes_what_is_mechanical_and_nothing_else() {
    let env = env("FROM  scratch As Base\r\ncopy a /\r\nENV A b c\r\nCOPY $x /");
    let outcome = env.kiln(&["check", "--fix"]);
    let fixed = std::fs::read_to_string(env.work().join("Dockerfile")).unwrap();
    assert_eq!(
        fixed,
        "FROM  scratch AS base\r\nCOPY a /\r\nENV A=\"b c\"\r\nCOPY $x /"
    );
    assert!(outcome.stdout.contains("UndefinedVar"), "what is left");
    assert_eq!(outcome.code, 5);
    env.kiln(&["check", "--fix"]);
    let again = std::fs::read_to_string(env.work().join("Dockerfile")).unwrap();
    assert_eq!(fixed, again);
}

#[test]
fn what_cannot_be_fixed_exactly_is_left_alone() {
    let env = env("");
    let bytes = b"FROM scratch AS Base\nLABEL a=\xff\n";
    std::fs::write(env.work().join("Dockerfile"), bytes).unwrap();
    env.kiln(&["check", "--fix"]).fails_with(
        2,
        "error: `Dockerfile` is not valid UTF-8, or it changed just now; it was left as it is",
    );
    assert_eq!(std::fs::read(env.work().join("Dockerfile")).unwrap(), bytes);
    let outcome = env.kiln_with_stdin(&["check", "--fix", "-f", "-"], CASING.as_bytes());
    assert_eq!(outcome.code, 2);
}

#[test]
fn rules_are_explained() {
    let env = env("");
    for name in ["StageNameCasing", "stage-name-casing", "k-sudo", "sudo"] {
        let outcome = env.kiln(&["check", "--explain", name]);
        assert!(outcome.stdout.starts_with("# "), "{name}");
    }
    let outcome = env.kiln(&["check", "--explain", "StageNameCasin"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("did you mean `StageNameCasing`?"));
}

#[test]
fn error_true_stops_a_build_before_it_runs() {
    // R-CHK-1: the missing source of the COPY is not looked for.
    let text = "# check=error=true\nFROM scratch AS Base\nCOPY missing /\n";
    let outcome = env(text).kiln(&["build", "."]);
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("lint violation found for rules: StageNameCasing"),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.contains("COPY missing / "));
    // R-CHK-2: the build argument replaces the directive.
    let argument = "BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing";
    let outcome = env(text).kiln(&["build", "--build-arg", argument, "."]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
}

#[test]
fn rules_of_kilns_own_stop_no_build() {
    let text = "# check=error=true\nFROM scratch\nCOPY id_rsa /\n";
    let env = TestEnv::with_files(&[("Dockerfile", text), ("id_rsa", "")]);
    assert_eq!(env.kiln(&["build", "."]).code, 0);
    assert_eq!(env.kiln(&["check"]).code, 5);
}
