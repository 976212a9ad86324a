//! The sandbox for real: each case runs programs of Debian's static busybox in a root of its own.
//!
//! They run on the best rung there is, or on that of `KILN_SANDBOX`. Where there is none they say so and count as skipped, except where
//! `CI=true`: there a sandbox that can't run as root is a failure. The harness is a few lines of our own, because this very executable must be able to become the launcher
//! before anything else happens in it.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod harness;

use harness::Wanted;
use kiln_executor::sandbox::{
    CapabilitySet, ExitStatus, Footing, Launcher, MountKind, MountSpec, Network, Resource, Rlimit,
    RootSpec, Rung, SandboxError, SandboxSpec, Stdio, User, init_main_if_asked,
};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;

type Case = (&'static str, fn());

/// Every case by its function's name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

const CASES: &[Case] = cases![
    sandbox_says_hello,
    sandbox_reports_exit_status,
    sandbox_reports_signals,
    sandbox_kills_from_outside,
    sandbox_passes_signals_on,
    sandbox_kills_leftovers,
    sandbox_dies_with_the_launcher,
    sandbox_dies_with_kiln,
    sandbox_dies_with_kiln_without_a_signal_of_its_own,
    sandbox_outlives_the_thread_that_started_it,
    sandbox_tells_a_missing_program,
    sandbox_tells_a_program_that_cannot_be_executed,
    sandbox_tells_a_refused_mount,
    sandbox_gives_exactly_the_environment,
    sandbox_has_the_standard_mounts,
    sandbox_has_the_standard_devices,
    sandbox_opens_no_device_it_made,
    sandbox_makes_devices_for_those_who_may,
    sandbox_lets_users_change_what_they_may,
    sandbox_lets_users_read_what_they_may,
    sandbox_answers_users_as_the_kernel_does,
    sandbox_finds_what_is_open_by_way_of_proc,
    sandbox_shows_devices_for_what_they_are,
    sandbox_keeps_access_lists,
    sandbox_shows_root_as_the_owner_of_the_kernels_files,
    sandbox_hides_the_masked_paths,
    sandbox_protects_the_read_only_paths,
    sandbox_has_dockers_capabilities,
    sandbox_takes_capabilities_from_users,
    sandbox_runs_as_user_and_groups,
    sandbox_honours_setuid_programs,
    sandbox_honours_what_roots_programs_are_set_to,
    sandbox_gives_scripts_no_rights,
    sandbox_gives_programs_their_capabilities,
    sandbox_lets_users_signal_their_own,
    sandbox_tells_who_connects,
    sandbox_leaks_no_descriptors,
    sandbox_is_process_one_with_umask_022,
    sandbox_resets_signals,
    sandbox_sets_limits,
    sandbox_has_its_host_name,
    sandbox_without_network_has_only_loopback,
    sandbox_never_opens_kilns_binary_for_writing,
    sandbox_refuses_a_cwd_outside,
    sandbox_makes_the_cwd_for_the_user,
    sandbox_gives_read_only_hosts,
    sandbox_follows_a_resolv_conf_link_inside_only,
    sandbox_removes_mount_points_it_made,
    sandbox_keeps_dev_proc_sys,
    sandbox_refuses_a_proc_that_is_a_link,
    sandbox_binds_and_tmpfs,
    sandbox_tmpfs_has_the_mode_of_what_it_hides,
    sandbox_binds_never_follow_links_out,
    sandbox_writes_to_upper_only,
    sandbox_runs_in_a_plain_directory,
    sandbox_takes_many_layers_and_odd_names,
    sandbox_filters_system_calls,
    sandbox_filter_knows_capabilities,
    sandbox_has_a_terminal,
    sandbox_begins_as_expected_or_otherwise,
    sandbox_runs_in_parallel,
    sandbox_starts_a_step_anew_whose_process_was_lost,
];

fn main() -> ExitCode {
    init_main_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("write-exe") => {
            let write = |path: &str| File::options().write(true).open(path);
            // Opened for reading first, it is not busy for being executed.
            let read = File::open("/proc/self/exe").unwrap();
            let again = write(&format!("/proc/self/fd/{}", read.as_raw_fd()));
            let errors = [write("/proc/self/exe").err(), again.err()];
            println!("{:?}", errors.map(|error| error.map(|it| it.kind())));
            ExitCode::SUCCESS
        }
        Some("print-effective-user") => {
            println!("{}", rustix::process::geteuid().as_raw());
            ExitCode::SUCCESS
        }
        Some("make-a-file") => {
            fs::write(&args[1], "").unwrap();
            ExitCode::SUCCESS
        }
        Some("access-lists") => {
            try_access_lists();
            ExitCode::SUCCESS
        }
        Some("with-capabilities") => {
            run_with_capabilities(&args[1]);
            ExitCode::SUCCESS
        }
        Some("serve-a-user") => {
            serve_a_user();
            ExitCode::SUCCESS
        }
        Some("connect") => {
            let mut server = UnixStream::connect("/socket").unwrap();
            server.read_to_end(&mut Vec::new()).unwrap();
            ExitCode::SUCCESS
        }
        Some("signals-of-a-user") => {
            send_signals_of_a_user();
            ExitCode::SUCCESS
        }
        Some("calls-of-a-user") => {
            make_calls_of_a_user();
            ExitCode::SUCCESS
        }
        Some("hold-a-step") => hold_a_step(),
        Some("renounce-the-parents-signal") => renounce_the_parents_signal(),
        _ => harness(&args),
    }
}

fn harness(args: &[String]) -> ExitCode {
    let wanted = Wanted::read(args);
    let chosen: Vec<_> = CASES.iter().filter(|(name, _)| wanted.has(name)).collect();
    if args.iter().any(|arg| arg == "--ignored") {
        return ExitCode::SUCCESS; // none of ours are
    }
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    match unable() {
        Some(reason) => skip(&reason, chosen.len()),
        None => run_all(&chosen),
    }
}

fn unable() -> Option<String> {
    if !Path::new("/bin/busybox").exists() {
        return Some("there is no /bin/busybox (apt-get install busybox-static)".into());
    }
    let asked = std::env::var("KILN_SANDBOX").ok();
    let asked = asked.map(|name| name.parse().unwrap());
    let found = Footing::settle(asked, &place()).and_then(|footing| footing.rung(&place()));
    match found {
        Ok(rung) => {
            println!("\nsandbox: {rung}");
            RUNG.set(rung).unwrap();
            None
        }
        Err(why) => Some(format!("{why}; {}", why.remedy)),
    }
}

/// The rung that all cases are tried on.
static RUNG: OnceLock<Rung> = OnceLock::new();

fn rung() -> Rung {
    *RUNG.get().unwrap()
}

fn writable(dir: &str) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Where roots are made; somebody else than who built this needs another place.
fn place() -> PathBuf {
    match std::env::var_os("KILN_TEST_DIR") {
        Some(dir) => dir.into(),
        None if writable(env!("CARGO_TARGET_TMPDIR")) => env!("CARGO_TARGET_TMPDIR").into(),
        None => std::env::temp_dir(),
    }
}

