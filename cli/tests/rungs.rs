//! The ways of the sandbox beside each other: the same steps give the same layers on each that this machine can do.
//!
//! Root can try all but `userns-given`; as a user, `cargo xtask test` runs all sandbox tests again.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cases;
mod test_env;

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
RUN touch /srv/moved/in && mkdir /srv/moved/sub && test "$(stat -c '%u:%g %a' /srv/moved/sub)" = "0:50 2755"
WORKDIR /home/builder
USER builder
RUN test "$(id -u):$(id -g)" = 1000:1000 && touch mine && mkdir -p p/q && ln -s mine link && (umask 077 && echo s >private) && mkfifo pipe \
 && test "$(stat -c '%u:%g %a' private)" = "1000:1000 600"
RUN chown 0:0 mine 2>/dev/null && exit 1; chown :50 mine && test "$(stat -c %u:%g mine)" = 1000:50
USER 4000:4001
RUN cp /bin/busybox /tmp/b; test "$(stat -c %u:%g /tmp/b)" = 4000:4001; rm /tmp/b
"#;

#[test]
fn sandbox_rungs_give_the_same_layers() {
    let mut first: Option<(String, String)> = None;
    for rung in rungs() {
        let env = TestEnv::on_rung(&rung);
        env.write("Dockerfile", DOCKERFILE);
        if !env.import_busybox() {
            continue;
        }
        env.kiln(&["build", "-o", "type=docker,dest=out.tar", "."])
            .succeeds();
        let layers = ArchivedImage::read(&env.work().join("out.tar")).layers();
        match &first {
            None => first = Some((rung, layers)),
            Some((other, expected)) => assert_eq!(&layers, expected, "{rung} and {other}"),
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
