//! The processes of a step and those of the machine.

use crate::yard::{SECRET, Yard, run};
use kiln_executor::sandbox::{Launcher, Rung};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IoSliceMut, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// CVE-2019-5736 (runc): a step writes to the program that started it, by way of `/proc/PID/exe`, or has itself started as that program.
pub(crate) fn sandbox_keeps_kilns_binary(yard: &Yard) {
    let binary = std::env::current_exe().unwrap();
    let state = || {
        fs::metadata(&binary)
            .map(|found| {
                (
                    found.ino(),
                    found.len(),
                    found.mtime_nsec(),
                    found.ctime_nsec(),
                )
            })
            .unwrap()
    };
    let before = state();
    let image = yard.image();
    fs::write(image.put("evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        image.put("evil"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    image.link("lib64", "probe"); // for a program that is not static
    image.shell("for p in self thread-self /proc/[0-9]*; do for n in 1 2 3; do echo evil >/proc/${p##*/}/exe; cp /bin/true /proc/${p##*/}/exe; done; done; true");
    drop(image.run(&image.spec(&["/evil"])));
    let mut spec = image.spec(&["/proc/self/exe", "probe", "exe"]);
    spec.env.push(("LD_LIBRARY_PATH".into(), "/probe".into()));
    if let Ok(ran) = image.run(&spec) {
        ran.prints("a binary that can't be written to\n");
    } else {
        assert!(!yard.has_namespaces());
    }
    assert_eq!(state(), before);
}

/// ptrace(2), `/proc/PID/mem`, `/proc/PID/root`: nothing of them is there for processes that a step doesn't know of.
pub(crate) fn sandbox_shows_no_process_of_the_machine(yard: &Yard) {
    if !yard.has_numbers() {
        return; // what it can't do to them is tried below
    }
    let script = "for p in /proc/[0-9]*; do [ ${p##*/} = 1 ] || [ \"$(cut -d ' ' -f 4 $p/stat 2>/dev/null || echo 1)\" ] || echo $p; done; ls -d /proc/[0-9]* | wc -l; cat /proc/1/cmdline | head -c 2";
    let ran = yard.image().shell(script);
    let (count, program) = ran.output.split_once('\n').unwrap();
    assert!(
        count.parse::<usize>().unwrap() <= 4 && program == "sh",
        "{}",
        ran.output
    );
    let kiln = std::process::id();
    let ran = yard.image().shell(&format!("ls /proc/{kiln}/root /proc/{kiln}/fd /proc/{kiln}/cwd /proc/1/root/proc/{kiln} 2>/dev/null; echo x 2>/dev/null >/proc/{kiln}/mem; true"));
    ran.prints("");
}

/// CVE-2021-3602 (Buildah): the environment of the program that started the step, such as a job's keys. In the rung `chroot`, too, though a
/// step can find the container's `/proc` there.
pub(crate) fn sandbox_hides_kilns_environment(yard: &Yard) {
    assert_eq!(std::env::var("KILN_TEST_CANARY").as_deref(), Ok(SECRET));
    let kiln = std::process::id();
    let script = format!(
        "env; cat /proc/*/environ /proc/*/task/*/environ /proc/{kiln}/environ 2>/dev/null | tr '\\0' '\\n'; true"
    );
    let files = [
        format!("/proc/{kiln}/environ"),
        format!("/proc/{kiln}/root/proc/{kiln}/environ"),
    ];
    for exposed in with_each_fence(yard) {
        let image = yard.image();
        let ran = image.shell_with(&script, |it| it.exposed = exposed);
        ran.unwrap().tells_no_secret();
        let climbed = image.probe_with(&["climb", &files[0], &files[1]], |it| it.exposed = exposed);
        climbed.unwrap().tells_no_secret();
    }
}

/// Without namespaces there are two fences around kiln's own process: the kernel's, where it has it, which a step that is exposed is
/// without, and that it can't be looked into. Whether a step is to be exposed.
fn with_each_fence(yard: &Yard) -> Vec<bool> {
    match yard.has_namespaces() {
        true => vec![false],
        false => vec![false, true],
    }
}

/// kill(2), from a step that is root. In the rung `chroot` it would end kiln, too.
pub(crate) fn sandbox_signals_nobody_outside(yard: &Yard) {
    if !yard.has_namespaces() && !kernel_keeps_steps_apart() {
        return;
    }
    // Without a pid namespace that is everybody on the machine, should it go wrong, and the shell itself where not.
    let all = if yard.has_numbers() {
        "kill -9 -1; kill -STOP -1;"
    } else {
        ""
    };
    let mut bystander = Bystander::new();
    let script = format!(
        "kill -9 {}; kill -STOP {}; {all} kill -9 $PPID",
        bystander.0.id(),
        std::process::id()
    );
    let script = format!("trap '' TERM; ({script}) 2>/dev/null; echo alive");
    let ran = yard.image().shell(&script);
    assert!(ran.output.ends_with("alive\n"), "{ran:?}");
    assert!(bystander.0.try_wait().unwrap().is_none());
}

/// kill(2) of everybody, from a user's step in which root has a process, too: where one id stands for both, kiln answers it. The signal is one that
/// does nothing to whoever has no handler, should it go wrong.
pub(crate) fn sandbox_signals_nobody_outside_for_a_user(yard: &Yard) {
    if !yard.has_namespaces() {
        return;
    }
    let script = "trap 'echo signalled' URG; echo ready; read line; echo $line";
    let mut command = Command::new("/bin/busybox");
    command.args(["sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut bystander = command.spawn().unwrap();
    let mut said = BufReader::new(bystander.stdout.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let image = yard.image();
    image.put_probe_of_root("bin/of-root");
    let mut spec = image.probe_spec(&["signal-all"]);
    (spec.user.uid, spec.user.gid) = (1000, 1000);
    image.run(&spec).unwrap().prints("sent\n");
    let mut asked = bystander.stdin.take().unwrap();
    asked.write_all(b"nothing\n").unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    bystander.wait().unwrap();
    assert_eq!(rest, "nothing\n");
}

/// Signals everybody, as soon as root has a process, too.
#[expect(clippy::zombie_processes, reason = "that one ends with the step")]
pub(crate) fn probe_signal_all() {
    let mut root = Command::new("/bin/of-root");
    if Path::new("/probe/loader").exists() {
        root.args(["--library-path", "/probe", "/probe/program"]);
    }
    let root = root.args(["probe", "wait-as-root"]);
    let mut root = root.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = [0];
    root.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
    kill(Pid::from_raw(-1), Signal::SIGURG).unwrap(); // the caller doesn't count
    println!("sent");
}

/// Says when it is root, and stays.
pub(crate) fn probe_wait_as_root() {
    let root = nix::unistd::Uid::from_raw(0);
    nix::unistd::setresuid(root, root, root).unwrap();
    println!("r");
    std::thread::sleep(Duration::from_secs(1000));
}

/// ptrace(2), or what takes the right to it: process_vm_readv(2), `/proc/PID/mem`, pidfd_getfd(2). By them a step would be whoever runs kiln. In the rung `chroot` a step knows the numbers, too.
pub(crate) fn sandbox_traces_nobody_outside(yard: &Yard) {
    let kiln = std::process::id().to_string();
    let image = yard.image();
    for exposed in with_each_fence(yard) {
        let ran = image.probe_with(&["trace", &kiln], |spec| spec.exposed = exposed);
        ran.unwrap().prints("its own\n");
    }
    if !yard.has_namespaces() && !kernel_keeps_steps_apart() {
        return;
    }
    let bystander = Bystander::new();
    let ran = image.probe(&["trace-any", &kiln, &bystander.0.id().to_string()]);
    ran.prints("its own\n");
}

/// What can be traced: of others, and if asked for the parent, nothing, and, so that something would be seen, a child of its own.
pub(crate) fn probe_trace(numbers: &[String], and_parent: bool) {
    let mut outside: Vec<Pid> = numbers
        .iter()
        .map(|number| number.parse().map(Pid::from_raw).unwrap())
        .collect();
    outside.extend((and_parent && Pid::parent().as_raw() != 0).then(Pid::parent));
    for process in outside {
        for way in opened_up(process) {
            println!("{way} of {process}");
        }
    }
    let mut child = Command::new("/bin/busybox")
        .args(["sleep", "1000"])
        .spawn()
        .unwrap();
    let own = opened_up(Pid::from_raw(child.id().cast_signed()));
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{}", if own.is_empty() { "nothing" } else { "its own" });
}

/// By which ways a process can be got into.
fn opened_up(process: Pid) -> Vec<&'static str> {
    let memory = format!("/proc/{process}/mem");
    let descriptor = rustix::process::Pid::from_raw(process.as_raw()).and_then(|number| {
        let pidfd =
            rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()).ok()?;
        rustix::process::pidfd_getfd(pidfd, 0, rustix::process::PidfdGetfdFlags::empty()).ok()
    });
    // Where there is nothing to read, whoever may do so is told that: it takes the right to trace.
    let nowhere = RemoteIoVec { base: 0, len: 1 };
    let read = process_vm_readv(process, &mut [IoSliceMut::new(&mut [0])], &[nowhere]);
    let written = File::options().write(true).open(memory);
    let ways = [
        ("a descriptor", descriptor.is_some()),
        ("its memory", written.is_ok()),
        ("its work", read == Err(Errno::EFAULT)),
    ];
    let open = ways.into_iter().filter(|(_, open)| *open);
    open.map(|(way, _)| way).collect()
}

/// A process of the machine.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let mut command = Command::new("/bin/busybox");
        command
            .args(["sleep", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// CVE-2020-15257 (containerd): the network is the machine's own, and abstract sockets belong to it. Who listens there may take the step for
/// root of the machine.
pub(crate) fn sandbox_reaches_no_abstract_socket(yard: &Yard) {
    if !kernel_keeps_steps_apart() {
        return;
    }
    let name = format!("kiln-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    yard.image().probe(&["connect", &name]).prints("its own\n");
}

/// Whether a connection is refused to what is outside and had to what is inside.
pub(crate) fn probe_connect(name: &str) {
    let outside = SocketAddr::from_abstract_name(name).unwrap();
    if UnixStream::connect_addr(&outside).is_ok() {
        println!("outside");
    }
    let own = SocketAddr::from_abstract_name(format!("{name}-own")).unwrap();
    let _listener = UnixListener::bind_addr(&own).unwrap();
    if UnixStream::connect_addr(&own).is_ok() {
        println!("its own");
    }
}

/// Whether it knows Landlock's scopes.
fn kernel_keeps_steps_apart() -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

/// What a step leaves behind: daemons, stopped processes, those that take no signal, many.
pub(crate) fn sandbox_ends_whatever_was_left(yard: &Yard) {
    let number = format!("9{}", std::process::id());
    let script = format!(
        "s='sleep {number}'; quiet() {{ \"$@\" >/dev/null 2>&1 </dev/null & }}
        quiet $s; quiet setsid $s; quiet setsid sh -c \"setsid $s & exit\"; quiet sh -c \"trap '' TERM HUP INT QUIT; $s; $s\"
        quiet setsid sh -c \"trap '' TERM HUP; (setsid $s &) & kill -STOP \\$\\$\"
        quiet $s; kill -STOP $!; for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5; do quiet setsid $s; done; done
        (while :; do setsid true; done) >/dev/null 2>&1 &
        echo started"
    );
    yard.image().shell(&script).prints("started\n");
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.ends_with(format!("\0{number}\0").as_bytes())
    });
    assert_eq!(left.count(), 0);
}

/// CVE-2024-21626 (runc), CVE-2022-2990 and others: descriptors that kiln has, or was started with and never knew of.
pub(crate) fn sandbox_inherits_no_descriptor(yard: &Yard) {
    let (one, other) = UnixStream::pair().unwrap();
    let directories: Vec<File> = (0..20).map(|_| File::open("/").unwrap()).collect();
    for directory in &directories {
        rustix::io::fcntl_setfd(directory, rustix::io::FdFlags::empty()).unwrap();
    }
    for socket in [&one, &other] {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    }
    let image = yard.image();
    let numbers: Vec<String> = (3..64).map(|number| number.to_string()).collect();
    let script = format!(
        "for n in {}; do (eval \"exec 0<&$n\") 2>/dev/null && echo open: $n; done; ls /proc/self/fd 2>/dev/null | grep -v '^[0123]$'; true",
        numbers.join(" ")
    );
    let own = Launcher::new(); // which inherits what was left open
    run(&own, &image.spec(&["sh", "-c", &script]))
        .unwrap()
        .prints("");
}

/// CVE-2022-2990 (Buildah), CVE-2022-2995: the supplementary groups of whoever runs kiln.
pub(crate) fn sandbox_inherits_no_group(yard: &Yard) {
    let groups = [0, 4, 27, 998].map(rustix::process::Gid::from_raw);
    if rustix::thread::set_thread_groups(&groups).is_err() {
        assert_eq!(yard.rung, Rung::UsernsSingle); // where nobody can
        return;
    }
    let own = Launcher::new();
    let image = yard.image();
    for (uid, expected) in [(0, "0\n"), (1000, "0\n")] {
        let mut spec = image.spec(&["id", "-G"]);
        spec.user.uid = uid;
        run(&own, &spec).unwrap().prints(expected);
    }
}