fn skip(reason: &str, count: usize) -> ExitCode {
    println!("\n*** {count} SANDBOX TESTS SKIPPED: {reason} ***\n");
    let must_run = std::env::var_os("CI").is_some_and(|ci| ci == "true")
        && rustix::process::geteuid().is_root();
    if must_run {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run_all(chosen: &[&Case]) -> ExitCode {
    println!("\nrunning {} tests", chosen.len());
    let failed: Vec<_> = chosen
        .iter()
        .filter(|case| !passes(case))
        .map(|(name, _)| name)
        .collect();
    let passed = chosen.len() - failed.len();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let left_out = LEFT_OUT.lock().unwrap();
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored\n",
        failed.len()
    );
    if !left_out.is_empty() {
        println!("*** {} SKIPPED ON {}: ***", left_out.len(), rung());
        left_out.iter().for_each(|what| println!("    {what}"));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn passes((name, case): &Case) -> bool {
    let before = LEFT_OUT.lock().unwrap().len();
    let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
    for what in &mut LEFT_OUT.lock().unwrap()[before..] {
        *what = format!("{name}: {what}");
        println!("*** skipped: {what}");
    }
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

/// What cases did not try, and why.
static LEFT_OUT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says that the rest of a case can't be tried on this rung.
fn leave_out(rest: &str) {
    LEFT_OUT.lock().unwrap().push(rest.to_owned());
}

// ---------------------------------------------------------------------------------------------------------------------------
// A root to run in.

/// One launcher for all, as in kiln.
fn launcher() -> &'static Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    LAUNCHER.get_or_init(Launcher::new)
}

/// A busybox image with room for changes above it.
struct Image {
    dir: TempDir,
}

/// What a step left behind.
struct Ran {
    status: ExitStatus,
    output: String,
}

impl Image {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(place()).unwrap();
        for name in [
            "lower/bin",
            "lower/etc",
            "lower/tmp",
            "lower/run",
            "lower/proc",
            "lower/sys",
            "lower/dev",
            "upper",
            "work",
        ] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bin = dir.path().join("lower/bin");
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        let installed = Command::new("/bin/busybox")
            .args(["--install", "-s"])
            .arg(&bin)
            .status()
            .unwrap();
        assert!(installed.success());
        for entry in fs::read_dir(&bin)
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| entry.file_name() != "busybox")
        {
            fs::remove_file(entry.path()).unwrap(); // `--install` links to where it was called
            symlink("busybox", entry.path()).unwrap();
        }
        Self { dir }
    }

    fn lower(&self, path: &str) -> PathBuf {
        self.dir.path().join("lower").join(path)
    }

    fn upper(&self, path: &str) -> PathBuf {
        self.dir.path().join("upper").join(path)
    }

    /// The root with a fresh work directory, or a copy that is as new, as each step needs it.
    fn root(&self) -> RootSpec {
        if !rung().has_namespaces() {
            if !self.upper("bin").exists() {
                let (from, to) = (self.lower("."), self.upper(""));
                let copied = Command::new("cp").arg("-a").args([from, to]).status();
                assert!(copied.unwrap().success());
            }
            return RootSpec::Directory(self.upper(""));
        }
        let _ = fs::remove_dir_all(self.dir.path().join("work/work"));
        RootSpec::Overlay {
            lowers: vec![self.lower("")],
            upper: self.upper(""),
            work: self.dir.path().join("work"),
        }
    }

    fn spec(&self, argv: &[&str]) -> SandboxSpec {
        let mut spec = SandboxSpec::new(self.root(), argv.iter().copied());
        spec.rung = rung();
        spec.env.push(("PATH".into(), "/usr/bin:/bin".into()));
        // What may be moved into a root that can't have mounts.
        spec.own = Some(self.dir.path().to_owned());
        spec
    }

    /// Runs a shell command with its spec changed.
    fn shell_with(&self, script: &str, change: impl FnOnce(&mut SandboxSpec)) -> Ran {
        let mut spec = self.spec(&["sh", "-c", script]);
        change(&mut spec);
        run(&spec).unwrap()
    }

    fn shell(&self, script: &str) -> Ran {
        self.shell_with(script, |_| ())
    }

    /// Everything that changed, with the directories that it is in, sorted: what is in the upper directory of an overlay.
    fn changes(&self) -> Vec<String> {
        if !rung().has_namespaces() {
            return differences(&self.lower(""), &self.upper(""));
        }
        let mut found: Vec<_> = walk(&self.upper(""))
            .iter()
            .map(|path| {
                path.strip_prefix(self.upper(""))
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        found.sort();
        found
    }
}

/// What differs between a directory and what became of a copy of it.
fn differences(before: &Path, after: &Path) -> Vec<String> {
    let below = |top: &Path| {
        let paths = walk(top).into_iter();
        let all = paths.map(|path| path.strip_prefix(top).unwrap().to_owned());
        all.collect::<BTreeSet<_>>()
    };
    let of = |path: PathBuf| {
        let found = fs::symlink_metadata(&path).ok()?;
        let owner = (found.uid(), found.gid(), found.mode());
        Some((owner, found.is_file().then(|| fs::read(&path).unwrap())))
    };
    let all = &below(before) | &below(after);
    let differ = all
        .iter()
        .filter(|path| of(before.join(path)) != of(after.join(path)));
    let with_parents = differ.flat_map(|path| path.ancestors());
    let named = with_parents.filter(|path| !path.as_os_str().is_empty());
    let names: BTreeSet<_> = named.map(|path| path.display().to_string()).collect();
    names.into_iter().collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            let below = if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                Vec::new()
            };
            std::iter::once(entry.path()).chain(below)
        })
        .collect()
}

fn run(spec: &SandboxSpec) -> Result<Ran, SandboxError> {
    run_by(launcher(), spec)
}

fn run_by(launcher: &Launcher, spec: &SandboxSpec) -> Result<Ran, SandboxError> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let errors = writer.try_clone().unwrap();
    let step = launcher.spawn(spec, Stdio::output(writer.into(), errors.into()).unwrap())?;
    launcher.make_ready(spec); // so that most steps here are made by a process that waited for them
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    Ok(Ran {
        status: step.wait()?,
        output,
    })
}

/// Makes this executable, which is not static, runnable in the root: with its libraries alone, as where there are no mounts they are
/// copied.
fn bind_libraries(image: &Image, spec: &mut SandboxSpec) {
    bind_libraries_over(&image.lower(""), spec);
}

fn bind_libraries_over(lower: &Path, spec: &mut SandboxSpec) {
    let own = std::env::current_exe().unwrap();
    let told = Command::new("ldd").arg(own).output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    for library in told.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = library.strip_prefix("/usr").unwrap_or(library);
        let source = fs::canonicalize(library).unwrap();
        spec.mounts.push(MountSpec::bind(source, target, false));
    }
    fs::create_dir_all(lower.join("usr")).unwrap();
    symlink("../lib", lower.join("usr/lib")).unwrap();
}

fn refusal(spec: &SandboxSpec) -> SandboxError {
    match run(spec) {
        Ok(ran) => panic!("it ran: {:?}\n{}", ran.status, ran.output),
        Err(error) => error,
    }
}

