//! Links the unwinder into the binary. As a library of its own, which also asks the processor what it is, it takes a tenth of the time
//! that kiln needs to start.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(archive) = static_unwinder()
        && let Some(directory) = Path::new(&archive).parent()
    {
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Where the linker has the unwinder's archive; `None` leaves the choice to rustc.
fn static_unwinder() -> Option<String> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").contains("crt-static");
    let is_foreign = variable("HOST") != variable("TARGET");
    if is_static || is_foreign || variable("CARGO_CFG_TARGET_ENV") != "gnu" {
        return None;
    }
    let linker = std::env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let asked = Command::new(linker)
        .arg("-print-file-name=libgcc_eh.a")
        .output()
        .ok()?;
    // A name without a directory is one that it doesn't know.
    let found = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
    Path::new(&found).is_absolute().then_some(found)
}
