//! What identifies a step before it ran.
//!
//! A key is the digest of a [`Preimage`]: an ordered list of named fields, kept beside the record so that two keys
//! can be compared field by field. This is all that enters:
//!
//! | step | enters | clause |
//! |---|---|---|
//! | RUN | argv; environment in order; cwd; user as written; hostname; names of extra hosts; network; security; platform; inline files; the root's output | R-CACHE-5 |
//! | bind mount | target, whether it can write, content of the selected path | R-CACHE-2, 5 |
//! | cache mount | target, whether it is read-only, whether its id was chosen, mode and owner of a new one, initial content | R-CACHE-5, 6 |
//! | tmpfs mount | target, size, whether it is read-only | R-CACHE-5 |
//! | secret, ssh mount | id, target, variable, whether required, mode, owner | R-CACHE-5 |
//! | COPY, ADD | destination; chown, chmod, link, parents, exclude, unpack; base name and content of every match; inline files' names and contents; the root's output | R-CACHE-8, 13, 16 |
//! | WORKDIR | path; owner; the root's output | R-CACHE-10 |
//! | FROM | the layers' contents, by chain id; nothing for `scratch` | R-CACHE-10 |
//!
//! And this does not:
//!
//! | left out | why |
//! |---|---|
//! | comments, layout, keyword case, metadata instructions, names of stages | they make no operation (R-CACHE-4) |
//! | proxy variables, addresses of extra hosts, values of secrets, contents and sharing of cache mounts, which id was chosen for one | R-CACHE-5, 6 |
//! | where in its tree a bind mount's or a copy's source is | its content is in, and its base name for a copy (R-CACHE-6, 13) |
//! | times, inodes, hard links; owners of context files | no part of a content digest (R-CACHE-11, 15) |
//! | `/etc/passwd` and `/etc/group` for `--chown` and WORKDIR by themselves | part of the root's output (R-CACHE-9) |
//! | `--no-cache` | it is about whether to look, not about what to look for (R-CACHE-22) |
//! | [`Preimage::step`] and [`Preimage::files`] | they explain: the digests over the files are in |
//!
//! **Output.** An [`OutputId`] stands for a root filesystem by its content. It is made from the parent's and what the
//! step changed, so it costs what the change costs and a cached build never loads a tree. A RUN that runs again
//! and changes nothing new has the same output, and all that follows is still cached.
//!
//! **Two look-ups.** A copy from another stage is first looked for by that stage's output ([`copy_by_output`]), which
//! needs no tree. Only then are the selected files' digests made ([`copy`]); what is found is aliased under the first
//! key. The build context has no output, only content.

use std::fmt;

use kiln_image::{ChainId, Changeset, DiffId, Digest, Platform};
use kiln_planner::{CopyOp, CopySourceOp, ExecOp, InlineFile, MkdirOp, Mount, Network, Security};
use serde::{Deserialize, Serialize};

use crate::content_hash::{ContentHash, Hasher, content_digest};

/// Changes when the meaning of a field does. A store full of older keys then only misses.
const KEY_DOMAIN: &str = "kiln key 1";
const OUTPUT_DOMAIN: &str = "kiln output 1";

/// What identifies a step; the digest of its [`Preimage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

/// What identifies a root filesystem; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutputId(pub Digest);

/// What a mount's source is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputId {
    /// By the whole output of the vertex it is from, and its path in there.
    Output(OutputId),
    /// By the content of the selected path.
    Content(Digest),
}

/// One match of a source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its base name; with `--parents`, its path below the pivot.
    pub name: Vec<u8>,
    /// Digest of what is copied, without what is excluded or ignored. A directory of which only the contents are
    /// copied goes without its own header (R-CACHE-12).
    pub digest: Digest,
}

/// All that a key is the digest of, and what helps to explain it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preimage {
    /// The kind of step: `exec`, `copy`, `mkdir`.
    pub kind: String,
    /// What enters the key, by name, in order.
    pub fields: Vec<Field>,
    /// Which step of which Dockerfile this is, in the caller's words; finds the key to compare a missing one with.
    /// Doesn't enter the key.
    pub step: Option<String>,
    /// The files read, with the digests their selection was made of. Don't enter the key.
    pub files: Vec<FileDigest>,
}