/// The error and what caused it, as a person sees it.
fn chain(error: &SandboxError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[track_caller]
fn prints(ran: &Ran, expected: &str) {
    assert_eq!(ran.output, expected);
    assert_eq!(ran.status, ExitStatus::Code(0), "{}", ran.output);
}

// ---------------------------------------------------------------------------------------------------------------------------
// How it ends.

fn sandbox_says_hello() {
    prints(
        &Image::new().shell("echo hello; echo again >&2"),
        "hello\nagain\n",
    );
}

fn sandbox_reports_exit_status() {
    let ran = Image::new().shell("exit 3");
    assert_eq!(ran.status, ExitStatus::Code(3));
    assert_eq!(ran.status.shell_code(), 3);
}

fn sandbox_reports_signals() {
    // Process 1 is immune to signals from inside, except to those the kernel itself forces on it.
    let ran = Image::new().shell("sh -c 'kill -9 $$'; echo $?");
    prints(&ran, "Killed\n137\n");
}

fn sandbox_kills_from_outside() {
    let image = Image::new();
    let spec = image.spec(&["sleep", "1000"]);
    let step = launcher().spawn(&spec, Stdio::inherit().unwrap()).unwrap();
    step.kill();
    assert_eq!(step.wait().unwrap(), ExitStatus::Signal(9)); // R-RT-16
    assert_eq!(step.wait().unwrap().shell_code(), 137); // R-RT-15
}

fn sandbox_passes_signals_on() {
    let image = Image::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let spec = image.spec(&[
        "sh",
        "-c",
        "trap 'echo got it; exit 5' TERM; echo ready; sleep 1000 & wait",
    ]);
    let step = launcher()
        .spawn(
            &spec,
            Stdio::output(writer.try_clone().unwrap().into(), writer.into()).unwrap(),
        )
        .unwrap();
    reader.read_exact(&mut [0; 6]).unwrap();
    step.signal(15);
    assert_eq!(step.wait().unwrap(), ExitStatus::Code(5));
}

fn sandbox_kills_leftovers() {
    let image = Image::new();
    let started = Instant::now();
    let ran = image.shell("(trap '' TERM HUP; setsid sleep 1000) & echo started");
    prints(&ran, "started\n"); // the pipe closed, so the sleeper is gone (R-RT-2)
    assert!(started.elapsed() < Duration::from_secs(60));
}

fn sandbox_dies_with_the_launcher() {
    let image = Image::new();
    let own = Launcher::new();
    let step = own
        .spawn(&image.spec(&["sleep", "1000"]), Stdio::inherit().unwrap())
        .unwrap();
    drop(own);
    assert_eq!(step.wait().unwrap(), ExitStatus::Signal(9));
}

fn sandbox_dies_with_kiln() {
    dies_with_kiln(&["/bin/sh", "-c", "echo ready; sleep 1000; sleep 1000"]);
}

/// A program may renounce it, and does by becoming another user.
fn sandbox_dies_with_kiln_without_a_signal_of_its_own() {
    if rung() != Rung::Chroot {
        dies_with_kiln(&["/proc/self/exe", "renounce-the-parents-signal"]);
    }
}

fn renounce_the_parents_signal() -> ExitCode {
    rustix::process::set_parent_process_death_signal(None).unwrap();
    println!("ready");
    loop {
        std::thread::park();
    }
}

/// Runs this executable with a step in it, and kills it with SIGKILL: the step's end of a pipe must close.
fn dies_with_kiln(program: &[&str]) {
    let image = Image::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut kiln = command
        .arg("hold-a-step")
        .arg(image.dir.path())
        .arg(rung().name())
        .args(program)
        .stdout(writer)
        .spawn()
        .unwrap();
    drop(command); // and with it our copy of the writer
    let mut ready = [0; 6];
    reader.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    kiln.kill().unwrap();
    kiln.wait().unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap(); // hangs for ever if the step lives on
    assert_eq!(rest, b"");
}

fn hold_a_step() -> ExitCode {
    let dir = PathBuf::from(std::env::args_os().nth(2).unwrap());
    let rung: Rung = std::env::args().nth(3).unwrap().parse().unwrap();
    let root = match rung.has_namespaces() {
        true => RootSpec::Overlay {
            lowers: vec![dir.join("lower")],
            upper: dir.join("upper"),
            work: dir.join("work"),
        },
        false => RootSpec::Directory(dir.join("lower")),
    };
    let mut spec = SandboxSpec::new(root, std::env::args().skip(4));
    spec.rung = rung;
    if spec.argv[0].starts_with("/proc") {
        bind_libraries_over(&dir.join("lower"), &mut spec);
    }
    launcher().make_ready(&spec);
    let status = launcher()
        .spawn(&spec, Stdio::inherit().unwrap())
        .unwrap()
        .wait();
    panic!("{status:?}");
}

fn sandbox_outlives_the_thread_that_started_it() {
    let image = Image::new();
    let spec = image.spec(&["sh", "-c", "read line; echo $line"]);
    let ((input, mut tell), (mut output, writer)) =
        (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let own = std::sync::Arc::new(Launcher::new());
    let theirs = std::sync::Arc::clone(&own);
    let nothing = File::create("/dev/null").unwrap();
    let stdio = Stdio::new(input.into(), writer.into(), nothing.into());
    let step = std::thread::spawn(move || theirs.spawn(&spec, stdio).unwrap())
        .join()
        .unwrap();
    std::io::Write::write_all(&mut tell, b"alive\n").unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "alive\n");
    assert!(step.wait().unwrap().success());
}

fn sandbox_tells_a_missing_program() {
    let image = Image::new();
    let error = refusal(&image.spec(&["no-such-program"]));
    assert_eq!(
        chain(&error),
        "exec: \"no-such-program\": executable file not found in $PATH"
    ); // R-RT-15
    let error = refusal(&image.spec(&["/bin/none"]));
    assert_eq!(
        chain(&error),
        "exec: \"/bin/none\": no such file or directory"
    );
}

fn sandbox_tells_a_program_that_cannot_be_executed() {
    let image = Image::new();
    fs::write(image.lower("bin/data"), "not a program").unwrap();
    for (name, bytes) in [("text", "plain"), ("script", "#!/no/such/shell\n")] {
        fs::write(image.lower("bin").join(name), bytes).unwrap();
        fs::set_permissions(
            image.lower("bin").join(name),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }
    assert_eq!(
        chain(&refusal(&image.spec(&["data"]))),
        "exec: \"data\": permission denied"
    );
    assert_eq!(
        chain(&refusal(&image.spec(&["text"]))),
        "exec: \"text\": exec format error"
    );
    let error = chain(&refusal(&image.spec(&["script"])));
    assert_eq!(
        error,
        "exec: \"script\": its interpreter or dynamic loader is not in the image"
    );
}

fn sandbox_tells_a_refused_mount() {
    let image = Image::new();
    let mut spec = image.spec(&["true"]);
    spec.mounts
        .push(MountSpec::bind("/no/such/source", "/mnt", false));
    let error = chain(&refusal(&spec));
    assert_eq!(
        error,
        "could not mount on `/mnt`: open(/no/such/source): no such file or directory (ENOENT)"
    );
}

// ---------------------------------------------------------------------------------------------------------------------------
// What it sees.

fn sandbox_gives_exactly_the_environment() {
    let image = Image::new();
    let mut spec = image.spec(&["env"]);
    spec.env = vec![
        ("PATH".into(), "/bin".into()),
        ("A".into(), "b c\n=".into()),
    ];
    prints(&run(&spec).unwrap(), "PATH=/bin\nA=b c\n=\n"); // R-RT-1
}

fn sandbox_has_the_standard_mounts() {
    let ran = Image::new().shell("cat /proc/self/mountinfo");
    let mounts: Vec<Vec<&str>> = ran
        .output
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let find = |target: &str| {
        mounts
            .iter()
            .filter(|fields| fields[4] == target)
            .collect::<Vec<_>>()
    };
    for (target, options, kind) in [
        // Devices open in a root that isn't mounted.
        (
            "/",
            if rung().has_namespaces() {
                "rw,nodev"
            } else {
                "rw,"
            },
            "overlay",
        ),
        ("/proc", "rw,nosuid,nodev,noexec", "proc"),
        ("/dev", "rw,nosuid,nodev", "tmpfs"),
        ("/dev/pts", "rw,nosuid,noexec", "devpts"),
        ("/dev/shm", "rw,nosuid,nodev,noexec", "tmpfs"),
        ("/dev/mqueue", "rw,nosuid,nodev,noexec", "mqueue"),
        ("/sys", "ro,nosuid,nodev,noexec", "sysfs"),
        ("/proc/sys", "ro,nosuid,nodev,noexec", "proc"),
    ] {
        let found = find(target); // R-RT-7
        assert_eq!(found.len(), 1, "{target}\n{}", ran.output);
        assert!(
            found[0][5].starts_with(options) && found[0].contains(&kind),
            "{target}: {:?}",
            found[0]
        );
    }
    for absent in ["/tmp", "/run", "/etc/hosts"] {
        assert!(find(absent).is_empty(), "{absent}");
    }
    assert!(
        !ran.output.contains("/mnt/") && !ran.output.contains("/dev/vda"),
        "mounts of the host:\n{}",
        ran.output
    );
}

/// Nodes can be made, as layers may hold them, but lead to no device of the host: not in the root, not in `/dev`, not in a bind.
fn sandbox_opens_no_device_it_made() {
    let image = Image::new();
    let shared = image.dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let script = "for at in / /dev/ /bind/; do
            mknod ${at}node c 1 5 || echo not made; head -c 1 ${at}node >/dev/null 2>&1 && echo opened ${at}node
        done; echo x >/dev/null && head -c 1 /dev/zero | wc -c";
    let ran = image.shell_with(script, |spec| {
        spec.mounts.push(MountSpec::bind(&shared, "/bind", true));
    });
    let expected = match rung() {
        // What was made are empty files that are recorded as devices.
        Rung::UsernsRange | Rung::UsernsGiven | Rung::UsernsSingle => {
            "opened /node\nopened /dev/node\nopened /bind/node\n1\n"
        }
        Rung::Root => "1\n",
        Rung::Chroot => {
            // Without mounts there is no `nodev`: which devices open is the container's matter.
            assert!(ran.output.ends_with("1\n"), "{}", ran.output);
            return;
        }
    };
    prints(&ran, expected);
    assert_eq!(image.changes(), ["node"]);
}

/// A node is its maker's, in a directory that they can write to, and takes the capability.
fn sandbox_makes_devices_for_those_who_may() {
    let image = Image::new();
    let made = image.shell("umask 027; chmod 1777 /tmp; mkdir -m 2775 /d; chown 0:50 /d; cd /d && mknod n c 1 3 && stat -c '%u:%g %a' n; mknod n c 1 3; echo $?; mknod /no/n b 1 3; echo $?");
    let expected =
        "0:50 640\nmknod: n: File exists\n1\nmknod: /no/n: No such file or directory\n1\n";
    prints(&made, expected);
    let user = image.shell_with("mknod /tmp/n c 1 3; mkfifo /d/p; echo $?", |spec| {
        spec.user = User {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        };
    });
    let refused = "mknod: /tmp/n: Operation not permitted\nmkfifo: /d/p: Permission denied\n1\n";
    prints(&user, refused);
}

/// The same on all rungs, also where users are only believed in.
fn sandbox_lets_users_change_what_they_may() {
    let image = Image::new();
    let made = image.shell(
        "mkdir -m 1777 /s; mkdir /closed; mkdir -m 2775 /g; chown 0:50 /g; for f in /s/f /closed/f /g/f; do echo x >$f; done
        echo x >/own; chown 1000 /own",
    );
    prints(&made, "");
    let allowed = "touch /g/n\ntouch -d @1 /own\ntouch /own\nrm -f /g/f\nmkdir /s/d\nmv /s/d /g/d\nrmdir /g/d\nchmod 640 /own\necho >>/own\ntest -w /own\necho >/dev/null\n";
    let refused = "touch /closed/n\nmkdir /closed/d\nln -s x /closed/l\nrm -f /closed/f\nmv /closed/f /s/x\nmv /own /closed/own\n\
        echo >/closed/f\necho >>/s/f\nrm -f /s/f\nmv /s/f /s/g\ntouch -d @1 /s/f\ntouch /s/f\nchmod 777 /closed\nchmod 666 /s/f\ntest -w /closed\nrm -rf /closed\n";
    a_user_succeeds_with(&image, allowed, refused);
}

/// The same on all rungs, also where users are only believed in.
fn sandbox_lets_users_read_what_they_may() {
    let image = Image::new();
    let made = image.shell(
        "mkdir -m 700 /closed; mkdir -m 711 /pass; mkdir -m 744 /list; for f in /closed/f /pass/f /list/f /secret /group /own; do echo x >$f; done
        chmod 600 /secret /own; chmod 640 /group; chown 0:50 /group; chown 1000 /own; ln -s /closed/f /link; ln -s pass/f /way; cp /bin/busybox /prog; chmod 744 /prog",
    );
    prints(&made, "");
    let allowed = "cat /group\ncat /own\ncat /pass/f\ncat /way\ntest -r /group\ncd /pass\ncat /proc/self/status\ncat /dev/null\n\
        cd /; cat pass/f\ntest -x /bin/sh\ntest ! -e /closed/f\n";
    let refused = "cat /closed/f\ncat /secret\nls /closed\nls /pass\ncat /list/f\ncd /closed\ncd /list\ntest -r /secret\n\
        cat /link\n/prog true\ntest -x /prog\nreadlink /closed/l\n";
    a_user_succeeds_with(&image, allowed, refused);

    // Where it has been put, what is above doesn't matter.
    prints(&image.shell("mkdir /closed/in; echo x >/closed/in/f"), "");
    let script = "ls .; cat ./f; test -d .. && echo above; ls ./ ../in . >/dev/null || echo refused; ls .. || echo refused";
    let ran = image.shell_with(script, |spec| {
        spec.cwd = "/closed/in".into();
        spec.user = User {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        };
    });
    let expected = "f\nx\nabove\nls: ../in: Permission denied\nrefused\nls: can't open '..': Permission denied\nrefused\n";
    prints(&ran, expected);
}

/// Calls that programs of the shell don't make, and which of several reasons a call fails for.
fn sandbox_answers_users_as_the_kernel_does() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/calls")).unwrap();
    let made = image.shell(
        "mkdir -m 700 /closed; mkdir -m 1777 /s; mkdir -m 777 /open; mkdir -m 2777 /g; chown 0:50 /g; echo x >/file; echo x >/closed/f; echo x >/secret
        chmod 600 /secret; ln -s /closed/f /link",
    );
    prints(&made, "");
    let mut spec = image.spec(&["calls", "calls-of-a-user"]);
    bind_libraries(&image, &mut spec);
    spec.user.uid = 1000;
    spec.user.gid = 1000;
    let expected = "truncate EACCES
remove nothing ENOENT
move nothing ENOENT
link to what is there EEXIST
link from nothing ENOENT
list a file ENOTDIR
enter a file ENOTDIR
read without a trace EPERM
make what a link is EEXIST
look at a link ok
queue ok 1000:1000
socket in a sticky directory ok 1000:1000
the same once more EADDRINUSE
take it away ok
socket in a directory with a group ok 1000:50
socket in a closed directory EACCES
socket in a directory of root's EACCES
";
    prints(&run(&spec).unwrap(), expected);
}

fn make_calls_of_a_user() {
    use rustix::fs::{Mode, OFlags, link, open, rename, unlink};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    type Done = rustix::io::Result<()>;
    let told = |what: &str, done: Done, then: &str| match done {
        Ok(()) => println!("{what} ok{then}"),
        Err(errno) => println!(
            "{what} {:?}",
            nix::errno::Errno::from_raw(errno.raw_os_error())
        ),
    };
    let tell = |what, done| told(what, done, "");
    let opened = |path, flags| open(path, flags | OFlags::CLOEXEC, Mode::RUSR).map(drop);
    let owner = |path| {
        let found = fs::symlink_metadata(path).map(|found| (found.uid(), found.gid()));
        found.map_or_else(|_| String::new(), |(uid, gid)| format!(" {uid}:{gid}"))
    };
    let listen = |path| {
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        bind(socket, &SocketAddrUnix::new(path)?)
    };
    let truncated = nix::unistd::truncate("/file", 0);
    tell(
        "truncate",
        truncated.map_err(|it| rustix::io::Errno::from_raw_os_error(it as i32)),
    );
    tell("remove nothing", unlink("/none"));
    tell("move nothing", rename("/none", "/open/none"));
    tell("link to what is there", link("/file", "/secret"));
    tell("link from nothing", link("/none", "/new"));
    tell("list a file", opened("/secret", OFlags::DIRECTORY));
    tell("enter a file", rustix::process::chdir("/file"));
    tell("read without a trace", opened("/file", OFlags::NOATIME));
    let anew = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    tell("make what a link is", opened("/link", anew));
    tell(
        "look at a link",
        opened("/link", OFlags::PATH | OFlags::NOFOLLOW),
    );
    let queue = "/dev/mqueue/of-a-user";
    let made = opened(queue, anew);
    told("queue", made, &owner(queue));
    for (what, path) in [
        ("socket in a sticky directory", "/s/socket"),
        ("the same once more", "/s/socket"),
    ] {
        let made = listen(path);
        told(what, made, &owner(path));
    }
    tell("take it away", unlink("/s/socket"));
    for (what, path) in [
        ("socket in a directory with a group", "/g/socket"),
        ("socket in a closed directory", "/closed/socket"),
        ("socket in a directory of root's", "/socket"),
    ] {
        let made = listen(path);
        told(what, made, &owner(path));
    }
}

/// `self` is the program and what it has open is its own, on all rungs, also where kiln looks for it.
fn sandbox_finds_what_is_open_by_way_of_proc() {
    let image = Image::new();
    let made = image.shell(
        "mkdir -m 777 /w; ln -s /proc/self /self; ln -s self/fd /fds; exec 7>/by-name
        chown 5:6 /proc/self/fd/7 && chmod 640 /dev/fd/7 && touch -d @5 /fds/7 && stat -c '%u:%g %a %Y' /by-name
        chown 7:8 /proc/$$/fd/7 && stat -L -c '%u:%g' /dev/fd/7 && chown 9 /dev/stdout && echo x >/dev/stderr",
    );
    prints(&made, "5:6 640 5\n7:8\nx\n");
    let run = |script: &str, expected: &str| {
        let done = image.shell_with(script, |spec| {
            spec.user.uid = 1000;
            spec.user.gid = 50;
            spec.links_to_kernel = vec!["self".into(), "fds".into()];
        });
        prints(&done, expected);
    };
    run(
        "cd /w; umask 027; exec 8</w
        echo x >/proc/self/cwd/written; echo x >/self/cwd/linked; touch /dev/fd/../cwd/up /fds/8/open /proc/self/fd/8/named
        ln -s /fds chain; mv chain moved; ln -s ../self deep; echo more >>/w/moved/8/named; echo more >>/w/deep/cwd/named
        stat -c '%n %u:%g %a' written linked up open named; cat /proc/self/cwd/written /self/root/w/linked named",
        "written 1000:50 640\nlinked 1000:50 640\nup 1000:50 640\nopen 1000:50 640\nnamed 1000:50 640\nx\nx\nmore\nmore\n",
    );
    if rung() == Rung::Chroot {
        return leave_out("directories and links made by such a way");
    }
    run(
        "cd /w; umask 027; exec 8</w
        mkdir /proc/$$/cwd/directory; mkfifo /proc/thread-self/cwd/pipe; ln -s x /self/root/w/link; rm /self/cwd/up /dev/fd/8/open
        stat -c '%n %u:%g %a' directory pipe; stat -c '%u:%g' link; ls | wc -l",
        "directory 1000:50 750\npipe 1000:50 640\n1000:50\n8\n",
    );
}

/// Tries commands, one a line, as a user who is in group 50, too.
fn a_user_succeeds_with(image: &Image, allowed: &str, refused: &str) {
    let script = format!(
        "while read c; do sh -c \"$c\" >/dev/null 2>&1 && echo \"$c\"; done <<'E'\n{refused}{allowed}E\ntrue"
    );
    let done = image.shell_with(&script, |spec| {
        spec.user = User {
            uid: 1000,
            gid: 1000,
            groups: vec![50],
        };
    });
    prints(&done, allowed);
}

/// Where no device can be made, a step that is likely to have some is told of them.
fn sandbox_shows_devices_for_what_they_are() {
    let image = Image::new();
    let likely = |spec: &mut SandboxSpec| spec.has_devices = true;
    let look = "stat -c '%n %F %t:%T %a %u:%g' /n /d/b; test -c /n && test -b /d/b && echo devices";
    let seen =
        "/n character special file 1:3 640 7:8\n/d/b block special file 7:c 644 0:0\ndevices\n";
    let make = format!(
        "mknod /n c 1 3; chmod 640 /n; chown 7:8 /n; mkdir -m 700 /d; mknod /d/b b 7 12; {look}"
    );
    prints(&image.shell_with(&make, likely), seen);
    prints(&image.shell_with(look, likely), seen);
    let user = image.shell_with("stat -c %F /n /d/b; true", |spec| {
        likely(spec);
        spec.user.uid = 1000;
    });
    let refused = "character special file\nstat: can't stat '/d/b': Permission denied\n";
    prints(&user, refused);
}

/// They may name users who have no id here: then the mode follows the list and the list the mode all the same.
fn sandbox_keeps_access_lists() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/lists")).unwrap();
    let mut spec = image.spec(&["lists", "access-lists"]);
    bind_libraries(&image, &mut spec);
    let expected = "file 674 1:6 2:7:1000 4:4 16:7 32:4 [system.posix_acl_access]
file 750 1:7 2:7:1000 4:4 16:5 32:0 [system.posix_acl_access]
dir/new 660 1:6 2:7:1000 4:4 16:6 32:0 [system.posix_acl_access]
dir/sub 770 1:7 2:7:1000 4:4 16:7 32:0 [system.posix_acl_access,system.posix_acl_default]
file 640 none []
dir/new 660 none []
";
    prints(&run(&spec).unwrap(), expected);
}

