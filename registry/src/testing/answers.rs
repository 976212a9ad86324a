//! What the test registry answers: the end points of the distribution specification, and a token service.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_image::Digest;
use serde_json::{Value, json};

use super::http::{Answer, Request, decoded};
use super::{Access, Fault, State};

/// Largest piece that `Fault::OnlyChunks` lets through, in bytes.
const MOST_AT_ONCE: usize = 8 * 1024 * 1024;

/// The answer to a request, faults included.
pub(crate) fn answer(state: &mut State, request: &Request) -> Answer {
    if request.path() == "/token" {
        let busy = state.take_if(|fault| matches!(fault, Fault::BusyTokenService(_)));
        return match busy {
            Some(Fault::BusyTokenService(seconds)) => ordered_error(429, Some(seconds)),
            _ => token(state, request),
        };
    }
    let ordered = state.take_if(|fault| matches!(fault, Fault::Answer { method, .. } if method.is_none_or(|m| m == request.method())));
    if let Some(Fault::Answer {
        status,
        retry_after,
        ..
    }) = ordered
    {
        return ordered_error(status, retry_after);
    }
    let path = request.path().to_owned();
    let Some(rest) = path.strip_prefix("/v2/") else {
        return error(404, "UNSUPPORTED", "no such end point");
    };
    if let Some(challenge) = challenge(state, request, rest) {
        return challenge;
    }
    if rest.is_empty() {
        return plain(200);
    }
    for (part, handler) in [
        (
            "/blobs/uploads/",
            uploads as fn(&mut State, &Request, &str, &str) -> Answer,
        ),
        ("/blobs/", blobs),
        ("/manifests/", manifests),
    ] {
        if let Some((repository, name)) = rest.split_once(part) {
            return handler(state, request, repository, name);
        }
    }
    error(404, "UNSUPPORTED", "no such end point")
}

fn ordered_error(status: u16, retry_after: Option<u64>) -> Answer {
    let mut answer = error(status, "ORDERED", "as ordered");
    answer
        .headers
        .extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    answer
}

fn plain(status: u16) -> Answer {
    Answer {
        status,
        ..Answer::default()
    }
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({ "errors": [{ "code": code, "message": message }] })
        .to_string()
        .into_bytes();
    Answer {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body,
        cut_after: None,
    }
}

