//! The kernel's own files, devices and calls.

use crate::yard::Yard;
use kiln_executor::sandbox::{MountSpec, Rung};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::ExitCode;

/// What a step could take the machine over with (CVE-2022-0492 and many tricks). Written is what is there already, but for a harmless request.
const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/fscaps",
    "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/rdma/release_agent",
    "/sys/power/state",
    "/sys/class/net/lo/mtu",
];

pub(crate) fn sandbox_changes_no_setting_of_the_kernel(yard: &Yard) {
    // Where `/proc` is no mount, a file of it that is the step's own may be written to.
    let script = "for p in $*; do for w in '' /proc/self/root /proc/1/root /proc/thread-self/root; do
            [ -e $w$p ] || continue
            [ \"$(stat -c %d $w$p)\" != \"$(stat -c %d /bin)\" ] || continue
            v=$(cat $w$p 2>/dev/null | head -n 1); (echo \"${v:-h}\" >$w$p) 2>/dev/null && echo wrote $w$p
            (exec 7<$w$p && echo \"${v:-h}\" >/proc/self/fd/7) 2>/dev/null && echo wrote $w$p by its descriptor
            (exec 7<$w$p && echo \"${v:-h}\" >/dev/fd/7) 2>/dev/null && echo wrote $w$p by its descriptor
            chmod 666 $w$p 2>/dev/null && echo changed $w$p
            (exec 7<$w$p && chmod 666 /proc/self/fd/7) 2>/dev/null && echo changed $w$p by its descriptor
            (exec 7<$w$p && touch -d @1 /dev/fd/7) 2>/dev/null && echo changed $w$p by its descriptor
        done; done; true";
    let image = yard.image();
    let mut spec = image.spec(&["sh", "-c", script, "sh"]);
    spec.argv
        .extend(SETTINGS.iter().map(|path| (*path).to_owned()));
    image.run(&spec).unwrap().prints("");
}

/// What is hidden of `/proc` and `/sys` (R-RT-8): keys of the machine, its memory, timers and traces.
const HIDDEN: &[&str] = &[
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/acpi",
    "proc/asound",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
    // What the machine has mounted in its own.
    "sys/fs/bpf",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/tracing",
];

/// The same by every other name, which matters most where nothing is mounted and a path is what it is known by (`chroot`).
pub(crate) fn sandbox_shows_nothing_hidden_by_another_name(yard: &Yard) {
    let image = yard.image();
    image.link("j/proc", "/proc");
    image.link("j/sys", "/sys");
    image.link("above", "/proc/self/root");
    let script = "look() { if [ -d $1 ]; then [ -z \"$(ls -A $1 2>/dev/null)\" ] || echo listed $1; else \
              [ \"$(dd if=$1 bs=1 count=1 2>/dev/null | wc -c)\" = 0 ] || echo read $1; fi; }
        ln -s /proc /run/p; ln -s proc/self/fd /run/fds; exec 8</proc 9</sys
        for p in $*; do
            n=${p#*/}; d=8; [ $p = proc/$n ] || d=9
            for w in /$p //./$p /tmp/../$p /proc/self/root/$p /proc/1/root/$p /proc/thread-self/root/$p /proc/self/cwd/$p /j/$p /above/$p \
                /proc/self/fd/$d/$n /dev/fd/$d/$n /run/p/../$p /proc/self/task/$$/root/$p; do look $w; done
            cd /proc; look ../$p; look ./../$p; cd /; (cd /${p%/*} && look $n; look ./$n)
        done; head -c 1 /proc/version; head -c 1 /proc/self/fd/8/version";
    let mut spec = image.spec(&["sh", "-c", script, "sh"]);
    spec.argv
        .extend(HIDDEN.iter().map(|path| (*path).to_owned()));
    image.run(&spec).unwrap().prints("LL"); // others are shown by these names
}

/// Device nodes that a step makes, or an image has: of the machine's disk, its memory, its log.
pub(crate) fn sandbox_reads_no_disk(yard: &Yard) {
    let partitions = fs::read_to_string("/proc/partitions").unwrap();
    let disks = partitions.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (major, minor) = (
            fields.next()?.parse::<u32>().ok()?,
            fields.next()?.parse::<u32>().ok()?,
        );
        Some(('b', major, minor))
    });
    let nodes: Vec<_> = disks
        .take(3)
        .chain([
            ('c', 1, 5),
            ('c', 1, 1),
            ('c', 1, 4),
            ('c', 1, 11),
            ('c', 10, 237),
        ])
        .collect();
    let image = yard.image();
    let shared = yard.shared();
    if yard.rung == Rung::Root {
        for (number, (kind, major, minor)) in nodes.iter().enumerate() {
            let kind = if *kind == 'b' {
                rustix::fs::FileType::BlockDevice
            } else {
                rustix::fs::FileType::CharacterDevice
            };
            let device = rustix::fs::makedev(*major, *minor);
            rustix::fs::mknodat(
                CWD,
                image.put(&format!("made{number}")),
                kind,
                Mode::from_raw_mode(0o666),
                device,
            )
            .unwrap();
        }
    }
    let mut script = String::from(
        "look() { dd if=$1 bs=512 count=1 2>/dev/null | wc -c | grep -qx 0 || echo read $1; };\nfor f in /made*; do look $f; done\n",
    );
    for (kind, major, minor) in nodes {
        let line = format!(
            "for d in / /dev /dev/shm /dev/pts /tmp /cache /t /run; do mknod $d/n {kind} {major} {minor} 2>/dev/null; chmod 666 $d/n 2>/dev/null; look $d/n; rm -f $d/n 2>/dev/null; done\n"
        );
        script.push_str(&line);
    }
    script.push_str("true");
    let ran = image.shell_with(&script, |spec| {
        spec.mounts
            .push(MountSpec::bind(shared.path(), "/cache", true));
        spec.mounts.push(crate::yard::tmpfs("/t"));
    });
    ran.unwrap().prints("");
}

/// Nodes of `/dev` that can't be made are the machine's own, and what hides files of `/proc` is one as well: root of a namespace that has their
/// owner could change their modes, owners and times. What is tried would do no harm.
pub(crate) fn sandbox_changes_no_device_of_the_machine(yard: &Yard) {
    let state = || {
        ["full", "null"].map(|name| {
            let found = fs::metadata(Path::new("/dev").join(name)).unwrap();
            (found.mode(), found.uid(), found.gid(), found.mtime() == 1)
        })
    };
    let before = state();
    let script = "for f in /dev/full /dev/null /proc/keys /proc/timer_list; do
            for name in $f /proc/self/root$f; do chmod 766 $name; chown 5:6 $name; touch -d @1 $name; done
            exec 7<$f; chmod 766 /proc/self/fd/7; chown 5:6 /proc/self/fd/7; touch -d @1 /proc/self/fd/7
        done 2>/dev/null; echo x >/dev/null && echo x 2>/dev/null >/dev/full || echo full";
    yard.image()
        .shell_with(script, |_| ())
        .unwrap()
        .prints("full\n");
    let after = state();
    if after != before {
        for (name, (mode, uid, gid, _)) in ["full", "null"].into_iter().zip(&before) {
            let path = Path::new("/dev").join(name);
            let _ = chown(&path, Some(*uid), Some(*gid));
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(*mode));
            let opened = fs::File::options().write(true).open(&path);
            let _ = opened.and_then(|node| node.set_modified(std::time::SystemTime::now()));
        }
    }
    assert_eq!(after, before);
}

/// mount(2) and the calls that came after it, namespaces, what is mounted being taken away again (CVE-2022-0185, CVE-2022-0492, CVE-2025-23266).
pub(crate) fn sandbox_mounts_nothing_of_its_own(yard: &Yard) {
    let image = yard.image();
    let script = "for c in 'mount -t tmpfs x /tmp' 'mount -t proc x /tmp' 'mount -t sysfs x /tmp' 'mount -t cgroup x /tmp' 'mount -t cgroup2 x /tmp' \
          'mount --bind / /tmp' 'mount -o remount,rw /proc/sys' 'mount -o remount,bind,rw /proc/sys' 'mount -o remount,rw /sys' 'mount --make-shared /' \
          'umount /proc/sys' 'umount -l /proc/sys' 'umount -l /sys/firmware' 'umount -l /proc/keys' 'umount -l /dev' 'umount -l /proc' \
          'unshare -m true' 'unshare -U true' 'unshare -r true' 'unshare -p true' 'unshare -n true' 'unshare -i true' 'unshare -u true' 'unshare -Urm true' \
          'nsenter -t 1 -m true' 'nsenter -t 1 -p true' 'pivot_root / /tmp'; do $c >/dev/null 2>&1 && echo done: $c; done; true";
    image.shell(script).prints("");
    image.probe(&["mounts"]).prints("");
}

/// What this program does when it is the step's.
pub(crate) fn probe(args: &[String]) -> ExitCode {
    match args[0].as_str() {
        "exe" => probe_exe(),
        "rights" => probe_rights(),
        "mounts" => probe_mounts(),
        "climb" => crate::files::probe_climb(&args[1..]),
        "connect" => crate::processes::probe_connect(&args[1]),
        "signal-all" => crate::processes::probe_signal_all(),
        "wait-as-root" => crate::processes::probe_wait_as_root(),
        "trace" => crate::processes::probe_trace(&args[1..], false),
        "trace-any" => crate::processes::probe_trace(&args[1..], true),
        "forge" => crate::forged::probe_forge(),
        "named-attributes" => crate::forged::probe_named_attributes(),
        "attributes" => crate::forged::probe_attributes(),
        "open-race" => crate::recorder::probe_open_race(),
        other => panic!("no such probe: {other}"),
    }
    ExitCode::SUCCESS
}

/// Opened for reading first, the binary can't be written to for another reason than that it is being executed.
fn probe_exe() {
    let read = fs::File::open("/proc/self/exe").unwrap();
    let write = |path: &str| fs::File::options().write(true).open(path).is_ok();
    let again = format!("/proc/self/fd/{}", read.as_raw_fd());
    let is_elsewhere = |link: &str| link.starts_with("/memfd:") || is_read_only(&read);
    let link = fs::read_link("/proc/self/exe").unwrap();
    let path = link.to_str().unwrap();
    let writable = write("/proc/self/exe") || write(&again);
    match is_elsewhere(path) && !writable {
        true => println!("a binary that can't be written to"),
        false => println!("{path}, can be written to: {writable}"),
    }
}

/// Whether the filesystem itself is read-only.
fn is_read_only(file: &fs::File) -> bool {
    let found = rustix::fs::fstatvfs(file).unwrap();
    found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
}

/// Asked of the kernel itself, as `/proc` may be anything.
fn probe_rights() {
    let held = rustix::thread::capabilities(None).unwrap();
    let filtered = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_err();
    println!(
        "{:016x}, {}",
        held.permitted.bits(),
        if filtered { "filtered" } else { "not filtered" }
    );
}

fn probe_mounts() {
    use rustix::mount::{FsOpenFlags, MoveMountFlags, OpenTreeFlags};
    let report = |call: &str, done: bool| {
        if done {
            println!("{call}");
        }
    };
    report(
        "fsopen",
        rustix::mount::fsopen("tmpfs", FsOpenFlags::empty()).is_ok(),
    );
    report(
        "fspick",
        rustix::mount::fspick(CWD, "/", rustix::mount::FsPickFlags::empty()).is_ok(),
    );
    report(
        "open_tree",
        rustix::mount::open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLONE).is_ok(),
    );
    report(
        "open_tree, no copy",
        rustix::mount::open_tree(CWD, "/", OpenTreeFlags::empty()).is_ok(),
    );
    report(
        "move_mount",
        rustix::mount::move_mount(CWD, "/proc", CWD, "/tmp", MoveMountFlags::empty()).is_ok(),
    );
    for kind in [
        "CLONE_NEWUSER",
        "CLONE_NEWNS",
        "CLONE_NEWPID",
        "CLONE_NEWCGROUP",
        "CLONE_NEWTIME",
    ] {
        let flags =
            nix::sched::CloneFlags::from_name(kind).unwrap_or(nix::sched::CloneFlags::CLONE_NEWNS);
        report(
            kind,
            nix::sched::unshare(flags).is_err_and(|errno| errno != nix::errno::Errno::EPERM),
        );
        report(kind, nix::sched::unshare(flags).is_ok());
    }
    for kind in ["mnt", "pid", "user", "net", "uts", "ipc", "cgroup"] {
        let opened = rustix::fs::open(
            format!("/proc/self/ns/{kind}"),
            OFlags::RDONLY,
            Mode::empty(),
        )
        .unwrap();
        report(
            kind,
            nix::sched::setns(opened, nix::sched::CloneFlags::empty()).is_ok(),
        );
    }
}
