//! Mounts whose place or source leads elsewhere while they are made.

use crate::yard::{Yard, race, tmpfs};
use kiln_executor::sandbox::{MountKind, MountSpec};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// As many links upwards as no path is deep.
const UP: &str = "../../../../../../../../../../../../../../../..";

/// How often a race is tried at most.
const ROUNDS: usize = 300;

/// Ways to write a link to something outside.
fn links_to(outside: &Path) -> [String; 3] {
    let text = outside.display();
    [
        text.to_string(),
        format!("{UP}{text}"),
        format!("/proc/self/root{text}"),
    ]
}

/// A shared directory with a directory `d`, and beside it the link that takes its place again and again.
fn trap(yard: &Yard, link: &str) -> tempfile::TempDir {
    let shared = yard.shared();
    fs::create_dir(shared.path().join("d")).unwrap();
    fs::write(shared.path().join("d/file"), "inside\n").unwrap();
    symlink(link, shared.path().join("link")).unwrap();
    shared
}

fn file(target: &str) -> MountSpec {
    MountSpec::file(target, "mounted\n")
}

/// CVE-2021-30465 (runc), CVE-2024-23651 (BuildKit): two steps share a cache; one exchanges a directory of it for a link to the machine
/// while the other has something mounted below that directory.
pub(crate) fn sandbox_mounts_where_a_racing_link_leads_inside_only(yard: &Yard) {
    let image = yard.image();
    for link in links_to(image.outside.path()) {
        let shared = trap(yard, &link);
        let at = |name: &str| shared.path().join(name);
        race(&at("d"), &at("link"), ROUNDS, || {
            // Where it went may not be what the step finds there: that it fails is as good.
            let ran = image.shell_with("cat /cache/d/stub /cache/d/file", |spec| {
                spec.mounts
                    .push(MountSpec::bind(shared.path(), "/cache", true));
                spec.mounts.push(tmpfs("/cache/d/empty-directory"));
                spec.mounts.push(file("/cache/d/stub"));
                spec.mounts.push(file("/cache/d/empty-file"));
            });
            if let Ok(ran) = ran {
                ran.tells_no_secret();
            }
        });
        image.outside.is_untouched();
    }
}

/// CVE-2024-23651, the other way round, and CVE-2024-1753 (Buildah): what a mount shows is a path below its source, and becomes a link.
pub(crate) fn sandbox_binds_what_a_racing_link_selects_inside_only(yard: &Yard) {
    let image = yard.image();
    for link in links_to(image.outside.path())
        .into_iter()
        .chain(["/".into(), UP.into()])
    {
        let shared = trap(yard, &link);
        let at = |name: &str| shared.path().join(name);
        for (inside, rounds) in [
            ("/d", ROUNDS),
            ("/d/file", ROUNDS),
            ("/link", 1),
            ("/link/file", 1),
            ("/d/../../../../../..", 1),
        ] {
            let script = format!(
                "cat /m /m/file /m{0}/file /m/d/file /m{0}/d/file; find /m -name '*assw*'",
                image.outside.text()
            );
            let round = || {
                let kind = MountKind::Bind {
                    source: shared.path().into(),
                    inside: inside.into(),
                    writable: yard.has_namespaces(), // else it is a copy
                };
                let mount = MountSpec {
                    target: "/m".into(),
                    kind,
                };
                let ran = image.shell_with(&script, |spec| spec.mounts.push(mount));
                if let Ok(ran) = ran {
                    ran.tells_no_secret();
                    assert!(!ran.output.contains("/m/etc/passwd"), "{}", ran.output);
                }
            };
            race(&at("d"), &at("link"), rounds, round);
        }
        image.outside.is_untouched();
    }
}

/// CVE-2024-23651 with the working directory, which kiln makes where it is missing and gives to the user.
pub(crate) fn sandbox_makes_no_working_directory_through_a_racing_link(yard: &Yard) {
    let image = yard.image();
    for link in links_to(image.outside.path()) {
        let shared = trap(yard, &link);
        let at = |name: &str| shared.path().join(name);
        race(&at("d"), &at("link"), ROUNDS, || {
            let ran = image.shell_with("cat file ../file; echo x >made-by-the-step", |spec| {
                spec.mounts
                    .push(MountSpec::bind(shared.path(), "/cache", true));
                spec.cwd = "/cache/d/w".into();
                spec.user.uid = 7;
            });
            if let Ok(ran) = ran {
                ran.tells_no_secret();
            }
            let _ = fs::remove_dir(at("d/w"));
        });
        image.outside.is_untouched();
    }
}

