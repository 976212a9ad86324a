//! What steps may see, use and take, and how they end: limits, agents, permissions, pragmas. All of it needs the sandbox.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod test_env;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use test_env::{Outcome, TestEnv, files_below, is_running, number_of_its_own};

/// A place with `busybox` in its store and this Dockerfile; `None` where nothing can run.
fn with_dockerfile(text: &str) -> Option<TestEnv> {
    let env = TestEnv::with_files(&[("Dockerfile", text)]);
    env.import_busybox().then_some(env)
}

fn build(env: &TestEnv, flags: &str) -> Outcome {
    let flags = flags.split_whitespace();
    let args: Vec<&str> = ["build", "--progress=plain", "."]
        .into_iter()
        .chain(flags)
        .collect();
    env.kiln(&args)
}

fn was_cached(outcome: &Outcome) -> bool {
    outcome.stderr.contains("CACHED")
}

/// Whether steps have mounts and namespaces of their own. `chroot` can make neither.
fn has_namespaces() -> bool {
    TestEnv::new().rung_name() != "chroot"
}

/// What holds in a step without a network: there is a loopback interface alone, or, without a network namespace, no socket but Unix ones.
fn no_network() -> &'static str {
    match has_namespaces() {
        true => "test \"$(ls /sys/class/net)\" = lo",
        false => "! test -e /sys/class/net && ! ip addr",
    }
}

#[test]
fn sandbox_flags_of_steps_are_seen_by_them() {
    // R-CLI-4, R-RT-7, R-RT-12, R-RT-14. Only a tmpfs of its own can limit `/dev/shm`.
    let size = match has_namespaces() {
        true => "size=1024k",
        false => "",
    };
    let no_network = no_network();
    let dockerfile = format!(
        "FROM busybox\n\
        RUN grep -qx '10.0.0.2\tdb' /etc/hosts && grep -qx 'fe80::1\tsix' /etc/hosts\n\
        RUN test $(ulimit -n) = 100 && test $(ulimit -Hn) = 200\n\
        RUN test $(stat -f -c '%b * %S / 1024' /dev/shm | sed 's/ .*//') -gt 0 && grep -q '/dev/shm tmpfs .*{size}' /proc/mounts\n\
        RUN --network=none {no_network}\n"
    );
    let Some(env) = with_dockerfile(&dockerfile) else {
        return;
    };
    let flags =
        "--add-host db=10.0.0.2 --add-host six:[fe80::1] --ulimit nofile=100:200 --shm-size 1m";
    build(&env, flags).succeeds();
    // R-CACHE-5: the name of a host is in the key, its address is not.
    let moved = flags.replace("10.0.0.2", "10.0.0.3");
    assert!(was_cached(&build(&env, &moved).succeeds()));
    let other = build(&env, &flags.replace("100:200", "101:200"));
    other.fails_with(
        1,
        "error[run-failed]: `RUN test $(ulimit -n) = 100 && test $(ulimit -Hn) = 200` exited with status 1",
    );
}

#[test]
fn sandbox_a_network_for_all_holds_where_none_is_chosen() {
    // R-RUN-4
    let dockerfile = format!("FROM busybox\nRUN {}\n", no_network());
    let Some(env) = with_dockerfile(&dockerfile) else {
        return;
    };
    build(&env, "--network none").succeeds();
    env.write("Dockerfile", "FROM busybox\nRUN --network=host true\n");
    build(&env, "").fails_with(2, "error[not-allowed]: network.host is not allowed");
    build(&env, "--allow network.host").succeeds();
    build(&env, "--network host").succeeds();
}

#[test]
fn sandbox_a_step_after_one_that_changed_nothing_finds_nothing_of_it() {
    // A copied root filesystem keeps its times.
    let times = match has_namespaces() {
        true => "test $(stat -c %Y /) -gt 1000000000",
        false => "true",
    };
    let dockerfile = "FROM busybox\n\
        RUN true\n\
        RUN true\n\
        RUN echo x > /dev/shm/x && echo x > /dev/x && echo $$\n\
        RUN test ! -e /dev/shm/x && test ! -e /dev/x && touch /x && rm /x\n\
        RUN test ! -e /x && chmod 700 /\n\
        RUN test $(stat -c %a /) = 755 && touch -d '2001-01-01 00:00' /\n\
        RUN TIMES && echo y > /y\n\
        RUN test $(cat /y) = y\n\
        RUN test $(cat /y) = y && rm /y\n\
        RUN test ! -e /y\n";
    let Some(env) = with_dockerfile(&dockerfile.replace("TIMES", times)) else {
        return;
    };
    build(&env, "--no-cache").succeeds();
    env.write("Dockerfile", "FROM busybox\nRUN true\nRUN true\nRUN true\nRUN touch /x\nRUN true\nRUN true\nRUN test -e /x && false\n");
    build(&env, "").fails_with(
        1,
        "error[run-failed]: `RUN test -e /x && false` exited with status 1",
    );
    // That is no change of any file.
    env.write("Dockerfile", "FROM busybox\nRUN true\nRUN true\nRUN --security=insecure mount -o remount,ro / || true\nRUN touch /x\n");
    build(&env, "--no-cache --allow security.insecure").succeeds();
}

