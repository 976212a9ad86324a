//! Where a path leads inside a tree, links followed as in a chroot.

use std::collections::VecDeque;

use crate::{ImagePath, Kind, NodeRef, Tree};

/// How many links one path may lead through.
const MAX_LINKS: usize = 255;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without any link in it (but for the last component, if that isn't followed).
    pub path: ImagePath,
    /// Whether there is an object. If not, the longest part of `path` that is there is a directory.
    pub exists: bool,
    /// How many links were followed.
    pub links: usize,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Something that isn't a directory has something below it.
    #[error("`/{component}` is not a directory, on the way to `{path}`")]
    NotADirectory {
        /// The path that was asked for, as text.
        path: String,
        /// The component that isn't a directory.
        component: ImagePath,
    },
    /// Links that lead in a circle, or nearly.
    #[error("too many symbolic links on the way to `{path}`")]
    TooManyLinks {
        /// The path that was asked for, as text.
        path: String,
    },
}

impl Tree {
    /// Where `path` leads from the directory `base`. An absolute path, and an absolute target of a link, start
    /// again at the root of the tree; `..` goes up from where a link led to and stops at the root. Components
    /// after one that isn't there are taken by their text.
    pub fn resolve(
        &self,
        base: &ImagePath,
        path: &[u8],
        follow_last: bool,
    ) -> Result<Resolved, ResolveError> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let mut at = start(base, path);
        let mut pending: VecDeque<Vec<u8>> = components(path).collect();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.child(&name);
            match self.step(&at, &name) {
                Step::NotADirectory => {
                    return Err(ResolveError::NotADirectory {
                        path: shown(),
                        component: at,
                    });
                }
                Step::Symlink(target) if follow_last || !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::TooManyLinks { path: shown() });
                    }
                    at = start(&at, target);
                    for component in components(target).rev() {
                        pending.push_front(component);
                    }
                }
                Step::Missing | Step::Symlink(_) | Step::Other => at = next,
            }
        }
        let exists = self.lookup(&at).is_some();
        Ok(Resolved {
            path: at,
            exists,
            links,
        })
    }

    fn step(&self, at: &ImagePath, name: &[u8]) -> Step<'_> {
        let Some(node) = self.lookup(at) else {
            return Step::Missing;
        };
        let Some(directory) = node.directory else {
            return Step::NotADirectory;
        };
        match directory.entry(name) {
            None => Step::Missing,
            Some(NodeRef {
                kind: Kind::Symlink { target },
                ..
            }) => Step::Symlink(target),
            Some(_) => Step::Other,
        }
    }
}

enum Step<'a> {
    Missing,
    NotADirectory,
    Symlink(&'a [u8]),
    Other,
}

fn start(base: &ImagePath, path: &[u8]) -> ImagePath {
    if path.starts_with(b"/") {
        ImagePath::root()
    } else {
        base.clone()
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    let names = path
        .split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."));
    names.map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Change, Changeset, Node};

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    fn tree() -> Tree {
        let mut changes: Changeset = [
            (path("d/f"), Change::Put(Node::file(b""))),
            (path("d/e/g"), Change::Put(Node::file(b""))),
        ]
        .into_iter()
        .collect();
        let links = [
            ("l", "d"),
            ("abs", "/d/e"),
            ("up", "../../d"),
            ("d/e/back", ".."),
            ("chain", "l/e/back/f"),
            ("loop", "loop"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("gone", "no/where"),
            ("tofile", "d/f"),
            ("dots", "d/e/../../d//."),
        ];
        for (name, target) in links {
            changes.put(path(name), Node::symlink(target));
        }
        Tree::of(&changes)
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        // R-COPY-14, R-WORKDIR-6: base | path | follow the last | where it leads, `!` if nothing is there
        let cases = [
            ("", "d/f", true, "d/f"),
            ("", "/d/./f", true, "d/f"),
            ("d", "e", true, "d/e"),
            ("d", "/l", true, "d"),
            ("d", "..", true, ""),
            ("d", "../../../l/f", true, "d/f"),
            ("", "l", false, "l"),
            ("", "l/", false, "l"),
            ("", "l/f", false, "d/f"),
            ("", "abs/g", true, "d/e/g"),
            ("d/e", "/abs", true, "d/e"),
            ("", "up/f", true, "d/f"),
            ("", "d/e/back/f", true, "d/f"),
            ("", "l/e/back/../l/f", true, "d/f"),
            ("", "chain", true, "d/f"),
            ("", "dots/f", true, "d/f"),
            ("", "gone", true, "no/where!"),
            ("", "gone/x/../y", true, "no/where/y!"),
            ("", "new/../d", true, "d"),
            ("", "d/new/x", true, "d/new/x!"),
            ("", "", true, ""),
        ];
        for (base, written, follow, expected) in cases {
            let found = tree()
                .resolve(&path(base), written.as_bytes(), follow)
                .unwrap();
            let shown = format!("{}{}", found.path, if found.exists { "" } else { "!" });
            assert_eq!(shown, expected, "{base} {written}");
        }
    }

    #[test]
    fn what_leads_nowhere() {
        let resolve = |text: &str| {
            tree()
                .resolve(&ImagePath::root(), text.as_bytes(), true)
                .unwrap_err()
        };
        assert!(
            matches!(resolve("d/f/x"), ResolveError::NotADirectory { component, .. } if component == path("d/f"))
        );
        assert!(matches!(
            resolve("tofile/x"),
            ResolveError::NotADirectory { .. }
        ));
        assert!(matches!(resolve("loop"), ResolveError::TooManyLinks { .. }));
        assert!(matches!(
            resolve("ping/x"),
            ResolveError::TooManyLinks { .. }
        ));
    }

    #[test]
    fn up_to_255_links_are_followed() {
        let mut changes = Changeset::new();
        for number in 0..=255 {
            changes.put(
                path(&format!("l{number}")),
                Node::symlink(format!("l{}", number + 1)),
            );
        }
        let tree = Tree::of(&changes);
        let resolve = |text: &str| tree.resolve(&ImagePath::root(), text.as_bytes(), true);
        assert_eq!(resolve("l1").unwrap().links, 255);
        assert!(resolve("l0").is_err());
    }
}