/// CVE-2019-19921, kaniko's links: the place of a mount lies behind links of the image.
pub(crate) fn sandbox_makes_no_mount_point_through_a_link(yard: &Yard) {
    let image = yard.image();
    for (number, link) in links_to(image.outside.path()).iter().enumerate() {
        image.link(&format!("a{number}"), link);
        image.link(&format!("deep/b{number}"), format!("../a{number}/d"));
        image.link(&format!("deep/c{number}"), format!("{link}/new"));
    }
    for number in 0..3 {
        for target in [
            format!("/a{number}/mount"),
            format!("/a{number}/d/mount"),
            format!("/deep/b{number}/x/../mount"),
            format!("/deep/c{number}"),
            format!("/deep/c{number}/mount"),
            format!("/a{number}/empty-file"),
        ] {
            for mount in [file(&target), tmpfs(&target)] {
                let ran = image.shell_with("true", |spec| spec.mounts.push(mount));
                drop(ran); // a link by way of /proc is refused
                image.outside.is_untouched();
            }
        }
    }
}

/// CVE-2024-23652 (BuildKit): a mount point that kiln made is taken away after the step, who has meanwhile put a link to the machine in the
/// place of the directory that it is in. What has its name there is as empty as the mount point was.
pub(crate) fn sandbox_removes_no_mount_point_through_a_link(yard: &Yard) {
    for link in 0..3 {
        let image = yard.image();
        let link = links_to(image.outside.path())[link].clone();
        let script = format!(
            "mv /run/x /moved; ln -s {link} /run/x; mv /run/y/z /run/y/w; ln -s {link}/d /run/y/z; rm -rf /tmp; ln -s {link} /tmp"
        );
        let ran = image.shell_with(&script, |spec| {
            for name in [
                "/run/x/empty-directory",
                "/run/y/z/../../x/d",
                "/tmp/empty-directory",
            ] {
                spec.mounts.push(tmpfs(name));
            }
            for name in ["/run/x/empty-file", "/run/y/z/mount", "/tmp/empty-file"] {
                spec.mounts.push(file(name));
            }
        });
        drop(ran);
        image.outside.is_untouched();
    }
}

/// BuildKit's and Buildah's caches holding links (CVE-2024-9675 by other means): a step removes the cache that it was given and leaves a
/// link to the machine in its place. The next step must not get what it leads to.
pub(crate) fn sandbox_takes_no_cache_for_a_link(yard: &Yard) {
    let image = yard.image();
    let shared = yard.shared();
    let cache = shared.path().join("cache");
    for round in 0..20 {
        if !cache.is_symlink() && !cache.exists() {
            fs::create_dir(&cache).unwrap();
        }
        let script = format!(
            "rm -rf /cache/* /cache; ln -s {0} /cache; cat /cache/file; true",
            image.outside.text()
        );
        let ran = image.shell_with(&script, |spec| {
            spec.mounts.push(MountSpec::bind(&cache, "/cache", true));
        });
        if let Ok(ran) = ran {
            ran.tells_no_secret();
        }
        assert!(
            !cache.is_symlink(),
            "the cache has become a link in round {round}"
        );
        image.outside.is_untouched();
    }
    // Should there be one all the same, it is not followed.
    let _ = fs::remove_dir_all(&cache);
    symlink(image.outside.path(), &cache).unwrap();
    let ran = image.shell_with("cat /cache/file; echo x >/cache/made", |spec| {
        spec.mounts.push(MountSpec::bind(&cache, "/cache", true));
    });
    if let Ok(ran) = ran {
        ran.tells_no_secret();
    }
    image.outside.is_untouched();
}

/// `/etc/hosts` and `/etc/resolv.conf` as links out, as directories and as pipes: nothing is written through them, nothing waited for.
pub(crate) fn sandbox_writes_no_hosts_through_a_link(yard: &Yard) {
    for kind in ["file", "empty-file", "none", "d", "directory", "pipe"] {
        for way in 0..3 {
            let image = yard.image();
            for name in ["etc/hosts", "etc/resolv.conf"] {
                match kind {
                    "directory" => fs::create_dir(image.put(name)).unwrap(),
                    "pipe" => make_pipe(&image.put(name)),
                    _ => image.link(
                        name,
                        links_to(&image.outside.path().join(kind))[way].clone(),
                    ),
                }
            }
            let ran = image.shell_with(
                "cat /etc/hosts; echo more >>/etc/hosts; echo more >>/etc/resolv.conf",
                |spec| {
                    spec.mounts
                        .extend([file("/etc/hosts"), file("/etc/resolv.conf")]);
                },
            );
            if let Ok(ran) = ran {
                ran.tells_no_secret();
            }
            image.outside.is_untouched();
        }
    }
}

fn make_pipe(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
}