#[test]
fn sandbox_what_a_step_touches_without_a_change_is_in_no_other_image() {
    // R-LAY-7: the second steps have the same layer, which says nothing of `/a` and `/b`.
    let touch = "touch -d '2001-01-01 00:00' /foo";
    let one = format!(
        "FROM busybox\nRUN mkdir -m 700 /a && echo > /b\n\
         RUN touch /a/x && rm /a/x && cp -p /b /a/b && mv /a/b /b && {touch}\n\
         RUN test -d /a && test -f /b\n"
    );
    let other = format!(
        "FROM busybox\nRUN echo > /c\nRUN {touch}\nRUN test -e /foo && test ! -e /a && test ! -e /b\n"
    );
    let Some(env) = with_dockerfile(&one) else {
        return;
    };
    build(&env, "").succeeds();
    env.write("Dockerfile", &other);
    build(&env, "").succeeds();
}

#[test]
fn sandbox_what_is_put_back_into_a_directory_made_anew_is_there_in_the_next_step() {
    // R-LAY-4, R-LAY-7: the layer says only that `/d/b` went.
    let dockerfile = "FROM busybox\nRUN mkdir -p /d/e && echo 1 >/d/a && echo 2 >/d/b && echo 3 >/d/e/c\n\
         RUN cp -a /d /new && rm -r /d && mv /new /d && rm /d/b\n\
         RUN test \"$(cat /d/a /d/e/c)\" = \"$(printf '1\\n3')\" && test ! -e /d/b\n\
         RUN cp -a /d /new && rm -r /d && mv /new /d\n\
         RUN test \"$(find /d | sort | tr '\\n' ' ')\" = '/d /d/a /d/e /d/e/c '\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    build(&env, "").succeeds();
}

/// An agent that lists no keys, once for each connection.
fn serve_agent(listener: UnixListener) {
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 5];
            if client.read_exact(&mut request).is_ok() {
                let _ = client.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]);
            }
        }
    });
}

#[test]
fn sandbox_an_agent_is_there_for_the_step_alone() {
    // R-MNT-16, R-CACHE-6
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=ssh --mount=type=ssh,id=git,target=/a/sock,mode=640,uid=7,gid=8 \
        test \"$SSH_AUTH_SOCK\" = /run/buildkit/ssh_agent.0 \
        && test \"$(stat -c '%F %a %u %g' /run/buildkit/ssh_agent.0)\" = 'socket 600 0 0' \
        && test \"$(stat -c '%F %a %u %g' /a/sock)\" = 'socket 640 7 8' \
        && ! chmod 777 /a/sock\n\
        RUN test ! -e /run/buildkit && test ! -e /a && test -z \"$SSH_AUTH_SOCK\"\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    let socket = env.work().join("agent.sock");
    serve_agent(UnixListener::bind(&socket).unwrap());
    let agents = "--ssh default=agent.sock --ssh git=agent.sock";
    build(&env, &format!("{agents} -o out")).succeeds();
    let left = files_below(&env.work().join("out"));
    assert!(
        !left
            .iter()
            .any(|path| path.to_string_lossy().contains("agent"))
    );
    // Nothing of it is in the key, nor where it comes from.
    assert!(was_cached(&build(&env, "").succeeds()));
    let own = env
        .command(&["build", "--ssh", "default", "."])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&own.stderr).into_owned();
    assert!(told.contains("`SSH_AUTH_SOCK` is not set"), "{told}");
}

#[test]
fn sandbox_an_agent_that_is_not_there_is_missed_when_required() {
    // R-MNT-16
    let optional = "FROM busybox\nRUN --mount=type=ssh test ! -e \"$SSH_AUTH_SOCK\" && test -n \"$SSH_AUTH_SOCK\"\n";
    let Some(env) = with_dockerfile(optional) else {
        return;
    };
    build(&env, "").succeeds();
    env.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh,id=git,required true\n",
    );
    build(&env, "").fails_with(
        1,
        "error[ssh-agent]: no SSH key \"git\" forwarded from the client",
    );
    env.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    build(&env, "--ssh git=key").fails_with(
        2,
        "error: `key` is of no use to `--ssh git`: there is no private key in it",
    );
}

