//! The ways of the sandbox beside each other: the same steps give the same layers on each that this machine can do.
//!
//! Root can try all but `userns-given`. `cargo xtask test` runs this again as a user, who compares `userns-range` and `userns-single`,
//! and as root of a namespace, who compares `userns-given` with both: what all have in common is compared with each.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cases;
mod test_env;

use std::fs;
use std::path::Path;
use std::process::Command;

use cases::archive::ArchivedImage;
use test_env::TestEnv;

/// Owners, modes, links, removals: what the ways keep differently. Each step also looks at what it did, as programs do.
const DOCKERFILE: &str = r#"FROM busybox
RUN chmod 1777 /tmp && mkdir -p /home/builder/d /srv/shared /var/old/deep && echo a >/home/builder/f && echo b >/var/old/deep/f && echo c >/var/old/g \
 && chown -R builder:staff /home/builder && chown 7:50 /srv/shared && chmod 2775 /srv/shared \
 && ln -s f /home/builder/l && chown -h 1000:50 /home/builder/l
# A setuid bit goes with a change of owner and is set again after it; the group's stays.
RUN cp /bin/busybox /setuid && chmod 6755 /setuid && chown 33:50 /setuid && test "$(stat -c %a /setuid)" = 755 && chmod 6755 /setuid \
 && test "$(stat -c '%u:%g %a' /setuid)" = "33:50 6755"
RUN echo x >/one && ln /one /two && chown 5:6 /two && test "$(stat -c '%u:%g %h' /one)" = "5:6 2" && mkfifo /fifo && chown 8:9 /fifo
# A removal, a directory made anew, one renamed.
RUN rm /home/builder/f && rm -rf /var/old/deep && mkdir /var/old/deep && touch /var/old/deep/new && mv /srv/shared /srv/moved
# A lower file that another user's becomes the upper one's, still with its owner.
RUN echo more >>/home/builder/l; chmod 700 /home/builder/d; test "$(stat -c %u:%g /home/builder/d)" = 1000:50
# What can have no attribute keeps its owner under other names, and leaves it to nobody.
RUN mv /home/builder/l /l && touch -h /l && test "$(stat -c %u:%g /l)" = 1000:50 && mv /fifo /pipe && chmod 640 /pipe && test "$(stat -c %u:%g /pipe)" = 8:9
RUN ln /l /l-too && ln /pipe /pipe-too && test "$(stat -c %u:%g /l-too /pipe-too | tr "\\n" " ")" = "1000:50 8:9 "
RUN for n in 1 2 3 4; do ln -s t /l$n && chown -h 7:8 /l$n; done && rm /l? && touch /n1 && mkdir /n2 && ln -s t /n3 && mkfifo /n4
RUN touch /srv/moved/in && mkdir /srv/moved/sub && test "$(stat -c '%u:%g %a' /srv/moved/sub)" = "0:50 2755"
WORKDIR /home/builder
USER builder
RUN test "$(id -u):$(id -g)" = 1000:1000 && touch mine && mkdir -p p/q && ln -s mine link && (umask 077 && echo s >private) && mkfifo pipe \
 && ln -s made to && echo x >to && ln -s to through && rm made && echo x >>through && test "$(stat -c %u:%g made)" = 1000:1000 \
 && test "$(stat -c '%u:%g %a' private)" = "1000:1000 600"
RUN chown 0:0 mine 2>/dev/null && exit 1; chown :50 mine && test "$(stat -c %u:%g mine)" = 1000:50
USER 0
RUN mkdir /srv/open && chown 0:50 /srv/open && chmod 2777 /srv/open
USER 4000:4001
# A bit for a group that the user isn't in goes without a word.
RUN cd /srv/open && touch theirs && chmod 2755 theirs && test "$(stat -c '%u:%g %a' theirs)" = "4000:50 755" \
 && chown :4001 theirs && chmod 2755 theirs && test "$(stat -c '%u:%g %a' theirs)" = "4000:4001 2755"
RUN cp /bin/busybox /tmp/b; test "$(stat -c %u:%g /tmp/b)" = 4000:4001; rm /tmp/b
"#;

