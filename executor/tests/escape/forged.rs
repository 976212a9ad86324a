//! Records of owners and devices stand in an attribute of the files. Whoever writes one of their own has the layer say that a file is root's,
//! or the machine's disk.

use crate::yard::{Image, Yard};
use kiln_image::record::XATTR;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;

/// What a forger would like to have: root's, and a disk.
const FORGED: &[u8] = b"0 0 b 8 0";

/// What the layer is made of after the step. In `userns-single` the recorder's own note of the owner is there.
#[track_caller]
fn assert_not_forged(image: &Image<'_>, path: &str) {
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(image.changed(path), XATTR, &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"1000 1000", "{path}"),
        Err(error) => assert_eq!(error, Errno::NODATA, "{path}"),
    }
}

pub(crate) fn sandbox_lets_no_user_forge_a_record(yard: &Yard) {
    let image = yard.image();
    image.put_open("mine");
    let ran = image.probe_with(&["forge"], |spec| {
        spec.user.uid = 1000;
        spec.user.gid = 1000;
    });
    ran.unwrap().prints("");
    for path in ["mine/file", "mine/directory"] {
        assert_not_forged(&image, path);
    }
}

/// Prints what it should not have been able to do, or a refusal that would make programs stop.
pub(crate) fn probe_forge() {
    let (path, link, directory) = ("/mine/file", "/mine/link", "/mine/directory");
    let none = XattrFlags::empty();
    let file = File::create(path).unwrap();
    std::fs::create_dir(directory).unwrap();
    std::os::unix::fs::symlink("file", link).unwrap();
    let is = |what: &str, done: rustix::io::Result<()>, expected: Errno| {
        if done != Err(expected) {
            println!("{what}: {done:?}");
        }
    };
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    for path in [path, link, directory, "mine/../mine/file", &descriptor] {
        for flags in [none, XattrFlags::CREATE, XattrFlags::REPLACE] {
            let set = rustix::fs::setxattr(path, XATTR, FORGED, flags);
            is(&format!("set {path}"), set, Errno::NOTSUP);
        }
    }
    let set = rustix::fs::lsetxattr(path, XATTR, FORGED, none);
    is("lset", set, Errno::NOTSUP);
    is(
        "fset",
        rustix::fs::fsetxattr(&file, XATTR, FORGED, none),
        Errno::NOTSUP,
    );
    // Another's note is not to be taken away either.
    is(
        "remove",
        rustix::fs::removexattr(path, XATTR),
        Errno::NODATA,
    );
    is(
        "lremove",
        rustix::fs::lremovexattr(path, XATTR),
        Errno::NODATA,
    );
    is(
        "fremove",
        rustix::fs::fremovexattr(&file, XATTR),
        Errno::NODATA,
    );
}