/// In the step: what of them programs see.
fn try_access_lists() {
    use rustix::fs::{XattrFlags, chmod, getxattr, listxattr, removexattr, setxattr};
    const ACCESS: &str = "system.posix_acl_access";
    const NOBODY: u32 = u32::MAX;
    let list = |entries: &[(u16, u16, u32)]| -> Vec<u8> {
        let entries = entries.iter().flat_map(|(tag, rights, id)| {
            let halves = [tag.to_le_bytes(), rights.to_le_bytes()].concat();
            [halves, id.to_le_bytes().to_vec()].concat()
        });
        2u32.to_le_bytes().into_iter().chain(entries).collect()
    };
    let named = |owner, other| {
        let (user, group) = ((2, 7, 1000), (4, 4, NOBODY));
        list(&[
            (1, owner, NOBODY),
            user,
            group,
            (16, 7, NOBODY),
            (32, other, NOBODY),
        ])
    };
    let show = |path: &str| {
        let mode = fs::metadata(path).unwrap().mode() & 0o7777;
        let mut value = [0; 100];
        let length = getxattr(path, ACCESS, &mut value).unwrap_or(0);
        let entries = value[..length]
            .get(4..)
            .unwrap_or_default()
            .as_chunks::<8>();
        let mut text: Vec<String> = entries
            .0
            .iter()
            .map(
                |[tag, _, rights, _, id @ ..]| match u32::from_le_bytes(*id) {
                    NOBODY => format!("{tag}:{rights}"),
                    id => format!("{tag}:{rights}:{id}"),
                },
            )
            .collect();
        if text.is_empty() {
            text.push("none".into());
        }
        let length = listxattr(path, &mut value).unwrap();
        let mut names: Vec<_> = value[..length]
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .filter(|name| name.starts_with("system.") || name.starts_with("user."))
            .collect();
        names.sort();
        println!("{path} {mode:o} {} [{}]", text.join(" "), names.join(","));
    };
    std::env::set_current_dir("/tmp").unwrap();
    fs::write("file", "").unwrap();
    fs::create_dir("dir").unwrap();
    setxattr("file", ACCESS, &named(6, 4), XattrFlags::empty()).unwrap();
    show("file");
    chmod("file", 0o750.into()).unwrap();
    show("file");
    let default = "system.posix_acl_default";
    setxattr("dir", default, &named(7, 0), XattrFlags::empty()).unwrap();
    fs::write("dir/new", "").unwrap();
    fs::create_dir("dir/sub").unwrap();
    show("dir/new");
    show("dir/sub");
    let minimal = list(&[(1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)]);
    setxattr("file", ACCESS, &minimal, XattrFlags::empty()).unwrap();
    show("file");
    removexattr("dir/new", ACCESS).unwrap();
    show("dir/new");
}

