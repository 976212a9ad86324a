//! kiln inside of what others put around it: containers as podman and Docker make them, pods, user namespaces with many ids, few or one. In
//! each, `kiln doctor` tells the best sandbox there is, steps run in it, and the layers are those that plain root makes.
//!
//! The surroundings are made of what every machine has, for root; Docker's is a container of kiln's own, which has the same
//! capabilities and the same filter.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cases;
mod test_env;

use std::path::Path;
use std::process::Command;

use cases::archive::ArchivedImage;
use test_env::{Outcome, TestEnv, is_running, number_of_its_own};

/// What goes wrong first where ids, mounts or `/proc` are not what they are for root.
const DOCKERFILE: &str = r#"FROM busybox
COPY --chown=33:50 file /srv/file
RUN test "$(stat -c %u:%g /srv/file)" = 33:50 && mkdir -p /d/e && chown -R 1000:50 /d && chmod 2775 /d && ln -s e /d/l && chown -h 7:8 /d/l
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t echo x >/c/f && echo y >/t/f && rm /srv/file && test -r /proc/self/status && : >/dev/null
RUN test "$(cut -d " " -f 1 /proc/$$/stat)" = $$ && grep -qw "$(hostname)" /etc/hosts && (setsid sleep SECONDS &)
RUN test -d /d/e && ! test -e /srv/file && rm -r /d/e && mkdir /d/e && echo 1 >/one && ln /one /two
RUN mkdir -p /k/m && ln -s t /k/m/l && chown -h 5:6 /k/m/l && mkfifo -m 620 /k/m/p && chown 7:8 /k/m/p
RUN mv /k /moved && test "$(stat -c %u:%g /moved/m/l /moved/m/p | tr "\\n" " ")" = "5:6 7:8 "
# As systemd's programs do it, for packages.
RUN exec 3<>/by-name && chmod 640 /proc/self/fd/3 && chown 5:6 /proc/$$/fd/3 && echo long >&3 && truncate -s 3 /proc/self/fd/3 && touch -d @1000000000 /proc/self/fd/3 \
 && test "$(stat -c "%a %u:%g %s %Y" /by-name)" = "640 5:6 3 1000000000" && ! chmod 700 /proc/self/status 3<&- 2>/dev/null
USER builder
WORKDIR /home/builder
RUN test "$(id -u):$(id -g)" = 1000:1000 && touch mine && mknod null c 1 3 2>&1 | grep -q "Operation not permitted"
"#;

/// A shell script that becomes `"$@"` in other surroundings.
struct Surroundings {
    name: &'static str,
    script: &'static str,
    /// The sandbox that steps get.
    expected: &'static str,
}

/// A container's view of `/proc`: parts of it are hidden, so no new one can be mounted. The store is on an overlay, as all of a container is.
const CONTAINER: &str = r#"exec unshare -m --propagation private sh -ec '
mount -t tmpfs none /proc/tty
mkdir -p "$KILN_ROOT.upper" "$KILN_ROOT.work" "$KILN_ROOT.lower" "$KILN_ROOT"
mount -t overlay none -o "lowerdir=$KILN_ROOT.lower,upperdir=$KILN_ROOT.upper,workdir=$KILN_ROOT.work" "$KILN_ROOT"
caps=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+net_bind_service,+setgid,+setpcap,+setuid,+sys_chroot$MORE
exec setpriv --bounding-set "$caps" --inh-caps -all "$@"' sh "$@""#;

const ON_OVERLAY: &str = r#"exec unshare -m --propagation private sh -ec '
mkdir -p "$KILN_ROOT.upper" "$KILN_ROOT.work" "$KILN_ROOT.lower" "$KILN_ROOT"
mount -t overlay none -o "lowerdir=$KILN_ROOT.lower,upperdir=$KILN_ROOT.upper,workdir=$KILN_ROOT.work" "$KILN_ROOT"
exec unshare -Ur "$@"' sh "$@""#;

/// A user namespace with as many ids, made from outside as pods' are; `PRIVATE` is what else is not the machine's.
const NAMESPACE: &str = r#"
unshare -U $PRIVATE sh -ec 'n=0; until grep -q . /proc/self/gid_map; do test $((n += 1)) -lt 100000; done; exec setpriv --bounding-set "$CAPS" --inh-caps -all "$@"' sh "$@" &
pid=$!
until test "$(readlink /proc/$pid/ns/user)" != "$(readlink /proc/self/ns/user)"; do kill -0 $pid; done
echo "0 0 $IDS" >/proc/$pid/uid_map
echo "0 0 $IDS" >/proc/$pid/gid_map
wait $pid"#;

