//! The commands about images, over images that need no sandbox to be made.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::TestEnv;

/// Two images: `team/base:1` with a file, and `app` made of it, with a label and a command.
fn two_images() -> TestEnv {
    let env = TestEnv::with_files(&[
        ("base/Dockerfile", "FROM scratch\nCOPY file /etc/file\n"),
        ("base/file", "of the base"),
        (
            "app/Dockerfile",
            "FROM team/base:1\nCOPY app /app\nLABEL team=blue kind=\"a b\"\nENV A=1 B=\"two words\"\nCMD [\"/app\", \"-v\"]\n",
        ),
        ("app/app", "of the app"),
    ]);
    for (tag, folder, epoch) in [
        ("team/base:1", "base", "1000000000"),
        ("app", "app", "1100000000"),
    ] {
        let mut build = env.command(&["build", "-q", "-t", tag, folder]);
        env.outcome(build.env("SOURCE_DATE_EPOCH", epoch))
            .succeeds();
    }
    env
}

#[test]
fn lists_are_printed_as_asked() {
    let env = two_images();
    let cases: [(&[&str], &str); 9] = [
        (
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
            "app:latest\nteam/base:1\n",
        ),
        (
            &["images", "--format", "table {{.Repository}}\\t{{.Size}}"],
            "REPOSITORY   SIZE\napp          4.61kB\nteam/base    2.56kB\n",
        ),
        (
            &[
                "history",
                "--format",
                "{{.Size}} {{.CreatedBy}}",
                "team/base:1",
            ],
            "2.56kB COPY file /etc/file # buildkit\n",
        ),
        (
            &[
                "history",
                "-H=false",
                "--format",
                "{{.Size}}",
                "team/base:1",
            ],
            "2560\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{.Config.Cmd}} {{json (slice .Config.Env 1)}}",
                "app",
            ],
            "[/app -v] [\"A=1\",\"B=two words\"]\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{range .RepoTags}}{{println .}}{{end}}",
                "app",
            ],
            "app:latest\n\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{index .Config.Labels \"kind\"}}|{{.Config.User}}|{{.Os}}",
                "app",
            ],
            "a b||linux\n",
        ),
        (
            &[
                "builds",
                "ls",
                "--format",
                "{{.Status}} {{.Name}} {{len .Tags}}",
            ],
            "Completed app:latest 1\nCompleted team/base:1 1\n",
        ),
        (
            &["context", "ls", "--format", "{{.path}} {{.size}}", "base"],
            "Dockerfile 33\nfile 11\n",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(env.kiln(args).succeeds().stdout, expected, "{args:?}");
    }
    let wrong = env.kiln(&["images", "--format", "{{.Nope}}"]);
    assert!(
        wrong.error().contains("there is no field `Nope`"),
        "{}",
        wrong.stderr
    );
    assert_eq!(wrong.code, 2);
    for (command, format) in [("images", "yaml"), ("cache", "x")] {
        assert_eq!(env.kiln(&[command, "--format", format]).code, 2);
    }
}

#[test]
fn images_are_filtered_as_docker_does() {
    let env = two_images();
    let id = env.kiln(&["images", "-q", "app"]).succeeds().stdout;
    env.kiln(&["build", "-q", "base", "-f", "app/Dockerfile"])
        .fails(1);
    env.kiln(&["tag", "team/base:1", "app"]).succeeds();
    let listed = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        let args: Vec<_> = ["images", "--format", "{{.Repository}}"]
            .into_iter()
            .chain(flags)
            .collect();
        let mut names: Vec<_> = env
            .kiln(&args)
            .succeeds()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names.join(" ")
    };
    let cases: [(&[&str], &str); 12] = [
        (&[], "<none> app team/base"),
        (&["dangling=true"], "<none>"),
        (&["dangling=false"], "app team/base"),
        (&["label=team"], "<none>"),
        (&["label=team=blue", "label=kind"], "<none>"),
        (&["label=team=red"], ""),
        (&["since=app"], "<none>"),
        (&["before=app"], ""),
        (&[&format!("before={}", id.trim())], "app team/base"),
        (&["reference=team/*"], "team/base"),
        (
            &["reference=team/*", "reference=app:latest"],
            "app team/base",
        ),
        (&["reference=*"], "app"),
    ];
    for (filters, expected) in cases {
        assert_eq!(listed(filters), expected, "{filters:?}");
    }
    assert_eq!(env.kiln(&["images", "--filter", "name=x"]).code, 2);
    assert_eq!(env.kiln(&["images", "--filter", "since=nothing"]).code, 1);
    assert_eq!(
        env.kiln(&["images", "-aq"])
            .succeeds()
            .stdout
            .lines()
            .count(),
        2
    );
}
