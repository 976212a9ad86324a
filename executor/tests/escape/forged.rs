//! Records of owners and devices stand in an attribute of the files. Whoever writes one of their own has the layer say that a file is root's,
//! or the machine's disk.

#[cfg(target_arch = "x86_64")]
use crate::i386::{self, Data};
use crate::yard::{Image, Yard};
use kiln_image::record::XATTR;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd as _;
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

/// `setxattr` on i386.
#[cfg(target_arch = "x86_64")]
const SET_ATTRIBUTE: u32 = 226;

/// A program of i386, whose calls have other numbers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sandbox_lets_no_foreign_program_forge_a_record(yard: &Yard) {
    let image = yard.image();
    let program = image.put("forge");
    let name = [XATTR.as_bytes(), b"\0"].concat();
    let data = Data(&[b"/mine/file\0", &name, FORGED]);
    let length = u32::try_from(FORGED.len()).unwrap();
    let arguments = [data.at(0), data.at(1), data.at(2), length, 0];
    std::fs::write(&program, i386::program(SET_ATTRIBUTE, arguments, &data)).unwrap();
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
    for user in [0, 1000] {
        let ran = image.probe_with(&["named-attributes"], |spec| {
            spec.user.uid = user;
            spec.user.gid = user;
        });
        ran.unwrap().prints("");
    }
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(image.changed("mine/own"), "user.a", &mut value).unwrap();
    assert_eq!(&value[..length], b"two");
}

/// What is open has its attributes by its name in `/proc`, too: so do systemd's programs ask for them.
pub(crate) fn probe_named_attributes() {
    let path = format!("/mine/named-{}", rustix::process::getuid().as_raw());
    let file = File::create(path).unwrap();
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut value = [0; 8];
    let told = [
        rustix::fs::getxattr(&name, "user.a", &mut value),
        rustix::fs::setxattr(&name, "user.a", b"one", XattrFlags::CREATE).map(|()| 0),
        rustix::fs::getxattr(&name, "user.a", &mut value),
        rustix::fs::getxattr(&name, "user.a", &mut [0; 2]),
        rustix::fs::removexattr(&name, "user.a").map(|()| 0),
        rustix::fs::removexattr(&name, "user.a").map(|()| 0),
    ];
    let missing = Err(Errno::NODATA);
    let expected = [missing, Ok(0), Ok(3), Err(Errno::RANGE), Ok(0), missing];
    if told != expected || &value[..3] != b"one" {
        println!("{told:?} {value:?}");
    }
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
