//! What identifies a step before it ran.
//!
//! A key is the digest of a [`Preimage`]: an ordered list of named fields, kept beside the record so that two keys
//! can be compared field by field. This is all that enters:
//!
//! | step | enters | clause |
//! |---|---|---|
//! | RUN | argv; environment in order; cwd; user as written; hostname; names of extra hosts; ulimits, size of `/dev/shm` and parent of the cgroup where they are given; network; security; platform; inline files; the root's output | R-CACHE-5 |
//! | bind mount | target, whether it can write, content of the selected path | R-CACHE-2, 5 |
//! | cache mount | target, whether it is read-only, whether its id was chosen, mode and owner of a new one, initial content | R-CACHE-5, 6 |
//! | tmpfs mount | target, size, whether it is read-only | R-CACHE-5 |
//! | secret, ssh mount | id, target, variable, whether required, mode, owner | R-CACHE-5 |
//! | COPY, ADD | destination; chown, chmod, link, parents, exclude, unpack; base name and content of every match; inline files' names and contents; the root's output | R-CACHE-8, 13, 16 |
//! | COPY `--link` | the same over [`OutputId::scratch`] as its root, which is the caller's to pass | R-CACHE-8 |
//! | WORKDIR | path; owner; a date that is given; the root's output | R-CACHE-10, R-WORKDIR-9 |
//! | download | digest of the content; name; time of the last change | R-CACHE-17 |
//! | git repository | commit; subdirectory; submodules; times; where `.git` stays also the remote and the ref | R-CACHE-18 |
//! | FROM | the layers' contents, by chain id; nothing for `scratch` | R-CACHE-10 |
//!
//! And this does not:
//!
//! | left out | why |
//! |---|---|
//! | comments, layout, keyword case, metadata instructions, names of stages | they make no operation (R-CACHE-4) |
//! | proxy variables, addresses of extra hosts, values of secrets, contents and sharing of cache mounts, which id was chosen for one, agents, limits of memory and processors | R-CACHE-5, 6 |
//! | where in its tree a bind mount's or a copy's source is | its content is in, and its base name for a copy (R-CACHE-6, 13) |
//! | times, inodes, hard links; owners of context files | no part of a content digest (R-CACHE-11, 15) |
//! | `/etc/passwd` and `/etc/group` for `--chown` and WORKDIR by themselves | part of the root's output (R-CACHE-9) |
//! | `--no-cache` | it is about whether to look, not about what to look for (R-CACHE-22) |
//! | [`Preimage::step`], [`Preimage::files`] and [`Preimage::build`] | they explain: the digests over the files are in |
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
use kiln_planner::{
    CopyOp, CopySourceOp, ExecOp, GitSource, GitTimes, InlineFile, Limits, MkdirOp, Mount, Network,
    Security, names_a_secret,
};
use serde::{Deserialize, Serialize};

use crate::content_hash::{ContentHash, Hasher, content_digest};
use crate::file_digest::FileDigest;

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
    /// The files read, with what counts of each. Don't enter the key: their digest does.
    pub files: Vec<FileDigest>,
    /// The build that did the step. Doesn't enter the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Whether nothing came of it here: the step failed, or it is another machine's. Doesn't enter the key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
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
        .field("env", Value::Pairs(op.env.to_vec()))
        .field("cwd", Value::Text(op.cwd.clone()))
        .field("user", Value::Text(op.user.clone()))
        .field("hostname", Value::Text(op.hostname.clone()))
        .field("extra hosts", Value::List(hosts))
        .field("network", Value::Text(network_name(op.network).to_owned()))
        .field(
            "security",
            Value::Text(security_name(op.security).to_owned()),
        )
        .with_fields(limit_fields(&op.limits))
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

/// The key preimage of a WORKDIR that makes a directory. `date` is the one it has to get, in seconds since 1970 (R-WORKDIR-9).
pub fn mkdir(op: &MkdirOp, root: OutputId) -> Preimage {
    let preimage = Preimage::new("mkdir")
        .field("path", Value::Text(op.path.clone()))
        .field("owner", Value::Text(op.owner.clone()))
        .field("root filesystem", Value::Digest(root.0));
    match op.date {
        Some(date) => preimage.field("date", Value::Text(date.to_string())),
        None => preimage,
    }
}

