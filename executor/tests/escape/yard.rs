//! What cases are made of: an image with a shell, something outside of it that must stay as it is, and steps with a time limit.

use kiln_executor::sandbox::terminal::Pty;
use kiln_executor::sandbox::{
    ExitStatus, Launcher, MountSpec, RootSpec, Rung, SandboxError, SandboxSpec, Stdio,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// What stands in files outside; no step may ever print it.
pub(crate) const SECRET: &str = "of the machine";

/// How long a step may take before it counts as hanging, in seconds.
const PATIENCE: i64 = 60;

/// Programs of busybox that cases call by name.
const APPLETS: &[&str] = &[
    "cat",
    "chmod",
    "chroot",
    "cp",
    "dd",
    "echo",
    "env",
    "find",
    "grep",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nsenter",
    "pivot_root",
    "readlink",
    "rm",
    "rmdir",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "umount",
    "unshare",
    "wc",
];

/// All that cases of one rung share.
pub(crate) struct Yard {
    pub(crate) rung: Rung,
    /// Whether steps may have the surroundings' processes beside them.
    pub(crate) in_container: bool,
    pub(crate) launcher: Launcher,
    dir: TempDir,
}

/// A directory of the machine that no step has anything to do with.
pub(crate) struct Outside {
    dir: PathBuf,
    before: Vec<String>,
}

/// A root filesystem that a case makes hostile.
pub(crate) struct Image<'y> {
    yard: &'y Yard,
    dir: TempDir,
    pub(crate) outside: Outside,
}

/// How a step ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Where roots are made; somebody else than who built this needs another place.
pub(crate) fn place() -> PathBuf {
    let writable = |dir: &str| rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
    match std::env::var_os("KILN_TEST_DIR") {
        Some(dir) => dir.into(),
        None if writable(env!("CARGO_TARGET_TMPDIR")) => env!("CARGO_TARGET_TMPDIR").into(),
        None => std::env::temp_dir(),
    }
}