fn sandbox_shows_root_as_the_owner_of_the_kernels_files() {
    if matches!(rung(), Rung::UsernsRange | Rung::UsernsGiven) {
        return leave_out("owners without ids here are shown as the kernel does");
    }
    let ran = Image::new().shell("stat -c %u:%g /proc /proc/self/status /proc/sys /sys /sys/kernel /dev /dev/null | uniq -c | awk '{print $1,$2}'");
    prints(&ran, "7 0:0\n");
}

fn sandbox_has_the_standard_devices() {
    let ran = Image::new().shell("cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; for l in fd ptmx stderr; do readlink $l; done; df -k shm | tail -n 1 | awk '{print $2}'; ls");
    // A tmpfs can't be had in `chroot`, and so no limit on what is in `/dev/shm`.
    let ran = match rung() {
        Rung::Chroot => Ran {
            output: without_line(&ran.output, 9)
                .replace("/proc/self/fd/2\n", "/proc/self/fd/2\n65536\n"),
            ..ran
        },
        _ => ran,
    };
    let expected = "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n/proc/self/fd\npts/ptmx\n/proc/self/fd/2\n65536\n\
        fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    prints(&ran, expected); // R-RT-7
}

fn without_line(text: &str, number: usize) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .filter(|(at, _)| *at != number)
        .map(|(_, line)| line)
        .collect()
}

