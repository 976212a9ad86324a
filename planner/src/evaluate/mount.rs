//! `RUN --mount` (R-MNT).

use kiln_parser::{MountField, MountFlag, Span, Spanned, suggest};

use super::Evaluator;
use crate::{
    BindMount, CacheMount, Mount, SecretMount, Sharing, SshMount, TmpfsMount, VertexId, code,
    paths, size_in_bytes,
};

/// Every key, for suggestions.
const KEYS: [&str; 19] = [
    "type",
    "target",
    "dst",
    "destination",
    "source",
    "src",
    "from",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "id",
    "sharing",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    "required",
];
/// Where secrets appear when nothing says where (R-MNT-14).
const SECRET_DIR: &str = "/run/secrets";
/// Where agents' sockets appear, with a number after it (R-MNT-16).
const SSH_SOCKET: &str = "/run/buildkit/ssh_agent.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// What a flag says, key by key.
#[derive(Debug, Default)]
struct Draft {
    kind: Kind,
    target: String,
    source: String,
    from: String,
    read_only: Option<bool>,
    id: String,
    sharing: Option<Sharing>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
    required: bool,
}

impl Evaluator<'_, '_> {
    /// The mounts of a RUN; their sources become inputs. `None` when one is wrong, which was told.
    pub(super) fn mounts(
        &mut self,
        flags: &[Spanned<MountFlag>],
        inputs: &mut Vec<VertexId>,
    ) -> Option<Vec<Mount>> {
        let mut mounts = Vec::with_capacity(flags.len());
        let mut complete = true;
        let mut agents = 0;
        for flag in flags {
            let mount = self
                .draft(flag)
                .and_then(|draft| self.mount(draft, flag.span, agents, inputs));
            complete &= mount.is_some();
            agents += usize::from(matches!(mount, Some(Mount::Ssh(_))));
            mounts.extend(mount);
        }
        complete.then_some(mounts)
    }

    fn draft(&mut self, flag: &Spanned<MountFlag>) -> Option<Draft> {
        let mut draft = Draft::default();
        let mut complete = true;
        for field in &flag.fields {
            let value = match &field.value {
                None => None,
                Some(word) if field.key.value == "from" => Some(word.raw().to_owned()),
                Some(word) => match self.expand(word) {
                    Some(value) => Some(value),
                    None => return None,
                },
            };
            if let Err(message) = draft.set(field, value.as_deref()) {
                self.mount_error(message, field.key.span);
                complete = false;
            }
        }
        if let Err(message) = draft.check() {
            self.mount_error(message, flag.span);
            complete = false;
        }
        complete.then_some(draft)
    }

    fn mount(
        &mut self,
        draft: Draft,
        span: Span,
        agents: usize,
        inputs: &mut Vec<VertexId>,
    ) -> Option<Mount> {
        match draft.kind {
            Kind::Bind => {
                let target = self.mount_target(&draft.target, span)?;
                let source = if draft.from.is_empty() {
                    self.builder.context_vertex(None)
                } else {
                    self.mount_origin(&draft.from)?
                };
                let input = add_input(inputs, source);
                let writable = !draft.read_only.unwrap_or(true);
                Some(Mount::Bind(BindMount {
                    target,
                    input,
                    source: paths::clean_rooted(&draft.source),
                    writable,
                }))
            }
            Kind::Cache => self.cache_mount(&draft, span, inputs),
            Kind::Tmpfs => {
                let target = self.mount_target(&draft.target, span)?;
                Some(Mount::Tmpfs(TmpfsMount {
                    target,
                    size: draft.size.filter(|size| *size > 0), // 0 is no limit
                    read_only: draft.read_only.unwrap_or(false),
                }))
            }
            Kind::Secret => self.secret_mount(draft, span),
            Kind::Ssh => self.ssh_mount(&draft, span, agents),
        }
    }