impl Yard {
    pub(crate) fn new(rung: Rung, in_container: bool, place: &Path) -> Self {
        let dir = tempfile::tempdir_in(place).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().join("base");
        for name in ["bin", "etc", "tmp", "run", "proc", "sys", "dev", "probe"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(base.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        install_probe(&base.join("probe"));
        Self {
            rung,
            in_container,
            launcher: Launcher::new(),
            dir,
        }
    }

    pub(crate) fn image(&self) -> Image<'_> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["own", "upper", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let outside = Outside::new(dir.path().join("outside"));
        Image {
            yard: self,
            dir,
            outside,
        }
    }

    /// Somewhere on the machine that a case may share with a step, such as a cache.
    pub(crate) fn shared(&self) -> TempDir {
        tempfile::tempdir_in(self.dir.path()).unwrap()
    }

    pub(crate) fn has_namespaces(&self) -> bool {
        self.rung.has_namespaces()
    }

    /// Whether a step surely has numbers of its own for processes.
    pub(crate) fn has_numbers(&self) -> bool {
        self.has_namespaces() && !self.in_container
    }
}

/// This very program with the libraries that it needs, so that a step can run it: it makes calls that a shell has no words for.
fn install_probe(dir: &Path) {
    fs::copy(std::env::current_exe().unwrap(), dir.join("program")).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    for library in files.filter(|file| file.contains(".so")) {
        let name = Path::new(library).file_name().unwrap();
        fs::copy(library, dir.join(name)).unwrap();
        if name.to_str().unwrap().starts_with("ld-") {
            let _ = fs::hard_link(dir.join(name), dir.join("loader"));
        }
    }
}

impl Outside {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("empty-directory")).unwrap();
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::write(dir.join("empty-file"), "").unwrap();
        fs::write(dir.join("file"), SECRET).unwrap();
        fs::write(dir.join("d/file"), SECRET).unwrap();
        let before = state(&dir);
        Self { dir, before }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// As text for scripts and links.
    pub(crate) fn text(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn is_untouched(&self) {
        assert_eq!(
            state(&self.dir),
            self.before,
            "something outside of the root was changed"
        );
    }
}

/// All there is to say of a directory and what is in it.
fn state(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir(dir) {
        let found = fs::symlink_metadata(&entry).unwrap();
        let text = if found.is_file() {
            fs::read_to_string(&entry).unwrap()
        } else {
            String::new()
        };
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        let times = (found.mtime(), found.mtime_nsec(), found.ino());
        lines.push(format!(
            "{} {mode:o} {uid}:{gid} {times:?} {text}",
            entry.display()
        ));
    }
    lines.sort();
    lines
}

fn walkdir(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(walkdir(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

impl Image<'_> {
    /// A path of the image that the case puts something at. Its directory is made; what the base has there is covered.
    pub(crate) fn put(&self, path: &str) -> PathBuf {
        let path = self.dir.path().join("own").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A directory of the image that every user may write to.
    pub(crate) fn put_open(&self, path: &str) -> PathBuf {
        let directory = self.put(path);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        directory
    }

    /// Where something is that a step has made or changed.
    pub(crate) fn changed(&self, path: &str) -> PathBuf {
        let changes = if self.yard.has_namespaces() {
            "upper"
        } else {
            "root"
        };
        self.dir.path().join(changes).join(path)
    }

    /// A link in the image.
    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        symlink(target, self.put(path)).unwrap();
    }

    pub(crate) fn spec(&self, argv: &[&str]) -> SandboxSpec {
        let mut spec = SandboxSpec::new(self.root(), argv.iter().copied());
        spec.rung = self.yard.rung;
        spec.env.push(("PATH".into(), "/bin".into()));
        spec
    }

    /// A fresh root: the base and the case's own things above it.
    fn root(&self) -> RootSpec {
        let base = self.yard.dir.path().join("base");
        let (own, upper, work) = (
            self.dir.path().join("own"),
            self.dir.path().join("upper"),
            self.dir.path().join("work"),
        );
        if self.yard.has_namespaces() {
            let _ = fs::remove_dir_all(work.join("work"));
            return RootSpec::Overlay {
                lowers: vec![base, own],
                upper,
                work,
            };
        }
        let root = self.dir.path().join("root");
        if !root.exists() {
            lay_out(&base, &root);
            lay_out(&own, &root);
        }
        RootSpec::Directory(root)
    }

    pub(crate) fn shell_with(
        &self,
        script: &str,
        change: impl FnOnce(&mut SandboxSpec),
    ) -> Result<Ran, SandboxError> {
        let mut spec = self.spec(&["sh", "-c", script]);
        change(&mut spec);
        self.run(&spec)
    }

    pub(crate) fn shell(&self, script: &str) -> Ran {
        self.shell_with(script, |_| ()).unwrap()
    }

    /// Runs this program's own probes.
    pub(crate) fn probe(&self, args: &[&str]) -> Ran {
        self.probe_with(args, |_| ()).unwrap()
    }

    pub(crate) fn probe_with(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut SandboxSpec),
    ) -> Result<Ran, SandboxError> {
        let mut spec = self.probe_spec(args);
        change(&mut spec);
        self.run(&spec)
    }

    pub(crate) fn probe_spec(&self, args: &[&str]) -> SandboxSpec {
        let mut argv = vec![
            "/probe/loader",
            "--library-path",
            "/probe",
            "/probe/program",
            "probe",
        ];
        if !self.yard.dir.path().join("base/probe/loader").exists() {
            argv.drain(..3); // linked statically
        }
        argv.extend(args);
        self.spec(&argv)
    }

    /// The same as root, for a step of a user: a set-user-ID copy of what begins them. Its arguments are those of `probe_spec` but for the first.
    pub(crate) fn put_probe_of_root(&self, path: &str) {
        let begins = self.probe_spec(&[]).argv.remove(0);
        let program = self.yard.dir.path().join("base").join(&begins[1..]);
        let copy = self.put(path);
        fs::copy(program, &copy).unwrap();
        fs::set_permissions(copy, fs::Permissions::from_mode(0o4755)).unwrap();
    }

    pub(crate) fn run(&self, spec: &SandboxSpec) -> Result<Ran, SandboxError> {
        run(&self.yard.launcher, spec)
    }
}

/// Copies a directory as links to its files, over what is there.
fn lay_out(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && target.is_dir() && !target.is_symlink() {
            lay_out(&entry.path(), &target);
            continue;
        }
        let _ = fs::remove_file(&target).or_else(|_| fs::remove_dir_all(&target));
        match kind.is_dir() {
            true => lay_out(&entry.path(), &target),
            false => rustix::fs::linkat(
                rustix::fs::CWD,
                entry.path(),
                rustix::fs::CWD,
                &target,
                rustix::fs::AtFlags::empty(),
            )
            .unwrap(),
        }
    }
}

/// Runs a step to its end. One that takes too long is killed, and fails the case.
pub(crate) fn run(launcher: &Launcher, spec: &SandboxSpec) -> Result<Ran, SandboxError> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let errors = writer.try_clone().unwrap();
    let step = launcher.spawn(spec, Stdio::output(writer.into(), errors.into()).unwrap())?;
    launcher.make_ready(spec); // so that most steps here are made by a process that waited for them
    let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let patience = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(
            ready > 0,
            "the step hangs: {}",
            String::from_utf8_lossy(&output)
        );
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            count => output.extend(&buffer[..count]),
        }
    }
    Ok(Ran {
        status: step.wait()?,
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

impl Ran {
    #[track_caller]
    pub(crate) fn prints(&self, expected: &str) {
        assert_eq!(self.output, expected);
        assert_eq!(self.status, ExitStatus::Code(0), "{}", self.output);
    }

    /// What is outside was not shown.
    #[track_caller]
    pub(crate) fn tells_no_secret(&self) {
        assert!(!self.output.contains(SECRET), "{}", self.output);
    }
}

/// A tmpfs at `target`.
pub(crate) fn tmpfs(target: &str) -> MountSpec {
    MountSpec::tmpfs(target, None, Some(0o1777))
}

/// Exchanges two paths for as long as `rounds` go on: at most that many, and for at most `TIME`.
pub(crate) fn race(one: &Path, other: &Path, rounds: usize, mut round: impl FnMut()) {
    use std::sync::atomic::{AtomicBool, Ordering};
    const TIME: Duration = Duration::from_millis(500);
    struct Finish<'a>(&'a AtomicBool);
    impl Drop for Finish<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (parent, names) = (
        File::open(one.parent().unwrap()).unwrap(),
        (one.file_name().unwrap(), other.file_name().unwrap()),
    );
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(Ordering::Relaxed) {
                // The directory itself may be moved meanwhile.
                let _ = rustix::fs::renameat_with(&parent, names.0, &parent, names.1, exchange);
            }
        });
        let _finish = Finish(&done);
        let started = std::time::Instant::now();
        for _ in 0..rounds {
            round();
            if started.elapsed() > TIME {
                break;
            }
        }
    });
}

/// A terminal as a user has one.
pub(crate) fn a_terminal() -> Pty {
    let size = rustix::termios::Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Pty::with_size(size).unwrap()
}
