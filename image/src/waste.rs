//! Bytes of an image that do nobody any good: what later layers hide, what is there twice, caches that were left behind.
//!
//! A byte counts as *wasted* if no container ever sees it, because a later layer has another file in its place (*shadowed*) or removes it
//! (*deleted*). That is what `dive` calls wasted space, and [`Waste::efficiency`] is comparable with its score: one less the wasted bytes'
//! part of all. What is there twice and what is a cache can be seen, so it is told apart. Sizes are those of contents, hard links once.

mod left_behind;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Change, Changeset, Digest, ImagePath, Kind, Tree};

/// What an image wastes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Waste {
    /// Each layer, bottom first.
    pub layers: Vec<LayerWaste>,
    /// The single pieces, the largest first.
    pub pieces: Vec<Piece>,
}

/// What a layer has that is no good, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerWaste {
    /// All its contents.
    pub size: u64,
    /// Files that later layers have others in the place of.
    pub shadowed: u64,
    /// Files that later layers remove.
    pub deleted: u64,
    /// Files whose content the image has under another path, too.
    pub duplicate: u64,
    /// Caches of package managers and the like.
    pub left_behind: u64,
}

/// Something that takes space for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The file, or the directory of a cache.
    pub path: ImagePath,
    /// The number of the layer that has it.
    pub layer: usize,
    /// Its size in bytes.
    pub bytes: u64,
    /// Why it is no good.
    pub reason: Reason,
}

/// Why something is no good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The layer of this number has another file in its place.
    Shadowed(usize),
    /// The layer of this number removes it.
    Deleted(usize),
    /// The same is at this path.
    Duplicate(ImagePath),
    /// It is a cache of this kind.
    LeftBehind(&'static str),
}

impl LayerWaste {
    /// Bytes that no container sees.
    pub fn wasted(&self) -> u64 {
        self.shadowed + self.deleted
    }
}

impl Waste {
    /// Finds out what the layers, bottom first, waste.
    pub fn of<'c>(layers: impl IntoIterator<Item = &'c Changeset>) -> Self {
        let mut search = Search::default();
        for (number, layer) in layers.into_iter().enumerate() {
            search.add(number, layer);
        }
        search.look_at_what_is_seen();
        let mut waste = search.waste;
        waste.pieces.sort_by(|one, other| {
            (other.bytes, &one.path, &one.reason).cmp(&(one.bytes, &other.path, &other.reason))
        });
        waste
    }

    /// Bytes of all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// Bytes that no container sees.
    pub fn wasted(&self) -> u64 {
        self.layers.iter().map(LayerWaste::wasted).sum()
    }

    /// The part of all bytes that is wasted, from 0 to 1.
    pub fn ratio(&self) -> f64 {
        match self.size() {
            0 => 0.0,
            size => self.wasted() as f64 / size as f64,
        }
    }

    /// The part of all bytes that is not wasted, from 0 to 1.
    pub fn efficiency(&self) -> f64 {
        1.0 - self.ratio()
    }
}

/// Names of one file in one layer.
type Links = HashMap<(usize, u64), usize>;

/// A file that is seen so far.
struct Seen {
    path: ImagePath,
    layer: usize,
    size: u64,
    digest: Digest,
    link: Option<u64>,
}

#[derive(Default)]
struct Search {
    tree: Tree,
    /// How many names are left of files that have several.
    links: Links,
    waste: Waste,
}

impl Search {
    fn add(&mut self, number: usize, layer: &Changeset) {
        self.waste.layers.push(LayerWaste {
            size: layer.content_size(),
            ..LayerWaste::default()
        });
        let index = u32::try_from(number).unwrap_or(u32::MAX);
        for (path, change) in layer {
            self.lose(number, path, change);
            self.tree.change(index, path, change);
            if let Some(link) = change.node().and_then(|node| node.link) {
                *self.links.entry((number, link)).or_default() += 1;
            }
        }
    }

    /// What is there no more once `change` is done.
    fn lose(&mut self, number: usize, path: &ImagePath, change: &Change) {
        let Some(there) = self.tree.lookup(path) else {
            return;
        };
        let stays = change.node().is_some_and(crate::Node::is_directory);
        let gone = match change {
            Change::Put(_) if stays && there.directory.is_some() => return,
            _ => files_below(&self.tree, path),
        };
        for file in gone {
            let replaced = file.path == *path && change.node().is_some();
            let reason = match replaced {
                true => Reason::Shadowed(number),
                false => Reason::Deleted(number),
            };
            if self.was_last_name(&file) {
                self.note(file.path, file.layer, file.size, reason);
            }
        }
    }