/// A part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, as a person would call it.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The value of a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Not given.
    Absent,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Texts in order.
    List(Vec<String>),
    /// Names and their values in order.
    Pairs(Vec<(String, String)>),
    /// The digest of something larger.
    Digest(Digest),
    /// Names of files and the digests of their contents, in order.
    Contents(Vec<(Vec<u8>, Digest)>),
    /// Fields of a part that has several.
    Group(Vec<Field>),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its path in the tree it was read from, for people.
    pub path: String,
    /// Digest of all that counts of it.
    pub digest: Digest,
}

/// The key preimage of a RUN. `mount_inputs` has what the sources of `op.mounts` are known by, position by
/// position; `None` for a mount without a source.
pub fn exec(
    op: &ExecOp,
    platform: &Platform,
    root: OutputId,
    mount_inputs: &[Option<InputId>],
) -> Preimage {
    let inputs = mount_inputs.iter().copied().chain(std::iter::repeat(None));
    let mounts = op
        .mounts
        .iter()
        .zip(inputs)
        .map(|(mount, input)| mount_value(mount, input));
    let hosts = op
        .extra_hosts
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    Preimage::new("exec")
        .field("argv", Value::List(op.argv.clone()))
        .field("env", Value::Pairs(op.env.clone()))
        .field("cwd", Value::Text(op.cwd.clone()))
        .field("user", Value::Text(op.user.clone()))
        .field("hostname", Value::Text(op.hostname.clone()))
        .field("extra hosts", Value::List(hosts))
        .field("network", Value::Text(network_name(op.network).to_owned()))
        .field(
            "security",
            Value::Text(security_name(op.security).to_owned()),
        )
        .field("platform", Value::Text(platform.to_string()))
        .fields("mount", mounts)
        .fields("file", op.files.iter().map(inline_file_value))
        .field("root filesystem", Value::Digest(root.0))
}

/// The key preimage of a COPY or ADD whose files are known. `selections` has the matches of every source of a path
/// in `op.sources`, position by position; an inline source's is not looked at.
pub fn copy(op: &CopyOp, root: OutputId, selections: &[Vec<Selected>]) -> Preimage {
    let nothing = Vec::new();
    let selections = selections.iter().chain(std::iter::repeat(&nothing));
    let sources = op
        .sources
        .iter()
        .zip(selections)
        .map(|(source, selected)| match source {
            CopySourceOp::Path { .. } => Value::Contents(
                selected
                    .iter()
                    .map(|one| (one.name.clone(), one.digest))
                    .collect(),
            ),
            CopySourceOp::Inline { name, content, .. } => inline_source_value(name, content),
        });
    copy_flags(Preimage::new("copy"), op)
        .fields("source", sources)
        .field("root filesystem", Value::Digest(root.0))
}

/// The key preimage of a COPY whose sources are known only by the outputs they are in; `None` if one of them has
/// none: the build context. `inputs` has the outputs of the vertex's inputs, position by position; that of the
/// root, number 0, is not looked at.
pub fn copy_by_output(
    op: &CopyOp,
    root: OutputId,
    inputs: &[Option<OutputId>],
) -> Option<Preimage> {
    let sources: Option<Vec<Value>> = op
        .sources
        .iter()
        .map(|source| match source {
            CopySourceOp::Path {
                input, path, pivot, ..
            } => {
                let output = inputs.get(*input).copied().flatten()?;
                Some(Value::group([
                    ("output", Value::Digest(output.0)),
                    ("path", Value::Text(path.clone())),
                    ("pivot", Value::Text(pivot.clone())),
                ]))
            }
            CopySourceOp::Inline { name, content, .. } => Some(inline_source_value(name, content)),
        })
        .collect();
    let preimage = copy_flags(Preimage::new("copy by output"), op)
        .fields("source", sources?)
        .field("root filesystem", Value::Digest(root.0));
    Some(preimage)
}

