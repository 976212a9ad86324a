//! `-v`, `--mount` and `--tmpfs` of `kiln run`.

use std::path::Path;
use std::str::FromStr;

use kiln_cache::{FailedStep, StepFile};
use kiln_executor::sandbox::{MountKind, MountSpec};

use crate::failure::Failure;

/// `-v SOURCE:TARGET[:MODE,…]`: something of this machine made visible in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) writable: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, target, modes) = match *text.split(':').collect::<Vec<_>>() {
            [source, target] => (source, target, ""),
            [source, target, modes] => (source, target, modes),
            _ => return Err("it is not SOURCE:TARGET[:ro]".to_owned()),
        };
        let mut writable = true;
        for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
            match mode {
                "rw" => writable = true,
                "ro" => writable = false,
                // kiln gives containers no label of SELinux's, so files need none for them; the others are how it is.
                "z" | "Z" | "private" | "rprivate" | "cached" | "consistent" | "delegated" => {}
                _ => return Err(format!("its mode is `{mode}`, not `ro` or `rw`")),
            }
        }
        if !source.contains('/') && source != "." {
            return Err(format!(
                "`{source}` is the name of a volume; kiln has none, give a path such as `./{source}`"
            ));
        }
        Ok(Self {
            source: source.to_owned(),
            target: absolute(target)?,
            writable,
        })
    }
}

impl Volume {
    pub(super) fn mount(&self) -> Result<MountSpec, Failure> {
        let source = Path::new(&self.source)
            .canonicalize()
            .map_err(|error| Failure::unreadable(Path::new(&self.source), &error))?;
        Ok(MountSpec::bind(source, &self.target, self.writable))
    }
}

/// `--mount type=bind|tmpfs,…` and `--tmpfs PATH[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    Bind(Volume),
    Tmpfs {
        target: String,
        size: Option<u64>,
        mode: u32,
        owner: Option<(u32, u32)>,
        noexec: bool,
    },
}

/// Permission bits of a tmpfs where nobody says any.
const TMPFS_MODE: u32 = 0o1777;

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut source, mut target) = ("volume", None, None);
        let (mut writable, mut size, mut mode) = (true, None, None);
        for field in text.split(',') {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field, None),
            };
            match (key, value) {
                ("type", Some(value)) => kind = value,
                ("source" | "src", Some(value)) => source = Some(value),
                ("target" | "dst" | "destination", Some(value)) => target = Some(value),
                ("readonly" | "ro", value) => writable = !flag(value)?,
                ("tmpfs-size", Some(value)) => size = Some(bytes(value)?),
                ("tmpfs-mode", Some(value)) => mode = Some(octal(value)?),
                _ => return Err(format!("`{field}` is not known here")),
            }
        }
        let target = absolute(target.ok_or("it has no `target`")?)?;
        match kind {
            "bind" if size.is_some() || mode.is_some() => {
                Err("`tmpfs-size` and `tmpfs-mode` are for `type=tmpfs`".to_owned())
            }
            "bind" => Ok(Self::Bind(Volume {
                source: source.ok_or("it has no `source`")?.to_owned(),
                target,
                writable,
            })),
            "tmpfs" if source.is_some() || !writable => {
                Err("a tmpfs has no `source`, and is there to be written to".to_owned())
            }
            "tmpfs" => Ok(Self::Tmpfs {
                target,
                size,
                mode: mode.unwrap_or(TMPFS_MODE),
                owner: None,
                noexec: false,
            }),
            "volume" => Err("kiln has no volumes; write `type=bind` or `type=tmpfs`".to_owned()),
            other => Err(format!("its type is `{other}`, not `bind` or `tmpfs`")),
        }
    }
}

impl Mount {
    /// Reads `PATH[:size=64m,mode=1777,uid=1000,gid=1000,noexec]`.
    pub(super) fn tmpfs(text: &str) -> Result<Self, String> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let (mut size, mut mode, mut noexec) = (None, TMPFS_MODE, false);
        let (mut uid, mut gid) = (None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size = Some(bytes(value)?),
                Some(("mode", value)) => mode = octal(value)?,
                Some(("uid", value)) => uid = Some(id(value)?),
                Some(("gid", value)) => gid = Some(id(value)?),
                None if matches!(option, "exec" | "noexec") => noexec = option == "noexec",
                None if matches!(option, "rw" | "nosuid" | "nodev") => {} // it is so
                _ => return Err(format!("`{option}` is not known here")),
            }
        }
        let is_given = uid.is_some() || gid.is_some();
        Ok(Self::Tmpfs {
            target: absolute(target)?,
            size,
            mode,
            owner: is_given.then(|| (uid.unwrap_or(0), gid.unwrap_or(0))),
            noexec,
        })
    }

    pub(super) fn mount(&self) -> Result<MountSpec, Failure> {
        match self {
            Self::Bind(volume) => volume.mount(),
            Self::Tmpfs {
                target,
                size,
                mode,
                owner,
                noexec,
            } => Ok(MountSpec {
                target: target.clone(),
                kind: MountKind::Tmpfs {
                    size: *size,
                    mode: Some(*mode),
                    owner: *owner,
                    noexec: *noexec,
                },
            }),
        }
    }
}