/// A program of i386, whose calls have other numbers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sandbox_lets_no_foreign_program_forge_a_record(yard: &Yard) {
    let image = yard.image();
    let program = image.put("forge");
    std::fs::write(&program, i386_forger(b"/mine/file\0")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    image.put_open("mine");
    // It ends with the error number. A kernel without such programs says so: 126.
    let script = "touch /mine/file; /forge 2>/dev/null; echo $?";
    let ran = image.shell_with(script, |spec| {
        spec.user.uid = 1000;
        spec.user.gid = 1000;
    });
    let ran = ran.unwrap();
    let refused = format!("{}\n", Errno::NOTSUP.raw_os_error());
    assert!(
        [&refused, "126\n"].contains(&ran.output.as_str()),
        "{ran:?}"
    );
    assert_not_forged(&image, "mine/file");
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn sandbox_lets_no_foreign_program_forge_a_record(_: &Yard) {}

/// An ELF file whose program makes the one call and ends with what went wrong.
#[cfg(target_arch = "x86_64")]
fn i386_forger(path: &[u8]) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    const CODE: u32 = 37;
    let name = [XATTR.as_bytes(), b"\0"].concat();
    let data = BASE + HEADERS + CODE;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let (name_at, value_at) = (data + length(path), data + length(path) + length(&name));
    let end = HEADERS + CODE + length(path) + length(&name) + length(FORGED);
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    let words = |file: &mut Vec<u8>, words: &[u32]| {
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(
        &mut file,
        &[1, BASE + HEADERS, 52, 0, 0, 32 << 16 | 52, 1, 0],
    ); // e_version … e_shstrndx
    words(&mut file, &[1, 0, BASE, BASE, end, end, 5, 0x1000]); // a segment to be loaded
    let load = |file: &mut Vec<u8>, register: u8, value: u32| {
        file.push(0xb8 + register);
        file.extend(value.to_le_bytes());
    };
    for (register, value) in [(0, 226), (3, data), (1, name_at), (2, value_at)] {
        load(&mut file, register, value);
    }
    load(&mut file, 6, length(FORGED));
    file.extend([0x31, 0xff, 0xcd, 0x80]); // no flags; the call
    file.extend([0xf7, 0xd8, 0x93]); // the error's number is the first argument
    file.extend([0x31, 0xc0, 0x40, 0xcd, 0x80]); // of exit
    assert_eq!(file.len(), usize::try_from(HEADERS + CODE).unwrap());
    for bytes in [path, &name, FORGED] {
        file.extend(bytes);
    }
    file
}

pub(crate) fn sandbox_changes_other_attributes_as_the_kernel_does(yard: &Yard) {
    let image = yard.image();
    let mine = image.put_open("mine");
    for (name, mode) in [("roots", 0o644), ("everyones", 0o666)] {
        std::fs::write(mine.join(name), "").unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(mine.join(name), permissions).unwrap();
    }
    let ran = image.probe_with(&["attributes"], |spec| {
        spec.user.uid = 1000;
        spec.user.gid = 1000;
    });
    ran.unwrap().prints("");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(image.changed("mine/own"), "user.a", &mut value).unwrap();
    assert_eq!(&value[..length], b"two");
}

pub(crate) fn probe_attributes() {
    let (create, replace) = (XattrFlags::CREATE, XattrFlags::REPLACE);
    let none = XattrFlags::empty();
    let is = |what: &str, done: rustix::io::Result<()>, expected: rustix::io::Result<()>| {
        if done != expected {
            println!("{what}: {done:?} and not {expected:?}");
        }
    };
    let set = |path: &str, name: &str, value: &str, flags| {
        rustix::fs::setxattr(path, name, value.as_bytes(), flags)
    };
    let own = "/mine/own";
    let file = File::create(own).unwrap();
    is(
        "replace",
        set(own, "user.a", "one", replace),
        Err(Errno::NODATA),
    );
    is("set", set(own, "user.a", "one", create), Ok(()));
    is(
        "create",
        set(own, "user.a", "two", create),
        Err(Errno::EXIST),
    );
    let changed = rustix::fs::fsetxattr(&file, "user.a", b"two", none);
    is("by descriptor", changed, Ok(()));
    is("set b", set(own, "user.b", "", none), Ok(()));
    is(
        "remove b",
        rustix::fs::fremovexattr(&file, "user.b"),
        Ok(()),
    );
    is(
        "remove b again",
        rustix::fs::removexattr(own, "user.b"),
        Err(Errno::NODATA),
    );
    is(
        "root's",
        set("/mine/roots", "user.a", "x", none),
        Err(Errno::ACCESS),
    );
    is(
        "everyone's",
        set("/mine/everyones", "user.a", "x", none),
        Ok(()),
    );
    is(
        "capability",
        set(own, "security.a", "x", none),
        Err(Errno::PERM),
    );
    is(
        "trusted",
        set(own, "trusted.a", "x", none),
        Err(Errno::PERM),
    );
    is(
        "nowhere",
        set("/mine/nothing", "user.a", "x", none),
        Err(Errno::NOENT),
    );
    is("no name", set(own, "", "x", none), Err(Errno::RANGE));
    is("no class", set(own, "a", "x", none), Err(Errno::NOTSUP));
    std::os::unix::fs::symlink("own", "/mine/link").unwrap();
    let changed = rustix::fs::lsetxattr("/mine/link", "user.a", b"x", none);
    is("a link", changed, Err(Errno::PERM));
    let mut names = [0; 256];
    let length = rustix::fs::flistxattr(&file, &mut names).unwrap_or(0);
    let listed = &names[..length];
    if listed != b"user.a\0" {
        println!("listed: {}", String::from_utf8_lossy(listed));
    }
}
