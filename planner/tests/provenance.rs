//! What a plan knows about its own making: where arguments got their values, and what needs a stage.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use kiln_planner::ArgumentOrigin::{Automatic, BuildArg, Default, Environment, Global, Unset};
use kiln_planner::{Argument, ArgumentOrigin, Need, NeedReason};
use support::{options, planned};

#[test]
fn arguments_know_where_their_value_came_from() {
    // R-ARG-1, R-ARG-2, R-ARG-3, R-ARG-8
    let text = "ARG GIVEN=1\nARG PLAIN=2 TARGETOS\nFROM base AS dropped\nARG LOCAL\nFROM base\nENV SET=env\n\
                ARG GIVEN PLAIN LOCAL=3 TARGETARCH TARGETOS SET PATH NOBODY\n";
    let mut options = options();
    options.build_args = vec![("GIVEN".to_owned(), "x".to_owned())];
    let plan = planned(text, &options);
    assert!(plan.stages[0].arguments.is_empty());
    let seen = |arguments: &[Argument]| -> Vec<(String, Option<String>, ArgumentOrigin)> {
        let one = |argument: &Argument| {
            (
                argument.name.clone(),
                argument.value.clone(),
                argument.origin,
            )
        };
        arguments.iter().map(one).collect()
    };
    let row = |name: &str, value: Option<&str>, origin| {
        (name.to_owned(), value.map(str::to_owned), origin)
    };
    let globals = [
        row("GIVEN", Some("x"), BuildArg),
        row("PLAIN", Some("2"), Default),
        row("TARGETOS", Some("linux"), Automatic),
    ];
    assert_eq!(seen(&plan.global_arguments), globals);
    let locals = [
        row("GIVEN", Some("x"), BuildArg),
        row("PLAIN", Some("2"), Global),
        row("LOCAL", Some("3"), Default),
        row("TARGETARCH", Some("amd64"), Automatic),
        row("TARGETOS", Some("linux"), Automatic),
        row("SET", Some("env"), Environment),
        row("PATH", Some("/bin"), Environment),
        row("NOBODY", None, Unset),
    ];
    assert_eq!(seen(&plan.stages[1].arguments), locals);
}

#[test]
fn stages_know_what_needs_them() {
    // R-STG-2
    let text = "FROM base AS a\nFROM a AS b\nFROM base AS c\nFROM b\nCOPY --from=a x y\n\
                RUN --mount=from=b,target=/b true\n";
    let plan = planned(text, &options());
    let why = |stage: usize| -> Vec<Option<(usize, NeedReason)>> {
        let needs = plan.stages[stage].needs.iter();
        needs
            .map(|need| match need {
                Need::Target => None,
                Need::Stage { stage, reason, .. } => Some((*stage, *reason)),
            })
            .collect()
    };
    assert_eq!(
        why(0),
        [Some((1, NeedReason::Base)), Some((3, NeedReason::Copy))]
    );
    assert_eq!(
        why(1),
        [Some((3, NeedReason::Base)), Some((3, NeedReason::Mount))]
    );
    assert_eq!(why(2), []);
    assert_eq!(why(3), [None]);
    assert_eq!(plan.target_stage, 3);
}

#[test]
fn what_triggers_need_stands_at_their_from() {
    // R-STG-2, R-ONB-3, R-ONB-7
    let text = "FROM base AS a\nFROM base AS b\nONBUILD COPY --from=a x y\nFROM b\n\
                RUN --mount=from=a,target=/a true\n";
    let plan = planned(text, &options());
    let reasons: Vec<_> = plan.stages[0]
        .needs
        .iter()
        .filter_map(|need| match need {
            Need::Target => None,
            Need::Stage { reason, .. } => Some(*reason),
        })
        .collect();
    assert_eq!(reasons, [NeedReason::Copy, NeedReason::Mount]);
}
