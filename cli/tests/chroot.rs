//! The sandbox `chroot`, as root of a container has it: without the capabilities that containers don't have, and, if need be, without MKNOD.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cases;
mod test_env;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cases::archive::ArchivedImage;
use test_env::{Outcome, TestEnv, files_below};

/// What Docker gives its containers; podman gives the same but for MKNOD.
const OF_DOCKER: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,\
    +net_raw,+sys_chroot,+audit_write,+setfcap";

/// Capabilities with and without MKNOD.
fn containers() -> [String; 2] {
    [format!("{OF_DOCKER},+mknod"), OF_DOCKER.to_owned()]
}

/// A place where the sandbox can be had, with a busybox image; `None` where it can't.
fn place(files: &[(&str, &str)]) -> Option<TestEnv> {
    let env = TestEnv::on_rung("chroot");
    for (name, text) in files {
        env.write(name, text);
    }
    (env.import_busybox() && Path::new("/usr/bin/setpriv").exists()).then_some(env)
}

/// The same where a step can also go without answers about `/dev`: that takes nodes that can be used.
fn place_with_nodes(files: &[(&str, &str)]) -> Option<TestEnv> {
    let env = place(files)?;
    let node = env.work().join("null");
    let mut make = Command::new("mknod");
    let made = make.arg(&node).args(["c", "1", "3"]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: this test needs MKNOD, which root of a user namespace can't have");
        return None;
    }
    std::fs::remove_file(node).unwrap();
    Some(env)
}