/// CVE-2024-21626 (runc): a working directory by way of a descriptor that kiln has open, in any spelling, and one that a step before has
/// left in a cache.
pub(crate) fn sandbox_enters_no_directory_of_the_machine(yard: &Yard) {
    let image = yard.image();
    let shared = yard.shared();
    let mut ways: Vec<String> = vec![
        "/proc/1/root".into(),
        "/proc/self/cwd".into(),
        "/proc/thread-self/root".into(),
        "/dev/fd/7/..".into(),
    ];
    for number in 3..30 {
        ways.push(format!("/proc/self/fd/{number}"));
        ways.push(format!("/proc/self/fd/{number}/../../.."));
        image.link(&format!("way/{number}"), format!("/proc/self/fd/{number}"));
        symlink(
            format!("/proc/self/fd/{number}/.."),
            shared.path().join(number.to_string()),
        )
        .unwrap();
        ways.push(format!("/way/{number}"));
        ways.push(format!("/cache/{number}"));
    }
    for cwd in ways {
        let ran = image.shell_with("pwd -P; ls -a ..", |spec| {
            spec.mounts
                .push(MountSpec::bind(shared.path(), "/cache", true));
            spec.cwd.clone_from(&cwd);
        });
        if let Ok(ran) = ran {
            // Only where nothing is behind `/proc` can it be a directory like any other.
            assert!(!yard.has_namespaces(), "{cwd}: {}", ran.output);
            assert!(
                ran.output.starts_with('/') && !ran.output.contains("home"),
                "{cwd}: {}",
                ran.output
            );
        }
    }
    image.outside.is_untouched();
}

/// CVE-2019-19921, CVE-2023-27561 (runc): a base image whose `/proc`, `/dev` and the like are links, files or pipes.
pub(crate) fn sandbox_survives_kernel_directories_that_are_none(yard: &Yard) {
    let script = "cat /*/file /*/d/file; for d in proc sys dev tmp etc run; do echo x >/$d/made-by-the-step; done";
    for name in ["proc", "sys", "dev", "tmp", "etc", "run"] {
        for kind in ["0", "1", "2", "in", "file", "pipe"] {
            let image = yard.image();
            let path = image.put(name);
            match kind {
                "file" => fs::write(path, "").unwrap(),
                "pipe" => make_pipe(&path),
                "in" => image.link(name, "bin"),
                way => image.link(
                    name,
                    &links_to(image.outside.path())[way.parse::<usize>().unwrap()],
                ),
            }
            let ran = image.shell_with(script, |spec| {
                spec.mounts.extend([
                    file("/etc/hosts"),
                    file("/run/secrets/one"),
                    tmpfs("/tmp/t"),
                    file("/dev/x"),
                ]);
            });
            if let Ok(ran) = ran {
                ran.tells_no_secret();
            }
            image.outside.is_untouched();
        }
    }
}

/// CVE-2025-31133, CVE-2025-52565 (runc): what hides files of `/proc` is `/dev/null`, which the image has as a link to something else, as it
/// has the console and its terminals.
pub(crate) fn sandbox_hides_nothing_with_a_link(yard: &Yard) {
    let image = yard.image();
    for name in [
        "null", "console", "pts/0", "ptmx", "zero", "tty", "fd", "shm",
    ] {
        image.link(&format!("dev/{name}"), "/proc/sys/kernel/core_pattern");
    }
    let script = "[ -c /dev/null ] && [ ! -L /dev/null ] || echo a false null
        for f in keys kcore timer_list sched_debug latency_stats; do [ ! -e /proc/$f ] || [ -z \"$(head -c 1 /proc/$f)\" ] || echo shown: /proc/$f; done
        for f in /dev/console /dev/pts/0; do [ ! -L $f ] || echo a link: $f; done
        [ -d /dev/shm ] && [ ! -L /dev/shm ] || echo a false shm
        stat -f -c %t /proc/sys/kernel/core_pattern";
    image.shell(script).prints("9fa0\n");
}

/// CVE-2025-52881, CVE-2019-16884 (runc): a mount on `/proc`, or on a file of it that kiln would write to when it confines the step. Kiln writes
/// nothing there; the step's rights and its filter are what they always are, or it does not run.
pub(crate) fn sandbox_gives_up_its_rights_below_a_false_proc(yard: &Yard) {
    for target in [
        "/proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/self/attr/exec",
        "/proc/thread-self/attr/exec",
        "/proc/1/status",
        "/proc/sys",
        "/proc/sys/kernel/cap_last_cap",
        "/proc/sys/kernel/seccomp/actions_avail",
        "/sys/fs",
        "/dev",
    ] {
        let image = yard.image();
        for mount in [tmpfs(target), file(target)] {
            let ran = image.probe_with(&["rights"], |spec| spec.mounts.push(mount));
            if let Ok(ran) = ran {
                ran.prints("00000000a80425fb, filtered\n");
            }
        }
    }
}