/// A 401 if the request may not do what it asks for.
fn challenge(state: &State, request: &Request, rest: &str) -> Option<Answer> {
    let given = request.header("authorization").unwrap_or("");
    let reads = matches!(request.method(), "GET" | "HEAD");
    let repository = ["/blobs/", "/manifests/"]
        .iter()
        .find_map(|part| rest.split_once(part))
        .map(|(repository, _)| repository);
    let header = match &state.access {
        Access::Anonymous => return None,
        Access::Basic { username, password } => {
            if given == basic(username, password) {
                return None;
            }
            "Basic realm=\"test\"".to_owned()
        }
        Access::Bearer { .. } => {
            let action = if reads { "pull" } else { "push" };
            let granted = given
                .strip_prefix("Bearer ")
                .and_then(|token| state.tokens.get(token));
            if granted.is_some_and(|scopes| {
                repository
                    .is_none_or(|repository| scopes.iter().any(|s| allows(s, repository, action)))
            }) {
                return None;
            }
            let scope = repository
                .map(|repository| format!(",scope=\"repository:{repository}:{action}\""))
                .unwrap_or_default();
            format!(
                "Bearer realm=\"http://{}/token\",service=\"test\"{scope}",
                state.host
            )
        }
    };
    let mut answer = error(401, "UNAUTHORIZED", "authentication required");
    answer.headers.push(("www-authenticate", header));
    Some(answer)
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

fn allows(scope: &str, repository: &str, action: &str) -> bool {
    let Some((name, actions)) = scope
        .strip_prefix("repository:")
        .and_then(|scope| scope.rsplit_once(':'))
    else {
        return false;
    };
    name == repository && actions.split(',').any(|granted| granted == action)
}

fn token(state: &mut State, request: &Request) -> Answer {
    let Access::Bearer { user } = &state.access else {
        return error(404, "UNSUPPORTED", "no tokens here");
    };
    let given = request.header("authorization");
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let field = |name: &str| {
        form.split('&')
            .filter_map(|p| p.split_once('='))
            .find(|(k, _)| *k == name)
            .map(|(_, v)| decoded(v))
    };
    let known = match user {
        None => true,
        Some((username, password)) => {
            given == Some(&basic(username, password))
                || field("refresh_token").as_ref() == Some(password)
        }
    };
    if !known {
        return error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let scopes = match field("scope") {
        Some(scopes) => scopes.split(' ').map(str::to_owned).collect(),
        None => request.query("scope"),
    };
    // A refresh token of this service is the password under another name.
    let wants_refresh = request.query("offline_token") == ["true"];
    let refresh = user.as_ref().filter(|_| wants_refresh);
    let refresh = refresh.map(|(_, password)| password.clone());
    state.serial += 1;
    let token = format!("token-{}", state.serial);
    state.tokens.insert(token.clone(), scopes);
    Answer {
        status: 200,
        body: json!({ "token": token, "refresh_token": refresh })
            .to_string()
            .into_bytes(),
        ..Answer::default()
    }
}

fn blobs(state: &mut State, request: &Request, repository: &str, name: &str) -> Answer {
    let held = Digest::from_str(name)
        .ok()
        .filter(|digest| state.holds.contains(&(repository.to_owned(), *digest)));
    let Some(mut body) = held.and_then(|digest| state.blobs.get(&digest).cloned()) else {
        return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    if request.method() == "HEAD" {
        return Answer {
            status: 200,
            body,
            ..Answer::default()
        };
    }
    if let Some(Fault::RedirectBlobs(origin)) = state
        .faults
        .iter()
        .find(|fault| matches!(fault, Fault::RedirectBlobs(_)))
    {
        let location = format!("{origin}{}", request.path());
        return Answer {
            status: 307,
            headers: vec![("location", location)],
            ..Answer::default()
        };
    }
    if state.take(&Fault::CorruptBlob) {
        body[0] ^= 1;
    }
    if state.take(&Fault::LongBlob) {
        body.push(0);
    }
    let mut answer = ranged(request, body, state.faults.contains(&Fault::IgnoreRanges));
    if let Some(Fault::CutBlobAfter(cut)) =
        state.take_if(|fault| matches!(fault, Fault::CutBlobAfter(_)))
    {
        answer.cut_after = Some(cut);
    }
    answer
}

fn ranged(request: &Request, body: Vec<u8>, ignore: bool) -> Answer {
    let start = request.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match start {
        None => Answer {
            status: 200,
            body,
            ..Answer::default()
        },
        Some(_) if ignore => Answer {
            status: 200,
            body,
            ..Answer::default()
        },
        Some(start) if start >= body.len() => error(416, "RANGE_INVALID", "no such range"),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            Answer {
                status: 206,
                headers: vec![("content-range", range)],
                body: body[start..].to_vec(),
                cut_after: None,
            }
        }
    }
}

fn uploads(state: &mut State, request: &Request, repository: &str, id: &str) -> Answer {
    match request.method() {
        "POST" if id.is_empty() => begin(state, request, repository),
        "GET" => match state.uploads.get(id).map(Vec::len) {
            Some(length) => Answer {
                status: 204,
                ..accepted(repository, id, length)
            },
            None => error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown"),
        },
        "DELETE" => match state.uploads.remove(id) {
            Some(_) => plain(204),
            None => error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown"),
        },
        "PATCH" | "PUT"
            if request.body.len() > MOST_AT_ONCE && state.faults.contains(&Fault::OnlyChunks) =>
        {
            error(413, "SIZE_INVALID", "send it in pieces")
        }
        "PATCH" => piece(state, request, repository, id),
        "PUT" => finish(state, request, repository, id),
        _ => error(405, "UNSUPPORTED", "method not allowed"),
    }
}

fn begin(state: &mut State, request: &Request, repository: &str) -> Answer {
    if let ([mount], [from]) = (
        request.query("mount").as_slice(),
        request.query("from").as_slice(),
    ) && let Ok(digest) = Digest::from_str(mount)
        && state.holds.contains(&(from.clone(), digest))
    {
        state.holds.insert((repository.to_owned(), digest));
        return Answer {
            status: 201,
            headers: vec![("location", format!("/v2/{repository}/blobs/{digest}"))],
            ..Answer::default()
        };
    }
    state.serial += 1;
    let id = format!("upload-{}", state.serial);
    state.uploads.insert(id.clone(), Vec::new());
    accepted(repository, &id, 0)
}

/// The place for the next piece: relative to the host, with a query that must be kept; and how much is there.
fn accepted(repository: &str, id: &str, length: usize) -> Answer {
    let location = format!("/v2/{repository}/blobs/uploads/{id}?_state=a%3Db");
    Answer {
        status: 202,
        headers: vec![
            ("location", location),
            ("range", format!("0-{}", length.saturating_sub(1))),
        ],
        ..Answer::default()
    }
}

fn piece(state: &mut State, request: &Request, repository: &str, id: &str) -> Answer {
    if state.take(&Fault::ForgetUpload) {
        state.uploads.remove(id);
    }
    let Some(so_far) = state.uploads.get_mut(id) else {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown");
    };
    let length = request.header("content-length").unwrap_or("");
    let end = so_far.len() + length.parse().unwrap_or(0);
    let range = format!("{}-{}", so_far.len(), end.saturating_sub(1));
    if request.header("content-range") != Some(&range) {
        return error(416, "RANGE_INVALID", "pieces out of order");
    }
    so_far.extend(&request.body);
    let length = so_far.len();
    accepted(repository, id, length)
}

fn finish(state: &mut State, request: &Request, repository: &str, id: &str) -> Answer {
    if request.query("_state") != ["a=b"] {
        return error(
            400,
            "BLOB_UPLOAD_INVALID",
            "the location was not used as given",
        );
    }
    let Some(mut bytes) = state.uploads.remove(id) else {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown");
    };
    bytes.extend(&request.body);
    let digest = Digest::of(&bytes);
    if request.query("digest") != [digest.to_string()] {
        return error(
            400,
            "DIGEST_INVALID",
            "provided digest did not match uploaded content",
        );
    }
    state.blobs.insert(digest, bytes);
    state.holds.insert((repository.to_owned(), digest));
    plain(201)
}

fn manifests(state: &mut State, request: &Request, repository: &str, name: &str) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    if request.method() == "PUT" {
        return put_manifest(state, request, key);
    }
    let Some((media_type, mut body)) = state.manifests.get(&key).cloned() else {
        return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    if !request.header("accept").unwrap_or("").contains(&media_type) {
        return error(404, "MANIFEST_UNKNOWN", "no manifest of an accepted type");
    }
    let shown = if state.take(&Fault::WrongDigestHeader) {
        Digest::of(b"something else")
    } else {
        Digest::of(&body)
    };
    if let Some(Fault::HugeManifest(size)) =
        state.take_if(|fault| matches!(fault, Fault::HugeManifest(_)))
    {
        body = vec![b' '; usize::try_from(size).unwrap_or(0)];
    }
    let headers = vec![
        ("content-type", media_type),
        ("docker-content-digest", shown.to_string()),
    ];
    Answer {
        status: 200,
        headers,
        body,
        cut_after: None,
    }
}

fn put_manifest(
    state: &mut State,
    request: &Request,
    (repository, name): (String, String),
) -> Answer {
    let Some(media_type) = request.header("content-type").map(str::to_owned) else {
        return error(400, "MANIFEST_INVALID", "no content type");
    };
    let Ok(value) = serde_json::from_slice::<Value>(&request.body) else {
        return error(400, "MANIFEST_INVALID", "not JSON");
    };
    let digest = Digest::of(&request.body);
    if name.starts_with("sha256:") && name != digest.to_string() {
        return error(
            400,
            "DIGEST_INVALID",
            "provided digest did not match the manifest",
        );
    }
    if let Some(missing) = missing(state, &repository, &value) {
        return error(
            400,
            "MANIFEST_BLOB_UNKNOWN",
            &format!("blob unknown to registry: {missing}"),
        );
    }
    for name in [name, digest.to_string()] {
        state.manifests.insert(
            (repository.clone(), name),
            (media_type.clone(), request.body.clone()),
        );
    }
    Answer {
        status: 201,
        headers: vec![("docker-content-digest", digest.to_string())],
        ..Answer::default()
    }
}

/// The first thing a manifest names that the repository does not have.
fn missing(state: &State, repository: &str, manifest: &Value) -> Option<String> {
    let list = |name: &str| {
        manifest
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let digest = |entry: &Value| {
        entry
            .get("digest")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let blobs = list("layers")
        .into_iter()
        .chain(manifest.get("config").cloned())
        .map(|entry| digest(&entry));
    let held = |name: &String| {
        Digest::from_str(name).is_ok_and(|d| state.holds.contains(&(repository.to_owned(), d)))
    };
    let children = list("manifests").into_iter().map(|entry| digest(&entry));
    let known = |name: &String| {
        state
            .manifests
            .contains_key(&(repository.to_owned(), name.clone()))
    };
    blobs
        .filter(|name| !held(name))
        .chain(children.filter(|name| !known(name)))
        .next()
}