fn sandbox_hides_the_masked_paths() {
    let script = "for f in keys kcore timer_list sched_debug latency_stats; do [ ! -e /proc/$f ] || [ -z \"$(head -c 1 /proc/$f)\" ] || echo /proc/$f; done
        for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do [ ! -e $d ] || [ -z \"$(ls -A $d)\" ] || echo $d; done; touch /sys/firmware/x 2>/dev/null && echo writable; true";
    prints(&Image::new().shell(script), ""); // R-RT-8
}

fn sandbox_protects_the_read_only_paths() {
    let ran = Image::new()
        .shell("echo 1 > /proc/sys/vm/drop_caches; mkdir /sys/x; cat /proc/sys/kernel/ostype");
    assert_eq!(
        ran.output.matches("Read-only file system").count(),
        2,
        "{}",
        ran.output
    ); // R-RT-8
    assert!(ran.output.ends_with("Linux\n"), "{}", ran.output);
}

fn sandbox_has_dockers_capabilities() {
    let ran = Image::new().shell("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\n";
    prints(&ran, expected); // R-RT-5, R-RT-3
}

fn sandbox_takes_capabilities_from_users() {
    let ran = Image::new().shell_with("grep ^Cap /proc/self/status", |spec| {
        spec.user = User {
            uid: 1000,
            gid: 1000,
            groups: vec![],
        }
    });
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n";
    prints(&ran, expected); // R-RT-5
}

fn sandbox_runs_as_user_and_groups() {
    let user = User {
        uid: 1000,
        gid: 100,
        groups: vec![100, 27, 4000],
    };
    let spec_user = user.clone();
    let ids = "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n)";
    let ran = Image::new().shell_with(ids, |spec| spec.user = spec_user);
    prints(&ran, "1000 100 27 100 4000\n");
    prints(&Image::new().shell(ids), "0 0 0\n");
    let ran = Image::new().shell_with("grep -E '^(Uid|Gid|Groups)' /proc/self/status", |spec| {
        spec.user = user;
    });
    prints(
        &ran,
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nGroups:\t27 100 4000 \n",
    );
}

fn sandbox_honours_setuid_programs() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/ids")).unwrap();
    fs::set_permissions(image.lower("bin/ids"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mut spec = image.spec(&["ids", "print-effective-user"]);
    bind_libraries(&image, &mut spec);
    spec.user.uid = 1000;
    prints(&run(&spec).unwrap(), "0\n"); // R-RT-3
}

/// As Debian's `crontab`, whose files are a group's whoever makes them.
fn sandbox_honours_what_roots_programs_are_set_to() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/ids")).unwrap();
    let script = "cp /bin/ids /set && chown 3:4 /set && chmod 6755 /set && mkdir -m 777 /d && /set make-a-file /d/f && stat -c %u:%g /d/f \
        && chmod 4755 /set && /set make-a-file /d/g && stat -c %u:%g /d/g && chmod 2755 /set && /set make-a-file /h && stat -c %u:%g /h";
    let mut spec = image.spec(&["sh", "-c", script]);
    bind_libraries(&image, &mut spec);
    prints(&run(&spec).unwrap(), "3:4\n3:0\n0:4\n");
}

/// What runs them counts instead.
fn sandbox_gives_scripts_no_rights() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/ids")).unwrap();
    let put = |path: &str, text: &str, mode| {
        fs::write(image.lower(path), text).unwrap();
        fs::set_permissions(image.lower(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    put("script", "#!/bin/sh\nid -u\n", 0o4755);
    put("by-ids", "#! /bin/ids print-effective-user\n", 0o755);
    put("by-script", "#!/by-ids\n", 0o755);
    let own = fs::Permissions::from_mode(0o4755);
    fs::set_permissions(image.lower("bin/ids"), own).unwrap();
    for (program, expected) in [
        ("/script", "1000\n"),
        ("/by-ids", "0\n"),
        ("/by-script", "0\n"),
    ] {
        let mut spec = image.spec(&[program]);
        let _ = fs::remove_file(image.lower("usr/lib"));
        bind_libraries(&image, &mut spec);
        spec.user.uid = 1000;
        prints(&run(&spec).unwrap(), expected);
    }
}

/// By file capabilities, and by their own; and what they can't any more. As the kernel has it, also where it is not the kernel that has it.
fn sandbox_gives_programs_their_capabilities() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/able")).unwrap();
    let made = image.shell("mkdir -m 1777 /s; echo secret >/secret; chmod 600 /secret");
    prints(&made, "");
    let run_as = |uid, what: &str| {
        let mut spec = image.spec(&["able", "with-capabilities", what]);
        let _ = fs::remove_file(image.lower("usr/lib"));
        bind_libraries(&image, &mut spec);
        spec.user.uid = uid;
        run(&spec).unwrap()
    };
    prints(
        &run_as(0, "drop"),
        "CapInh: 0000000000000000
CapPrm: 00000000a80425fa
CapEff: 00000000a80425fa
CapBnd: 00000000a80425fa
CapAmb: 0000000000000000
chown: Operation not permitted
",
    );
    prints(
        &run_as(0, "ambient"),
        "CapInh: 0000000000000001
CapPrm: 0000000000000001
CapEff: 0000000000000001
CapBnd: 00000000a80425fb
CapAmb: 0000000000000001
chown: done
",
    );
    prints(
        &run_as(0, "no-new-privileges"),
        "CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 00000000a80425fb
CapAmb: 0000000000000000
chown: Operation not permitted
",
    );
    prints(&run_as(0, "of-the-file"), "1000: chown: done\n");
    prints(&run_as(1000, "of-the-file-again"), "1000: chown: done\n");
}

/// Becomes less than it is, then tries to change an owner as the program that it executes.
fn run_with_capabilities(what: &str) {
    use rustix::fs::XattrFlags;
    use rustix::thread::{self, CapabilitySet as Set, CapabilitySets};
    use std::os::unix::process::CommandExt as _;
    const OWN: &str = "/bin/able";
    let become_user = || {
        let (user, group) = (
            rustix::process::Uid::from_raw(1000),
            rustix::process::Gid::from_raw(50),
        );
        thread::set_thread_res_gid(group, group, group).unwrap();
        thread::set_thread_res_uid(user, user, user).unwrap();
    };
    let show = "grep ^Cap /proc/self/status | tr '\t' ' '; chown 7 /s/f 2>/dev/null && echo chown: done || echo chown: Operation not permitted";
    fs::write("/s/f", "").unwrap_or_default();
    let mut program = Command::new("sh");
    program.args(["-c", show]);
    match what {
        "drop" => thread::remove_capability_from_bounding_set(Set::CHOWN).unwrap(),
        "ambient" => {
            let held = thread::capabilities(None).unwrap();
            let sets = CapabilitySets {
                inheritable: Set::CHOWN,
                ..held
            };
            thread::set_capabilities(None, sets).unwrap();
            thread::set_keep_capabilities(true).unwrap();
            become_user();
            thread::configure_capability_in_ambient_set(Set::CHOWN, true).unwrap();
        }
        "no-new-privileges" => {
            // A program of root's that gives its user: to no effect.
            fs::copy("/bin/busybox", "/s/sh").unwrap();
            fs::set_permissions("/s/sh", fs::Permissions::from_mode(0o4755)).unwrap();
            become_user();
            thread::set_no_new_privs(true).unwrap();
            program = Command::new("/s/sh");
            program.arg0("sh").args(["-c", show]);
        }
        "of-the-file" => {
            fs::copy(OWN, "/s/able").unwrap();
            let chown: [u32; 5] = [0x0200_0001, 1, 0, 0, 0];
            let value: Vec<u8> = chown.iter().flat_map(|word| word.to_le_bytes()).collect();
            let none = XattrFlags::empty();
            rustix::fs::setxattr("/s/able", "security.capability", &value, none).unwrap();
            become_user();
            program = Command::new("/s/able");
            program.args(["with-capabilities", "chown"]);
        }
        "of-the-file-again" => {
            program = Command::new("/s/able");
            program.args(["with-capabilities", "chown"]);
        }
        _ => {
            let changed = std::os::unix::fs::chown("/s/f", Some(7), None);
            let told = changed.map_or_else(|error| error.to_string(), |()| "done".to_owned());
            return println!("{}: chown: {told}", rustix::process::getuid().as_raw());
        }
    }
    panic!("{}", program.exec());
}

/// As PostgreSQL asks, which lets users in by their names.
fn sandbox_tells_who_connects() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/serve")).unwrap();
    let mut spec = image.spec(&["serve", "serve-a-user"]);
    bind_libraries(&image, &mut spec);
    let expected = "the client is 1000:50\nthe server is 0:0\nthis is 0:0\n";
    prints(&run(&spec).unwrap(), expected);
}

fn serve_a_user() {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    use std::os::unix::process::CommandExt as _;
    let listener = UnixListener::bind("/socket").unwrap();
    fs::set_permissions("/socket", fs::Permissions::from_mode(0o666)).unwrap();
    let mut client = Command::new("/bin/serve");
    let mut client = client.arg("connect").uid(1000).gid(50).spawn().unwrap();
    let tell = |what: &str, stream: &UnixStream, process: u32| {
        let found = getsockopt(stream, PeerCredentials).unwrap();
        assert_eq!(found.pid(), process.cast_signed(), "{what}");
        println!("{what} is {}:{}", found.uid(), found.gid());
    };
    let (connected, _) = listener.accept().unwrap();
    tell("the client", &connected, client.id());
    drop(connected);
    assert!(client.wait().unwrap().success());
    let own = UnixStream::connect("/socket").unwrap();
    tell("the server", &own, std::process::id());
    let (one, _other) = UnixStream::pair().unwrap();
    tell("this", &one, std::process::id());
}

/// kill(2), also of a group of which some are others'.
fn sandbox_lets_users_signal_their_own() {
    let image = Image::new();
    fs::copy(std::env::current_exe().unwrap(), image.lower("bin/signals")).unwrap();
    let mut spec = image.spec(&["signals", "signals-of-a-user"]);
    bind_libraries(&image, &mut spec);
    let expected = "look at root's: refused
end root's: refused
look at its own: done
end the group of both: done
its own ended by 15, root's is there
end the group of root's: refused
end none: refused
wake root's: done
end all: done
its own ended by 9, root's is there
";
    prints(&run(&spec).unwrap(), expected);
}

fn send_signals_of_a_user() {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    let sleeper = |user, group| {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").uid(user).process_group(group);
        sleep.spawn().unwrap()
    };
    let mut roots = sleeper(0, 0);
    let group = roots.id();
    let mut own = sleeper(1000, group.cast_signed());
    let kill = |what: &str, args: String| {
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill {args} 2>/dev/null"))
            .uid(1000);
        let status = kill.process_group(0).status().unwrap();
        match (status.code(), status.signal()) {
            (Some(0), _) => println!("{what}: done"),
            (None, Some(signal)) => println!("{what}: ended by {signal}"),
            _ => println!("{what}: refused"),
        }
    };
    let mut told = |own: &mut std::process::Child| {
        let signal = own.wait().unwrap().signal().unwrap();
        let there = roots.try_wait().unwrap().is_none();
        println!(
            "its own ended by {signal}, root's is {}",
            if there { "there" } else { "gone" }
        );
    };
    kill("look at root's", format!("-0 {group}"));
    kill("end root's", format!("-TERM {group}"));
    kill("look at its own", format!("-0 {}", own.id()));
    kill("end the group of both", format!("-TERM -{group}"));
    told(&mut own);
    kill("end the group of root's", format!("-TERM -{group}"));
    kill("end none", "-TERM 99999".to_owned());
    kill("wake root's", format!("-CONT {group}"));
    let mut own = sleeper(1000, 0);
    kill("end all", "-KILL -1".to_owned());
    told(&mut own);
    roots.kill().unwrap();
}

fn sandbox_leaks_no_descriptors() {
    let _kept: Vec<File> = (0..40).map(|_| File::open("/").unwrap()).collect();
    // 3 is the listing's own.
    prints(
        &Image::new().shell("ls /proc/self/fd; readlink /proc/self/fd/0 | cut -d: -f1"),
        "0\n1\n2\n3\npipe\n",
    ); // CVE-2024-21626
}

fn sandbox_is_process_one_with_umask_022() {
    // Without a pid namespace its number is one of the container's, but it is called 1 as well.
    let own = match rung() {
        Rung::Chroot => "cut -d' ' -f1 /proc/1/stat | grep -cx $$",
        _ => "echo $$",
    };
    prints(
        &Image::new().shell(&format!("{own}; umask; set -- /proc/[0-9]*; echo $#")),
        "1\n0022\n1\n",
    ); // R-RT-2, R-RT-3
}

fn sandbox_resets_signals() {
    let ran = Image::new().shell_with("", |spec| {
        spec.argv = vec![
            "grep".into(),
            "-E".into(),
            "^Sig(Blk|Ign)".into(),
            "/proc/self/status".into(),
        ];
    });
    prints(
        &ran,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
    );
}

fn sandbox_sets_limits() {
    let limit = Rlimit {
        resource: Resource::Nofile,
        soft: Some(123),
        hard: Some(456),
    };
    let ran = Image::new().shell_with("ulimit -Sn; ulimit -Hn", |spec| spec.rlimits.push(limit));
    prints(&ran, "123\n456\n"); // R-RT-14
}

fn sandbox_has_its_host_name() {
    prints(&Image::new().shell("hostname"), "buildkitsandbox\n"); // R-RT-11
    prints(
        &Image::new().shell_with("hostname", |spec| spec.hostname = "other".into()),
        "other\n",
    );
}

fn sandbox_without_network_has_only_loopback() {
    if rung() == Rung::Chroot {
        // A network namespace can't be had: no sockets but Unix ones, and so no loopback interface either.
        let ran = Image::new().shell_with(
            "ls /sys/class/net /proc/net; ip addr; ping -c 1 127.0.0.1; echo",
            |spec| spec.network = Network::None,
        );
        assert_eq!(ran.output.matches("No such file or directory").count(), 2);
        let refused = ran.output.matches("Address family not supported").count();
        assert_eq!(refused, 2, "{}", ran.output);
        return;
    }
    let ran = Image::new().shell_with("ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up", |spec| {
        spec.network = Network::None;
    });
    prints(&ran, "lo\n1\nup\n"); // R-RT-13
}

// ---------------------------------------------------------------------------------------------------------------------------
// What a hostile image tries.

/// CVE-2019-5736: executing `/proc/self/exe` must not give a way to write to kiln's file on the disk. The file is read-only for good, or a
/// sealed copy.
fn sandbox_never_opens_kilns_binary_for_writing() {
    let image = Image::new();
    let mut spec = image.spec(&["/proc/self/exe", "write-exe"]);
    bind_libraries(&image, &mut spec);
    if rung() == Rung::Chroot {
        // It has no name in the root, and can't be executed.
        let error = refusal(&spec);
        let is_refused = matches!(error, SandboxError::ProgramNotExecutable { .. });
        assert!(is_refused, "{error}");
        return;
    }
    let ran = run(&spec).unwrap();
    let refused = [
        "ReadOnlyFilesystem",
        "PermissionDenied",
        "ExecutableFileBusy",
    ];
    let errors = ran.output.matches("Some(").count();
    assert!(
        errors == 2 && refused.iter().any(|kind| ran.output.contains(kind)),
        "{}",
        ran.output
    );
}

/// CVE-2024-21626: a working directory through a leaked descriptor.
fn sandbox_refuses_a_cwd_outside() {
    let image = Image::new();
    symlink("/proc/self/fd/7/..", image.lower("link")).unwrap();
    fs::write(image.lower("file"), "").unwrap();
    for cwd in [
        "/proc/self/fd/7",
        "/proc/self/fd/7/../../..",
        "/proc/self/cwd",
        "/proc/1/root",
        "/link",
        "/file",
    ] {
        let mut spec = image.spec(&["ls"]);
        spec.cwd = cwd.into();
        let error = refusal(&spec);
        assert!(
            matches!(error, SandboxError::WorkingDirectory { .. }),
            "{cwd}: {error}"
        );
    }
}

fn sandbox_makes_the_cwd_for_the_user() {
    let image = Image::new();
    symlink("/tmp", image.lower("t")).unwrap();
    let ran = image.shell_with("pwd -P; stat -c '%u:%g %a' . ..", |spec| {
        spec.cwd = "/t/a/b".into();
        spec.user = User {
            uid: 1000,
            gid: 1001,
            groups: vec![],
        };
    });
    prints(&ran, "/tmp/a/b\n1000:1001 755\n1000:1001 755\n"); // R-RT-2
    assert_eq!(image.changes(), ["tmp", "tmp/a", "tmp/a/b"]);
}

fn hosts() -> MountSpec {
    MountSpec::file("/etc/hosts", "127.0.0.1\tlocalhost buildkitsandbox\n")
}

fn sandbox_gives_read_only_hosts() {
    let image = Image::new();
    fs::write(image.lower("etc/hosts"), "of the image\n").unwrap();
    let ran = image.shell_with(
        "cat /etc/hosts; echo x >> /etc/hosts; rm /etc/hosts; stat -c '%a %u' /etc/hosts",
        |spec| spec.mounts.push(hosts()),
    );
    assert!(
        ran.output
            .starts_with("127.0.0.1\tlocalhost buildkitsandbox\n"),
        "{}",
        ran.output
    );
    assert!(
        ran.output.contains("Read-only file system") && ran.output.contains("busy"),
        "{}",
        ran.output
    ); // R-RT-12
    assert!(ran.output.ends_with("644 0\n"), "{}", ran.output);
    assert_eq!(image.changes(), [""; 0]);
    prints(&image.shell("cat /etc/hosts"), "of the image\n");
}

fn sandbox_follows_a_resolv_conf_link_inside_only() {
    let image = Image::new();
    let outside = image.dir.path().join("outside");
    fs::write(&outside, "of the host\n").unwrap();
    for link in [
        "../../../../../run/systemd/resolve/stub-resolv.conf".to_owned(),
        outside.display().to_string(),
    ] {
        let _ = fs::remove_file(image.lower("etc/resolv.conf"));
        symlink(&link, image.lower("etc/resolv.conf")).unwrap();
        let _ = fs::remove_dir_all(image.upper("etc"));
        let _ = fs::remove_dir_all(image.upper("bin"));
        let ran = image.shell_with("cat /etc/resolv.conf", |spec| {
            spec.mounts.push(MountSpec::file(
                "/etc/resolv.conf",
                "nameserver 192.0.2.1\n",
            ));
        });
        prints(&ran, "nameserver 192.0.2.1\n"); // R-RT-12
        assert_eq!(image.changes(), [""; 0], "{link}");
    }
    assert_eq!(fs::read_to_string(outside).unwrap(), "of the host\n");
    let listing = image.shell_with(
        "ls -A /.. | tr '\\n' ' '; grep -c ' / ' /proc/mounts",
        |spec| spec.mounts.push(hosts()),
    );
    prints(&listing, "bin dev etc proc run sys tmp 1\n"); // what the files are made in is not to be seen
}

fn sandbox_removes_mount_points_it_made() {
    let image = Image::new();
    let _ = image.root();
    let before = fs::metadata(image.lower("etc")).unwrap();
    let upper_before = fs::metadata(image.upper("")).unwrap().modified().unwrap();
    let ran = image.shell_with("cat /etc/hosts /run/secrets/token >/dev/null; touch /cache/x; echo kept > /etc/kept; mkdir /run/filled/own", |spec| {
        spec.mounts.push(hosts());
        let kind = MountKind::File { contents: b"s3cret".to_vec(), mode: 0o400, uid: 0, gid: 0 };
        spec.mounts.push(MountSpec { target: "/run/secrets/token".into(), kind });
        spec.mounts.push(MountSpec::tmpfs("/cache", None, Some(0o1777)));
        spec.mounts.push(MountSpec::tmpfs("/run/filled/mount", None, Some(0o1777)));
    });
    prints(&ran, "");
    assert_eq!(
        image.changes(),
        ["etc", "etc/kept", "run", "run/filled", "run/filled/own"]
    ); // R-LAY-14, R-MNT-17
    assert_eq!(
        fs::metadata(image.upper("")).unwrap().modified().unwrap(),
        upper_before
    );
    assert!(fs::metadata(image.upper("etc")).unwrap().mtime_nsec() != before.mtime_nsec()); // the step did write there
}

fn sandbox_keeps_dev_proc_sys() {
    let image = Image::new();
    for name in ["proc", "sys", "dev"] {
        fs::remove_dir(image.lower(name)).unwrap();
    }
    prints(&image.shell("true"), "");
    assert_eq!(image.changes(), ["dev", "proc", "sys"]); // R-LAY-14
}

/// CVE-2019-19921, CVE-2023-27561: `/proc` as a link to somewhere else.
fn sandbox_refuses_a_proc_that_is_a_link() {
    let image = Image::new();
    fs::remove_dir(image.lower("proc")).unwrap();
    symlink("tmp", image.lower("proc")).unwrap();
    let error = chain(&refusal(&image.spec(&["true"])));
    assert_eq!(
        error,
        "could not mount on `/proc`: openat2(/proc): too many symbolic links encountered (ELOOP)"
    );
}

fn sandbox_binds_and_tmpfs() {
    let image = Image::new();
    let shared = image.dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "in\n").unwrap();
    // What is lent to a step that has no mounts is in one place.
    let read = image.dir.path().join("read");
    fs::create_dir(&read).unwrap();
    fs::copy(shared.join("in"), read.join("in")).unwrap();
    let ran = image.shell_with("cat /rw/in /ro/in /one; echo out > /rw/out; touch /ro/x /one; stat -c %a /t; df -k /t | awk 'END{print $2}'; touch /t/x", |spec| {
        spec.mounts.push(MountSpec::bind(&shared, "/rw", true));
        spec.mounts.push(MountSpec::bind(&read, "/ro", false));
        spec.mounts.push(MountSpec::bind(read.join("in"), "/one", false));
        spec.mounts.push(MountSpec::tmpfs("/t", Some(1 << 20), Some(0o1770)));
    });
    let end = match rung() {
        Rung::Chroot => "", // a directory, without a limit
        _ => "1770\n1024\n",
    };
    assert!(
        ran.output.starts_with("in\nin\nin\n")
            && ran.output.contains("\n1770\n")
            && ran.output.ends_with(end),
        "{}",
        ran.output
    );
    assert_eq!(
        ran.output.matches("Read-only file system").count(),
        2,
        "{}",
        ran.output
    );
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "out\n");
    assert_eq!(image.changes(), [""; 0]);
}