/// What a failed step had that was its own: scripts, directories in memory.
pub(super) fn mounts_of_step(step: &FailedStep) -> Vec<MountSpec> {
    let own =
        |file: &StepFile| MountSpec::file_with_mode(&file.path, file.content.clone(), file.mode);
    let files = step.files.iter().map(own);
    let tmpfs = step.tmpfs.iter();
    let tmpfs = tmpfs.map(|(target, size)| MountSpec::tmpfs(target, *size, None));
    files.chain(tmpfs).collect()
}

fn absolute(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("`{target}` is not an absolute path"));
    }
    let parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    let depth = parts.fold(0_usize, |depth, part| match part {
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    match depth {
        0 => Err("the root of the container can't be mounted over".to_owned()),
        _ => Ok(target.to_owned()),
    }
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("`{other}` is neither true nor false")),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<crate::quantity::Bytes>().map(|bytes| bytes.0)
}

fn id(text: &str) -> Result<u32, String> {
    let id = text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| format!("`{text}` is no number of a user or group"))
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("`{text}` is no mode, such as `1777`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(source: &str, target: &str, writable: bool) -> Volume {
        Volume {
            source: source.into(),
            target: target.into(),
            writable,
        }
    }

    #[test]
    fn volumes_are_paths() {
        let cases = [
            ("/a:/b", Some(volume("/a", "/b", true))),
            ("./a:/b:ro", Some(volume("./a", "/b", false))),
            (".:/b:rw", Some(volume(".", "/b", true))),
            ("name:/b", None),
            ("/a:b", None),
            ("/a:/b:z", Some(volume("/a", "/b", true))),
            ("/a:/b:ro,Z", Some(volume("/a", "/b", false))),
            ("/a:/b:slave", None),
            ("/a:/", None),
            ("/a:/b/../.", None),
            ("/a", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn mounts_are_binds_or_memory() {
        let tmpfs = |size, mode| Mount::Tmpfs {
            target: "/t".to_owned(),
            size,
            mode,
            owner: None,
            noexec: false,
        };
        let cases = [
            (
                "type=bind,source=/a,target=/b",
                Some(Mount::Bind(volume("/a", "/b", true))),
            ),
            (
                "type=bind,src=a,dst=/b,readonly",
                Some(Mount::Bind(volume("a", "/b", false))),
            ),
            (
                "type=bind,src=a,dst=/b,ro=false",
                Some(Mount::Bind(volume("a", "/b", true))),
            ),
            ("type=tmpfs,target=/t", Some(tmpfs(None, 0o1777))),
            (
                "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
                Some(tmpfs(Some(1 << 20), 0o700)),
            ),
            ("type=tmpfs,target=/t,source=x", None),
            ("type=bind,target=/t", None),
            ("type=bind,source=/a,target=t", None),
            ("source=x,target=/t", None),
            ("type=npipe,source=x,target=/t", None),
            (
                "type=bind,source=/a,target=/b,bind-propagation=shared",
                None,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Mount>().ok(), expected, "{text}");
        }
        assert_eq!(Mount::tmpfs("/t").ok(), Some(tmpfs(None, 0o1777)));
        assert_eq!(
            Mount::tmpfs("/t:rw,size=2k,mode=755").ok(),
            Some(tmpfs(Some(2048), 0o755))
        );
        // The example of Docker's own manual.
        let kept_from = Mount::Tmpfs {
            target: "/run".to_owned(),
            size: Some(64 << 20),
            mode: TMPFS_MODE,
            owner: None,
            noexec: true,
        };
        assert_eq!(
            Mount::tmpfs("/run:rw,noexec,nosuid,size=65536k").ok(),
            Some(kept_from)
        );
        let owned = Mount::Tmpfs {
            target: "/t".to_owned(),
            size: None,
            mode: 0o700,
            owner: Some((5, 0)),
            noexec: false,
        };
        assert_eq!(Mount::tmpfs("/t:uid=5,mode=700").ok(), Some(owned));
        for text in [
            "t",
            "/t:uid=me",
            "/t:gid=4294967295",
            "/t:nr_inodes=5",
            "/t:size=much",
            "/t:mode=9",
        ] {
            assert!(Mount::tmpfs(text).is_err(), "{text}");
        }
    }
}