/// The key preimage of a WORKDIR that makes a directory.
pub fn mkdir(op: &MkdirOp, root: OutputId) -> Preimage {
    Preimage::new("mkdir")
        .field("path", Value::Text(op.path.clone()))
        .field("owner", Value::Text(op.owner.clone()))
        .field("root filesystem", Value::Digest(root.0))
}

impl OutputId {
    /// The empty root filesystem.
    pub fn scratch() -> Self {
        Self(content_digest(OUTPUT_DOMAIN, "scratch"))
    }

    /// The root filesystem of an image with these layers, lowest first.
    pub fn image(layers: &[DiffId]) -> Self {
        let Some(ChainId(chain)) = ChainId::of(layers) else {
            return Self::scratch();
        };
        Self(content_digest(OUTPUT_DOMAIN, &("image".to_owned(), chain)))
    }

    /// This root filesystem with a layer above it. A layer that changes nothing makes no difference.
    pub fn above(self, changes: &Changeset) -> Self {
        if changes.is_empty() {
            return self;
        }
        let parts = ("layer".to_owned(), self.0, changes.content_digest());
        Self(content_digest(OUTPUT_DOMAIN, &parts))
    }
}

impl Preimage {
    /// A preimage without fields.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            fields: Vec::new(),
            step: None,
            files: Vec::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields.push(Field::new(name, value));
        self
    }

    /// Says which step this is, so that a later miss of it can be explained: the path of the context and the step's
    /// place in the Dockerfile, say.
    #[must_use]
    pub fn of_step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Says which files were read, so that a later miss can name the ones that changed.
    #[must_use]
    pub fn with_files(mut self, files: Vec<FileDigest>) -> Self {
        self.files = files;
        self
    }

    /// The key.
    pub fn key(&self) -> CacheKey {
        CacheKey(content_digest(KEY_DOMAIN, self))
    }

    /// Adds fields called `name 1`, `name 2`…
    fn fields(mut self, name: &str, values: impl IntoIterator<Item = Value>) -> Self {
        let numbered = values.into_iter().enumerate();
        let fields = numbered.map(|(at, value)| Field::new(&format!("{name} {}", at + 1), value));
        self.fields.extend(fields);
        self
    }
}

/// The part that makes the key.
impl ContentHash for Preimage {
    fn hash(&self, state: &mut Hasher) {
        self.kind.hash(state);
        self.fields.hash(state);
    }
}

impl Field {
    fn new(name: &str, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }
}

impl ContentHash for Field {
    fn hash(&self, state: &mut Hasher) {
        self.name.hash(state);
        self.value.hash(state);
    }
}

