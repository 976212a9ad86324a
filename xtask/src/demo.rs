//! A first look at kiln: a real build, its image and layers, and the image at work. It speaks to kiln by its command line only.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::base;
use crate::package;
use crate::process::{Root, run as shown_run, shown, succeeds};
use crate::workspace::{Workspace, cargo};

/// What a registry calls the base image.
const BASE_IN_REGISTRY: &str = "busybox:stable";
/// What the demo's own base image is called.
const BASE_OF_OUR_OWN: &str = "kiln-demo-base:latest";
const IMAGE: &str = "kiln-demo:latest";
/// How long a registry may take to hand out the base image.
const PULL_TIMEOUT: Duration = Duration::from_secs(30);

/// The demo's folders and programs.
struct Demo {
    kiln: PathBuf,
    /// `target/demo`: the store and the tarballs.
    folder: PathBuf,
    context: PathBuf,
    root: Root,
}

/// Builds kiln, then has it build, list and run an image.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    step("kiln itself");
    shown_run(cargo().args(["build", "--release", "--package", "kiln"]))?;
    let demo = Demo {
        kiln: workspace.target.join("release/kiln"),
        folder: workspace.target.join("demo"),
        context: workspace.root.join("testdata/demo"),
        root: Root::find(),
    };
    fs::create_dir_all(&demo.folder)
        .with_context(|| format!("could not make `{}`", demo.folder.display()))?;
    step("a base image");
    let base = demo.base()?;
    step("the build");
    let took = demo.build(&base)?;
    step("the image and its layers");
    shown_run(demo.kiln().arg("images"))?;
    shown_run(demo.kiln().args(["history", IMAGE]))?;
    step("the image at work");
    shown_run(demo.kiln().args(["run", "--rm", IMAGE]))?;
    demo.farewell(took);
    Ok(ExitCode::SUCCESS)
}

fn step(title: &str) {
    println!("\n== {title}");
}

impl Demo {
    /// kiln, as root where that can be had: today's sandbox needs it.
    fn kiln(&self) -> Command {
        let store = self.folder.join("store").display().to_string();
        let env = [("KILN_ROOT", store.as_str())];
        let program = self.kiln.display().to_string();
        self.root.command(&program, &env).unwrap_or_else(|| {
            let mut command = Command::new(&program);
            command.envs(env);
            command
        })
    }

    /// The name of a base image that is in the store.
    fn base(&self) -> Result<String> {
        for base in [BASE_IN_REGISTRY, BASE_OF_OUR_OWN] {
            if succeeds(self.kiln().args(["inspect", base])) {
                println!("{base} is in the store");
                return Ok(base.to_owned());
            }
        }
        if succeeds_within(self.kiln().args(["pull", BASE_IN_REGISTRY]), PULL_TIMEOUT) {
            return Ok(BASE_IN_REGISTRY.to_owned());
        }
        println!(
            "no registry hands out {BASE_IN_REGISTRY}; making a base image from Debian's busybox-static"
        );
        package::ensure(&[package::BUSYBOX], self.root)?;
        let tar = base::busybox_tar(&self.folder)?;
        shown_run(self.kiln().arg("import").arg(&tar).arg(BASE_OF_OUR_OWN))?;
        Ok(BASE_OF_OUR_OWN.to_owned())
    }

    fn build(&self, base: &str) -> Result<Duration> {
        let output = |kind: &str| format!("type={kind},dest={}", self.tarball(kind).display());
        let mut build = self.kiln();
        build
            .args(["build", "-t", IMAGE, "-f"])
            .arg(self.context.join("Dockerfile"));
        build.arg("--build-arg").arg(format!("BASE={base}"));
        build
            .args([
                "-o",
                "type=image",
                "-o",
                &output("docker"),
                "-o",
                &output("oci"),
            ])
            .arg(&self.context);
        let start = Instant::now();
        shown_run(&mut build)?;
        Ok(start.elapsed())
    }

    fn tarball(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("kiln-demo.{kind}.tar"))
    }

    fn farewell(&self, took: Duration) {
        step("done");
        println!("The build took {:.2} s.", took.as_secs_f64());
        println!(
            "For docker load and podman load:  {}",
            self.tarball("docker").display()
        );
        println!(
            "OCI layout, for skopeo and umoci: {}",
            self.tarball("oci").display()
        );
        println!(
            "Run `cargo xtask demo` again: every step is cached. Remove {} to start over.",
            self.folder.display()
        );
    }
}

/// Shows and runs a command, and ends it when its time is over.
fn succeeds_within(command: &mut Command, timeout: Duration) -> bool {
    println!("$ {}", shown(command));
    let mut ended = || -> Result<bool> {
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let start = Instant::now();
        while start.elapsed() < timeout {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            sleep(Duration::from_millis(50));
        }
        child.kill()?;
        child.wait()?;
        bail!("no answer within {} s", timeout.as_secs());
    };
    ended().unwrap_or_else(|error| {
        println!("note: {error:#}");
        false
    })
}