#[test]
fn sandbox_insecure_steps_need_permission_and_have_all() {
    // R-RUN-5, R-RT-6
    let (filters, device, system) = match TestEnv::new().rung_name().as_str() {
        "userns-single" => {
            return eprintln!("skipped: with one id, the kernel's own tables always say root");
        }
        // By a filter device nodes are recorded, and those of an insecure step can't be made.
        "userns-range" | "userns-given" => ("2", "! -e", "rw"),
        // Without mounts by one `/proc`, `/dev` and `/sys` are answered, which has no more than in other steps.
        "chroot" => ("2", "! -e", "ro"),
        _ => ("0", "-c", "rw"),
    };
    let dockerfile = "FROM busybox\nUSER builder\n\
        RUN --security=insecure grep -q 'Seccomp:.FILTERS' /proc/self/status && test DEVICE /dev/kmsg \
        && ! grep -q 'CapEff:.00000000a80425fb' /proc/self/status && ! grep -q 'CapAmb:.0000000000000000' /proc/self/status \
        && grep -q '/sys sysfs SYSTEM' /proc/mounts\n\
        USER root\n\
        RUN --security=insecure mkdir /x && mknod /x/null c 1 3 && echo > /x/null && rm -r /x && echo 0 > /proc/sys/vm/drop_caches || true\n\
        RUN test ! -e /dev/kmsg && grep -q 'CapEff:.00000000a80425fb' /proc/self/status && grep -q 'Seccomp:.2' /proc/self/status\n";
    let dockerfile = dockerfile
        .replace("FILTERS", filters)
        .replace("DEVICE", device)
        .replace("SYSTEM", system);
    let Some(env) = with_dockerfile(&dockerfile) else {
        return;
    };
    build(&env, "").fails_with(2, "error[not-allowed]: security.insecure is not allowed");
    build(&env, "--allow security.insecure").succeeds();
}

#[test]
fn sandbox_a_step_that_takes_too_long_is_stopped() {
    let dockerfile = "FROM busybox\nRUN sleep 1000 & sleep 1000\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    let text = "`RUN sleep 1000 & sleep 1000` took longer than";
    build(&env, "--step-timeout 50ms")
        .fails_with(124, &format!("error[step-timeout]: {text} 50ms"));
    // What stands above the instruction goes before.
    env.write(
        "Dockerfile",
        &dockerfile.replace("RUN", "# kiln: timeout=60ms\nRUN"),
    );
    build(&env, "--step-timeout 1h").fails_with(124, &format!("error[step-timeout]: {text} 60ms"));
    // A step that is done in time is not disturbed, even one that closes its output early.
    env.write(
        "Dockerfile",
        "FROM busybox\n# kiln: timeout=1h\nRUN exec >/dev/null 2>&1; true\n",
    );
    build(&env, "").succeeds();
    env.write(
        "Dockerfile",
        "FROM busybox\n# kiln: timeout=50ms\nRUN exec >/dev/null 2>&1; sleep 1000\n",
    );
    assert_eq!(build(&env, "").code, 124);
}

#[test]
fn sandbox_a_failed_step_is_run_again_from_where_it_began() {
    // The cache mount remembers across attempts; what the first one wrote elsewhere is gone.
    let dockerfile = "FROM busybox\n# kiln: retry=2\n\
        RUN --mount=type=cache,target=/c test ! -e /left && touch /left && echo >> /c/n && test $(wc -l < /c/n) = 3\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    let done = build(&env, "").succeeds();
    assert_eq!(
        done.stderr.matches("running it again, retry").count(),
        2,
        "{}",
        done.stderr
    );
    env.write("Dockerfile", "FROM busybox\n# kiln: retry=1\nRUN exit 3\n");
    let failed = build(&env, "");
    failed.fails_with(1, "error[run-failed]: `RUN exit 3` exited with status 3");
    assert!(
        failed
            .stderr
            .contains("kiln: exit status 3; running it again, retry 1 of 1")
    );
}

#[test]
fn sandbox_pragmas_say_how_long_a_result_is_good() {
    let with = |pragma: &str| format!("FROM busybox\n# kiln: {pragma}\nRUN true\n");
    let Some(env) = with_dockerfile(&with("ttl=1h")) else {
        return;
    };
    build(&env, "").succeeds();
    assert!(was_cached(&build(&env, "")));
    env.write("Dockerfile", &with("ttl=0"));
    let plan = env.kiln(&["plan", "."]).succeeds();
    assert!(plan.stdout.contains("its ttl is 0s"), "{}", plan.stdout);
    assert!(!was_cached(&build(&env, "").succeeds()));
    env.write("Dockerfile", &with("no-cache"));
    assert!(!was_cached(&build(&env, "").succeeds()));
    env.write("Dockerfile", &with("tll=1h"));
    let refused = build(&env, "");
    refused.fails_with(2, "error[invalid-pragma]: unknown pragma `tll`");
    assert!(
        refused.stderr.contains("did you mean `ttl`?"),
        "{}",
        refused.stderr
    );
}

