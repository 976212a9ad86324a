//! The vectors of the specification that concern evaluation, one table a test.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod support;

use kiln_parser::{Source, parse};
use kiln_planner::{ExecOp, FileOp, Op, Plan, PlanOptions};
use support::{Images, options, planned, refused};

/// Options with build arguments, written `K=V K=V`.
fn with_args(args: &str) -> PlanOptions {
    let pairs = args
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap());
    PlanOptions {
        build_args: pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..options()
    }
}

fn last_exec(plan: &Plan) -> &ExecOp {
    let execs = plan
        .graph
        .node_weights()
        .filter_map(|vertex| match &vertex.op {
            Op::Exec(exec) => Some(exec),
            _ => None,
        });
    execs.last().unwrap()
}

/// A RUN's variables without PATH, written `K=V K=V`.
fn run_env(plan: &Plan) -> String {
    let pairs = last_exec(plan).env.pairs();
    pairs
        .iter()
        .filter(|(name, _)| *name != "PATH")
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The new history, without the `# buildkit` of what follows the first.
fn created_by(plan: &Plan) -> Vec<&str> {
    plan.history
        .iter()
        .map(|step| step.entry.created_by.as_str())
        .collect()
}

// R-ARG-1..4, R-ARG-8, R-ARG-9 and the table of 3.2
#[test]
fn args_have_their_value_from_the_command_line_the_default_or_the_global_scope() {
    for (global, stage, args, expected) in [
        ("ARG G=g", "ARG G", "", "G=g"),
        ("ARG G=g", "ARG G=l", "", "G=l"),
        ("ARG G=g", "ARG G=l", "G=c", "G=c"),
        ("ARG G=g", "", "G=c", ""),
        ("ARG G=g", "ARG G", "G=c", "G=c"),
        ("ARG G", "ARG G", "G=c", "G=c"),
        ("ARG A=1\nARG G=$A-x", "ARG G", "", "G=1-x"),
        ("", "ARG X", "", ""),
        ("", "ARG A=1 B=$A C=\"x $B\"", "", "A=1 B=1 C=x 1"),
        ("", "ARG A=1 B=$A", "A=c", "A=c B=c"),
        ("", "ARG A=$B", "A='$B'", "A='$B'"),
        ("", "ENV V=1\nARG V=2", "", "V=2"),
        ("", "ARG V=2\nENV V=1", "", "V=1"),
        ("", "ENV V=1\nARG V", "", "V=1"),
        ("", "ARG TARGETARCH", "", "TARGETARCH=amd64"),
        ("", "ARG TARGETARCH=foo", "", "TARGETARCH=foo"),
        ("", "ARG TARGETARCH", "TARGETARCH=bar", "TARGETARCH=bar"),
        (
            "",
            "ARG TARGETSTAGE TARGETVARIANT",
            "",
            "TARGETSTAGE=default TARGETVARIANT=",
        ),
        (
            "ARG BUILDPLATFORM=x",
            "ARG BUILDPLATFORM",
            "",
            "BUILDPLATFORM=x",
        ),
        ("", "", "UNDECLARED=1", ""),
        // R-RT-1: the last assignment gives the place.
        ("", "ENV A=1\nENV B=2\nENV A=3", "", "B=2 A=3"),
        // R-ARG-11
        ("", "ARG BUILDKIT_SBOM_SCAN_STAGE=true", "", ""),
    ] {
        let plan = planned(
            &format!("{global}\nFROM scratch\n{stage}\nRUN t\n"),
            &with_args(args),
        );
        assert_eq!(run_env(&plan), expected, "{global} / {stage} / {args}");
    }
}

// R-ARG-2: what is built when nothing is asked for has a name too (BuildKit 0.32).
#[test]
fn the_name_of_the_target_is_an_argument() {
    let text = "FROM scratch AS Fin\nARG TARGETSTAGE\nRUN t\n";
    assert_eq!(run_env(&planned(text, &options())), "TARGETSTAGE=fin");
}

// R-CFG-7, R-FROM-13 (BuildKit 0.32)
#[test]
fn the_image_is_for_the_platform_that_was_asked_for() {
    let arm = r#"{"architecture":"arm64","variant":"v8","os":"linux","config":{"WorkingDir":"w"},"rootfs":{"type":"layers",
"diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#;
    let images = Images::from([("arm".to_owned(), support::config(arm))]);
    let parsed = parse(&Source::new("Dockerfile", "FROM arm\nWORKDIR x\n"));
    for (platform_requested, expected) in [(true, ("amd64", "")), (false, ("arm64", "v8"))] {
        let options = PlanOptions {
            platform_requested,
            ..options()
        };
        let plan = support::resolve_and_plan(&parsed, &options, &images)
            .1
            .unwrap();
        let config = plan.config;
        assert_eq!((&*config.architecture, &*config.variant), expected);
        // R-WORKDIR-8: no builder makes an image with such a directory.
        assert_eq!(config.config.working_dir, "/w/w/x");
    }
}

// R-ARG-11, R-HIST-4
#[test]
fn arguments_that_are_no_variables_are_in_the_history() {
    let text = "FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN t\n";
    let plan = planned(text, &options());
    let last = &plan.history.last().unwrap().entry.created_by;
    assert_eq!(
        last,
        "RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c t # buildkit"
    );
}

// R-STG-3, R-STG-8, R-COPY-4: stages that read each other are told wherever they are; one that reads a stage based on it only when
// it is built (BuildKit 0.32).
#[test]
fn a_cycle_through_a_base_matters_only_when_it_is_built() {
    let text = "FROM scratch AS a\nCOPY --from=b /x /\nFROM a AS b\nFROM scratch AS c\n";
    let _ = planned(text, &options());
    let target = PlanOptions {
        target: Some("b".to_owned()),
        ..options()
    };
    assert_eq!(
        refused(text, &target),
        ["circular dependency detected on stage: a"]
    );
    let text = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\nFROM scratch\n";
    assert_eq!(
        refused(text, &options()),
        ["circular dependency detected on stage: a"]
    );
}

// R-ARG-7, R-ARG-9, R-FROM-9
#[test]
fn args_never_enter_the_config_and_pass_to_child_stages() {
    let plan = planned(
        "FROM scratch AS a\nENV V=1\nARG V=2 W=3\nFROM a\nRUN t\n",
        &options(),
    );
    // What the parent's config says is said once more, after its ARGs: BuildKit 0.32.
    assert_eq!(run_env(&plan), "W=3 V=1");
    assert!(plan.config.config.env.contains(&"V=1".to_owned()));
    assert!(
        !plan
            .config
            .config
            .env
            .iter()
            .any(|entry| entry.starts_with("W="))
    );
}

// R-ARG-10
#[test]
fn proxies_reach_run_in_both_spellings_and_nothing_else() {
    let plan = planned(
        "FROM scratch\nARG no_proxy\nENV http_proxy=outranked\nRUN t\n",
        &with_args("http_proxy=http://p no_proxy=l FOO=1"),
    );
    let exec = last_exec(&plan);
    let proxies: Vec<_> = exec
        .proxy_env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        proxies,
        [
            "HTTP_PROXY=http://p",
            "http_proxy=http://p",
            "NO_PROXY=l",
            "no_proxy=l"
        ]
    );
    assert_eq!(run_env(&plan), "no_proxy=l http_proxy=outranked");
    assert_eq!(
        created_by(&plan)[2],
        "RUN |1 no_proxy=l /bin/sh -c t # buildkit"
    );
    assert_eq!(plan.unused_build_args, ["FOO"]);
}

