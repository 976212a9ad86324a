//! Many processes on one store, some of them killed: nothing is done twice, nothing that was finished is lost, and no result is
//! another's. `KILN_TEST_KILLS` says how often something is killed.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_env::{Outcome, TestEnv};

/// The longest that a victim lives, in microseconds: about as long as a build takes.
const LONGEST: u64 = 120_000;

/// The same numbers in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn kills(default: u64) -> u64 {
    let asked = std::env::var("KILN_TEST_KILLS");
    asked.map_or(default, |text| text.parse().unwrap())
}

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Kills a process at some moment of its life.
fn kill(mut victim: Child, numbers: &mut Numbers) {
    std::thread::sleep(Duration::from_micros(numbers.below(LONGEST)));
    let _ = victim.kill();
    victim.wait().unwrap();
}

/// A folder with two stages, whose files say which version they are of.
fn write_version(env: &TestEnv, folder: &str, dockerfile: &str, version: u64) {
    env.write(&format!("{folder}/Dockerfile"), dockerfile);
    env.write(
        &format!("{folder}/one"),
        &format!("one {version}\n").repeat(200),
    );
    env.write(&format!("{folder}/two"), &format!("two {}\n", version / 2));
    env.write(&format!("{folder}/same"), "the same in all");
}

/// What must hold whenever everybody has been killed.
fn check(env: &TestEnv, saved: &[u8], round: u64) {
    env.kiln(&["save", "-o", "again.tar", "finished"])
        .succeeds();
    let again = std::fs::read(env.work().join("again.tar")).unwrap();
    assert!(
        again == saved,
        "round {round}: the finished image is another"
    );
    env.kiln(&["cache", "du"]).succeeds();
}

fn check_output(env: &TestEnv, out: &str, names: &[&str]) {
    for name in names {
        let built = std::fs::read_to_string(env.work().join(out).join(name)).unwrap();
        let given = std::fs::read_to_string(env.work().join("alive").join(name)).unwrap();
        assert_eq!(built, given, "`{name}` is of another version");
    }
}

/// Rounds of a victim that is killed beside a build that is not. Now and then the victim collects.
fn rounds(env: &TestEnv, dockerfile: &str, kills: u64) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    write_version(env, "finished", dockerfile, 0);
    env.kiln(&["build", "-t", "finished", "finished"])
        .succeeds();
    env.kiln(&["save", "-o", "saved.tar", "finished"])
        .succeeds();
    let saved = std::fs::read(env.work().join("saved.tar")).unwrap();
    for round in 0..kills {
        write_version(env, "victim", dockerfile, numbers.below(6));
        write_version(env, "alive", dockerfile, numbers.below(6));
        let victim: &[&str] = match numbers.below(5) {
            0 => &["cache", "gc", "--max-used", "0"],
            1 => &["prune", "--all"],
            2 => &["build", "-t", "other", "finished"],
            _ => &["build", "-t", "victim", "victim"],
        };
        let victim = started(&mut env.command(victim));
        let alone = numbers.below(3) == 0;
        let alive = (!alone).then(|| started(&mut env.command(&["build", "-o", "out", "alive"])));
        kill(victim, &mut numbers);
        if let Some(alive) = alive {
            ended(alive).succeeds();
            check_output(env, "out", &["one", "two", "same"]);
            std::fs::remove_dir_all(env.work().join("out")).unwrap();
        }
        if round % 8 == 0 {
            check(env, &saved, round);
        }
    }
    check(env, &saved, kills);
    let left = std::fs::read_dir(env.root().join("tmp")).unwrap().count();
    assert!(left <= 1, "{left} directories of the dead are left");
}

#[test]
fn kills_at_any_moment_leave_a_good_store() {
    let dockerfile = "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY same /\nCOPY --from=a /one /\nWORKDIR /w\nCOPY two /\n";
    rounds(&TestEnv::new(), dockerfile, kills(40));
}