/// R-MNT-12, and as runc has it where there is a directory already.
fn sandbox_tmpfs_has_the_mode_of_what_it_hides() {
    let image = Image::new();
    let hidden = image.lower("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o2750)).unwrap();
    let ran = image.shell_with("stat -c '%a %u' /hidden /new", |spec| {
        for target in ["/hidden", "/new"] {
            spec.mounts.push(MountSpec::tmpfs(target, None, None));
        }
    });
    assert_eq!(ran.output, "2750 0\n1777 0\n");
}

fn sandbox_binds_never_follow_links_out() {
    let image = Image::new();
    let stage = image.dir.path().join("stage");
    fs::create_dir_all(stage.join("out")).unwrap();
    fs::write(stage.join("out/file"), "of the stage\n").unwrap();
    symlink("/out", stage.join("link")).unwrap();
    let ran = image.shell_with("cat /m/file", |spec| {
        let kind = MountKind::Bind {
            source: stage.clone(),
            inside: "/link".into(),
            writable: false,
        };
        spec.mounts.push(MountSpec {
            target: "/m".into(),
            kind,
        });
    });
    prints(&ran, "of the stage\n");
}

// ---------------------------------------------------------------------------------------------------------------------------
// Roots.

fn sandbox_writes_to_upper_only() {
    let image = Image::new();
    prints(
        &image.shell("echo new > /tmp/new; rm /bin/zcat; mv /etc /etc2"),
        "",
    ); // R-RT-18
    assert_eq!(
        image.changes(),
        ["bin", "bin/zcat", "etc", "etc2", "tmp", "tmp/new"]
    );
    assert!(image.lower("etc").exists() && !image.lower("tmp/new").exists());
    if rung() == Rung::Chroot {
        return leave_out("marks of removals: what was removed is not there");
    }
    let whiteout = fs::symlink_metadata(image.upper("bin/zcat")).unwrap();
    assert_eq!(
        (whiteout.rdev(), whiteout.mode() & 0o170_000),
        (0, 0o020_000)
    );
}

fn sandbox_runs_in_a_plain_directory() {
    let image = Image::new();
    let ran = image.shell_with("echo new > /tmp/new; cat /etc/hosts", |spec| {
        spec.root = RootSpec::Directory(image.lower(""));
        spec.mounts.push(hosts());
    });
    prints(&ran, "127.0.0.1\tlocalhost buildkitsandbox\n");
    assert!(image.lower("tmp/new").exists() && !image.lower("etc/hosts").exists());
    if rung() == Rung::Chroot {
        return leave_out("an overlay of one layer: there is none");
    }
    let ran = image.shell_with("echo alone", |spec| {
        spec.root = RootSpec::Overlay {
            lowers: vec![],
            upper: image.lower(""),
            work: image.dir.path().join("work"),
        };
    });
    prints(&ran, "alone\n");
}

fn sandbox_takes_many_layers_and_odd_names() {
    if rung() == Rung::Chroot {
        return leave_out("there is one copy of all layers, which the snapshot makes");
    }
    let image = Image::new();
    let mut lowers = vec![image.lower("")];
    for number in 0..100 {
        let layer = image.dir.path().join(format!(
            "layer:with,odd\\name-{number:03}-{}",
            "x".repeat(100)
        ));
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join("top"), format!("{number}\n")).unwrap();
        lowers.push(layer);
    }
    let root = RootSpec::Overlay {
        lowers,
        upper: image.upper(""),
        work: image.dir.path().join("work"),
    };
    prints(
        &image.shell_with("cat /top", |spec| spec.root = root),
        "99\n",
    ); // the last is the top
}