    /// Whether a file's bytes are seen no more now that this name of it is gone.
    fn was_last_name(&mut self, file: &Seen) -> bool {
        let Some(link) = file.link else {
            return true;
        };
        let Some(left) = self.links.get_mut(&(file.layer, link)) else {
            return true;
        };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn note(&mut self, path: ImagePath, layer: usize, bytes: u64, reason: Reason) {
        let told = &mut self.waste.layers[layer];
        *match reason {
            Reason::Shadowed(_) => &mut told.shadowed,
            Reason::Deleted(_) => &mut told.deleted,
            Reason::Duplicate(_) => &mut told.duplicate,
            Reason::LeftBehind(_) => &mut told.left_behind,
        } += bytes;
        if bytes > 0 {
            self.waste.pieces.push(Piece {
                path,
                layer,
                bytes,
                reason,
            });
        }
    }

    /// Caches, each as one piece a layer, and what is there twice besides.
    fn look_at_what_is_seen(&mut self) {
        let mut caches: BTreeMap<(ImagePath, usize), (&'static str, u64)> = BTreeMap::new();
        let mut contents: HashMap<Digest, (ImagePath, usize, Option<u64>)> = HashMap::new();
        let mut duplicates = Vec::new();
        let mut counted: HashSet<(usize, u64)> = HashSet::new();
        for file in files_below(&self.tree, &ImagePath::root()) {
            if file.size == 0
                || file
                    .link
                    .is_some_and(|link| !counted.insert((file.layer, link)))
            {
                continue;
            }
            if let Some((directory, kind)) = left_behind::cache_of(&file.path) {
                caches.entry((directory, file.layer)).or_insert((kind, 0)).1 += file.size;
                continue;
            }
            match contents.get(&file.digest) {
                Some((first, ..)) => duplicates.push((file, first.clone())),
                None => {
                    contents.insert(file.digest, (file.path, file.layer, file.link));
                }
            }
        }
        for ((path, layer), (kind, bytes)) in caches {
            self.note(path, layer, bytes, Reason::LeftBehind(kind));
        }
        for (file, first) in duplicates {
            self.note(file.path, file.layer, file.size, Reason::Duplicate(first));
        }
    }
}

/// The files at and below a path.
fn files_below(tree: &Tree, path: &ImagePath) -> Vec<Seen> {
    let file = |(path, node): (ImagePath, crate::NodeRef<'_>)| match *node.kind {
        Kind::File { size, digest } => Some(Seen {
            path,
            layer: node.layer as usize,
            size,
            digest,
            link: node.link,
        }),
        _ => None,
    };
    tree.walk(path).filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, Node};

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    fn layer(changes: &[(&str, Option<&str>)]) -> Changeset {
        let mut layer = Changeset::new();
        for (name, content) in changes {
            match content {
                Some(content) => layer.put(path(name), Node::file(content.as_bytes())),
                None => layer.whiteout(path(name)),
            }
        }
        layer
    }

    fn pieces(waste: &Waste) -> Vec<(String, usize, u64, Reason)> {
        let piece = |piece: &Piece| {
            (
                piece.path.to_string(),
                piece.layer,
                piece.bytes,
                piece.reason.clone(),
            )
        };
        waste.pieces.iter().map(piece).collect()
    }

    #[test]
    fn what_later_layers_hide_is_wasted() {
        let layers = [
            layer(&[
                ("a", Some("12345678")),
                ("d/b", Some("1234")),
                ("d/c", Some("12")),
                ("stays", Some("xy")),
            ]),
            layer(&[("a", Some("1")), ("d", None)]),
            layer(&[("a", Some("2"))]),
        ];
        let waste = Waste::of(&layers);
        let wasted: Vec<u64> = waste.layers.iter().map(LayerWaste::wasted).collect();
        assert_eq!(wasted, [14, 1, 0]);
        assert_eq!((waste.size(), waste.wasted()), (18, 15));
        assert!((waste.efficiency() - 3.0 / 18.0).abs() < 1e-9);
        let expected = [
            ("a".to_owned(), 0, 8, Reason::Shadowed(1)),
            ("d/b".to_owned(), 0, 4, Reason::Deleted(1)),
            ("d/c".to_owned(), 0, 2, Reason::Deleted(1)),
            ("a".to_owned(), 1, 1, Reason::Shadowed(2)),
        ];
        assert_eq!(pieces(&waste), expected);
    }

    #[test]
    fn an_opaque_directory_deletes_what_was_in_it() {
        let mut above = Changeset::new();
        above.put(path("d"), Node::directory(Metadata::directory()));
        above.make_opaque(path("d"));
        above.put(path("d/new"), Node::file(b"123"));
        let waste = Waste::of(&[layer(&[("d/old", Some("12345"))]), above]);
        assert_eq!(
            pieces(&waste),
            [("d/old".to_owned(), 0, 5, Reason::Deleted(1))]
        );
    }

    #[test]
    fn a_file_with_a_name_left_is_not_wasted() {
        let linked = || Node {
            kind: Kind::File {
                size: 5,
                digest: Digest::of(b"hello"),
            },
            link: Some(1),
            ..Node::file(b"hello")
        };
        let mut below = Changeset::new();
        below.put(path("a"), linked());
        below.put(path("b"), linked());
        let one_left = Waste::of(&[below.clone(), layer(&[("a", None)])]);
        assert_eq!((one_left.size(), one_left.wasted()), (5, 0));
        let none_left = Waste::of(&[below, layer(&[("a", None)]), layer(&[("b", None)])]);
        assert_eq!(none_left.wasted(), 5);
    }

    #[test]
    fn duplicates_and_caches_are_told_apart() {
        let layers = [
            layer(&[
                ("lib/one", Some("same content")),
                ("root/.cache/pip/x", Some("123")),
            ]),
            layer(&[
                ("lib/two", Some("same content")),
                ("root/.cache/pip/y", Some("4567")),
            ]),
        ];
        let waste = Waste::of(&layers);
        assert_eq!(waste.wasted(), 0);
        let expected = [
            (
                "lib/two".to_owned(),
                1,
                12,
                Reason::Duplicate(path("lib/one")),
            ),
            (
                "root/.cache/pip".to_owned(),
                1,
                4,
                Reason::LeftBehind("pip cache"),
            ),
            (
                "root/.cache/pip".to_owned(),
                0,
                3,
                Reason::LeftBehind("pip cache"),
            ),
        ];
        assert_eq!(pieces(&waste), expected);
        assert_eq!(Waste::of(&[]).efficiency(), 1.0);
    }
}
