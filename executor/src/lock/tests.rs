#![allow(clippy::unwrap_used)]

use super::held::Say;
use super::*;
use crate::source::git::Resolved;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn filled() -> Lock {
    let platforms = [("linux/amd64".to_owned(), digest("amd64"))].into();
    let image = LockedImage::Registry {
        digest: digest("index"),
        platforms,
    };
    let made_here = LockedImage::Store { id: digest("id") };
    let commit = LockedCommit {
        commit: "c".repeat(40),
        tag: Some("t".repeat(40)),
        reference: "refs/tags/v1".to_owned(),
    };
    Lock {
        images: [
            ("docker.io/library/a:1".to_owned(), image),
            ("docker.io/library/b:latest".to_owned(), made_here),
        ]
        .into(),
        downloads: [("https://h/f".to_owned(), digest("f"))].into(),
        repositories: [("https://h/r.git#v1".to_owned(), commit)].into(),
    }
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let text = filled().to_json();
    assert_eq!(Lock::from_json(text.as_bytes()).unwrap(), filled());
    assert!(text.starts_with("{\n  \"version\": 1,\n  \"images\": {\n"));
    let newer = Lock::from_json(br#"{"version": 2, "flavours": []}"#);
    assert!(newer.unwrap_err().to_string().contains("version 2"));
    for bad in [
        "",
        "[]",
        r#"{"version": 1, "pictures": {}}"#,
        r#"{"version": 1, "downloads": {"a": "b"}}"#,
    ] {
        assert!(Lock::from_json(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn differences_are_named() {
    let mut now = filled();
    assert!(filled().differences(&now).is_empty());
    now.downloads
        .insert("https://h/f".to_owned(), digest("other"));
    now.downloads
        .insert("https://h/g".to_owned(), digest("new"));
    now.images.remove("docker.io/library/b:latest");
    assert_eq!(
        filled().differences(&now),
        [
            "`docker.io/library/b:latest` is locked and not used",
            "`https://h/f` stands for something else",
            "`https://h/g` is not locked"
        ]
    );
}

#[test]
fn a_run_that_is_held_takes_only_what_is_locked() {
    let hold = Hold::default();
    let known: Reference = "a:1".parse().unwrap();
    let other: Reference = "a:2".parse().unwrap();
    assert_eq!(hold.image(&other).unwrap(), Say::Ask);
    hold.to(filled());
    let Say::Is(image) = hold.image(&known).unwrap() else {
        panic!("it is locked");
    };
    let amd64 = Platform::new("linux", "amd64", None);
    let arm = Platform::new("linux", "arm64", None);
    assert_eq!(image.digest_for(&amd64), Some(digest("amd64")));
    assert_eq!(image.digest_for(&arm), Some(digest("index")));
    let error = hold.image(&other).unwrap_err().to_string();
    assert!(error.contains("docker.io/library/a:2"), "{error}");
    let by_digest = other.with_digest(digest("x"));
    assert_eq!(hold.image(&by_digest).unwrap(), Say::Ask);
}

#[test]
fn a_tag_of_a_repository_is_kept_with_its_commit() {
    let resolved = Resolved {
        object: "t".repeat(40),
        peeled: Some("c".repeat(40)),
        reference: "refs/tags/v1".to_owned(),
    };
    let commit = LockedCommit::of(&resolved);
    assert_eq!(commit, filled().repositories["https://h/r.git#v1"]);
    assert_eq!(commit.resolved(), resolved);
}