/// The same to the last byte, as all times are set: devices, capabilities and other attributes, setuid bits, owners, names of one file.
const PINNED: &str = r#"FROM busybox AS base
COPY base/ /
ADD attributes.tar /a/
# What a layer below brings is changed, and keeps its attributes. A change of owner takes the capability away.
RUN chmod 700 /a/noted && chown 5:6 /a/able && chmod 4755 /a/both && touch -hd @1700000000 /a/noted /a/able /a/both /a /
RUN mkdir /d /h && chown builder:staff /h && chmod 2755 /h && cd /d && mknod -m 600 null c 1 3 && mknod disk b 259 70000 && chown 0:6 disk && mkfifo p && chown 7:7 p && ln -s p l && chown -h 8:8 l  && touch -hd @1700000000 null disk p l /d /h /
# Devices are renamed, given away and taken away.
RUN cd /d && mv null zero && chown 33:33 disk && chmod 640 disk && rm p && mknod p b 7 0 && touch -hd @1700000000 zero disk p /d
RUN cp /bin/busybox /s && chown 1000:50 /s && chmod 6711 /s && echo x >/one && ln /one /two && ln /one /d/three && chown 1000:1000 /two  && touch -hd @1700000000 /s /one /d /
RUN setcap cap_net_raw+ep /s; setcap cap_chown=p /one; touch -hd @1700000000 /s /one /
USER builder
RUN cd /h && mkdir -m 2770 m && echo own >m/f && chmod 4755 m/f && ln -s f m/l && touch -hd @1700000000 m/f m/l m /h
FROM base
USER root
COPY --from=base /d /copied/
COPY --from=base /a /copied/
# What a mount shows of a stage has its owners, links too.
RUN --mount=from=base,source=/h,target=/d test "$(stat -c %u:%g /d/m/l)" = 1000:50 && cp -a /d/m/l /l && touch -hd @1700000000 /l /
RUN chown 9:9 /copied/zero /copied/noted && touch -hd @1700000000 /copied/zero /copied/noted
"#;

#[test]
fn sandbox_rungs_give_the_same_layers() {
    same_on_all(DOCKERFILE, |image| vec![image.layers()]);
}

#[test]
fn sandbox_rungs_give_the_same_digests() {
    same_on_all(PINNED, |image| {
        let mut told = image.run_digests();
        told.push(image.layers()); // tells what differs
        told
    });
}

/// Builds on each rung that there is, and compares what is told of the images.
fn same_on_all(dockerfile: &str, told: impl Fn(&ArchivedImage) -> Vec<String>) {
    let mut first: Option<(String, Vec<String>)> = None;
    for rung in rungs() {
        let env = TestEnv::on_rung(&rung);
        env.write("Dockerfile", dockerfile);
        put_base(&env);
        if !env.import_busybox() {
            continue;
        }
        env.kiln(&["build", "-o", "type=docker,dest=out.tar", "."])
            .succeeds();
        let told = told(&ArchivedImage::read(&env.work().join("out.tar")));
        match &first {
            None => first = Some((rung, told)),
            Some((other, expected)) => assert_eq!(&told, expected, "{rung} and {other}"),
        }
    }
}

/// Steps that leave owners, links and directories of their own.
const DATED: &str = "FROM busybox\nWORKDIR /srv/x\nCOPY file /srv/\nRUN echo a > /made && mkdir -p -m 777 /d/e && chown 5:6 /made && ln -s made /l\nUSER 1000:1000\nRUN id -u > /d/e/id\n";

#[test]
fn sandbox_rungs_give_the_same_reproducible_image() {
    use std::os::unix::fs::PermissionsExt;
    // R-SDE-2, R-SDE-3
    let mut first: Option<(String, TestEnv)> = None;
    for (number, rung) in rungs().into_iter().enumerate() {
        let env = TestEnv::on_rung(&rung);
        env.write("app/Dockerfile", DATED);
        env.write("app/file", "content");
        // As another umask would have it.
        let file = env.work().join("app/file");
        let mode = [0o644, 0o600][number % 2];
        fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
        // An image that is imported has the date of that.
        match &first {
            None if !env.import_busybox() => return,
            None => drop(env.kiln(&["save", "-o", "base.tar", "busybox"]).succeeds()),
            Some((_, other)) => {
                let base = other.work().join("base.tar");
                env.kiln(&["load", "-i", base.to_str().unwrap()]).succeeds();
            }
        }
        let args = ["build", "--reproducible", "-o=type=oci,dest=out.tar", "app"];
        env.kiln(&args).succeeds();
        let Some((other, expected)) = &first else {
            first = Some((rung, env));
            continue;
        };
        let read = |env: &TestEnv| fs::read(env.work().join("out.tar")).unwrap();
        assert!(read(&env) == read(expected), "{rung} and {other}");
    }
}