    fn cache_mount(
        &mut self,
        draft: &Draft,
        span: Span,
        inputs: &mut Vec<VertexId>,
    ) -> Option<Mount> {
        let target = self.mount_target(&draft.target, span)?;
        let input = match draft.from.as_str() {
            "" => None,
            from => Some(add_input(inputs, self.mount_origin(from)?)),
        };
        let explicit_id = !draft.id.is_empty();
        let id = paths::clean(if explicit_id {
            &draft.id
        } else {
            &draft.target
        });
        let id = match self.builder.options.build_arg("BUILDKIT_CACHE_MOUNT_NS") {
            Some(namespace) if !namespace.is_empty() => paths::clean(&format!("{namespace}/{id}")),
            _ => id,
        };
        Some(Mount::Cache(CacheMount {
            target,
            id,
            explicit_id,
            input,
            source: paths::clean_rooted(&draft.source),
            read_only: draft.read_only.unwrap_or(false),
            sharing: draft.sharing.unwrap_or_default(),
            mode: draft.mode,
            uid: draft.uid,
            gid: draft.gid,
        }))
    }

    /// R-MNT-13, R-MNT-14
    fn secret_mount(&mut self, draft: Draft, span: Span) -> Option<Mount> {
        let id = match (draft.id.is_empty(), draft.source.is_empty()) {
            (false, _) => draft.id,
            (true, false) => draft.source,
            (true, true) => paths::base_name(&draft.target).to_owned(),
        };
        let target = match (draft.target.is_empty(), &draft.env) {
            (false, _) => Some(self.mount_target(&draft.target, span)?),
            (true, None) => Some(format!("{SECRET_DIR}/{}", paths::base_name(&id))),
            (true, Some(_)) => None,
        };
        Some(Mount::Secret(SecretMount {
            id,
            target,
            env: draft.env,
            required: draft.required,
            mode: draft.mode.unwrap_or(0o400),
            uid: draft.uid.unwrap_or(0),
            gid: draft.gid.unwrap_or(0),
        }))
    }

    /// R-MNT-16
    fn ssh_mount(&mut self, draft: &Draft, span: Span, agents: usize) -> Option<Mount> {
        let target = match draft.target.as_str() {
            "" => format!("{SSH_SOCKET}{agents}"),
            target => self.mount_target(target, span)?,
        };
        Some(Mount::Ssh(SshMount {
            id: if draft.id.is_empty() {
                "default".to_owned()
            } else {
                draft.id.clone()
            },
            target,
            required: draft.required,
            mode: draft.mode.unwrap_or(0o600),
            uid: draft.uid.unwrap_or(0),
            gid: draft.gid.unwrap_or(0),
        }))
    }

    /// R-MNT-5
    fn mount_target(&mut self, written: &str, span: Span) -> Option<String> {
        let target = paths::join(self.workdir_path(), written);
        if target == "/" && self.state.guessed && !written.starts_with('/') {
            // The base may have another working directory.
            return None;
        }
        if target == "/" {
            self.mount_error("invalid mount target \"/\"".to_owned(), span);
            return None;
        }
        Some(target)
    }

    fn mount_origin(&mut self, from: &str) -> Option<VertexId> {
        let here = self.state.output;
        self.builder.origin_vertex(self.index, here, from, false)
    }

    fn mount_error(&mut self, message: String, span: Span) {
        self.error(code::MOUNT, message, span);
    }
}

/// The position of a vertex among the inputs after the root filesystem, which it may be a second time.
pub(super) fn add_input(inputs: &mut Vec<VertexId>, vertex: VertexId) -> usize {
    match inputs.iter().skip(1).position(|input| *input == vertex) {
        Some(position) => position + 1,
        None => {
            inputs.push(vertex);
            inputs.len() - 1
        }
    }
}

