//! A place of its own for each test: working folder, home and store in a temporary folder, an empty environment, no
//! network beyond loopback.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

pub mod runner;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

/// The place.
pub struct TestEnv {
    dir: TempDir,
    /// The sandbox to use, if not the best.
    rung: Option<String>,
}

/// What a run of kiln left: exit code and what it printed, with changing paths masked.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl TestEnv {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["work", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let rung = std::env::var("KILN_SANDBOX").ok();
        Self { dir, rung }
    }

    /// A new place where steps run in this sandbox.
    pub fn on_rung(rung: &str) -> Self {
        Self {
            rung: Some(rung.to_owned()),
            ..Self::new()
        }
    }

    /// A new place whose build context is these files.
    pub fn with_files(files: &[(&str, &str)]) -> Self {
        let env = Self::new();
        for (name, text) in files {
            env.write(name, text);
        }
        env
    }

    /// Writes a file below the working folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Puts an image `busybox` into the store, for tests that run something. Says why and returns false where RUN cannot
    /// work; with `KILN_TEST_SANDBOX=required` that is a failure.
    pub fn import_busybox(&self) -> bool {
        let missing = match (self.has_sandbox(), Path::new(BUSYBOX).exists()) {
            (true, true) => {
                self.write("busybox.tar", "");
                std::fs::write(self.work().join("busybox.tar"), busybox_root()).unwrap();
                self.kiln(&["import", "busybox.tar", "busybox"]).succeeds();
                return true;
            }
            (false, _) => "a sandbox (`kiln doctor` tells what stops it)".to_owned(),
            (_, false) => format!("{BUSYBOX} (package busybox-static)"),
        };
        let required = std::env::var("KILN_TEST_SANDBOX").is_ok_and(|value| value == "required");
        assert!(!required, "this test needs {missing}");
        eprintln!("skipped: this test needs {missing}");
        false
    }

    /// What `kiln doctor` found; asked once.
    fn doctor(&self) -> &'static serde_json::Value {
        static FOUND: OnceLock<serde_json::Value> = OnceLock::new();
        FOUND.get_or_init(|| {
            let told = self.kiln(&["doctor", "--format", "json"]).stdout;
            serde_json::from_str(&told).unwrap()
        })
    }

    /// Whether steps can run here, in the sandbox that is asked for if one is.
    fn has_sandbox(&self) -> bool {
        let mut rungs = self.doctor()["rungs"].as_array().unwrap().iter();
        rungs.any(|rung| {
            let asked = self.rung.as_ref().is_none_or(|name| rung["name"] == **name);
            asked && rung["works"] == true
        })
    }

    /// The sandbox that steps run in.
    pub fn rung_name(&self) -> String {
        let chosen = || self.doctor()["sandbox"].as_str().map(str::to_owned);
        self.rung.clone().or_else(chosen).unwrap_or_default()
    }

    /// kiln with these arguments, ready to be changed further.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("KILN_ROOT", self.root())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.rung.as_ref().map(|rung| ("KILN_SANDBOX", rung)))
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    /// Runs kiln to its end.
    pub fn kiln(&self, args: &[&str]) -> Outcome {
        self.outcome(&mut self.command(args))
    }

    /// Runs kiln with bytes on stdin.
    pub fn kiln_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Outcome {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        self.masked(&child.wait_with_output().unwrap())
    }

    pub fn outcome(&self, command: &mut Command) -> Outcome {
        self.masked(&command.output().unwrap())
    }

    fn masked(&self, output: &std::process::Output) -> Outcome {
        let dir = self.dir.path().to_string_lossy();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*dir, "[DIR]");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Outcome {
    /// The message without the progress before it: from the first `error` on.
    #[track_caller]
    pub fn error(&self) -> &str {
        let at = match self.stderr.starts_with("error") {
            true => 0,
            false => self
                .stderr
                .find("\nerror")
                .map(|at| at + 1)
                .unwrap_or_else(|| panic!("no error in:\n{}", self.stderr)),
        };
        self.stderr[at..].trim_end()
    }

    /// Checks the exit code and the first line of the message.
    #[track_caller]
    pub fn fails_with(&self, code: i32, first_line: &str) {
        assert_eq!(
            self.error().lines().next(),
            Some(first_line),
            "{}",
            self.stderr
        );
        assert_eq!(self.code, code, "{}", self.stderr);
    }

    /// Checks that all went well.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.fails(0)
    }

    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }
}

/// Bytes that a directory takes on the disk.
pub fn disk_use(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::symlink_metadata(directory).unwrap();
    let mut bytes = own.blocks() * 512;
    if own.is_dir() {
        let entries = std::fs::read_dir(directory).unwrap();
        bytes += entries
            .map(|entry| disk_use(&entry.unwrap().path()))
            .sum::<u64>();
    }
    bytes
}

/// A tar of the smallest root filesystem with a shell.
fn busybox_root() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    for dir in ["bin/", "etc/", "tmp/", "root/"] {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, dir, std::io::empty()).unwrap();
    }
    for (name, contents) in [
        ("bin/busybox", std::fs::read(BUSYBOX).unwrap()),
        (
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nbuilder:x:1000:1000::/tmp:/bin/sh\n".to_vec(),
        ),
        (
            "etc/group",
            b"root:x:0:\nbuilder:x:1000:\nstaff:x:50:builder\n".to_vec(),
        ),
    ] {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, name, &contents[..]).unwrap();
    }
    for applet in [
        "cat", "chmod", "chown", "cp", "cut", "dd", "echo", "env", "false", "grep", "head", "id",
        "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mv", "printf", "pwd", "rm", "rmdir",
        "sed", "seq", "sh", "sleep", "sort", "stat", "test", "touch", "tr", "true", "truncate",
        "tty", "wc",
    ] {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    tar.into_inner().unwrap()
}

/// A registry that says 404 to everything, until the test ends. Returns its `host:port`.
pub fn empty_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(not_found));
    host
}

/// A port on loopback where nobody listens.
pub fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn not_found(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(answer.as_bytes());
}

/// A number among a step's words by which its processes are known from those of tests beside this one.
pub fn number_of_its_own() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("7{:07}{number:02}", std::process::id())
}

/// Whether a process with this number is there.
pub fn is_running(number: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.flat_map(|process| std::fs::read(process.path().join("cmdline")));
    let mut commands = commands.map(|command| String::from_utf8_lossy(&command).into_owned());
    commands.any(|command| command.contains(number))
}

/// All files below a folder.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}