/// Kiln says where those that wait for a step are woken; whatever it said, a step may use what kiln may, and comes before nobody.
#[test]
fn sandbox_rungs_leave_steps_the_processors_and_the_priority_that_kiln_has() {
    let processors = Command::new("nproc").output().unwrap();
    let processors = String::from_utf8(processors.stdout).unwrap();
    let argument = format!("PROCESSORS={}", processors.trim());
    let step = |number| {
        format!(
            "RUN : {number}; test $(nproc) = $PROCESSORS && test $(cut -d \" \" -f 19 /proc/self/stat) = $NICE\n"
        )
    };
    let steps: String = (1..6).map(step).collect();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let nice = format!("NICE={}", after_name.split(' ').nth(16).unwrap());
    for rung in rungs() {
        let env = TestEnv::on_rung(&rung);
        let dockerfile = format!("FROM busybox\nARG PROCESSORS NICE\n{steps}");
        env.write("Dockerfile", &dockerfile);
        if env.import_busybox() {
            let arguments = ["--build-arg", &argument, "--build-arg", &nice];
            let args = [&["build"], &arguments[..], &["."]].concat();
            env.kiln(&args).succeeds();
        }
    }
}

#[test]
fn a_sandbox_that_is_none_or_impossible_is_told() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\n")]);
    let outcome = env.kiln(&["build", "--sandbox", "docker", "."]);
    outcome.fails_with(
        2,
        "error: `docker` is no sandbox; there are root, userns-range, userns-given, userns-single and chroot",
    );
}

/// What [`PINNED`] starts from: mount points, so that none has to be made, and `setcap` if this machine has it.
fn put_base(env: &TestEnv) {
    fs::write(env.work().join("attributes.tar"), attributes()).unwrap();
    for name in [
        "dev/.keep",
        "proc/.keep",
        "sys/.keep",
        "etc/hosts",
        "etc/resolv.conf",
    ] {
        env.write(&format!("base/{name}"), "");
    }
    let setcap = ["/usr/sbin/setcap", "/sbin/setcap"].map(Path::new);
    let setcap = setcap.into_iter().find(|path| path.exists());
    let Some(setcap) = setcap else {
        eprintln!(
            "no setcap here (package libcap2-bin): only capabilities that a layer brings are compared"
        );
        return env.write("base/bin/setcap", "#!/bin/sh\n");
    };
    let libraries = Command::new("ldd").arg(setcap).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let paths = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in paths {
        copy(Path::new(path), &env.work().join(format!("base{path}")));
    }
    copy(setcap, &env.work().join("base/bin/setcap"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

/// Files with attributes, as a tar: `cap_net_raw` is permitted and effective (`vfs_cap_data` of `linux/capability.h`).
fn attributes() -> Vec<u8> {
    let capability: &[u8] = &[
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    type Records<'a> = &'a [(&'a str, &'a [u8])];
    let files: [(&str, Records<'_>); 3] = [
        ("noted", &[("SCHILY.xattr.user.note", b"a note")]),
        ("able", &[("SCHILY.xattr.security.capability", capability)]),
        (
            "both",
            &[
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.user.note", b"another"),
            ],
        ),
    ];
    let mut tar = tar::Builder::new(Vec::new());
    for (name, records) in files {
        tar.append_pax_extensions(records.iter().copied()).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

/// The names of those that work here.
fn rungs() -> Vec<String> {
    let outcome = TestEnv::new().kiln(&["doctor", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let rungs = found["rungs"].as_array().unwrap().iter();
    let works = rungs.filter(|rung| rung["works"] == true);
    let names: Vec<String> = works
        .map(|rung| rung["name"].as_str().unwrap().to_owned())
        .collect();
    eprintln!("sandboxes: {}", names.join(", "));
    names
}