#[test]
fn sandbox_a_step_out_of_memory_is_told_so() {
    // R-RT-14, R-RT-15
    // The second limit is for where the first can't be set.
    let dockerfile = "FROM busybox\nRUN ulimit -v 500000; x=a; while true; do x=$x$x; done\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    let failed = build(&env, "--resource memory=32m");
    if failed
        .stderr
        .contains("WARNING: not all limits are applied")
    {
        return eprintln!("*** SKIPPED: there is no cgroup to limit memory with ***");
    }
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let note = "cannot allocate memory: the kernel killed it at its limit of 32.0 MiB";
    assert!(failed.stderr.contains(note), "{}", failed.stderr);
    let run = env.kiln(&[
        "run",
        "-m",
        "32m",
        "busybox",
        "sh",
        "-c",
        "x=a; while true; do x=$x$x; done",
    ]);
    assert_eq!(run.code, 137, "{}", run.stderr);
    assert!(run.stderr.contains(note), "{}", run.stderr);
}

#[test]
fn sandbox_limits_of_processes_hold() {
    // R-RT-14, R-CACHE-6: they are in no key.
    let dockerfile =
        "FROM busybox\nRUN for i in $(seq 30); do sleep 1000 & done; kill -9 -1; true\n";
    let Some(env) = with_dockerfile(dockerfile) else {
        return;
    };
    let limited = build(&env, "--resource pids-limit=10");
    if limited
        .stderr
        .contains("WARNING: not all limits are applied")
    {
        return eprintln!("*** SKIPPED: there is no cgroup to limit processes with ***");
    }
    assert!(limited.stderr.contains("can't fork"), "{}", limited.stderr);
    let note = "the kernel refused it more processes and threads than its limit of 10";
    assert!(limited.stderr.contains(note), "{}", limited.stderr);
    let bomb = number_of_its_own();
    let explode = format!("FROM busybox\nRUN bomb() {{ bomb {bomb} | bomb & }}; bomb; sleep 0.1\n");
    env.write("Dockerfile", &explode);
    build(&env, "--resource pids-limit=50"); // ends, one way or the other
    assert!(!is_running(&bomb));
    env.write("Dockerfile", "FROM busybox\nRUN true\n");
    build(&env, "--resource pids-limit=10").succeeds();
    assert!(was_cached(&build(&env, "--memory 64m").succeeds()));
}

#[test]
fn sandbox_ends_and_figures_are_truthful() {
    // R-RT-15
    let Some(env) = with_dockerfile("FROM busybox\nRUN [\"sh\", \"-c\", \"exit 42\"]\n") else {
        return;
    };
    let text = "error[run-failed]: `RUN [\"sh\", \"-c\", \"exit 42\"]` exited with status 42";
    build(&env, "").fails_with(1, text);
    let script = "RUN (kill -TERM $$) & wait; exec sh -c 'exit 143'";
    env.write("Dockerfile", &format!("FROM busybox\n{script}\n"));
    // Only the first process of a pid namespace hears no signal that it has no handler for.
    let end = match has_namespaces() {
        true => "exited with status 143",
        false => "was killed by SIGTERM",
    };
    build(&env, "").fails_with(1, &format!("error[run-failed]: `{script}` {end}"));
    env.write(
        "Dockerfile",
        "FROM busybox\nRUN dd if=/dev/zero of=/f bs=1M count=1\n",
    );
    let json = env.kiln(&["build", "--progress=rawjson", "."]).succeeds();
    let line = json
        .stderr
        .lines()
        .find(|line| line.contains("\"usages\""))
        .unwrap();
    for name in [
        "userTime",
        "systemTime",
        "peakMemory",
        "diskRead",
        "diskWritten",
    ] {
        assert!(line.contains(name), "{line}");
    }
    assert!(!line.contains("\"peakMemory\":0,"), "{line}");
}

#[test]
fn sandbox_containers_take_the_limits_of_steps() {
    let Some(env) = with_dockerfile("FROM busybox\n") else {
        return;
    };
    let seen = "ulimit -n; tail -1 /etc/hosts";
    let (script, expected) = match has_namespaces() {
        true => (
            format!(
                "{seen}; ls /sys/class/net; grep -o 'shm tmpfs .*size=[0-9]*k' /proc/mounts | grep -o 'size.*'"
            ),
            "lo\nsize=2048k\n",
        ),
        false => (format!("{seen}; {}", no_network()), ""),
    };
    let flags =
        "run --ulimit nofile=64 --add-host db=10.0.0.2 --network none --shm-size 2m busybox sh -c";
    let args: Vec<&str> = flags.split(' ').chain([&*script]).collect();
    let ran = env.kiln(&args).succeeds();
    assert_eq!(ran.stdout, format!("64\n10.0.0.2\tdb\n{expected}"));
}