// ---------------------------------------------------------------------------------------------------------------------------
// Filter, terminal, threads.

fn sandbox_filters_system_calls() {
    let ran = Image::new().shell("grep ^Seccomp: /proc/self/status; unshare -U true; mount -t tmpfs x /tmp; unshare -m true; true");
    assert!(ran.output.starts_with("Seccomp:\t2\n"), "{}", ran.output); // R-RT-6
    assert_eq!(
        ran.output.matches("Operation not permitted").count()
            + ran.output.matches("permission denied").count(),
        3,
        "{}",
        ran.output
    );
}

fn sandbox_filter_knows_capabilities() {
    if rung() == Rung::Chroot {
        return leave_out("what is mounted would be mounted in the machine");
    }
    let ran = Image::new().shell_with(
        "mount -t tmpfs x /tmp && unshare -m true && echo done",
        |spec| {
            spec.capabilities = CapabilitySet::ALL;
        },
    );
    prints(&ran, "done\n"); // R-RT-6: blocked only without the matching capability
}

fn sandbox_has_a_terminal() {
    for uid in [0, 1000] {
        has_a_terminal(uid);
    }
}

fn has_a_terminal(uid: u32) {
    let image = Image::new();
    let script = "tty; [ -t 0 ] && [ -t 1 ] && echo terminal; stty size; echo x > /dev/tty; echo y > /dev/console; echo z > $(tty)";
    let mut spec = image.spec(&["sh", "-c", script]);
    spec.terminal = true;
    spec.user.uid = uid;
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = kiln_executor::sandbox::terminal::Pty::with_size(size).unwrap();
    let (stdio, master) = pty.split().unwrap();
    let step = launcher().spawn(&spec, stdio).unwrap();
    let mut output = Vec::new();
    let _ = File::from(master.of_step()).read_to_end(&mut output); // ends with EIO when nobody has the other end
    let output = String::from_utf8(output).unwrap();
    assert!(step.wait().unwrap().success(), "{uid}: {output}");
    let (name, rest) = output.split_once("\r\n").unwrap();
    match rung() {
        // The machine's, by its name there.
        Rung::Chroot => assert!(name.starts_with("/dev/pts/"), "{uid}: {name}"),
        _ => assert_eq!(name, "/dev/pts/0"),
    }
    let expected = "terminal\r\n33 77\r\nx\r\ny\r\nz\r\n";
    assert_eq!(rest, expected, "{uid}");
}

/// Processes of this one's that have a pid namespace of their own.
fn waiting_processes() -> Vec<rustix::process::Pid> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own_parent = format!("PPid:\t{}", std::process::id());
    let is_ours = |pid: &String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == own_parent)
            && namespace(pid).is_some_and(|found| Some(found) != namespace("self"))
    };
    let entries = fs::read_dir("/proc").unwrap();
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let pids = names.filter(is_ours).filter_map(|pid| pid.parse().ok());
    pids.filter_map(rustix::process::Pid::from_raw).collect()
}

fn sandbox_starts_a_step_anew_whose_process_was_lost() {
    let image = Image::new();
    let spec = image.spec(&["echo", "here"]);
    launcher().make_ready(&spec);
    let lost = waiting_processes();
    println!("{} processes that wait are killed", lost.len());
    for pid in lost {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    prints(&run(&spec).unwrap(), "here\n");
}

/// What was asked for before anybody could answer is of use to the steps it is for, and in no other's way.
fn sandbox_begins_as_expected_or_otherwise() {
    let of_kind = |image: &Image, network| SandboxSpec {
        network,
        ..image.spec(&["echo", "here"])
    };
    let begins = |launcher: &Launcher, network| {
        let image = Image::new();
        prints(
            &run_by(launcher, &of_kind(&image, network)).unwrap(),
            "here\n",
        );
    };
    let (usual, other) = (Network::Host, Network::None);
    let image = Image::new();
    let launcher = Launcher::new();
    launcher.expect(&of_kind(&image, usual));
    launcher.expect(&of_kind(&image, other));
    for network in [usual, usual, other, usual] {
        begins(&launcher, network);
    }
    let launcher = Launcher::new();
    launcher.expect(&of_kind(&image, usual));
    for network in [other, usual] {
        begins(&launcher, network);
    }
    // Nobody comes.
    let launcher = Launcher::new();
    launcher.expect(&of_kind(&image, usual));
    drop(launcher);
}

fn sandbox_runs_in_parallel() {
    let images: Vec<_> = (0..8).map(|_| Image::new()).collect();
    std::thread::scope(|scope| {
        for (number, image) in images.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..5 {
                    prints(
                        &image.shell(&format!("echo {number}")),
                        &format!("{number}\n"),
                    );
                }
            });
        }
    });
}
