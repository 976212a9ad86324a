//! Trees and copies written as text, for tests.
#![allow(clippy::unwrap_used)]

use kiln_image::tar::ArchiveMember;
use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, Timestamp, Tree};
use kiln_parser::Span;
use kiln_planner::{Chmod, CopyOp, CopySourceOp};

pub(super) fn path(text: &str) -> ImagePath {
    ImagePath::clean(text.as_bytes())
}

/// One object a line (or between `;`): `name [mode] [uid:gid] [@mtime] [=content | ->target | #link | !fifo | ^capability]`, a
/// directory's name ending with a slash. Directories that aren't named are 0755 0:0.
pub(super) fn tree(text: &str) -> Tree {
    Tree::of(&changes(text))
}

pub(super) fn changes(text: &str) -> Changeset {
    let lines = text
        .split([';', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            (
                path(line.split(' ').next().unwrap()),
                Change::Put(node(line)),
            )
        })
        .collect()
}

/// The same as members of an archive, in order; the content of the first is at 0, of the second at 1, and so on.
pub(super) fn members(text: &str) -> Vec<ArchiveMember> {
    let lines = text.split(';').map(str::trim).enumerate();
    let member = |(at, line): (usize, &str)| ArchiveMember {
        path: path(line.split(' ').next().unwrap()),
        node: node(line),
        content: at as u64,
    };
    lines.map(member).collect()
}

fn node(line: &str) -> Node {
    let mut words = line.split_whitespace();
    let is_directory = words.next().unwrap().ends_with('/');
    let mut node = if is_directory {
        Node::directory(Metadata::directory())
    } else {
        Node::file(b"")
    };
    for word in words {
        let (first, rest) = word.split_at(1);
        match first {
            "@" => node.metadata.mtime = Timestamp::from_secs(rest.parse().unwrap()),
            "=" => node.kind = Node::file(rest.as_bytes()).kind,
            "-" => {
                node.kind = Node::symlink(&rest[1..]).kind;
                node.metadata.mode = 0o777;
            }

            "#" => node.link = Some(rest.parse().unwrap()),
            "!" => node.kind = Kind::Fifo,
            "^" => drop(
                node.metadata
                    .xattrs
                    .insert(format!("security.{rest}").into_bytes(), b"v".to_vec()),
            ),
            _ if word.contains(':') => {
                let (uid, gid) = word.split_once(':').unwrap();
                (node.metadata.uid, node.metadata.gid) =
                    (uid.parse().unwrap(), gid.parse().unwrap());
            }
            _ => node.metadata.mode = u32::from_str_radix(word, 8).unwrap(),
        }
    }
    node
}

/// One line an entry: `-name` for a removal, else `name mode uid:gid`, then a link's target or a hard link's group.
pub(super) fn listing(changeset: &Changeset) -> Vec<String> {
    changeset
        .iter()
        .map(|(path, change)| line(path, change))
        .collect()
}

fn line(path: &ImagePath, change: &Change) -> String {
    let Some(node) = change.node() else {
        return format!("-{path}");
    };
    let Metadata { mode, uid, gid, .. } = node.metadata;
    let slash = if node.is_directory() { "/" } else { "" };
    let target = match &node.kind {
        Kind::Symlink { target } => format!(" ->{}", String::from_utf8_lossy(target)),
        _ => String::new(),
    };
    let link = node.link.map(|link| format!(" #{link}"));
    let link = link.unwrap_or_default();
    format!("{path}{slash} {mode:o} {uid}:{gid}{target}{link}")
}

/// `COPY [--flag…] source… dest` as the planner plans it in `/`, all paths from input 1; `<<name` is an inline file.
pub(super) fn op(text: &str) -> CopyOp {
    let mut op = CopyOp {
        sources: Vec::new(),
        dest: String::new(),
        dest_is_dir: false,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        add: false,
    };
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let dest = words.pop().unwrap();
    op.dest = format!("/{}", path(dest));
    op.dest_is_dir = dest.ends_with('/') || dest.ends_with("/.");
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--chown", owner) => op.chown = Some(owner.to_owned()),
            ("--chmod", _) => {
                op.chmod = Some(Chmod::parse(word.trim_start_matches("--chmod=")).unwrap());
            }
            ("--exclude", pattern) => op.exclude.push(pattern.to_owned()),
            ("--link", _) => op.link = true,
            ("--parents", _) => op.parents = true,
            _ => op.sources.push(source(word)),
        }
    }
    op
}

fn source(word: &str) -> CopySourceOp {
    let span = Span { start: 0, end: 0 };
    match word.strip_prefix("<<") {
        Some(name) => CopySourceOp::Inline {
            name: name.to_owned(),
            content: b"inline".to_vec(),
            span,
        },
        None => {
            let pivot = word
                .split_once("/./")
                .map_or(String::new(), |(pivot, _)| path(pivot).to_string());
            CopySourceOp::Path {
                input: 1,
                path: format!("/{}", path(word)),
                pivot: format!("/{pivot}"),
                unpack: false,
                span,
            }
        }
    }
}