impl Draft {
    /// Takes a field, checked against the type known so far (R-MNT-4).
    fn set(&mut self, field: &MountField, value: Option<&str>) -> Result<(), String> {
        let key = field.key.value.as_str();
        match (key, value) {
            ("ro" | "readonly", value) => self.read_only = Some(flag(key, value)?),
            ("rw" | "readwrite", value) => self.read_only = Some(!flag(key, value)?),
            ("required", value) if matches!(self.kind, Kind::Secret | Kind::Ssh) => {
                self.required = flag(key, value)?;
            }
            ("size", Some(value)) if self.kind == Kind::Tmpfs => self.size = Some(size(value)?),
            ("required", _) | ("size", Some(_)) => {
                return Err(format!(
                    "unexpected key '{key}' for mount type '{}'",
                    self.kind.name()
                ));
            }
            (_, None) => return Err(format!("invalid field '{key}' must be a key=value pair")),
            ("type", Some(value)) => self.kind = Kind::parse(value)?,
            ("target" | "dst" | "destination", Some(value)) => value.clone_into(&mut self.target),
            ("source" | "src", Some(value)) => value.clone_into(&mut self.source),
            ("from", Some(value)) => value.clone_into(&mut self.from),
            ("id", Some(value)) => value.clone_into(&mut self.id),
            ("sharing", Some(value)) => self.sharing = Some(sharing(value)?),
            ("mode", Some(value)) => self.mode = Some(number(key, value, 8)?),
            ("uid", Some(value)) => self.uid = Some(number(key, value, 10)?),
            ("gid", Some(value)) => self.gid = Some(number(key, value, 10)?),
            ("env", Some(value)) => self.env = Some(value.to_owned()),
            (_, Some(value)) => return Err(unexpected_key(key, value)),
        }
        Ok(())
    }

    /// What no key alone can tell (R-MNT-11, R-MNT-13, R-MNT-16).
    fn check(&self) -> Result<(), String> {
        let name = self.kind.name();
        if matches!(self.kind, Kind::Bind | Kind::Tmpfs) {
            for (key, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if given.is_some() {
                    return Err(format!("{key} not allowed for {name:?} type mounts"));
                }
            }
        }
        match self.kind {
            Kind::Secret if !self.from.is_empty() => {
                Err("secret mount should not have a from".to_owned())
            }
            Kind::Secret if self.sharing.is_some() => {
                Err("secret mount should not define sharing".to_owned())
            }
            Kind::Secret
                if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() =>
            {
                Err("invalid secret mount. one of source, target required".to_owned())
            }
            Kind::Secret if !self.source.is_empty() && !self.id.is_empty() => {
                Err("both source and id can't be set".to_owned())
            }
            Kind::Ssh if !self.source.is_empty() => Err("ssh does not support source".to_owned()),
            Kind::Bind | Kind::Tmpfs | Kind::Ssh if self.sharing.is_some() => {
                Err(format!("invalid cache sharing set for {name} mount"))
            }
            _ => Ok(()),
        }
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Kind, String> {
        match text.to_lowercase().as_str() {
            "bind" => Ok(Kind::Bind),
            "cache" => Ok(Kind::Cache),
            "tmpfs" => Ok(Kind::Tmpfs),
            "secret" => Ok(Kind::Secret),
            "ssh" => Ok(Kind::Ssh),
            _ => Err(format!("unsupported mount type {text:?}")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Bind => "bind",
            Kind::Cache => "cache",
            Kind::Tmpfs => "tmpfs",
            Kind::Secret => "secret",
            Kind::Ssh => "ssh",
        }
    }
}

fn unexpected_key(key: &str, value: &str) -> String {
    let suggestion = suggest(key, KEYS)
        .map(|near| format!(" (did you mean {near}?)"))
        .unwrap_or_default();
    format!("unexpected key '{key}' in '{key}={value}'{suggestion}")
}

/// A boolean as Go reads it; a bare key is true.
fn flag(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

fn sharing(value: &str) -> Result<Sharing, String> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(format!("unsupported sharing value {value:?}")),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    u32::from_str_radix(value, radix).map_err(|_| format!("invalid value {value} for {key}"))
}

fn size(value: &str) -> Result<u64, String> {
    size_in_bytes(value).ok_or_else(|| format!("invalid value for size: {value}"))
}
