//! What FROM, names of stages and triggers mean for the graph: the clauses that no single instruction's test shows.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use kiln_parser::{Source, parse};
use kiln_planner::{Op, Plan, PlanOptions, SourceOp, inputs};
use support::{Images, any_config, config, options, planned, refused, resolve_and_plan};

/// The images a plan starts from.
fn images(plan: &Plan) -> Vec<String> {
    let vertices = plan.graph.node_weights();
    let image = |op: &Op| match op {
        Op::Source(SourceOp::Image { reference, .. }) => Some(reference.to_string()),
        _ => None,
    };
    vertices.filter_map(|vertex| image(&vertex.op)).collect()
}

/// The commands of the RUNs, in the order of the graph.
fn commands(plan: &Plan) -> Vec<&str> {
    let vertices = plan.graph.node_weights();
    vertices
        .filter_map(|vertex| match &vertex.op {
            Op::Exec(exec) => exec.argv.last().map(String::as_str),
            _ => None,
        })
        .collect()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.graph
        .node_weights()
        .map(|vertex| vertex.name.as_str())
        .collect()
}

// R-FROM-4, R-FROM-5, R-FROM-14: an earlier stage, then `scratch`, then an image; later stages are not seen.
#[test]
fn a_base_is_an_earlier_stage_or_an_image() {
    let text = "FROM later AS a\nRUN 1\nFROM x AS later\nRUN 2\nFROM a\nRUN 3\n";
    let plan = planned(text, &options());
    assert_eq!(images(&plan), ["docker.io/library/later:latest"]);
    assert_eq!(commands(&plan), ["1", "3"]);
    // Of two stages with one name the latest above counts.
    let text = "FROM x AS a\nRUN 1\nFROM y AS a\nRUN 2\nFROM a\nRUN 3\nFROM z AS a\n";
    let target = PlanOptions {
        target: Some("c".to_owned()),
        ..options()
    };
    let text = text.replace("FROM a\n", "FROM a AS c\n");
    assert_eq!(commands(&planned(&text, &target)), ["2", "3"]);
    let plan = planned(
        "FROM x AS scratch\nRUN 1\nFROM scratch\nRUN 2\n",
        &options(),
    );
    assert_eq!(commands(&plan), ["1", "2"]);
}

// R-FROM-12, R-FROM-16: all of the base's config is kept, but for its date.
#[test]
fn a_base_alone_is_what_comes_out() {
    let plan = planned("FROM x\n", &options());
    let mut expected = any_config();
    expected.created = None;
    expected.rootfs.diff_ids = None;
    assert_eq!(plan.config, expected);
    assert!(plan.history.is_empty());
    assert_eq!(plan.base_layers.len(), 1);
}

// R-STG-6: names that only progress shows mean nothing, and an index counts unnamed stages too.
#[test]
fn unnamed_stages_have_an_index_and_no_name() {
    let text = "FROM x\nRUN 1\nFROM y\nCOPY --from=0 /a /\nCOPY --from=stage-0 /b /\n";
    let plan = planned(text, &options());
    assert!(names(&plan).contains(&"[stage-0 2/2] RUN 1"));
    assert!(images(&plan).contains(&"docker.io/library/stage-0:latest".to_owned()));
    let target = PlanOptions {
        target: Some("stage-0".to_owned()),
        ..options()
    };
    assert!(refused(text, &target)[0].starts_with("target stage \"stage-0\" could not be found"));
}

// R-STG-7: `--from` sees the latest that precedes it, `--target` the last.
#[test]
fn of_stages_with_one_name_the_latest_counts() {
    let text = "FROM x AS a\nRUN 1\nFROM y AS a\nRUN 2\nFROM z\nCOPY --from=A /a /\n";
    assert_eq!(commands(&planned(text, &options())), ["2"]);
    let target = PlanOptions {
        target: Some("A".to_owned()),
        ..options()
    };
    assert_eq!(commands(&planned(text, &target)), ["2"]);
}