// R-ENV-4..6, R-LABEL-1 and the table of 3.3
#[test]
fn env_and_label_take_values_from_before_the_line() {
    for (line, env, history) in [
        (
            "ENV abc=bye def=$abc",
            "abc=bye def=hello",
            "ENV abc=bye def=hello",
        ),
        (
            "ENV A=\"x y\" B=x\\ y C='$Q'",
            "abc=hello A=x y B=x y C=$Q",
            "ENV A=x y B=x y C=$Q",
        ),
        (
            "ENV A one \"two\"  three",
            "abc=hello A=one two  three",
            "ENV A=one two  three",
        ),
        ("ENV A=", "abc=hello A=", "ENV A="),
        ("ENV $abc=1", "abc=hello hello=1", "ENV hello=1"),
    ] {
        let plan = planned(
            &format!("FROM scratch\nENV abc=hello\n{line}\nRUN t\n"),
            &options(),
        );
        assert_eq!(run_env(&plan), env, "{line}");
        assert_eq!(plan.config.config.env[1..].join(" "), env, "{line}");
        assert_eq!(created_by(&plan)[1], history, "{line}");
    }
    let plan = planned("FROM scratch\nLABEL \"a b\"=\"c d\" x=1 x=2\n", &options());
    let labels: Vec<_> = plan
        .config
        .config
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(labels, ["a b=c d", "x=2"]);
    assert_eq!(created_by(&plan), ["LABEL a b=c d x=1 x=2"]);
}

// R-LABEL-2
#[test]
fn labels_of_the_command_line_win_without_history() {
    let options = PlanOptions {
        labels: vec![("a".to_owned(), "cli".to_owned())],
        ..options()
    };
    let plan = planned("FROM scratch\nLABEL a=file b=file\n", &options);
    assert_eq!(plan.config.config.labels["a"], "cli");
    assert_eq!(plan.config.config.labels["b"], "file");
    assert_eq!(plan.history.len(), 1);
}

