//! Where things are, as cargo says.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::output;

/// The folders of this checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Where the root `Cargo.toml` is.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let text = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        let folder = |name: &str| {
            let path = metadata.get(name).and_then(Value::as_str);
            path.map(PathBuf::from)
                .with_context(|| format!("cargo metadata has no `{name}`"))
        };
        Ok(Workspace {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
        })
    }
}

/// The cargo that runs this, started in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

/// The machine's target triple.
pub(crate) fn host_triple() -> Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}
