//! `type=s3` of `--cache-to` and `--cache-from`, with a server that checks signatures. Clauses R-CEXP-1, R-CEXP-5 to R-CEXP-7.

#![allow(clippy::unwrap_used)]

mod test_env;

use kiln_registry::testing::{BUCKET, KEY_ID, REGION, Reply, SECRET, TestBucket, failure};
use test_env::Outcome;
use test_env::runner::{build, built, cached, runner};

fn place(server: &TestBucket) -> String {
    format!(
        "type=s3,bucket={BUCKET},region={REGION},endpoint_url={},use_path_style=true,prefix=ci/,name=main;tip,access_key_id={KEY_ID},secret_access_key={SECRET}",
        server.endpoint()
    )
}

fn filled() -> TestBucket {
    let server = TestBucket::start();
    let to = format!("{},mode=max", place(&server));
    let outcome = build(&runner(), &["--cache-to", &to]);
    let told = " 3 of 3 layers sent";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    server
}

fn rebuilt(server: &TestBucket) -> Outcome {
    build(&runner(), &["--cache-from", &place(server)])
}

#[test]
fn another_machine_finds_every_step() {
    let server = filled();
    let keys = server.keys();
    let names: Vec<&str> = keys
        .iter()
        .map(String::as_str)
        .filter(|key| key.contains("manifests"))
        .collect();
    assert_eq!(names, ["ci/manifests/main", "ci/manifests/tip"]);
    assert!(
        keys.iter()
            .filter(|key| key.starts_with("ci/blobs/sha256:"))
            .count()
            == 5
    );
    let outcome = rebuilt(&server);
    assert_eq!(cached(&outcome), 3, "{}", outcome.stderr);
    let told = "importing cache manifest from s3://cache/ci/manifests/main";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    assert_eq!(server.refused(), Vec::<String>::new());
}

#[test]
fn what_is_there_is_neither_sent_nor_fetched_but_made_new_when_it_is_old() {
    let server = filled();
    for key in server.keys() {
        server.put(&key, &server.object(&key).unwrap()); // written long ago
    }
    server.lines();
    let (from, to) = (place(&server), format!("{},mode=max", place(&server)));
    let outcome = build(&runner(), &["--cache-from", &from, "--cache-to", &to]);
    let told = " 0 of 3 layers sent";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    let gets = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("GET /cache/ci/blobs/"))
        .count();
    assert_eq!(gets, 4, "index, preimages and the image's two layers");
    assert!(server.keys().iter().all(|key| server.is_new(key)));
}

#[test]
fn the_key_may_be_in_the_environment_or_a_profile() {
    let server = filled();
    let from = format!(
        "type=s3,bucket={BUCKET},endpoint_url={},use_path_style=true,prefix=ci/,name=main",
        server.endpoint()
    );
    let env = runner();
    env.write(
        "credentials",
        &format!("[ci]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"),
    );
    env.write("config", &format!("[profile ci]\nregion = {REGION}\n"));
    let file = |name: &str| env.work().join(name).display().to_string();
    let outcome = env
        .command(&["build", "--progress=plain", "--cache-from", &from, "."])
        .env("AWS_PROFILE", "ci")
        .env("AWS_CONFIG_FILE", file("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", file("credentials"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(stderr.matches(" CACHED\n").count(), 3, "{stderr}");
    let outcome = runner()
        .command(&["build", "--progress=plain", "--cache-from", &from, "."])
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(stderr.matches(" CACHED\n").count(), 3, "{stderr}");
}

#[test]
fn a_damaged_or_missing_layer_is_a_miss() {
    let server = filled();
    let blobs: Vec<String> = server
        .keys()
        .into_iter()
        .filter(|key| key.contains("blobs"))
        .collect();
    let is_layer = |key: &&String| server.object(key).unwrap().starts_with(&[0x1f, 0x8b]);
    let layers: Vec<&String> = blobs.iter().filter(is_layer).collect();
    server.remove(layers[0]);
    for key in &layers[1..] {
        let mut bytes = server.object(key).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        server.put(key, &bytes);
    }
    let env = runner();
    let outcome = build(&env, &["--cache-from", &place(&server), "-o", "out"]);
    assert!(!outcome.stderr.contains("ERROR"), "{}", outcome.stderr);
    let told = "a miss, for the cache has lost it: could not read `ci/blobs/";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    let app = std::fs::read_to_string(env.work().join("out/app"));
    assert_eq!(app.unwrap(), "an app");
}

#[test]
fn a_server_in_trouble_is_a_warning_for_who_reads_and_an_error_for_who_writes() {
    // R-CEXP-7
    let elsewhere = Reply::status(301).header("x-amz-bucket-region", "eu-west-9");
    let answers = [
        ("AccessDenied", failure(403, "AccessDenied", "no")),
        ("answered 400", failure(400, "Broken", "")),
        ("region `eu-west-9`", elsewhere),
    ];
    for (said, answer) in answers {
        let server = TestBucket::start();
        server.fail(move |_| Some(answer.clone()));
        let outcome = rebuilt(&server);
        assert_eq!(cached(&outcome), 0);
        let warning = "warning: going on without this cache: could not read `ci/manifests/main` in bucket `cache`";
        assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        let failed = built(&runner(), &["--cache-to", &place(&server)]);
        assert_eq!(failed.code, 4, "{}", failed.stderr);
        assert!(failed.stderr.contains(said), "{}", failed.stderr);
        let to = format!("{},ignore-error=true", place(&server));
        build(&runner(), &["--cache-to", &to]);
    }
}

#[test]
fn a_cache_of_buildkits_and_nonsense_are_done_without() {
    let server = TestBucket::start();
    for (content, said) in [
        ("{\"layers\":[],\"records\":[]}", "a cache of BuildKit's"),
        ("nonsense", "warning: going on without this cache"),
        ("{\"config\":5}", "warning: going on without this cache"),
    ] {
        server.put("ci/manifests/main", content.as_bytes());
        let outcome = rebuilt(&server);
        assert!(
            outcome.stderr.contains(said),
            "{content}: {}",
            outcome.stderr
        );
    }
    server.remove("ci/manifests/main");
    let outcome = rebuilt(&server);
    assert!(
        outcome.stderr.contains("there is no cache there yet"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn secrets_are_nowhere_to_be_read() {
    let server = filled();
    let env = runner();
    let secret = "TOPSECRETTOPSECRET";
    let from = place(&server).replace(SECRET, secret);
    let to = format!("{from},session_token={secret}");
    let failed = built(&env, &["--cache-from", &from, "--cache-to", &to]);
    let wrong = built(&env, &["--cache-to", &format!("{to},colour=red")]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    let json = env.kiln(&["build", "--progress=rawjson", "--cache-to", &to, "."]);
    for outcome in [failed, wrong, json] {
        assert!(!outcome.stderr.contains(secret), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("X-Amz-"), "{}", outcome.stderr);
    }
    let found = std::process::Command::new("grep")
        .args(["-rlaF", "-e", secret, "-e", "X-Amz-Signature"])
        .arg(env.root())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