// R-EXPOSE-1, R-EXPOSE-5 and the table of 3.4
#[test]
fn exposed_ports_are_sorted_as_written_and_expanded() {
    for (line, ports, history) in [
        (
            "EXPOSE 80 443/TCP 53/udp",
            "443/tcp 53/udp 80/tcp",
            "EXPOSE [443/tcp 53/udp 80/tcp]",
        ),
        (
            "EXPOSE 8000-8002/udp",
            "8000/udp 8001/udp 8002/udp",
            "EXPOSE [8000/udp 8001/udp 8002/udp]",
        ),
        ("EXPOSE $P", "1/tcp 2/tcp", "EXPOSE [2/tcp 1/tcp]"),
        ("EXPOSE 127.0.0.1:80:8080", "8080/tcp", "EXPOSE [8080/tcp]"),
        ("EXPOSE 80 80", "80/tcp", "EXPOSE [80/tcp 80/tcp]"),
        ("EXPOSE 80 443", "443/tcp 80/tcp", "EXPOSE [443/tcp 80/tcp]"),
    ] {
        let plan = planned(
            &format!("FROM scratch\nENV P=\"2 1\"\n{line}\n"),
            &options(),
        );
        let exposed: Vec<_> = plan
            .config
            .config
            .exposed_ports
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(exposed.join(" "), ports, "{line}");
        assert_eq!(created_by(&plan)[1], history, "{line}");
    }
}