/// The key preimage of a download: a tree with one file. `modified` is in seconds since 1970; what is known only by the
/// digest it must have is asked for without one.
pub fn download(content: Digest, name: &str, modified: Option<i64>) -> Preimage {
    let modified = modified.map_or(Value::Absent, |secs| Value::Text(secs.to_string()));
    Preimage::new("download")
        .field("content", Value::Digest(content))
        .field("name", Value::Text(name.to_owned()))
        .field("modified", modified)
}

/// The key preimage of the files of a commit. It says all of them, so the remote enters only with the `.git` that names
/// it.
pub fn repository(source: &GitSource, commit: &str, reference: &str) -> Preimage {
    let git_dir = match source.keep_git_dir {
        true => Value::group([
            ("remote", Value::Text(source.remote.clone())),
            ("ref", Value::Text(reference.to_owned())),
        ]),
        false => Value::Absent,
    };
    Preimage::new("git repository")
        .field("commit", Value::Text(commit.to_owned()))
        .field(
            "subdirectory",
            Value::optional_text(source.subdir.as_deref()),
        )
        .field("submodules", Value::Flag(source.submodules))
        .field(
            "times of the commit",
            Value::Flag(source.times == GitTimes::Commit),
        )
        .field("git directory", git_dir)
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
            build: None,
            undone: false,
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

    /// Says which build does the step.
    #[must_use]
    pub fn by_build(mut self, build: Option<String>) -> Self {
        self.build = build;
        self
    }

    /// The same for people and for the disk: variables that are secret ([`is_secret`]) have a digest for a value. It has another key.
    #[must_use]
    pub fn concealed(mut self) -> Self {
        for field in &mut self.fields {
            if let Value::Pairs(pairs) = &mut field.value {
                for (name, value) in pairs {
                    *value = conceal(name, value);
                }
            }
        }
        self
    }

    /// The key.
    pub fn key(&self) -> CacheKey {
        CacheKey(content_digest(KEY_DOMAIN, self))
    }

    fn with_fields(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields.extend(fields);
        self
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
        .field("unpack", unpack_value(op))
}

/// Which sources are unpacked: one answer where it is the same for all.
fn unpack_value(op: &CopyOp) -> Value {
    let unpacks = |source: &CopySourceOp| match source {
        CopySourceOp::Path { unpack, .. } => Some(*unpack),
        CopySourceOp::Inline { .. } => None,
    };
    let unpacked: Vec<bool> = op.sources.iter().filter_map(unpacks).collect();
    if let [first, others @ ..] = &unpacked[..]
        && others.iter().any(|other| other != first)
    {
        let words = unpacked
            .iter()
            .map(|unpack| if *unpack { "yes" } else { "no" });
        return Value::List(words.map(str::to_owned).collect());
    }
    Value::Flag(unpacked.first() == Some(&true))
}

/// Limits that are not given are no fields: most steps have none.
fn limit_fields(limits: &Limits) -> Vec<Field> {
    let ulimits = limits.ulimits.iter().map(ToString::to_string).collect();
    let ulimits = (!limits.ulimits.is_empty()).then_some(("ulimits", Value::List(ulimits)));
    let shm_size = limits
        .shm_size
        .map(|size| ("shm size", Value::Number(size)));
    let parent = limits.cgroup_parent.clone();
    let parent = parent.map(|parent| ("cgroup parent", Value::Text(parent)));
    [ulimits, shm_size, parent]
        .into_iter()
        .flatten()
        .map(|(name, value)| Field::new(name, value))
        .collect()
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

/// The value of a variable, or a digest of it if it is nobody's business.
pub fn conceal(name: &str, value: &str) -> String {
    match is_secret(name, value) {
        true => format!("sha256:{}", short(&Digest::of(value.as_bytes()))),
        false => value.to_owned(),
    }
}

/// Whether a variable's name tells of a secret, or its value is an address with a login.
pub fn is_secret(name: &str, value: &str) -> bool {
    !value.is_empty() && (names_a_secret(name) || has_login(value))
}

/// Whether there is an address like `https://user:password@host` or `https://token@host`; the user of `ssh://git@host` is no secret.
fn has_login(text: &str) -> bool {
    let mut addresses = text.match_indices("://");
    addresses.any(|(at, separator)| {
        let (before, after) = (&text[..at], &text[at + separator.len()..]);
        let ends = |letter: char| letter.is_whitespace() || "/?#".contains(letter);
        let authority = after.split(ends).next().unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        login.is_some_and(|login| {
            let is_web = before.ends_with("http") || before.ends_with("https");
            login.contains(':') || (is_web && !login.is_empty())
        })
    })
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use kiln_image::{ImagePath, Metadata, Node, Timestamp, Tree};
    use kiln_planner::{
        BindMount, CacheMount, Chmod, EnvList, SecretMount, Sharing, TmpfsMount, Ulimit,
    };

    use super::*;

    #[test]
    fn addresses_with_a_login_are_secrets() {
        let cases = [
            ("https://u:p@host/x", true),
            ("a https://host b http://token@host", true),
            ("http://u:p@proxy:3128", true),
            ("postgres://u:p@db/x", true),
            ("ssh://git@host/x", false),
            ("https://host/a@b:c", false),
            ("https://host?mail=a@b", false),
            ("u:p@host", false),
            ("://@", false),
        ];
        for (value, secret) in cases {
            assert_eq!(is_secret("URL", value), secret, "{value}");
            assert_eq!(conceal("URL", value) != value, secret, "{value}");
        }
    }

    fn run() -> ExecOp {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        ExecOp {
            argv: ["/bin/sh", "-c", "make"].map(str::to_owned).to_vec(),
            env: EnvList::from_iter([pair("PATH", "/bin"), pair("A", "1"), pair("B", "2")]),
            proxy_env: Vec::new(),
            cwd: "/src".to_owned(),
            user: "root".to_owned(),
            hostname: "buildkitsandbox".to_owned(),
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            network: Network::Default,
            security: Security::Sandbox,
            mounts: Vec::new(),
            files: Vec::new(),
        }
    }

    fn change_env(op: &mut ExecOp, change: fn(&mut Vec<(String, String)>)) {
        let mut env = op.env.to_vec();
        change(&mut env);
        op.env = env.into_iter().collect();
    }

    fn run_key(op: &ExecOp) -> CacheKey {
        exec(
            op,
            &Platform::new("linux", "amd64", None),
            OutputId::scratch(),
            &[],
        )
        .key()
    }

    fn mount_key(mount: Mount, input: Option<InputId>) -> CacheKey {
        let op = ExecOp {
            mounts: vec![mount],
            ..run()
        };
        exec(
            &op,
            &Platform::new("linux", "amd64", None),
            OutputId::scratch(),
            &[input],
        )
        .key()
    }

    /// Each case changes one thing of a RUN.
    macro_rules! run_cases {
        ($($name:ident: $hit:literal, $change:expr;)*) => {$(
            #[test]
            fn $name() {
                let mut op = run();
                let change: fn(&mut ExecOp) = $change;
                change(&mut op);
                assert_eq!(run_key(&op) == run_key(&run()), $hit);
            }
        )*};
    }

    run_cases! {
        // R-CACHE-5, and the table after R-CACHE-16.
        run_again_hits: true, |_| {};
        another_command_misses: false, |op| op.argv[2] = "make all".to_owned();
        another_border_between_arguments_misses: false, |op| {
            op.argv = vec!["/bin/sh".to_owned(), "-cmake".to_owned()];
        };
        another_value_of_a_variable_misses: false, |op| change_env(op, |env| env[1].1 = "3".to_owned());
        another_order_of_variables_misses: false, |op| change_env(op, |env| env.swap(1, 2));
        // R-CACHE-7: declared and set, used or not.
        a_new_argument_misses: false, |op| {
            change_env(op, |env| env.push(("X".to_owned(), "1".to_owned())));
        };
        another_spelling_of_the_user_misses: false, |op| op.user = "0".to_owned();
        another_spelling_of_the_directory_misses: false, |op| op.cwd = "/src/".to_owned();
        another_hostname_misses: false, |op| op.hostname = "other".to_owned();
        another_network_misses: false, |op| op.network = Network::None;
        another_security_misses: false, |op| op.security = Security::Insecure;
        an_extra_host_misses: false, |op| op.extra_hosts = vec![("db".to_owned(), "::1".to_owned())];
        a_ulimit_misses: false, |op| op.limits.ulimits = vec![Ulimit {
            name: "nofile".to_owned(),
            soft: Some(64),
            hard: None,
        }];
        another_size_of_shm_misses: false, |op| op.limits.shm_size = Some(1 << 20);
        another_cgroup_parent_misses: false, |op| op.limits.cgroup_parent = Some("/ci".to_owned());
        // R-CACHE-6, R-ARG-10.
        proxies_hit: true, |op| op.proxy_env = vec![("http_proxy".to_owned(), "http://p".to_owned())];
        an_inline_file_misses: false, |op| op.files = vec![InlineFile {
            path: "/dev/pipes/EOF".to_owned(),
            content: b"#!/bin/sh".to_vec(),
            mode: 0o755,
        }];
    }

    #[test]
    fn the_address_of_an_extra_host_is_left_out() {
        // R-CACHE-5.
        let with = |address: &str| ExecOp {
            extra_hosts: vec![("db".to_owned(), address.to_owned())],
            ..run()
        };
        assert_eq!(run_key(&with("10.0.0.1")), run_key(&with("10.0.0.2")));
    }

    #[test]
    fn root_and_platform_enter_a_run() {
        // R-CACHE-2, R-CACHE-5.
        let amd64 = Platform::new("linux", "amd64", None);
        let arm64 = Platform::new("linux", "arm64", None);
        let other = OutputId::image(&[DiffId(Digest::of(b"layer"))]);
        let base = run_key(&run());
        assert_ne!(exec(&run(), &arm64, OutputId::scratch(), &[]).key(), base);
        assert_ne!(exec(&run(), &amd64, other, &[]).key(), base);
    }

    fn cache_mount() -> CacheMount {
        CacheMount {
            target: "/cache".to_owned(),
            id: "one".to_owned(),
            explicit_id: true,
            input: None,
            source: "/".to_owned(),
            read_only: false,
            sharing: Sharing::Shared,
            mode: None,
            uid: None,
            gid: None,
        }
    }

    #[test]
    fn which_id_and_sharing_a_cache_mount_has_is_left_out() {
        // R-CACHE-6.
        let key = |mount: CacheMount| mount_key(Mount::Cache(mount), None);
        let base = key(cache_mount());
        let id = "two".to_owned();
        assert_eq!(
            key(CacheMount {
                id,
                ..cache_mount()
            }),
            base
        );
        let sharing = Sharing::Locked;
        assert_eq!(
            key(CacheMount {
                sharing,
                ..cache_mount()
            }),
            base
        );
        let explicit_id = false;
        assert_ne!(
            key(CacheMount {
                explicit_id,
                ..cache_mount()
            }),
            base
        );
        let target = "/other".to_owned();
        assert_ne!(
            key(CacheMount {
                target,
                ..cache_mount()
            }),
            base
        );
        let read_only = true;
        assert_ne!(
            key(CacheMount {
                read_only,
                ..cache_mount()
            }),
            base
        );
    }

    #[test]
    fn a_bind_mount_is_known_by_its_content() {
        // R-CACHE-2, R-CACHE-6.
        let bind = |source: &str| {
            Mount::Bind(BindMount {
                target: "/m".to_owned(),
                input: 1,
                source: source.to_owned(),
                writable: false,
            })
        };
        let content = |text: &str| Some(InputId::Content(Digest::of(text.as_bytes())));
        assert_eq!(
            mount_key(bind("/a"), content("x")),
            mount_key(bind("/b"), content("x"))
        );
        assert_ne!(
            mount_key(bind("/a"), content("x")),
            mount_key(bind("/a"), content("y"))
        );
        // Known by the whole output, the path says which part.
        let output = Some(InputId::Output(OutputId::scratch()));
        assert_ne!(mount_key(bind("/a"), output), mount_key(bind("/b"), output));
    }

    #[test]
    fn every_property_of_a_secret_enters_but_its_value() {
        // R-CACHE-5; the value isn't even known here (R-CACHE-6).
        let secret = || SecretMount {
            id: "token".to_owned(),
            target: Some("/run/secrets/token".to_owned()),
            env: None,
            required: false,
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        let key = |secret: SecretMount| mount_key(Mount::Secret(secret), None);
        let base = key(secret());
        let (id, required, mode) = ("other".to_owned(), true, 0o440);
        let env = Some("TOKEN".to_owned());
        assert_ne!(key(SecretMount { id, ..secret() }), base);
        assert_ne!(
            key(SecretMount {
                required,
                ..secret()
            }),
            base
        );
        assert_ne!(key(SecretMount { mode, ..secret() }), base);
        assert_ne!(key(SecretMount { env, ..secret() }), base);
        assert_ne!(
            key(SecretMount {
                target: None,
                ..secret()
            }),
            base
        );
        assert_ne!(key(SecretMount { uid: 1, ..secret() }), base);
        assert_ne!(key(SecretMount { gid: 1, ..secret() }), base);
    }

    #[test]
    fn the_size_of_a_tmpfs_enters() {
        // R-CACHE-5.
        let tmpfs = |size| {
            let target = "/t".to_owned();
            Mount::Tmpfs(TmpfsMount {
                target,
                size,
                read_only: false,
            })
        };
        assert_ne!(
            mount_key(tmpfs(None), None),
            mount_key(tmpfs(Some(0)), None)
        );
    }

    fn copy_of(path: &str) -> CopyOp {
        CopyOp {
            sources: vec![CopySourceOp::Path {
                input: 1,
                path: path.to_owned(),
                pivot: "/".to_owned(),
                unpack: false,
                span: Default::default(),
            }],
            dest: "/srv".to_owned(),
            dest_is_dir: true,
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            add: false,
        }
    }

    fn unpacked(source: CopySourceOp) -> Vec<CopySourceOp> {
        let CopySourceOp::Path {
            input,
            path,
            pivot,
            span,
            ..
        } = source
        else {
            unreachable!("these tests copy paths")
        };
        vec![CopySourceOp::Path {
            input,
            path,
            pivot,
            unpack: true,
            span,
        }]
    }

    /// The selection a copy of one file makes.
    fn file(name: &str, change: impl FnOnce(&mut Node)) -> Vec<Selected> {
        let mut node = Node::file(b"content");
        change(&mut node);
        let mut tree = Tree::new();
        let path = ImagePath::clean(name.as_bytes());
        tree.apply(
            0,
            &[(path.clone(), kiln_image::Change::Put(node))]
                .into_iter()
                .collect(),
        );
        let digest = tree.content_digest(&path, true).expect("it was put there");
        let name = name.as_bytes().to_vec();
        vec![Selected { name, digest }]
    }

    fn copy_key(op: &CopyOp, selected: Vec<Selected>) -> CacheKey {
        copy(op, OutputId::scratch(), &[selected]).key()
    }

    #[test]
    fn a_copy_reads_names_modes_and_contents() {
        // R-CACHE-8, R-CACHE-11, R-CACHE-13, and the table after R-CACHE-16.
        let base = copy_key(&copy_of("/a/f"), file("f", |_| {}));
        let touched = file("f", |node| {
            node.metadata.mtime = Timestamp::from_secs(1_000_000);
        });
        assert_eq!(copy_key(&copy_of("/a/f"), touched), base, "touch");
        assert_eq!(
            copy_key(&copy_of("/b/f"), file("f", |_| {})),
            base,
            "another directory"
        );
        let renamed = copy_key(&copy_of("/a/g"), file("g", |_| {}));
        assert_ne!(renamed, base, "another base name");
        let executable = file("f", |node| node.metadata = Metadata::with_mode(0o755));
        assert_ne!(copy_key(&copy_of("/a/f"), executable), base, "chmod");
        let edited = file("f", |node| *node = Node::file(b"other"));
        assert_ne!(copy_key(&copy_of("/a/f"), edited), base, "edit");
        let more = [file("f", |_| {}), file("g", |_| {})].concat();
        assert_ne!(copy_key(&copy_of("/a/*"), more), base, "one more match");
    }

    #[test]
    fn the_flags_of_a_copy_enter_as_written() {
        // R-CACHE-8.
        let key = |change: fn(&mut CopyOp)| {
            let mut op = copy_of("/f");
            change(&mut op);
            copy_key(&op, file("f", |_| {}))
        };
        let base = key(|_| {});
        let changes: [fn(&mut CopyOp); 8] = [
            |op| op.dest = "/opt".to_owned(),
            |op| op.dest_is_dir = false,
            |op| op.chown = Some("0".to_owned()),
            |op| op.chmod = Some(Chmod::Octal(0o644)), // the mode it has
            |op| op.link = true,
            |op| op.parents = true,
            |op| op.exclude = vec!["*.o".to_owned()],
            |op| op.sources = unpacked(op.sources.remove(0)),
        ];
        let keys: std::collections::BTreeSet<CacheKey> = changes.into_iter().map(key).collect();
        assert_eq!(keys.len(), changes.len());
        assert!(!keys.contains(&base));
        assert_eq!(
            key(|op| op.add = true),
            base,
            "ADD without unpacking is COPY"
        );
    }

    #[test]
    fn which_sources_are_unpacked_enters() {
        // R-ADD-5
        let key = |unpacks: [bool; 2]| {
            let mut op = copy_of("/f");
            let source = op.sources.remove(0);
            for unpack in unpacks {
                op.sources.extend(match unpack {
                    true => unpacked(source.clone()),
                    false => vec![source.clone()],
                });
            }
            copy(
                &op,
                OutputId::scratch(),
                &[file("f", |_| {}), file("f", |_| {})],
            )
            .key()
        };
        let all = [[false, false], [false, true], [true, false], [true, true]];
        let keys: std::collections::BTreeSet<CacheKey> = all.into_iter().map(key).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn an_inline_file_is_known_by_name_and_content() {
        // R-CACHE-16.
        let key = |name: &str, content: &[u8]| {
            let mut op = copy_of("/f");
            op.sources = vec![CopySourceOp::Inline {
                name: name.to_owned(),
                content: content.to_vec(),
                span: Default::default(),
            }];
            copy_key(&op, Vec::new())
        };
        assert_eq!(key("EOF", b"x"), key("EOF", b"x"));
        assert_ne!(key("EOF", b"x"), key("END", b"x"));
        assert_ne!(key("EOF", b"x"), key("EOF", b"y"));
    }

    #[test]
    fn a_copy_from_a_stage_has_a_key_without_its_files() {
        let output = Some(OutputId::image(&[DiffId(Digest::of(b"layer"))]));
        let key = |path: &str, inputs: &[Option<OutputId>]| {
            copy_by_output(&copy_of(path), OutputId::scratch(), inputs)
                .map(|preimage| preimage.key())
        };
        assert_eq!(key("/f", &[None, None]), None, "the context has no output");
        let base = key("/f", &[None, output]);
        assert!(base.is_some());
        assert_eq!(key("/f", &[output, output]), base);
        assert_ne!(key("/g", &[None, output]), base);
        assert_ne!(base, Some(copy_key(&copy_of("/f"), Vec::new())));
    }

    #[test]
    fn a_directory_is_known_by_path_owner_and_root() {
        // R-CACHE-10, R-WORKDIR-9.
        let dated = |path: &str, owner: &str, date, root: OutputId| {
            let (path, owner) = (path.to_owned(), owner.to_owned());
            mkdir(&MkdirOp { path, owner, date }, root).key()
        };
        let key = |path, owner, root| dated(path, owner, None, root);
        let base = key("/tmp", "", OutputId::scratch());
        assert_ne!(key("/var", "", OutputId::scratch()), base);
        assert_ne!(key("/tmp", "app", OutputId::scratch()), base);
        let other = OutputId::image(&[DiffId(Digest::of(b"layer"))]);
        assert_ne!(key("/tmp", "", other), base);
        assert_ne!(dated("/tmp", "", Some(1), OutputId::scratch()), base);
    }

    #[test]
    fn an_output_is_its_content() {
        // R-CACHE-10, R-FROM-15: an image without layers is scratch.
        assert_eq!(OutputId::image(&[]), OutputId::scratch());
        assert_eq!(
            OutputId::scratch().above(&Changeset::new()),
            OutputId::scratch()
        );
        let layer = |secs| {
            let mut node = Node::file(b"x");
            node.metadata.mtime = Timestamp::from_secs(secs);
            let mut changes = Changeset::new();
            changes.put(ImagePath::clean(b"/f"), node);
            OutputId::scratch().above(&changes)
        };
        assert_eq!(layer(1), layer(2));
        assert_ne!(layer(1), OutputId::scratch());
        assert_ne!(layer(1).above(&Changeset::new()), OutputId::scratch());
    }

    #[test]
    fn a_download_is_known_by_content_name_and_time() {
        // R-CACHE-17
        let key =
            |content: &[u8], name, modified| download(Digest::of(content), name, modified).key();
        let keys = [
            key(b"x", "f", None),
            key(b"y", "f", None),
            key(b"x", "g", None),
            key(b"x", "f", Some(0)),
            key(b"x", "f", Some(-1)),
        ];
        let different: std::collections::BTreeSet<CacheKey> = keys.into_iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn a_repository_is_known_by_its_commit() {
        // R-CACHE-18
        let key = |address: &str, reference: &str, change: fn(&mut GitSource)| {
            let url = kiln_planner::GitUrl::parse(address);
            let mut source = url.ok().flatten().expect("a repository").source();
            change(&mut source);
            repository(&source, "c0ffee", reference).key()
        };
        let base = key("https://h/r.git", "refs/heads/a", |_| {});
        assert_eq!(key("git@h:other", "refs/heads/b", |_| {}), base);
        let changes: [fn(&mut GitSource); 4] = [
            |source| source.subdir = Some("d".to_owned()),
            |source| source.submodules = false,
            |source| source.times = GitTimes::Commit,
            |source| source.keep_git_dir = true,
        ];
        let mut keys: std::collections::BTreeSet<CacheKey> = changes
            .into_iter()
            .map(|change| key("https://h/r.git", "refs/heads/a", change))
            .collect();
        keys.insert(key("https://h/r.git", "refs/heads/b", changes[3]));
        keys.insert(key("https://h/s.git", "refs/heads/a", changes[3]));
        assert_eq!(keys.len(), 6);
        assert!(!keys.contains(&base));
    }

    #[test]
    fn what_explains_does_not_enter() {
        let plain = exec(
            &run(),
            &Platform::new("linux", "amd64", None),
            OutputId::scratch(),
            &[],
        );
        let explained = plain
            .clone()
            .of_step("app 2/4")
            .with_files(vec![FileDigest::of(
                "f".to_owned(),
                Tree::new()
                    .lookup(&ImagePath::root())
                    .expect("always there"),
            )])
            .by_build(Some("b".to_owned()));
        assert_eq!(explained.key(), plain.key());
    }

    /// A failure here means that every store in use loses its cache. If that is meant, [`KEY_DOMAIN`] changes too.
    #[test]
    fn keys_are_the_same_forever() {
        assert_eq!(run_key(&run()).to_string()[..16], *"5a7966c0b760a342");
        let copy = copy_key(
            &copy_of("/f"),
            vec![Selected {
                name: b"f".to_vec(),
                digest: Digest::of(b"f"),
            }],
        );
        assert_eq!(copy.to_string()[..16], *"f1d15ff1decf7f7a");
        let op = MkdirOp {
            path: "/srv".to_owned(),
            owner: String::new(),
            date: None,
        };
        let mkdir = mkdir(&op, OutputId::scratch()).key();
        assert_eq!(mkdir.to_string()[..16], *"b6492aa90dbd0f74");
        assert_eq!(OutputId::scratch().to_string()[..16], *"a039532bde4a3b42");
    }
}