// R-STG-9: a stage of the building machine's platform gives the same operations whatever is built.
#[test]
fn stages_of_the_build_platform_are_the_same_for_all_targets() {
    let text = "FROM --platform=$BUILDPLATFORM x AS b\nRUN make\nFROM y\nCOPY --from=b /a /\n";
    let steps = |platform: &str| {
        let options = PlanOptions {
            target_platform: platform.parse().unwrap(),
            platform_requested: true,
            ..options()
        };
        let plan = planned(text, &options);
        let target = &plan.graph[plan.target].platform;
        assert_eq!(target.to_string(), platform);
        let made = inputs(&plan.graph, plan.target)[1];
        (
            plan.graph[made].op.clone(),
            plan.graph[made].platform.clone(),
        )
    };
    assert_eq!(steps("linux/arm64"), steps("linux/amd64"));
    assert_eq!(steps("linux/arm64").1.to_string(), "linux/amd64");
}

// R-ONB-5: a trigger's `--from` names a stage of the file that fires it, else an image.
#[test]
fn triggers_read_the_stages_of_the_file_they_fire_in() {
    let base = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["COPY --from=tools /t /t","RUN --mount=from=other,target=/o 1"]},
"rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#;
    let images_of = |text: &str| {
        let images = Images::from([("base".to_owned(), config(base))]);
        let parsed = parse(&Source::new("Dockerfile", text));
        let plan = resolve_and_plan(&parsed, &options(), &images).1.unwrap();
        (images_of_plan(&plan), commands(&plan).len())
    };
    let (found, runs) = images_of("FROM x AS tools\nRUN make\nFROM base\n");
    assert_eq!(found, ["base", "other", "x"]);
    assert_eq!(runs, 2);
    let (found, runs) = images_of("FROM base\n");
    assert_eq!(found, ["base", "other", "tools"]);
    assert_eq!(runs, 1);
}

fn images_of_plan(plan: &Plan) -> Vec<String> {
    let mut found: Vec<String> = images(plan)
        .iter()
        .filter_map(|name| {
            name.strip_prefix("docker.io/library/")?
                .strip_suffix(":latest")
        })
        .map(str::to_owned)
        .collect();
    found.sort();
    found
}

// R-ARG-6: values of build arguments are not looked into.
#[test]
fn build_arguments_are_used_as_they_are() {
    let options = PlanOptions {
        build_args: vec![("A".to_owned(), "\"$B\" \\x ${".to_owned())],
        ..options()
    };
    let plan = planned("FROM scratch\nARG A B=b\nLABEL a=$A\n", &options);
    assert_eq!(plan.config.config.labels["a"], "\"$B\" \\x ${");
}

// R-USER-2: all forms are kept as written, for whoever runs something.
#[test]
fn users_are_kept_as_written() {
    for user in [
        "name",
        "1",
        "name:group",
        "1:2",
        "name:2",
        ":group",
        "1:",
        "no such",
    ] {
        let plan = planned(&format!("FROM scratch\nUSER {user}\nRUN x\n"), &options());
        let Op::Exec(exec) = &plan.graph[plan.target].op else {
            panic!("the target is the RUN")
        };
        assert_eq!((&*exec.user, &*plan.config.config.user), (user, user));
    }
}

// R-HC-6: what is not said is left to whoever runs the image.
#[test]
fn a_healthcheck_has_no_defaults() {
    let plan = planned("FROM scratch\nHEALTHCHECK CMD x\n", &options());
    let check = plan.config.config.healthcheck.unwrap();
    assert_eq!(
        [
            check.interval,
            check.timeout,
            check.start_period,
            check.start_interval,
            check.retries
        ],
        [0; 5]
    );
}

// R-EXP-17
#[test]
fn names_of_variables_have_a_case() {
    let plan = planned("FROM scratch\nENV a=1 A=2\nLABEL l=$a$A\n", &options());
    assert_eq!(plan.config.config.labels["l"], "12");
}

// R-HD-12, R-HD-13: a heredoc is the shell's; nothing is put before it, and all of it is there when other text is.
#[test]
fn heredocs_of_a_run_are_for_the_shell() {
    for (run, script) in [
        ("<<E\nfalse\ntrue\nE", "false\ntrue\n"),
        ("cat <<E\n$x\nE", "cat <<E\n$x\nE"),
        (
            "<<A x && <<-\"B\" y\n1\nA\n\t2\n\tB",
            "<<A x && <<-\"B\" y\n1\nA\n\t2\nB",
        ),
        ("python3 <<3E\nprint\n3E", "python3 <<3E\nprint\n3E"),
    ] {
        let plan = planned(&format!("FROM scratch\nRUN {run}\n"), &options());
        assert_eq!(commands(&plan), [script]);
    }
}