// R-WORKDIR-1..3, R-WORKDIR-5, R-WORKDIR-7 and the table of 3.5
#[test]
fn workdirs_add_up() {
    for (lines, path, last, made) in [
        (
            "WORKDIR /a\nWORKDIR b\nWORKDIR ../c",
            "/a/c",
            "WORKDIR /a/c",
            Some("/a/c"),
        ),
        ("WORKDIR a", "/a", "WORKDIR /a", Some("/a")),
        ("ENV D=/x\nWORKDIR $D/$N", "/x/", "WORKDIR /x/", Some("/x")),
        ("WORKDIR ..", "/", "WORKDIR /", None),
        ("WORKDIR /x y", "/x y", "WORKDIR /x y", Some("/x y")),
        (
            "WORKDIR /a//b/../c/",
            "/a//b/../c/",
            "WORKDIR /a//b/../c/",
            Some("/a/c"),
        ),
        ("WORKDIR /a/\nWORKDIR $N", "/a/", "WORKDIR /a/", Some("/a")),
    ] {
        let plan = planned(&format!("FROM scratch\n{lines}\n"), &options());
        assert_eq!(plan.config.config.working_dir, path, "{lines}");
        let step = plan.history.last().unwrap();
        assert_eq!(step.entry.created_by, last, "{lines}");
        assert_eq!(step.entry.empty_layer, made.is_none(), "{lines}");
        let path = step.vertex.map(|vertex| match &plan.graph[vertex].op {
            Op::File(FileOp::Mkdir(mkdir)) => mkdir.path.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(path, made, "{lines}");
    }
}

// R-CMD-1..3, R-ENTRY-1, R-ENTRY-2 and the table of 3.7; the base has Cmd [sh]
#[test]
fn entrypoint_drops_only_an_inherited_cmd() {
    let list = |items: &[&str]| {
        Some(
            items
                .iter()
                .map(|item| (*item).to_owned())
                .collect::<Vec<_>>(),
        )
    };
    for (lines, entrypoint, cmd) in [
        ("ENTRYPOINT [\"e\"]", list(&["e"]), None),
        (
            "CMD [\"c\"]\nENTRYPOINT [\"e\"]",
            list(&["e"]),
            list(&["c"]),
        ),
        (
            "ENTRYPOINT [\"e\"]\nCMD [\"c\"]",
            list(&["e"]),
            list(&["c"]),
        ),
        (
            "CMD [\"c\"]\nFROM a\nENTRYPOINT [\"e\"]",
            list(&["e"]),
            None,
        ),
        ("CMD []", None, list(&[])),
        ("CMD", None, list(&["/bin/sh", "-c", ""])),
        (
            "CMD echo  \"$hi\"",
            None,
            list(&["/bin/sh", "-c", "echo  \"$hi\""]),
        ),
        (
            "SHELL [\"/bin/bash\",\"-ec\"]\nFROM a\nENTRYPOINT x",
            list(&["/bin/bash", "-ec", "x"]),
            None,
        ),
        ("LABEL a=1", None, list(&["sh"])),
    ] {
        let plan = planned(&format!("FROM base AS a\n{lines}\n"), &options());
        assert_eq!(plan.config.config.entrypoint, entrypoint, "{lines}");
        assert_eq!(plan.config.config.cmd, cmd, "{lines}");
    }
    assert!(
        planned("FROM base\nCMD x\n", &options())
            .config
            .config
            .args_escaped,
        "R-CMD-3"
    );
}

// R-HIST-5, and R-HIST-4 for the |N part
#[test]
fn history_is_written_to_the_letter() {
    for (lines, expected) in [
        ("RUN echo hi", "RUN /bin/sh -c echo hi # buildkit"),
        ("RUN [\"a\",\"b c\"]", "RUN a b c # buildkit"),
        ("ARG X=1\nRUN t", "RUN |1 X=1 /bin/sh -c t # buildkit"),
        (
            "ARG X=1\nARG Y\nARG X=2\nRUN t",
            "RUN |2 X=2 Y= /bin/sh -c t # buildkit",
        ),
        (
            "ARG X=1\nENV X=e\nRUN t",
            "RUN |1 X=e /bin/sh -c t # buildkit",
        ),
        ("RUN <<E\na\nb\nE", "RUN /bin/sh -c a\nb\n # buildkit"),
        (
            "RUN cat <<E\nx\nE",
            "RUN /bin/sh -c cat <<E\nx\nE # buildkit",
        ),
        (
            "COPY --from=x --chown=1:2 a b /d/",
            "COPY --chown=1:2 a b /d/ # buildkit",
        ),
        (
            "COPY --chmod=755 --chown=1:2 --parents a d",
            "COPY --parents --chown=1:2 --chmod=755 a d # buildkit",
        ),
        ("COPY <<F /d/\nx\nF", "COPY <<F /d/ # buildkit"),
        ("COPY <<F a /d/\nx\nF", "COPY a <<F /d/ # buildkit"),
        ("ADD u /d", "ADD u /d # buildkit"),
        ("WORKDIR /w\nWORKDIR x", "WORKDIR /w/x"),
        ("ENV A=\"x y\" B=2", "ENV A=x y B=2"),
        ("ARG A=1 B", "ARG A=1 B"),
        ("LABEL a=1", "LABEL a=1"),
        ("EXPOSE 80 443", "EXPOSE [443/tcp 80/tcp]"),
        ("USER u", "USER u"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("CMD echo hi", "CMD [\"/bin/sh\" \"-c\" \"echo hi\"]"),
        ("CMD [\"a\",\"b c\"]", "CMD [\"a\" \"b c\"]"),
        ("ENTRYPOINT [\"x\",\"y\"]", "ENTRYPOINT [\"x\" \"y\"]"),
        ("SHELL [\"/bin/sh\",\"-ec\"]", "SHELL [/bin/sh -ec]"),
        ("STOPSIGNAL 9", "STOPSIGNAL 9"),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        (
            "HEALTHCHECK --interval=5s --timeout=1m30s --retries=3 CMD curl -f http://x",
            "HEALTHCHECK {Test:[CMD-SHELL curl -f http://x] Interval:5s Timeout:1m30s StartPeriod:0s StartInterval:0s Retries:3}",
        ),
        ("MAINTAINER me", "MAINTAINER me"),
    ] {
        let plan = planned(
            &format!("FROM scratch AS x\nFROM scratch\n{lines}\n"),
            &options(),
        );
        let step = plan.history.last().unwrap();
        assert_eq!(step.entry.created_by, expected, "{lines}");
        assert_eq!(step.entry.comment, "buildkit.dockerfile.v0", "R-HIST-1");
        let layered = ["RUN", "COPY", "ADD", "WORKDIR"]
            .iter()
            .any(|keyword| expected.starts_with(keyword));
        assert_eq!(step.vertex.is_some(), layered, "{lines}");
        assert_eq!(step.entry.empty_layer, !layered, "{lines}");
    }
    assert!(
        planned("FROM scratch\nONBUILD RUN x\n", &options())
            .history
            .is_empty(),
        "R-ONB-1"
    );
}

// R-HD-11
#[test]
fn a_script_with_an_interpreter_is_a_file_of_its_own() {
    let plan = planned(
        "FROM scratch\nRUN <<E\n#!/usr/bin/env python3\nprint(1)\nE\n",
        &options(),
    );
    let exec = last_exec(&plan);
    assert_eq!(exec.argv, ["/bin/sh", "-c", "/dev/pipes/E"]);
    assert_eq!(
        (exec.files[0].path.as_str(), exec.files[0].mode),
        ("/dev/pipes/E", 0o755)
    );
    assert_eq!(exec.files[0].content, b"#!/usr/bin/env python3\nprint(1)\n");
}

// R-FROM-10, R-FROM-11, R-CFG-6
#[test]
fn scratch_has_a_path_and_a_workdir_and_no_history() {
    let plan = planned("FROM scratch\n", &options());
    let json = String::from_utf8(plan.config.to_json().unwrap()).unwrap();
    let config = r#""config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"}"#;
    assert!(json.contains(config), "{json}");
    assert!(plan.config.history.is_none() && plan.config.created.is_none());
}

// Table of R-STG-10
#[test]
fn only_needed_stages_are_built() {
    let dockerfile =
        "FROM scratch AS a\nRUN 1\nFROM a AS b\nRUN 2\nFROM scratch AS c\nCOPY --from=a / /\n";
    for (target, expected) in [
        (None, [true, false, true]),
        (Some("B"), [true, true, false]),
        (Some("a"), [true, false, false]),
    ] {
        let plan = planned(
            dockerfile,
            &PlanOptions {
                target: target.map(str::to_owned),
                ..options()
            },
        );
        let built: Vec<_> = plan
            .stages
            .iter()
            .map(|stage| stage.output.is_some())
            .collect();
        assert_eq!(built, expected, "{target:?}");
    }
}

// R-PROG-2
#[test]
fn steps_are_numbered() {
    for (dockerfile, expected) in [
        (
            "FROM base\nrun make\nENV A=1\nWORKDIR /$A\n",
            "[2/3] RUN make; [3/3] WORKDIR /1",
        ),
        ("FROM base AS only\nRUN make\n", "[2/2] RUN make"),
        (
            "FROM scratch AS b\nRUN 1\nFROM scratch\nRUN 2\nCOPY --from=b / /\n",
            "[b 1/1] RUN 1; [stage-1 1/2] RUN 2; [stage-1 2/2] COPY --from=b / /",
        ),
        ("FROM scratch\nRUN <<E\na\nb\nE\n", "[1/1] RUN <<E (a...)"),
        (
            "FROM scratch\nRUN 1\nRUN 2\nRUN 3\nRUN 4\nRUN 5\nRUN 6\nRUN 7\nRUN 8\nRUN 9\nRUN 10\n",
            "[ 1/10] RUN 1; [ 2/10] RUN 2",
        ),
    ] {
        let plan = planned(dockerfile, &options());
        let steps = plan
            .graph
            .node_weights()
            .filter(|vertex| !matches!(vertex.op, Op::Source(_)));
        let names = steps
            .map(|vertex| vertex.name.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        assert!(names.starts_with(expected), "{names}");
    }
    let plan = planned(
        "FROM base\nRUN 1\n",
        &PlanOptions {
            multi_platform: true,
            ..options()
        },
    );
    assert_eq!(plan.graph[plan.target].name, "[linux/amd64 2/2] RUN 1");
}

// R-MNT-5, R-MNT-6, R-MNT-14, R-MNT-16 and the table of 3.10
#[test]
fn mounts_mean_what_the_table_says() {
    for (flag, expected) in [
        ("target=/src", "bind \"/src\" from input 1 \"/\" ro"),
        (
            "from=b,source=/o,target=/o",
            "bind \"/o\" from input 1 \"/o\" ro",
        ),
        ("from=B,target=o,rw", "bind \"/w/o\" from input 1 \"/\" rw"),
        ("from=b", "bind \"/w\" from input 1 \"/\" ro"),
        (
            "type=cache,target=/c,sharing=locked",
            "cache \"/c\" id \"/c\" (default) Locked",
        ),
        (
            "type=cache,target=c",
            "cache \"/w/c\" id \"c\" (default) Shared",
        ),
        (
            "type=cache,id=x,dst=/c/,uid=5,mode=0700,ro=1",
            "cache \"/c\" id \"x\" Shared mode 0700 uid 5 ro",
        ),
        (
            "type=secret,id=t",
            "secret \"t\" file \"/run/secrets/t\" mode 0400 uid 0 gid 0",
        ),
        (
            "type=secret,id=t,env=T",
            "secret \"t\" env \"T\" mode 0400 uid 0 gid 0",
        ),
        (
            "type=secret,target=/a/b,required",
            "secret \"b\" file \"/a/b\" mode 0400 uid 0 gid 0 required",
        ),
        (
            "type=tmpfs,target=/t,size=64m",
            "tmpfs \"/t\" 67108864 bytes",
        ),
        (
            "type=ssh,required=false",
            "ssh \"default\" socket \"/run/buildkit/ssh_agent.0\" mode 0600 uid 0 gid 0",
        ),
        ("TYPE=Tmpfs,target=/$V", "tmpfs \"/v\""),
    ] {
        let plan = planned(
            &format!("FROM scratch AS b\nFROM base\nENV V=v\nWORKDIR /w\nRUN --mount={flag} t\n"),
            &options(),
        );
        let dump = kiln_planner::dump::dump(&plan);
        assert!(dump.contains(&format!("  {expected}\n")), "{flag}\n{dump}");
    }
}

// R-MNT-2, R-MNT-4, R-MNT-5, R-MNT-11, R-MNT-13, R-MNT-16
#[test]
fn wrong_mounts_are_refused() {
    for (flag, message) in [
        (
            "foo=1",
            "unexpected key 'foo' in 'foo=1' (did you mean from?)",
        ),
        (
            "form=b",
            "unexpected key 'form' in 'form=b' (did you mean from?)",
        ),
        (
            "zz,target=/x",
            "invalid field 'zz' must be a key=value pair",
        ),
        ("type=x", "unsupported mount type \"x\""),
        (
            "required,type=secret,id=t",
            "unexpected key 'required' for mount type 'bind'",
        ),
        (
            "type=cache,size=1,target=/c",
            "unexpected key 'size' for mount type 'cache'",
        ),
        ("target=/", "invalid mount target \"/\""),
        (
            "sharing=locked,target=/x",
            "invalid cache sharing set for bind mount",
        ),
        (
            "type=cache,sharing=x,target=/x",
            "unsupported sharing value \"x\"",
        ),
        (
            "type=tmpfs,mode=700,target=/x",
            "mode not allowed for \"tmpfs\" type mounts",
        ),
        (
            "uid=1,target=/x",
            "uid not allowed for \"bind\" type mounts",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,source=a,id=b",
            "both source and id can't be set",
        ),
        (
            "type=secret,id=a,from=scratch",
            "secret mount should not have a from",
        ),
        (
            "type=secret,id=a,sharing=shared",
            "secret mount should not define sharing",
        ),
        ("type=ssh,source=x", "ssh does not support source"),
    ] {
        let messages = refused(&format!("FROM base\nRUN --mount={flag} t\n"), &options());
        assert_eq!(messages, [message], "{flag}");
    }
}

// R-COPY-4, R-COPY-2, R-STG-8, R-STG-1, R-FROM-5, R-VOLUME-1, R-STOP-1, R-COPY-27, R-COPY-5, R-RUN-2, R-RUN-4, R-ADD-8, R-ADD-10
#[test]
fn wrong_dockerfiles_are_refused() {
    for (dockerfile, messages) in [
        (
            "FROM a AS a\nCOPY --from=a / /\n",
            &["circular dependency detected on stage: a"][..],
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nCOPY --from=a / /\n",
            &["circular dependency detected on stage: a"],
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM a AS b\n",
            &["circular dependency detected on stage: a"],
        ),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nFROM a\n",
            &["cannot copy from stage \"b\", it needs to be defined before current stage \"a\""],
        ),
        (
            "FROM x AS a\nRUN --mount=from=b,target=/t t\nFROM x AS b\nFROM a\n",
            &[
                "cannot mount from stage \"b\" to \"/t\", stage needs to be defined before current command",
            ],
        ),
        ("FROM x\nCOPY --from=7 / /\n", &["invalid stage index 7"]),
        ("FROM x\nCOPY --from=-1 / /\n", &["invalid stage index -1"]),
        (
            "FROM x AS builder\nFROM Builder\n",
            &[
                "failed to parse stage name \"Builder\": `Builder` is not an image reference: repository name (library/Builder) must be lowercase",
            ],
        ),
        ("FROM $X\n", &["base name ($X) should not be blank"]),
        (
            "FROM --platform=$X a\n",
            &["empty platform value from expression $X"],
        ),
        (
            "FROM a\nVOLUME $X\n",
            &["VOLUME specified can not be an empty string"],
        ),
        ("FROM a\nSTOPSIGNAL FOO\n", &["invalid signal: FOO"]),
        (
            "FROM a\nCOPY --chmod=8 a b\n",
            &["invalid chmod parameter: '8'. it should be octal string and between 0 and 07777"],
        ),
        (
            "FROM a\nCOPY http://x/y /\n",
            &["source can't be a URL for COPY"],
        ),
        (
            "FROM a\nCOPY git@x:y /\n",
            &["source can't be a git ref for COPY"],
        ),
        (
            "FROM a\nRUN --network=host x\n",
            &["network.host is not allowed"],
        ),
        (
            "FROM a\nRUN --security=insecure x\n",
            &["security.insecure is not allowed"],
        ),
        (
            "FROM a\nADD --checksum=sha256:00 a b\n",
            &["checksum requires HTTP(S) or Git sources"],
        ),
        (
            "FROM a\nADD --checksum=sha256:00 a b c\n",
            &["checksum can't be specified for multiple sources"],
        ),
        (
            "FROM a\nCOPY --exclude=[ a b\n",
            &["invalid excludepatterns"],
        ),
        (
            "FROM a\nADD --checksum=sha256:00 https://x/y b /\n",
            &["checksum can't be specified for multiple sources"],
        ),
        (
            "FROM a\nADD --checksum=sha256:00 <<E /\nE\n",
            &["checksum requires HTTP(S) or Git sources"],
        ),
        (
            "FROM a\nADD --checksum=sha1:00 https://x/y /\n",
            &["unsupported digest algorithm"],
        ),
        (
            "FROM a\nADD --checksum=sha256:00 https://x/y /\n",
            &["invalid checksum digest length"],
        ),
        (
            "FROM a\nADD --checksum=00 https://x/y /\n",
            &["invalid checksum digest format"],
        ),
        (
            "FROM a\nADD --checksum=xyz https://x/y.git /\n",
            &["invalid checksum xyz for Git URL, expected hex commit hash"],
        ),
        (
            "FROM a\nADD --checksum=ab https://x/y.git?checksum=cd /\n",
            &["checksum mismatch \"ab\" != \"cd\""],
        ),
        (
            "FROM a\nADD --keep-git-dir=false https://x/y.git?keep-git-dir=1 /\n",
            &["inconsistent keep-git-dir configuration"],
        ),
        (
            "FROM a\nADD https://x/y.git?z=1 git@h:p?branch=a&tag=b /\n",
            &["unexpected query \"z\"", "branch conflicts with tag"],
        ),
        (
            "FROM a\nADD https://u:hunter2@x/%zz /\n",
            &["invalid URL `https://u:xxxxx@x/%zz`"],
        ),
        // All errors are told, not only the first.
        (
            "FROM a\nEXPOSE x\nSTOPSIGNAL 0\n",
            &["invalid containerPort: x", "invalid signal: 0"],
        ),
    ] {
        assert_eq!(refused(dockerfile, &options()), messages, "{dockerfile}");
    }
    let target = PlanOptions {
        target: Some("0".to_owned()),
        ..options()
    };
    assert_eq!(
        refused("FROM x AS a\n", &target),
        ["target stage \"0\" could not be found"]
    );
}

// R-ERR-3, R-STG-3
#[test]
fn evaluation_errors_of_dropped_stages_are_not_looked_for() {
    planned(
        "FROM a AS dropped\nEXPOSE x\nCOPY --from=later / /\nRUN --mount=type=x t\nFROM scratch\nFROM a AS later\nFROM scratch\n",
        &options(),
    );
    let messages = refused(
        "FROM a AS dropped\nCOPY --from=9 / /\nFROM scratch\n",
        &options(),
    );
    assert_eq!(messages, ["invalid stage index 9"]);
}

// R-CACHE-22, R-CACHE-23
#[test]
fn no_cache_is_for_run_copy_and_add() {
    let dockerfile = "FROM base AS A\nWORKDIR /w\nRUN 1\nFROM base\nCOPY --from=a /x /\n";
    let marked = |no_cache| {
        let plan = planned(
            dockerfile,
            &PlanOptions {
                no_cache,
                ..options()
            },
        );
        let marked = plan
            .graph
            .node_weights()
            .filter(|vertex| vertex.no_cache)
            .map(|vertex| vertex.name.clone());
        marked.collect::<Vec<_>>()
    };
    assert_eq!(
        marked(kiln_planner::NoCache::All),
        ["[a 3/3] RUN 1", "[stage-1 2/2] COPY --from=a /x /"]
    );
    assert_eq!(
        marked(kiln_planner::NoCache::Stages(vec!["A".to_owned()])),
        ["[a 3/3] RUN 1"]
    );
}

// R-HD-14, R-HD-15, R-HD-16, R-HD-17, R-COPY-10
#[test]
fn inline_files_follow_named_sources() {
    let plan = planned(
        "FROM scratch\nENV V=val\nWORKDIR /w\nCOPY <<F a <<\"G\" d/.\n$V \\$V\nF\n$V\nG\n",
        &options(),
    );
    let dump = kiln_planner::dump::dump(&plan);
    let expected = "  copy to \"/w/d\" (directory)\n  from input 1 \"/a\"\n  inline \"F\" \"val $V\\n\"\n  inline \"G\" \"$V\\n\"\n";
    assert!(dump.contains(expected), "{dump}");
}

// R-COPY-6, R-COPY-30, R-COPY-31
#[test]
fn copy_sources_are_rooted() {
    let plan = planned(
        "FROM scratch\nCOPY --link --chmod=u+x ../a ./b/ /c/../d .\nCOPY --link --parents x/./y /o\n",
        &options(),
    );
    let dump = kiln_planner::dump::dump(&plan);
    for line in [
        "from input 1 \"/a\"",
        "from input 1 \"/b\"",
        "from input 1 \"/d\"",
        "copy to \"/\" (directory)",
        "chmod u+x",
    ] {
        assert!(dump.contains(&format!("  {line}\n")), "{line}\n{dump}");
    }
    assert!(
        dump.contains("  from input 1 \"/x/y\" below \"/x\"\n"),
        "{dump}"
    );
    assert_eq!(dump.matches("  link\n").count(), 1, "{dump}");
}

// R-SDE-1
#[test]
fn the_source_date_comes_from_the_build_argument_or_the_global_arg() {
    for (dockerfile, args, expected) in [
        ("FROM scratch\n", "SOURCE_DATE_EPOCH=5", Some(5)),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM scratch\n", "", Some(6)),
        (
            "ARG SOURCE_DATE_EPOCH=6\nFROM scratch\n",
            "SOURCE_DATE_EPOCH=5",
            Some(5),
        ),
        (
            "ARG SOURCE_DATE_EPOCH\nFROM scratch\n",
            "SOURCE_DATE_EPOCH=",
            None,
        ),
    ] {
        assert_eq!(
            planned(dockerfile, &with_args(args)).source_date_epoch,
            expected
        );
    }
    assert_eq!(
        refused("FROM scratch\n", &with_args("SOURCE_DATE_EPOCH=x")),
        ["invalid SOURCE_DATE_EPOCH: x"]
    );
}

// R-FROM-8, R-STG-2
#[test]
fn references_are_checked_everywhere_and_resolved_only_where_needed() {
    let options = PlanOptions {
        target: Some("a".to_owned()),
        ..options()
    };
    assert_eq!(
        refused("FROM scratch AS a\nFROM UPPER/x/Y AS b\n", &options).len(),
        1,
        "an unreachable stage's reference is checked"
    );
    let source = kiln_parser::Source::new("Dockerfile", "FROM debian AS a\nFROM alpine AS b\n");
    let parsed = kiln_parser::parse(&source);
    let (asked, _) = support::resolve_and_plan(&parsed, &options, &support::Images::new());
    assert_eq!(asked, ["docker.io/library/debian:latest linux/amd64"]);
}

// R-CMD-4, R-VOLUME-3, R-RUN-8
#[test]
fn the_last_command_counts_and_a_volume_changes_nothing_that_follows() {
    let dockerfile = "FROM debian\nCMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"c\"]\nENTRYPOINT [\"d\"]\nVOLUME /v\nRUN touch /v/x\n";
    let plan = planned(dockerfile, &options());
    let config = &plan.config.config;
    assert_eq!(config.cmd, Some(vec!["b".to_owned()]));
    assert_eq!(config.entrypoint, Some(vec!["d".to_owned()]));
    let last = plan.history.last().unwrap();
    assert_eq!(
        last.entry.created_by,
        "RUN /bin/sh -c touch /v/x # buildkit"
    );
    assert!(last.vertex.is_some(), "what is done below a volume is kept");
}

// R-ONB-6
#[test]
fn triggers_fire_in_the_child_and_not_in_its_children() {
    let stages = "FROM debian AS a\nONBUILD ENV X=1\nFROM a AS b\nFROM b AS c\n";
    let built = |target: &str| {
        let options = PlanOptions {
            target: Some(target.to_owned()),
            ..options()
        };
        planned(stages, &options)
    };
    assert_eq!(built("a").config.config.on_build, ["ENV X=1"]);
    assert!(built("b").config.config.on_build.is_empty());
    let fired = |plan: &Plan| {
        created_by(plan)
            .iter()
            .filter(|text| **text == "ENV X=1")
            .count()
    };
    assert_eq!(
        (fired(&built("a")), fired(&built("b")), fired(&built("c"))),
        (0, 1, 1)
    );
}

// R-STG-4
#[test]
fn stages_that_do_not_need_each_other_have_no_edge_between_them() {
    let plan = planned(
        "FROM debian AS a\nRUN a\nFROM debian AS b\nRUN b\nFROM scratch\nCOPY --from=a /x /\nCOPY --from=b /y /\n",
        &options(),
    );
    let runs: Vec<_> = plan
        .graph
        .node_indices()
        .filter(|vertex| matches!(plan.graph[*vertex].op, Op::Exec(_)))
        .collect();
    assert_eq!(runs.len(), 2);
    assert!(
        !plan.graph.contains_edge(runs[0], runs[1]) && !plan.graph.contains_edge(runs[1], runs[0])
    );
}

// R-DIR-8: the frontend is this engine, whichever is named; the argument is no variable.
#[test]
fn a_frontend_may_be_named_and_is_no_variable() {
    let plan = planned(
        "FROM debian\nRUN true\n",
        &with_args("BUILDKIT_SYNTAX=docker/dockerfile:1"),
    );
    assert_eq!(run_env(&plan), "");
    assert!(
        plan.unused_build_args.is_empty(),
        "{:?}",
        plan.unused_build_args
    );
}