#[test]
fn sandbox_kills_at_any_moment_of_a_run_leave_a_good_store() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let dockerfile = "FROM busybox AS a\nCOPY one /in\nRUN cat /in > /one\nFROM busybox\nCOPY same /\nCOPY --from=a /one /\nCOPY two /in\nRUN cat /in > /two\n";
    rounds(&env, dockerfile, kills(60));
}

#[test]
fn sandbox_equal_steps_of_several_processes_run_once() {
    // R-CACHE-20
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let shared = "FROM busybox\nRUN --mount=type=cache,target=/c echo ran >> /c/log; cp /c/log /log; sleep 0.3\n";
    let names = ["p", "q", "r", "s"];
    for name in names {
        let own = format!("{shared}RUN echo {name} > /own\n");
        env.write(&format!("{name}/Dockerfile"), &own);
    }
    let build = |name: &&str| {
        let out = format!("type=local,dest=out-{name}");
        started(&mut env.command(&["build", "--progress=plain", "-o", &out, name]))
    };
    let running: Vec<Child> = names.iter().map(build).collect();
    let outcomes: Vec<Outcome> = running
        .into_iter()
        .map(|child| ended(child).succeeds())
        .collect();
    let cached = outcomes
        .iter()
        .filter(|outcome| outcome.stderr.contains(" CACHED\n"));
    assert_eq!(cached.count(), names.len() - 1);
    for name in names {
        let out = env.work().join(format!("out-{name}"));
        assert_eq!(std::fs::read_to_string(out.join("log")).unwrap(), "ran\n");
        assert_eq!(
            std::fs::read_to_string(out.join("own")).unwrap(),
            format!("{name}\n")
        );
    }
}

/// A stage with a step that goes on when whoever listens at `port` hangs up.
fn stage_that_waits(name: &str, port: u16) -> String {
    format!("FROM busybox AS {name}\nRUN echo {name} > /own; nc 127.0.0.1 {port} < /dev/null\n")
}

#[test]
fn sandbox_builds_with_each_other_s_steps_in_another_order_both_end() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let builds = [("p", "q"), ("q", "p")].map(|(first, second)| {
        let stages = [first, second].map(|name| stage_that_waits(name, port));
        let last = format!("FROM {first}\nCOPY --from={second} /own /other\n");
        env.write(&format!("{first}/Dockerfile"), &(stages.concat() + &last));
        started(&mut env.command(&["build", "--progress=plain", "-j", "1", first]))
    });
    // Each runs its first step, which is the other's second.
    let both = [listener.accept().unwrap(), listener.accept().unwrap()];
    drop((both, listener));
    for build in builds {
        let outcome = ended(build).succeeds();
        assert!(outcome.stderr.contains(" CACHED\n"), "{}", outcome.stderr);
    }
}

#[test]
fn sandbox_what_has_ended_is_there_for_others_while_another_step_runs() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let quick = "FROM busybox AS quick\nRUN echo quick > /own\n";
    let last = "FROM long\nCOPY --from=quick /own /other\n";
    let text = [quick, &stage_that_waits("long", port), last].concat();
    env.write("Dockerfile", &text);
    let whole = started(&mut env.command(&["build", "-j", "2", "."]));
    let long = listener.accept().unwrap();
    env.kiln(&["build", "--target", "quick", "."]).succeeds();
    drop(long);
    ended(whole).succeeds();
}

#[test]
fn collections_take_nothing_of_builds_beside_them() {
    let env = TestEnv::new();
    let dockerfile = "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY same /\nCOPY --from=a /one /\nWORKDIR /w\nCOPY two /\n";
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                env.kiln(&["prune", "--all"]).succeeds();
            }
        });
        let builders = ["x", "y"].map(|name| {
            let env = &env;
            scope.spawn(move || {
                for version in 0..12 {
                    write_version(env, name, dockerfile, version);
                    env.kiln(&["build", "-q", "-t", name, name]).succeeds();
                    let tar = format!("{name}.tar");
                    env.kiln(&["save", "-o", &tar, name]).succeeds();
                }
            })
        });
        let results = builders.map(std::thread::ScopedJoinHandle::join);
        ended.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
}
