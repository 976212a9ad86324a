#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::compress::{decoder, sample::tests::words};
use crate::tar::{Nothing, read_layer};

/// A tar with a directory, a small and a large file, an empty one, links, and what a layer may say besides.
fn layer(extra: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut add = |header: MemberHeader<'_>, content: &[u8]| {
        let size = content.len() as u64;
        tar.extend(MemberHeader { size, ..header }.to_bytes());
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    };
    let of = MemberHeader::new;
    let dated = |header| MemberHeader {
        mtime: 1_700_000_000,
        uid: 7,
        ..header
    };
    add(dated(of(b"srv/", EntryType::Directory, 0o2755)), b"");
    add(dated(of(b"srv/small", EntryType::Regular, 0o644)), b"hello");
    add(of(b"srv/large", EntryType::Regular, 0o755), &large());
    add(of(b"srv/none", EntryType::Regular, 0o600), b"");
    add(of(b"srv/.wh.old", EntryType::Regular, 0), b"");
    let link = MemberHeader {
        link: b"small",
        xattrs: vec![(b"user.note", b"\xff\0")],
        ..of(b"srv/link", EntryType::Symlink, 0o777)
    };
    add(link, b"");
    let hard = MemberHeader {
        link: b"srv/small",
        ..of(b"srv/hard", EntryType::Link, 0o644)
    };
    add(hard, b"");
    for (name, content) in extra {
        add(of(name, EntryType::Regular, 0o444), content);
    }
    tar.extend(END);
    tar
}

fn large() -> Vec<u8> {
    words(2 * CHUNK as usize + 300)
}

fn packed(tar: &[u8]) -> (Vec<u8>, Estargz) {
    write_estargz(tar, 6, Vec::new()).unwrap()
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    decoder(gzip).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The table of contents, found as readers of the format do.
fn toc(blob: &[u8]) -> (usize, Value, Digest) {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[32..38], b"STARGZ");
    let offset = str::from_utf8(&footer[16..32]).unwrap();
    let offset = usize::from_str_radix(offset, 16).unwrap();
    let tar = unpacked(&blob[offset..blob.len() - 51]);
    let mut members = Members::new(&tar[..], 0);
    assert_eq!(members.next().unwrap().unwrap().name, TOC_NAME);
    let mut json = Vec::new();
    members.read_to_end(&mut json).unwrap();
    assert!(members.next().unwrap().is_none(), "it is the last");
    (
        offset,
        serde_json::from_slice(&json).unwrap(),
        Digest::of(&json),
    )
}

#[test]
fn what_is_in_the_blob_is_the_layer_with_two_files_more() {
    // R-MAN-5
    let (blob, made) = packed(&layer(&[]));
    let (changeset, summary) =
        read_layer(&unpacked(&blob)[..], &Limits::default(), &mut Nothing).unwrap();
    assert_eq!(summary, made.tar);
    let (plain, _) = read_layer(&layer(&[])[..], &Limits::default(), &mut Nothing).unwrap();
    let paths = |changeset: &crate::Changeset| {
        let paths = changeset.iter().map(|(path, _)| path.to_string());
        paths.collect::<Vec<_>>()
    };
    let mut expected = paths(&plain);
    expected.extend([
        ".no.prefetch.landmark".to_owned(),
        "stargz.index.json".to_owned(),
    ]);
    let mut found = paths(&changeset);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_chunk_is_a_member_at_its_place() {
    let (blob, made) = packed(&layer(&[]));
    let (_, toc, digest) = toc(&blob);
    assert_eq!(digest, made.toc);
    assert_eq!(toc["version"], 1);
    let mut content = Vec::new();
    let mut chunks = 0;
    for entry in toc["entries"].as_array().unwrap() {
        let Some(offset) = entry["offset"].as_u64() else {
            assert!(entry["chunkDigest"].is_null());
            continue;
        };
        let mut one = flate2::read::GzDecoder::new(&blob[offset as usize..]);
        let mut bytes = Vec::new();
        one.read_to_end(&mut bytes).unwrap();
        assert_eq!(entry["chunkDigest"], Digest::of(&bytes).to_string());
        if entry["name"] == "srv/large" {
            assert_eq!(
                entry["chunkOffset"].as_u64().unwrap_or(0),
                content.len() as u64
            );
            assert_eq!(
                entry["type"],
                if content.is_empty() { "reg" } else { "chunk" }
            );
            content.extend(bytes);
            let is_last = content.len() == large().len();
            assert_eq!(entry["chunkSize"].is_null(), is_last);
            chunks += 1;
        }
    }
    assert_eq!((chunks, content), (3, large()));
}

#[test]
fn the_table_says_what_the_tar_says() {
    let (_, toc, _) = toc(&packed(&layer(&[])).0);
    let entry = |name: &str| {
        let entries = toc["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["name"] == name).unwrap()
    };
    let directory = serde_json::json!({
        "name": "srv/", "type": "dir", "modtime": "2023-11-14T22:13:20Z", "mode": 0o2755, "uid": 7, "gid": 0,
    });
    assert_eq!(*entry("srv/"), directory);
    assert_eq!(
        entry("srv/large")["digest"],
        Digest::of(&large()).to_string()
    );
    assert_eq!(entry("srv/large")["size"], large().len());
    assert_eq!(entry("srv/none")["digest"], Digest::of(b"").to_string());
    assert_eq!(entry("srv/hard")["linkName"], "srv/small");
    assert_eq!(entry("srv/link")["type"], "symlink");
    assert_eq!(entry("srv/link")["xattrs"]["user.note"], "/wA=");
    assert_eq!(entry("srv/.wh.old")["type"], "reg");
    assert_eq!(entry(".no.prefetch.landmark")["size"], 1);
}

#[test]
fn a_table_and_landmarks_that_are_there_are_made_anew() {
    let (blob, made) = packed(&layer(&[]));
    assert_eq!(packed(&unpacked(&blob)), (blob, made));
    let old: [(&[u8], &[u8]); 2] = [(b"./stargz.index.json", b"{}"), (PREFETCH_NAME, LANDMARK)];
    assert_eq!(packed(&layer(&old)).1, made);
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    let alone = pool(1).install(|| packed(&layer(&[])));
    assert_eq!(pool(4).install(|| packed(&layer(&[]))), alone);
}

#[test]
fn a_cut_tar_is_an_error() {
    let tar = layer(&[]);
    assert!(write_estargz(&tar[..2000], 6, Vec::new()).is_err());
    let mut room = [0_u8; 16];
    let failed = write_estargz(&tar[..], 6, &mut room[..]);
    assert!(matches!(failed, Err(EstargzError::Output(_))));
}