#[test]
fn sandbox_in_a_container_root_takes_its_ids_into_a_user_namespace() {
    check(&Surroundings {
        name: "podman",
        script: format!("export MORE=,+setfcap; {CONTAINER}").leak(),
        expected: "userns-range",
    });
}

#[test]
fn sandbox_in_a_container_without_setfcap_the_root_is_changed() {
    check(&Surroundings {
        name: "podman without SETFCAP, under a strict umask",
        script: format!("umask 077; export MORE=; {CONTAINER}").leak(),
        expected: "chroot",
    });
}

#[test]
fn sandbox_in_a_namespace_with_one_id_others_are_recorded() {
    for (name, script) in [
        ("unshare -Ur", r#"exec unshare -Ur "$@""#),
        ("unshare -Urm", r#"exec unshare -Urm "$@""#),
        (
            "no more of them",
            r#"exec unshare -Ur sh -ec 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"' sh "$@""#,
        ),
    ] {
        check(&Surroundings {
            name,
            script,
            expected: "userns-single",
        });
    }
}

/// The store is on an overlay, so steps get copies of their roots, in which they move what is the image's.
#[test]
fn sandbox_in_a_namespace_with_one_id_copies_are_recorded() {
    check(&Surroundings {
        name: "unshare -Ur on an overlay",
        script: ON_OVERLAY,
        expected: "userns-single",
    });
}

#[test]
fn sandbox_in_a_pods_namespace() {
    const DEFAULT: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+setfcap,+sys_chroot,+mknod";
    for (name, settings, expected) in [
        (
            "hostUsers: false",
            format!("IDS=65536 PRIVATE=-m CAPS={DEFAULT}"),
            "userns-range",
        ),
        (
            "the same with SYS_ADMIN",
            format!("IDS=65536 PRIVATE=-m CAPS={DEFAULT},+sys_admin"),
            "userns-range",
        ),
        (
            "SYS_PTRACE, too",
            format!("IDS=65536 PRIVATE=-m CAPS={DEFAULT},+sys_admin,+sys_ptrace"),
            "userns-given",
        ),
        (
            "the machine's mounts",
            format!("IDS=65536 PRIVATE= CAPS={DEFAULT},+sys_admin,+sys_ptrace"),
            "userns-given",
        ),
        (
            "1000 ids",
            format!("IDS=1000 PRIVATE=-m CAPS={DEFAULT},+sys_admin"),
            "userns-single",
        ),
    ] {
        let script = format!("export {settings}; {NAMESPACE}");
        check(&Surroundings {
            name,
            script: script.leak(),
            expected,
        });
    }
}

/// The default of Docker: no namespaces, no mounts, no clone3, device nodes and a change of root allowed.
#[test]
fn sandbox_in_dockers_container_the_root_is_changed() {
    let env = TestEnv::new();
    if !is_plain_root() || !env.import_busybox() {
        return;
    }
    let inner = TestEnv::new();
    check_in("docker", "chroot", &inner, |args| {
        in_kilns_container(&env, &inner, &[], args)
    });
}

/// As a user in there nothing is left, and kiln says what would help.
#[test]
fn sandbox_in_dockers_container_a_user_has_none() {
    let env = TestEnv::new();
    if !is_plain_root() || !env.import_busybox() {
        return;
    }
    let inner = TestEnv::new();
    let outcome = in_kilns_container(&env, &inner, &["-u", "1000:1000"], &["doctor"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    for told in [
        "no RUN is possible here: user namespaces are forbidden",
        "seccomp=unconfined",
        "`chroot`",
    ] {
        assert!(outcome.stdout.contains(told), "{told}: {outcome:?}");
    }
}

/// Where no program can be executed, overlays do without it, and copies can't: kiln says so before it begins.
#[test]
fn sandbox_on_noexec_no_copies_are_made() {
    if !is_plain_root() {
        return;
    }
    let env = TestEnv::new();
    let kiln = |overlay: &str, sandbox: &str| {
        let kiln = env.command(&["doctor", "--sandbox", sandbox]);
        let script = format!(
            "mkdir -p $KILN_ROOT; mount -t tmpfs -o noexec none $KILN_ROOT; cd $KILN_ROOT; mkdir l u w o; {overlay}; exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-ec", &script, "sh"]);
        command.arg(kiln.get_program()).args(kiln.get_args());
        command.env("KILN_ROOT", env.root());
        env.outcome(&mut command)
    };
    let copied = "mount -t overlay none -o noexec,lowerdir=l,upperdir=u,workdir=w o; export KILN_ROOT=$KILN_ROOT/o";
    kiln(":", "root").succeeds();
    for (overlay, sandbox) in [(":", "chroot"), (copied, "root"), (copied, "userns-single")] {
        let outcome = kiln(overlay, sandbox);
        assert_eq!(outcome.code, 3, "{sandbox}: {outcome:?}");
        let told = [
            "as asked for: `",
            "mounted with `noexec`",
            "unlock: choose another place",
        ];
        for told in told {
            assert!(outcome.stdout.contains(told), "{sandbox}: {outcome:?}");
        }
    }
}

/// Builds in the surroundings and, for comparison, as plain root.
fn check(surroundings: &Surroundings) {
    if !is_plain_root() {
        return;
    }
    let env = TestEnv::new();
    check_in(surroundings.name, surroundings.expected, &env, |args| {
        let kiln = env.command(args);
        let mut command = Command::new("sh");
        command.args(["-c", surroundings.script, "sh"]);
        command.arg(kiln.get_program()).args(kiln.get_args());
        command.env_clear().current_dir(env.work());
        command.envs(
            kiln.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        env.outcome(&mut command)
    });
}

fn check_in(name: &str, expected: &str, env: &TestEnv, kiln: impl Fn(&[&str]) -> Outcome) {
    let plain = TestEnv::new();
    if !plain.import_busybox() {
        return;
    }
    let seconds = number_of_its_own();
    let image = |env: &TestEnv, kiln: &dyn Fn(&[&str]) -> Outcome| {
        env.write("Dockerfile", &DOCKERFILE.replace("SECONDS", &seconds));
        env.write("file", "content\n");
        kiln(&["build", "-o", "type=docker,dest=out.tar", "."]).succeeds();
        ArchivedImage::read(&env.work().join("out.tar")).layers()
    };
    let wanted = image(&plain, &|args| plain.kiln(args));
    let told = kiln(&["doctor", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_str(&told.stdout).expect(&told.stderr);
    assert_eq!(found["sandbox"], expected, "{name}: {}", told.stdout);
    std::fs::copy(
        plain.work().join("busybox.tar"),
        env.work().join("busybox.tar"),
    )
    .unwrap();
    kiln(&["import", "busybox.tar", "busybox"]).succeeds();
    assert_eq!(image(env, &kiln), wanted, "{name}");
    assert!(!is_running(&seconds), "{name}");
}

/// Runs kiln in a container of kiln's own. Its place and the libraries of the machine are volumes of that.
fn in_kilns_container(outer: &TestEnv, inner: &TestEnv, flags: &[&str], args: &[&str]) -> Outcome {
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let place = inner.work().parent().unwrap().display().to_string();
    let volumes = [format!("{kiln}:{kiln}:ro"), format!("{place}:{place}")];
    let libraries = ["/usr", "/lib", "/lib64"].into_iter();
    let libraries = libraries
        .filter(|path| Path::new(path).is_dir())
        .map(|path| format!("{path}:{path}:ro"));
    let root = format!("KILN_ROOT={}", inner.root().display());
    let work = inner.work().display().to_string();
    let mut command = outer.command(&["run", "--rm", "-e", &root, "-w", &work]);
    for volume in libraries.chain(volumes) {
        command.args(["-v", &volume]);
    }
    command.args(flags).args(["busybox", kiln]).args(args);
    inner.outcome(&mut command)
}

/// Only the machine's own root can make all of this.
fn is_plain_root() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let all_ids = read("/proc/self/uid_map").contains("4294967295");
    let chosen = std::env::var_os("KILN_SANDBOX").is_some();
    let tools = ["unshare", "setpriv"].iter().all(|tool| {
        let found = Command::new(tool).arg("--version").output();
        found.is_ok_and(|output| output.status.success())
    });
    let sys_admin = Command::new("unshare").args(["-m", "true"]).status();
    let is = all_ids && !chosen && tools && sys_admin.is_ok_and(|status| status.success());
    if !is {
        eprintln!("*** SKIPPED: needs the machine's root, util-linux, and no KILN_SANDBOX ***");
    }
    is
}