/// kiln with no more than these capabilities.
fn command(env: &TestEnv, capabilities: &str, args: &[&str]) -> Command {
    let kiln = env.command(args);
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--bounding-set", capabilities, "--inh-caps", "-all", "--"])
        .arg(kiln.get_program())
        .args(kiln.get_args())
        .env_clear()
        .envs(
            kiln.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        // Another form of files than the one that a test's root has.
        .env("KILN_ROOT", env.root().with_extension("container"))
        .current_dir(env.work())
        .stdin(Stdio::null());
    command
}

fn kiln(env: &TestEnv, capabilities: &str, args: &[&str]) -> Outcome {
    env.outcome(&mut command(env, capabilities, args))
}

/// The output of a build's only step.
fn step(env: &TestEnv, capabilities: &str, run: &str) -> Vec<String> {
    kiln(
        env,
        capabilities,
        &["import", "-q", "busybox.tar", "busybox"],
    )
    .succeeds();
    env.write("Dockerfile", &format!("FROM busybox\n{run}\n"));
    let args = ["build", "--no-cache", "--progress=plain", "."];
    let built = kiln(env, capabilities, &args).succeeds();
    let lines = built.stderr.lines().filter_map(|line| {
        let (time, text) = line.strip_prefix("#3 ")?.split_once(' ')?;
        let is_output = time.parse::<f64>().is_ok() && !text.starts_with("kiln:");
        is_output.then(|| text.to_owned())
    });
    lines.collect()
}

#[test]
fn sandbox_chroot_has_a_live_proc_and_devices() {
    let Some(env) = place(&[]) else { return };
    // R-RT-7, R-RT-8, R-RT-11
    let run = r#"RUN readlink /proc/self/exe; echo a >/dev/stdout; echo b | cat /proc/self/fd/0; grep -c ^Name: /proc/self/status; \
 echo gone >/dev/null; stat -c '%F %t:%T' /dev/null; head -c 3 /dev/zero | wc -c; test -s /dev/full; (echo x >/dev/full) 2>/dev/null || echo full; \
 test -d /proc/$$ && test ! -e /proc/999999 && cat /proc/$$/comm; (exec 3</etc/passwd; head -n 1 /dev/fd/3); uname -n; \
 cat /proc/sys/kernel/hostname; echo 1 2>/dev/null >/proc/sys/vm/drop_caches || echo refused; ls /proc/self/fd | wc -l; \
 cd /proc/self && cat comm; cd fd && test -e 0 && echo there; cd /etc && test ! -e comm && cat ../proc/self/comm; ls -d /proc/1 /proc/self/task/*/comm | wc -l"#;
    let expected = "/bin/busybox a b 1 character special file 1:3 3 full sh root:x:0:0:root:/root:/bin/sh \
        buildkitsandbox buildkitsandbox refused 4 sh there cat 2";
    for capabilities in containers() {
        let told = step(&env, &capabilities, run).join(" ");
        assert_eq!(told, expected, "{capabilities}");
    }
}

#[test]
fn sandbox_chroot_leads_nowhere_by_proc() {
    let Some(env) = place(&[]) else { return };
    let run = r#"RUN echo mine >/mark; for p in /proc/self/root /proc/1/root /proc/self/cwd/.. /proc/self/root/../.. /proc/1/cwd/../../..; do \
 cat $p/mark; done; for p in /proc/[0-9]*; do test "$(cat $p/root/mark)" = mine || echo $p; done; \
 for p in $PPID 2 self/task/2; do test ! -e /proc/$p || echo $p; done; cd /proc/self; cat ../../mark; cd root; cat ../mark; \
 echo 1 >/proc/sysrq-trigger; test -e /proc/kcore || echo none"#;
    for capabilities in containers() {
        let told = step(&env, &capabilities, run);
        let mut wanted = vec!["mine"; 7];
        wanted.push("none");
        let told: Vec<_> = told.iter().filter(|line| !line.contains("sysrq")).collect();
        assert_eq!(told, wanted, "{capabilities}");
    }
}

#[test]
fn sandbox_chroot_gives_users_no_more_than_theirs() {
    let Some(env) = place(&[]) else { return };
    let run = "USER 1000:1000\nRUN /proc/self/exe 2>&1 | grep -o 'applet not found'; id -u; cat /proc/self/environ | wc -c | grep -vc '^0$'; readlink /proc/self/exe; echo x >/dev/null && echo null; \
        cat </dev/zero | head -c 1 | wc -c; test -r /proc/1/environ && echo own; kill -0 $PPID 2>/dev/null || echo not yours; \
        echo $(ls /proc/self/fd) listed; ls -l /proc/self/fd | grep -c pipe: | sed 's/$/ pipes/'";
    for capabilities in containers() {
        env.write("Dockerfile", "");
        kiln(
            &env,
            &capabilities,
            &["import", "-q", "busybox.tar", "busybox"],
        )
        .succeeds();
        env.write("Dockerfile", &format!("FROM busybox\n{run}\n"));
        let args = ["build", "--no-cache", "--progress=plain", "."];
        let built = kiln(&env, &capabilities, &args).succeeds();
        for line in [
            "applet not found",
            "1000",
            "1",
            "/bin/busybox",
            "null",
            "own",
            "not yours",
            "0 1 2 3 listed",
            "3 pipes",
        ] {
            let told = |text: &str| text.starts_with("#3 ") && text.ends_with(&format!(" {line}"));
            assert!(built.stderr.lines().any(told), "{line}: {}", built.stderr);
        }
    }
}

/// A busybox with programs that have set-ID bits, and root's empty password.
const WITH_SET_ID: &str = r#"FROM busybox AS base
RUN sed -i 's/^root:x:/root::/' /etc/passwd && mkdir -p /usr/bin && for n in su mount ssh-agent refused; do \
 cp /bin/busybox /usr/bin/$n && chmod 4755 /usr/bin/$n; done && chmod 4700 /usr/bin/refused && chmod 777 /tmp && cp /usr/bin/su /bin/su && chmod 4755 /bin/su && \
 cp /bin/busybox /usr/bin/wc-of-staff && chown 0:50 /usr/bin/wc-of-staff && chmod 2755 /usr/bin/wc-of-staff && \
 cp /bin/busybox /usr/bin/id-of-games && chown 0:60 /usr/bin/id-of-games && chmod 2755 /usr/bin/id-of-games && \
 printf '#!/bin/sh\nexec /bin/su -c "id -u"\n' >/calls && printf '#!/bin/su root\n' >/by-su && \
 printf '#!/bin/sh\nid -u\n' >/script && echo junk >/junk && chmod 4755 /calls /by-su /script /junk
"#;

/// What the last of these steps prints, and the program for which it was begun again.
fn begun_again(env: &TestEnv, capabilities: &str, of: &str) -> (Vec<String>, Option<String>) {
    let last = format!("#{} ", 3 + of.matches("RUN").count());
    env.write("Dockerfile", &format!("{WITH_SET_ID}{of}\n"));
    let args = ["build", "--no-cache", "--progress=plain", "."];
    let built = kiln(env, capabilities, &args).succeeds();
    let mut printed = Vec::new();
    let mut program = None;
    for line in built.stderr.lines() {
        let Some((time, text)) = line
            .strip_prefix(&last)
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        if let Some((named, _)) = text.split_once(" needs rights of its own, which the sandbox") {
            assert_eq!(program, None, "once: {}", built.stderr);
            program = named.strip_prefix("kiln: ").map(str::to_owned);
        } else if time.parse::<f64>().is_ok() && !text.starts_with("kiln:") {
            printed.push(text.to_owned());
        }
    }
    (printed, program)
}

const LIVE: &str = "test -e /proc/self/fd && echo live || echo dead";

#[test]
fn sandbox_chroot_begins_a_step_again_that_needs_set_id_programs() {
    let Some(env) = place_with_nodes(&[]) else {
        return;
    };
    let [with_mknod, without] = containers();
    for capabilities in [&with_mknod, &without] {
        let args = ["import", "-q", "busybox.tar", "busybox"];
        kiln(&env, capabilities, &args).succeeds();
    }
    let user = |run: &str| format!("USER builder\nRUN {LIVE}; {run}");
    // R-RT-3; what was written before is not there twice.
    for (run, program, expected) in [
        (
            "echo x >>/tmp/n; /calls; cat /tmp/n",
            Some("/bin/su"),
            "live dead 0 x",
        ),
        ("/usr/bin/su -c 'id -u'", Some("/usr/bin/su"), "live dead 0"),
        (
            "cd /bin && exec ./su -c 'id -u'",
            Some("./su"),
            "live dead 0",
        ),
        ("echo 'id -u' | /by-su", Some("/bin/su"), "live dead"),
        (
            "id-of-games >/dev/null 2>&1; :",
            Some("/usr/bin/id-of-games"),
            "live dead",
        ),
        (
            "(/calls) & (/calls) & wait",
            Some("/bin/su"),
            "live dead 0 0",
        ),
        ("/script", None, "live 1000"),
        ("/junk 2>/dev/null; :", None, "live"),
        (
            "/usr/bin/mount >/dev/null; ssh-agent 2>/dev/null; refused 2>/dev/null; :",
            None,
            "live",
        ),
        ("wc-of-staff 2>/dev/null; :", None, "live"),
        ("test -u /bin/su && command -v su", None, "live su"),
    ] {
        let (printed, told) = begun_again(&env, &with_mknod, &user(run));
        assert_eq!(told.as_deref(), program, "{run}: {printed:?}");
        assert_eq!(printed.join(" "), expected, "{run}");
    }
    // What a step begins as is known before.
    for run in [
        r#"["/bin/su", "-c", "id -u"]"#,
        r#"["su", "-c", "id -u"]"#,
        r#"["/by-su", "-c", "id -u"]"#,
    ] {
        let of = format!("USER builder\nRUN {run}");
        let begun = begun_again(&env, &with_mknod, &of);
        assert_eq!(begun, (vec!["0".to_owned()], None), "{run}");
    }
    // Root's own programs go on as they are, and a user's in root's step don't.
    let of_root = format!("RUN {LIVE}; /bin/su builder -c 'id -u'; id-of-games >/dev/null 2>&1; :");
    let printed = vec!["live".to_owned(), "1000".to_owned()];
    assert_eq!(begun_again(&env, &with_mknod, &of_root), (printed, None));
    let of_both = format!("RUN {LIVE}; /bin/su builder -c '/calls'");
    let (printed, told) = begun_again(&env, &with_mknod, &of_both);
    assert_eq!(
        (printed.join(" "), told.as_deref()),
        ("live dead 0".to_owned(), Some("/bin/su"))
    );
    // Whatever it did before is undone.
    let of_base = "cd / && busybox find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./etc/hosts -prune -o \
        -path ./etc/resolv.conf -prune -o ! -name . -print | sort | while read n; do stat -c '%n %F %a %u %g %Y %h' $n; test ! -f $n || cat $n | wc -c; done";
    let mess = "rm /bin/cat && mv /etc /x && mkdir /etc /bin/sub && cp /x/passwd /x/group /etc && chmod 700 /tmp /root && echo more:x:7: >>/etc/group && ln -s /x /y && \
        rm -r /root && echo >/root && touch /bin/busybox && mkdir -p /new/a/b && ln /new/../calls /new/a/calls && rm /script && mkdir -p /script/a && ln -s / /script/b";
    let run = format!(
        "RUN {of_base} >/tmp/sum 2>&1\nRUN {LIVE}; stat -c %i /usr/bin/mount; {of_base} >/dev/shm/sum 2>&1; if test -e /proc/self/fd; then {mess}; else \
         sed '\\,^./tmp/sum,,+1d' /tmp/sum >/dev/shm/a; sed '\\,^./tmp/sum,,+1d' /dev/shm/sum | busybox diff /dev/shm/a - && echo equal; fi; /bin/su builder -c /calls"
    );
    let (printed, told) = begun_again(&env, &with_mknod, &run);
    assert_eq!(told.as_deref(), Some("/bin/su"), "{printed:?}");
    let [live, first, dead, second, equal, zero] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!([live, dead, equal, zero], ["live", "dead", "equal", "0"]);
    assert_eq!(first, second, "it is not copied again");
    // Where there is no way without a broker, or the bits are lost anyway.
    for (capabilities, run) in [
        (&without, user("/calls || echo refused")),
        (
            &with_mknod,
            user("/calls || echo refused").replace("RUN", "RUN --network=none"),
        ),
    ] {
        let (printed, told) = begun_again(&env, capabilities, &run);
        let printed = printed.iter().filter(|line| !line.starts_with("su:"));
        let printed: Vec<_> = printed.map(String::as_str).collect();
        assert_eq!((printed, told), (vec!["live", "refused"], None), "{run}");
    }
}

#[test]
fn sandbox_chroot_knows_set_id_programs_by_their_names() {
    let Some(env) = place_with_nodes(&[]) else {
        return;
    };
    let [capabilities, _] = containers();
    let args = ["import", "-q", "busybox.tar", "busybox"];
    kiln(&env, &capabilities, &args).succeeds();
    let with_sudo = "RUN cp /bin/su /usr/bin/sudo && chmod 4755 /usr/bin/sudo";
    let heredoc = format!("<<EOF\n{LIVE}\n: sudo\nEOF");
    for (image, user, run, expected) in [
        (with_sudo, "builder", format!("{LIVE}; : sudo"), "dead"),
        (with_sudo, "builder", heredoc.clone(), "dead"),
        (with_sudo, "builder", format!("{LIVE}; : sudoers"), "live"),
        (with_sudo, "root", format!("{LIVE}; : sudo"), "live"),
        ("RUN :", "builder", format!("{LIVE}; : sudo"), "live"),
    ] {
        env.write(
            "Dockerfile",
            &format!("{WITH_SET_ID}{image}\nUSER {user}\nRUN {run}\n"),
        );
        let args = ["build", "--no-cache", "--progress=plain", "."];
        let built = kiln(&env, &capabilities, &args).succeeds();
        let printed = built.stderr.lines().find(|line| line.starts_with("#5 0."));
        let printed = printed.and_then(|line| line.rsplit(' ').next());
        assert_eq!(
            printed,
            Some(expected),
            "{image} {user} {run}: {}",
            built.stderr
        );
    }
}

#[test]
fn sandbox_chroot_begins_a_step_again_beside_its_retries_and_limits() {
    let Some(env) = place_with_nodes(&[("secret", "s3cret")]) else {
        return;
    };
    let [capabilities, _] = containers();
    let args = ["import", "-q", "busybox.tar", "busybox"];
    kiln(&env, &capabilities, &args).succeeds();
    let cache = "--mount=type=cache,target=/c,mode=777";
    let secret = "--mount=type=secret,id=secret,mode=444";
    let step = format!(
        "# kiln: retry=1\nRUN {cache} {secret} {LIVE}; cat /run/secrets/secret; echo x >>/c/n; /calls; test $(wc -l </c/n) = 3"
    );
    let dockerfile = format!("{WITH_SET_ID}USER builder\n{step}\n");
    env.write("Dockerfile", &dockerfile);
    let args = [
        "build",
        "--no-cache",
        "--progress=plain",
        "--secret=id=secret,src=secret",
        ".",
    ];
    let built = kiln(&env, &capabilities, &args).succeeds();
    let steps = built.stderr.lines();
    let steps: Vec<_> = steps.filter(|line| line.starts_with("#4 0.")).collect();
    let told = |text: &str| steps.iter().filter(|line| line.contains(text)).count();
    let found = ["needs rights of its own", "retry 1 of 1", "s3cret"].map(told);
    assert_eq!(found, [1, 1, 3], "{}", built.stderr);
    let shown = |text: &str| steps.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!([shown(" live"), shown(" dead")], [1, 2], "{}", built.stderr);
    // The time that it may take is counted anew, and it is stopped as any.
    let step = "# kiln: timeout=1s\nRUN /calls; exec sleep 100";
    env.write(
        "Dockerfile",
        &format!("{WITH_SET_ID}USER builder\n{step}\n"),
    );
    let stopped = kiln(&env, &capabilities, &args).fails(124);
    assert_eq!(stopped.stderr.matches("needs rights of its own").count(), 1);
    // A container can't be begun again.
    let run = ["build", "-q", "-t", "image", "."];
    env.write("Dockerfile", WITH_SET_ID);
    kiln(&env, &capabilities, &run).succeeds();
    let run = ["run", "--rm", "-u", "builder", "image", "/calls"];
    kiln(&env, &capabilities, &run).fails(1);
}

#[test]
fn sandbox_chroot_keeps_a_step_off_the_network() {
    let Some(env) = place(&[]) else { return };
    // R-RT-13, but for the loopback interface
    let run = "RUN --network=none ping -c 1 127.0.0.1 2>&1 | grep -o 'not supported'; wget -q http://127.0.0.1:1/ 2>&1 | grep -o 'not supported'; \
        test -e /proc/net/dev || echo hidden; echo done";
    for capabilities in containers() {
        let told = step(&env, &capabilities, run);
        assert_eq!(
            told,
            ["not supported", "not supported", "hidden", "done"],
            "{capabilities}"
        );
    }
}

#[test]
fn sandbox_chroot_gives_the_same_layers_without_mknod() {
    let Some(env) = place(&[]) else { return };
    let dockerfile = "FROM busybox\nRUN echo a >/a; ln -s /dev/stdout /log; echo to the log >/log; ls -la /proc /dev >/dev/null; chown 5:6 /a; rm -rf /bin/ar\n\
        RUN --mount=type=cache,target=/var/c --mount=type=tmpfs,target=/t touch /var/c/x /t/y; ls /proc/self/fd >/list\n\
        RUN --network=none cp /proc/sys/kernel/ostype /os; mkfifo /p; mknod /null c 1 3; mknod -m 600 /d b 7 300; mknod /dev/loop9 b 7 9; (cat /p >/dev/null &) ; echo x >/p\n";
    env.write("Dockerfile", dockerfile);
    let args = ["build", "-o", "type=docker,dest=out.tar", "."];
    let mut all = Vec::new();
    for capabilities in containers() {
        kiln(
            &env,
            &capabilities,
            &["import", "-q", "busybox.tar", "busybox"],
        )
        .succeeds();
        kiln(&env, &capabilities, &["prune", "--all"]).succeeds();
        kiln(
            &env,
            &capabilities,
            &["import", "-q", "busybox.tar", "busybox"],
        )
        .succeeds();
        kiln(&env, &capabilities, &args).succeeds();
        all.push(ArchivedImage::read(&env.work().join("out.tar")).layers());
    }
    env.kiln(&args).succeeds();
    all.push(ArchivedImage::read(&env.work().join("out.tar")).layers());
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

/// What the sandbox has put into a root gets into no layer, wherever a step moves it.
#[test]
fn sandbox_chroot_takes_out_what_a_step_has_moved() {
    let dockerfile = "FROM busybox\nRUN mkdir -p /j/bin && cp /bin/busybox /j/bin/mv\n\
        RUN --mount=type=cache,target=/j/c --mount=type=secret,id=s,target=/j/s echo kept >/j/c/f && ! mv /j/c /j/c2 && ! mv /proc /bin/proc2 \
        && ! mv /dev /dev2 && ! rm -rf /sys && ! mv /j/s /j/s2 && chroot /j /bin/mv /c /c2 && chroot /j /bin/mv /s /s2 && echo a >/a\n\
        RUN --mount=type=cache,target=/j/c cat /j/c/f && test ! -e /j/c2 -a ! -e /j/s2 && test -d /sys && ls /proc/self/fd\n";
    let Some(env) = place(&[("Dockerfile", dockerfile), ("secret", "no\n")]) else {
        return;
    };
    for capabilities in containers() {
        kiln(
            &env,
            &capabilities,
            &["import", "-q", "busybox.tar", "busybox"],
        )
        .succeeds();
        let args = ["build", "--no-cache", "--secret", "id=s,src=secret", "."];
        kiln(&env, &capabilities, &args).succeeds();
    }
}

/// Where there are mounts, a step can't remove what they stand in. Here it can, from a root that it makes itself, and what the image has there comes back (R-LAY-14).
#[test]
fn sandbox_chroot_goes_on_when_a_step_removes_all() {
    let dockerfile = "FROM busybox\nRUN mkdir -p /a/b /q/d && echo a >/a/b/f && echo q >/q/d/f && chmod 2750 /a && chown 5:6 /a/b && echo h >/etc/h\n\
        RUN --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/n/o --mount=type=cache,target=/q/d/c touch /q/d/c/x && ! rm -rf /a /q \
        && mkdir -p /j/bin && cp /bin/busybox /j/bin/rm && mv /a /n /q /j/ && chroot /j /bin/rm -rf /a /n /q && rm -r /j\n\
        RUN test $(stat -c %a:%u:%g /a /a/b | tr '\\n' ' ' | tr -d ' ') = 2750:0:0755:5:6 && cat /a/b/f && ls -A /q/d && test ! -e /n -a ! -e /q/d/f\n\
        RUN --mount=type=cache,target=/q/d/c test -z \"$(ls -A /q/d/c)\" && ! rm -rf /etc && mkdir -p /j/bin && cp /bin/busybox /j/bin/rm && mv /etc /j \
        && chroot /j /bin/rm -rf /etc && rm -r /j && mkdir /etc && echo n >/etc/n && echo >/etc/hosts\n\
        RUN test \"$(ls -A /etc)\" = \"$(printf 'hosts\\nn\\nresolv.conf')\" && mv /etc /gone && ln -s /a /etc\n\
        RUN test -L /etc && rm -rf /* || true\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    for capabilities in containers() {
        let import = ["import", "-q", "busybox.tar", "busybox"];
        kiln(&env, &capabilities, &import).succeeds();
        let args = [
            "build",
            "--no-cache",
            "--progress=plain",
            "-o",
            "type=docker,dest=o.tar",
            ".",
        ];
        kiln(&env, &capabilities, &args).succeeds();
        let layers = ArchivedImage::read(&env.work().join("o.tar")).layers();
        let last = layers.split("layer").last().unwrap_or_default();
        assert!(last.contains(".wh.bin"), "{last}");
    }
}

/// A directory can't be in two places, so all but the first are links (R-MNT-10).
#[test]
fn sandbox_chroot_shows_a_cache_at_several_places() {
    let mount = "--mount=type=cache,id=c,target";
    let dockerfile = format!(
        "FROM busybox\nRUN {mount}=/r,ro {mount}=/c {mount}=/d/e mkdir /c/s && touch /d/e/s/f && test -e /c/s/f -a -e /r/s/f\n\
        RUN {mount}=/c {mount}=/t,source=/s {mount}=/c/d touch /t/g && test -e /c/s/g -a -e /c/d/s/f\n\
        RUN {mount}=/c test -e /c/s/g -a ! -L /c/d && test ! -e /d -a ! -e /t -a ! -e /r\n"
    );
    let Some(env) = place(&[("Dockerfile", &dockerfile)]) else {
        return;
    };
    env.kiln(&["build", "--no-cache", "."]).succeeds();
}

/// A later step changes one name of a file and no other (R-LAY-10), be the other in the layer or, by a link that is only possible here, in
/// a cache.
#[test]
fn sandbox_chroot_keeps_names_of_one_file_apart() {
    let dockerfile = "FROM busybox\nRUN echo 1 >/f; ln -s q /l; mkdir -p /d /j/bin; cp /bin/busybox /j/bin/ln; touch -d @1000000000 /d; echo 1 >/j/f\n\
        RUN --mount=type=cache,target=/j/c echo c >/j/c/f && ln /f /g && ! ln /j/c/f /h && ! ln /f /j/c/i && ln /l /l2 && ln /f /d/f && touch -d @1000000000 /d \
        && chroot /j /bin/ln /c/f /h && chroot /j /bin/ln /f /c/i\n\
        RUN --mount=type=cache,target=/j/c echo 2 >>/g; echo 2 >>/j/h; chown -h 5 /l2; echo 3 >>/j/c/i; chmod 700 /d\n\
        RUN --mount=type=cache,target=/j/c test $(cat /f) = 1 && test $(cat /j/f) = 1 && test $(cat /d/f) = 1 && test $(cat /j/c/f) = c && test $(stat -c %u /l) = 0 && \
        test $(stat -c %Y /d) = 1000000000\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let args = ["build", "--no-cache", "-o", "type=docker,dest=o.tar", "."];
    env.kiln(&args).succeeds();
    let layers = ArchivedImage::read(&env.work().join("o.tar")).layers();
    let changed = layers.split("\nRUN ").find(|layer| layer.contains(">>/g"));
    let changed = changed.unwrap_or_default();
    let names: Vec<_> = changed
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(names, ["d/", "g", "j/", "j/h", "q"], "{layers}");
}

/// Where the next step finds the copy that one left. No layer has a directory for its time alone.
#[test]
fn sandbox_chroot_leaves_directories_as_old_as_they_were() {
    let dockerfile = "FROM busybox\nRUN mkdir /d && touch -d @1000000000 /d\nRUN touch /d/x /d/y && rm /d/*\n\
        RUN test $(stat -c %Y /d) = 1000000000 && touch /d/z\nRUN test $(stat -c %Y /d) != 1000000000 && ls /d | grep -qx z\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let build = env.kiln(&["build", "--no-cache", "--progress", "plain", "."]);
    build.succeeds();
}

/// As where it would be mounted.
#[test]
fn sandbox_chroot_makes_no_working_directory_in_what_is_kept() {
    let dockerfile = "FROM busybox\nWORKDIR /m/none\nRUN --mount=type=bind,target=/m pwd\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let build = env.kiln(&["build", "--progress", "plain", "."]);
    let told = build.fails(1).stderr;
    let reason = "mkdirat(/m/none): read-only file system (EROFS)";
    assert!(told.contains(reason), "{told}");
}

/// A user changes by one name, too.
#[test]
fn sandbox_chroot_copies_up_for_users() {
    let dockerfile = "FROM busybox\nRUN mkdir -m 777 /s && echo x >/s/a && chmod 666 /s/a && ln /s/a /s/b && ln /s/a /s/c\n\
        USER 65534\nRUN echo z >>/s/b && test \"$(cat /s/c)\" = x && mv /s/c /s/m && test $(stat -c %h /s/m) = 1\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let args = ["build", "--no-cache", "-o", "type=tar,dest=o.tar", "."];
    env.kiln(&args).succeeds();
    let listed = std::process::Command::new("tar")
        .args(["-xOf", "o.tar", "s/a", "s/b", "s/m"])
        .current_dir(env.work())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "x\nx\nz\nx\n");
}

/// Names that one layer gives to one file stay together, and a change by one of them is no change of the others, as with overlayfs.
#[test]
fn sandbox_chroot_keeps_names_of_one_layer_together() {
    let dockerfile = "FROM busybox\nRUN mkdir /s && echo x >/s/a && ln /s/a /s/b && ln /s/a /s/c\n\
        RUN test $(stat -c %h /s/c) = 3 && cp -a /s /t && rm /s/c && ln /s/b /s/d && test $(stat -c %h /s/b) = 2\n\
        RUN echo y >>/t/a && chmod 600 /t/b && test $(cat /t/c) = x && test -w /t/c && test $(stat -c %a /t/c) = 644 && test $(stat -c %h /s/d) = 1\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let args = ["build", "--no-cache", "-o", "type=docker,dest=o.tar", "."];
    env.kiln(&args).succeeds();
    let layers = ArchivedImage::read(&env.work().join("o.tar")).layers();
    let names = |of: &str| -> Vec<String> {
        let layer = layers.split("\nRUN ").find(|layer| layer.contains(of));
        let lines = layer.unwrap_or_default().lines().skip(1);
        let entries = lines.filter(|line| !line.is_empty());
        entries
            .filter_map(|line| Some(line.split_once("0:0 ")?.1.to_owned()))
            .collect()
    };
    let copied = names("cp -a");
    let last: Vec<_> = copied.iter().rev().take(2).rev().collect();
    assert!(last.iter().all(|entry| entry.contains("t/a")), "{layers}");
    assert_eq!(names("chmod 600").len(), 3, "{layers}"); // the directory and two names
}

/// Directories that the image lacks stay (R-LAY-14), but for one in which something is asked for.
#[test]
fn sandbox_chroot_leaves_no_dev_below_a_mount() {
    let dockerfile = "FROM busybox\nRUN --mount=type=tmpfs,target=/proc/x <<E\n#!/bin/sh\necho >/a\nE\nRUN true\n";
    let Some(env) = place(&[("Dockerfile", dockerfile)]) else {
        return;
    };
    let args = ["build", "--no-cache", "-o", "type=docker,dest=o.tar", "."];
    env.kiln(&args).succeeds();
    let layers = ArchivedImage::read(&env.work().join("o.tar")).layers();
    let at = |name: &str| {
        let mut layers = layers.split("\nRUN ");
        layers.position(|layer| layer.contains(&format!("0755 0:0 {name}/\n")))
    };
    assert_eq!(
        (at("dev"), at("sys"), at("proc")),
        (Some(1), Some(0), Some(1)),
        "{layers}"
    );
}

/// In an overlay a character device 0:0 says that something is gone, so nobody may make one.
#[test]
fn sandbox_chroot_makes_no_whiteouts() {
    let Some(env) = place(&[]) else { return };
    let run =
        "RUN mknod /w c 0 0 2>/dev/null || echo refused; test ! -e /w && mknod /p p && echo made";
    for capabilities in containers() {
        assert_eq!(step(&env, &capabilities, run), ["refused", "made"]);
    }
}

#[test]
fn sandbox_chroot_keeps_a_cache_when_kiln_is_killed() {
    let Some(env) = place(&[]) else { return };
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/var/c if test -e /var/c/kept; then echo it is kept; else echo >/var/c/kept; \
        (setsid sleep 1000 &); echo waiting; sleep 1000; fi\n";
    env.write("Dockerfile", dockerfile);
    let capabilities = &containers()[1];
    kiln(
        &env,
        capabilities,
        &["import", "-q", "busybox.tar", "busybox"],
    )
    .succeeds();
    let args = ["build", "--progress=plain", "."]; // with --no-cache it would be emptied (R-CACHE-24)
    let mut child = command(&env, capabilities, &args)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(stderr).map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with(" waiting")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        lines.count(),
        0,
        "the step's end of the stream is closed with it"
    );
    let built = kiln(&env, capabilities, &args).succeeds();
    assert!(built.stderr.contains(" it is kept"), "{}", built.stderr);
    let store = env.root().with_extension("container");
    assert!(files_below(&store.join("tmp")).is_empty());
}

#[test]
fn sandbox_chroot_takes_nothing_that_is_not_kilns() {
    let Some(env) = place(&[("data/file", "of the machine\n")]) else {
        return;
    };
    let data = env.work().join("data").display().to_string();
    let remove =
        |volume: &str| env.kiln(&["run", "--rm", "-v", volume, "busybox", "rm", "/d/file"]);
    remove(&format!("{data}:/d")).fails(125);
    // What is only to be read is a copy.
    remove(&format!("{data}:/d:ro")).fails(1);
    let file = std::fs::read_to_string(env.work().join("data/file"));
    assert_eq!(file.unwrap(), "of the machine\n");
}

#[test]
fn sandbox_chroot_says_once_that_no_container_is_around() {
    let Some(env) = place(&[("Dockerfile", "FROM busybox\nRUN true\nRUN :\n")]) else {
        return;
    };
    let told = |text: &str| text.matches("can reach all of this machine").count();
    let doctor = env.kiln(&["doctor"]);
    let built = env.kiln(&[
        "build",
        "--no-cache",
        "--progress=plain",
        "--sandbox=chroot",
        ".",
    ]);
    assert_eq!(told(&built.succeeds().stderr), told(&doctor.stdout));
}
