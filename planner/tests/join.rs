//! Plans for several platforms and targets over one graph.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use kiln_planner::{Plan, PlanOptions, join};
use support::{options, planned};

fn names(plan: &Plan) -> Vec<&str> {
    let vertices = plan.graph.node_weights();
    vertices.map(|vertex| vertex.name.as_str()).collect()
}

fn joined(text: &str, platforms: &[&str], targets: &[Option<&str>]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for target in targets {
        for platform in platforms {
            let options = PlanOptions {
                target: target.map(str::to_owned),
                target_platform: platform.parse().unwrap(),
                platform_requested: true,
                multi_platform: platforms.len() > 1,
                ..options()
            };
            plans.push(planned(text, &options));
        }
    }
    join(plans)
}

// R-STG-9, R-PROG-2; arrows as BuildKit 0.32 draws them.
#[test]
fn what_is_the_same_for_all_platforms_is_there_once() {
    let text = "FROM --platform=$BUILDPLATFORM base AS tool\nRUN 1\nFROM --platform=$BUILDPLATFORM base AS cross\nRUN 2\nARG TARGETARCH\nARG TARGETVARIANT\nRUN 3\nFROM base\nRUN 4\nCOPY --from=tool a .\nCOPY --from=cross a .\n";
    let plans = joined(text, &["linux/amd64", "linux/arm/v7"], &[None]);
    let expected = [
        "[linux/amd64 tool 1/2] FROM docker.io/library/base:latest",
        "[linux/amd64 tool 2/2] RUN 1",
        "[linux/amd64 cross 2/3] RUN 2",
        "[linux/amd64 cross 3/3] RUN 3",
        "[linux/amd64 stage-2 2/4] RUN 4",
        "[linux/amd64 stage-2 3/4] COPY --from=tool a .",
        "[linux/amd64 stage-2 4/4] COPY --from=cross a .",
        "[linux/amd64->arm/v7 cross 3/3] RUN 3",
        "[linux/arm/v7 stage-2 2/4] RUN 4",
        "[linux/arm/v7 stage-2 3/4] COPY --from=tool a .",
        "[linux/arm/v7 stage-2 4/4] COPY --from=cross a .",
    ];
    let found = names(&plans[0]);
    for name in expected {
        let count = found.iter().filter(|found| found.starts_with(name)).count();
        assert_eq!(count, 1, "{name} in {found:#?}");
    }
    assert_eq!(names(&plans[1]), found);
    for (plan, platform) in plans.iter().zip(["linux/amd64", "linux/arm/v7"]) {
        let target = &plan.graph[plan.target];
        assert_eq!(target.platform, platform.parse().unwrap());
        let made = plan.history.iter().filter_map(|step| step.vertex);
        let made: Vec<_> = made.map(|vertex| &plan.graph[vertex].platform).collect();
        assert_eq!(made, vec![&target.platform; 3]);
        assert_eq!(plan.stages[2].output, Some(plan.target));
    }
}

#[test]
fn what_targets_share_is_there_once() {
    let text = "FROM base AS a\nRUN 1\nFROM a AS b\nRUN 2\nFROM a AS c\nRUN 3\n";
    let plans = joined(text, &["linux/amd64"], &[Some("b"), Some("c"), Some("a")]);
    let steps = ["[a 2/2] RUN 1", "[b 1/1] RUN 2", "[c 1/1] RUN 3"];
    assert_eq!(names(&plans[0])[1..], steps);
    let targets = plans
        .iter()
        .map(|plan| plan.graph[plan.target].name.as_str());
    assert_eq!(targets.collect::<Vec<_>>(), [steps[1], steps[2], steps[0]]);
}