impl Value {
    fn group<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| Field::new(name, value));
        Self::Group(fields.collect())
    }

    fn optional_text(text: Option<&str>) -> Self {
        text.map_or(Self::Absent, |text| Self::Text(text.to_owned()))
    }

    fn optional_number(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

impl ContentHash for Value {
    fn hash(&self, state: &mut Hasher) {
        match self {
            Self::Absent => state.variant(0),
            Self::Flag(flag) => variant(state, 1, flag),
            Self::Number(number) => variant(state, 2, number),
            Self::Text(text) => variant(state, 3, text),
            Self::List(list) => variant(state, 4, list),
            Self::Pairs(pairs) => variant(state, 5, pairs),
            Self::Digest(digest) => variant(state, 6, digest),
            Self::Contents(contents) => variant(state, 7, contents),
            Self::Group(fields) => variant(state, 8, fields),
        }
    }
}

fn variant(state: &mut Hasher, number: u8, value: &impl ContentHash) {
    state.variant(number);
    value.hash(state);
}

fn copy_flags(preimage: Preimage, op: &CopyOp) -> Preimage {
    let chmod = op.chmod.as_ref().map(ToString::to_string);
    preimage
        .field("destination", Value::Text(op.dest.clone()))
        .field("into a directory", Value::Flag(op.dest_is_dir))
        .field("chown", Value::optional_text(op.chown.as_deref()))
        .field("chmod", Value::optional_text(chmod.as_deref()))
        .field("link", Value::Flag(op.link))
        .field("parents", Value::Flag(op.parents))
        .field("exclude", Value::List(op.exclude.clone()))
        .field("unpack", Value::Flag(op.unpack))
}

fn inline_source_value(name: &str, content: &[u8]) -> Value {
    Value::group([
        ("name", Value::Text(name.to_owned())),
        ("content", Value::Digest(Digest::of(content))),
    ])
}

fn inline_file_value(file: &InlineFile) -> Value {
    Value::group([
        ("path", Value::Text(file.path.clone())),
        ("content", Value::Digest(Digest::of(&file.content))),
        ("mode", Value::Number(file.mode.into())),
    ])
}

fn mount_value(mount: &Mount, input: Option<InputId>) -> Value {
    match mount {
        Mount::Bind(bind) => Value::group([
            ("type", Value::Text("bind".to_owned())),
            ("target", Value::Text(bind.target.clone())),
            ("writable", Value::Flag(bind.writable)),
            ("from", input_value(input, &bind.source)),
        ]),
        Mount::Cache(cache) => Value::group([
            ("type", Value::Text("cache".to_owned())),
            ("target", Value::Text(cache.target.clone())),
            ("read-only", Value::Flag(cache.read_only)),
            ("own id", Value::Flag(cache.explicit_id)),
            ("mode", Value::optional_number(cache.mode.map(u64::from))),
            ("uid", Value::optional_number(cache.uid.map(u64::from))),
            ("gid", Value::optional_number(cache.gid.map(u64::from))),
            ("from", input_value(input, &cache.source)),
        ]),
        Mount::Tmpfs(tmpfs) => Value::group([
            ("type", Value::Text("tmpfs".to_owned())),
            ("target", Value::Text(tmpfs.target.clone())),
            ("size", Value::optional_number(tmpfs.size)),
            ("read-only", Value::Flag(tmpfs.read_only)),
        ]),
        Mount::Secret(secret) => Value::group([
            ("type", Value::Text("secret".to_owned())),
            ("id", Value::Text(secret.id.clone())),
            ("target", Value::optional_text(secret.target.as_deref())),
            ("env", Value::optional_text(secret.env.as_deref())),
            ("required", Value::Flag(secret.required)),
            ("mode", Value::Number(secret.mode.into())),
            ("uid", Value::Number(secret.uid.into())),
            ("gid", Value::Number(secret.gid.into())),
        ]),
        Mount::Ssh(ssh) => Value::group([
            ("type", Value::Text("ssh".to_owned())),
            ("id", Value::Text(ssh.id.clone())),
            ("target", Value::Text(ssh.target.clone())),
            ("required", Value::Flag(ssh.required)),
            ("mode", Value::Number(ssh.mode.into())),
            ("uid", Value::Number(ssh.uid.into())),
            ("gid", Value::Number(ssh.gid.into())),
        ]),
    }
}

/// A source known by content doesn't enter with its path (R-CACHE-6).
fn input_value(input: Option<InputId>, path: &str) -> Value {
    match input {
        None => Value::Absent,
        Some(InputId::Content(digest)) => Value::Digest(digest),
        Some(InputId::Output(output)) => Value::group([
            ("output", Value::Digest(output.0)),
            ("path", Value::Text(path.to_owned())),
        ]),
    }
}

fn network_name(network: Network) -> &'static str {
    match network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    }
}

fn security_name(security: Security) -> &'static str {
    match security {
        Security::Sandbox => "sandbox",
        Security::Insecure => "insecure",
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// As a person would write it; digests are cut short.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("none"),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(list) => f.debug_list().entries(list).finish(),
            Self::Pairs(pairs) => {
                let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
                f.debug_list().entries(pairs).finish()
            }
            Self::Digest(digest) => f.write_str(&short(digest)),
            Self::Contents(contents) => {
                let names = contents.iter().map(|(name, digest)| {
                    format!("{} {}", String::from_utf8_lossy(name), short(digest))
                });
                f.write_str(&names.collect::<Vec<_>>().join(", "))
            }
            Self::Group(fields) => {
                let fields = fields
                    .iter()
                    .map(|field| format!("{} {}", field.name, field.value));
                f.write_str(&fields.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}
