//! A registry for tests: in this process, on a loopback port, strict about the specification, with faults to order.
//!
//! It refuses what a lenient registry lets pass, so that mistakes show here first: blobs whose bytes don't have the digest they
//! are put under, manifests that name blobs which aren't there, upload pieces out of order, tokens for another repository.
//!
//! ```no_run
//! use kiln_registry::testing::{Fault, TestRegistry};
//!
//! let registry = TestRegistry::start();
//! let digest = registry.put_blob("app", b"bytes");
//! registry.order(Fault::CutBlobAfter(2));
//! // a client that pulls `digest` from `registry.host()` now has to ask twice
//! ```

mod answers;
mod bucket;
mod http;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use kiln_image::Digest;

pub use bucket::{BUCKET, KEY_ID, REGION, SECRET, TestBucket, failure};
pub use server::{Asked, Reply, TestServer};

/// A running registry. It stops when dropped.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody everything.
    Anonymous,
    /// Only this user, by *Basic*.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// By a *Bearer* token for the repository and action, from the registry's own token service, which gives tokens to this
    /// user, or to anybody.
    Bearer {
        /// User name and password, if the token service asks for them.
        user: Option<(String, String)>,
    },
}

/// Something that goes wrong, once, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The next request of this method (any, if `None`) is answered with a status, and `Retry-After` in seconds if given.
    Answer {
        /// The method, as in `"GET"`.
        method: Option<&'static str>,
        /// The status.
        status: u16,
        /// Value of `Retry-After`.
        retry_after: Option<u64>,
    },
    /// The next request for a token is answered with 429, and `Retry-After` in seconds.
    BusyTokenService(u64),
    /// The next blob's answer ends after so many bytes of its body, without notice.
    CutBlobAfter(u64),
    /// The next blob comes with its first byte changed.
    CorruptBlob,
    /// The next blob has one byte more than it should, the length header included.
    LongBlob,
    /// The next manifest comes with the digest of something else in its header.
    WrongDigestHeader,
    /// The next manifest is this many bytes long.
    HugeManifest(u64),
    /// The next upload's connection is closed when all of it has come.
    CutUpload,
    /// The next PATCH's connection is closed after so many bytes of its body, which the registry keeps.
    CutPatchAfter(usize),
    /// The next upload is forgotten when its first PATCH has come.
    ForgetUpload,
    /// From now on, ranges are ignored and whole blobs are sent.
    IgnoreRanges,
    /// From now on, no piece may be larger than 8 MiB.
    OnlyChunks,
    /// From now on, blobs are to be had at the same path below this origin (`http://host:port`).
    RedirectBlobs(String),
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Method, a space, and path with query.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) access: Access,
    pub(crate) host: String,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Which repository may show which blob.
    pub(crate) holds: BTreeSet<(String, Digest)>,
    /// By repository and tag or digest: media type and bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    pub(crate) tokens: BTreeMap<String, Vec<String>>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) received: Vec<Received>,
    pub(crate) serial: u64,
}

impl TestRegistry {
    /// An empty registry open to everybody.
    pub fn start() -> Self {
        TestRegistry::with_access(Access::Anonymous)
    }

    /// An empty registry with these rules of access.
    pub fn with_access(access: Access) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State {
            access,
            host: address.to_string(),
            blobs: BTreeMap::new(),
            holds: BTreeSet::new(),
            manifests: BTreeMap::new(),
            uploads: BTreeMap::new(),
            tokens: BTreeMap::new(),
            faults: Vec::new(),
            received: Vec::new(),
            serial: 0,
        }));
        let stopped = Arc::new(AtomicBool::new(false));
        let (served, stop) = (Arc::clone(&state), Arc::clone(&stopped));
        thread::spawn(move || accept(&listener, &served, &stop));
        TestRegistry {
            address,
            state,
            stopped,
        }
    }

    /// `127.0.0.1:port`, the registry part of references to it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        state.blobs.insert(digest, bytes.to_vec());
        state.holds.insert((repository.to_owned(), digest));
        digest
    }

    /// Puts a manifest into a repository, under its digest and a tag. Nothing is checked.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Digest {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        for name in [tag.to_owned(), digest.to_string()] {
            state.manifests.insert(
                (repository.to_owned(), name),
                (media_type.to_owned(), bytes.to_vec()),
            );
        }
        digest
    }

    /// The blob, if the repository has it.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let state = self.state();
        state
            .holds
            .contains(&(repository.to_owned(), *digest))
            .then(|| state.blobs.get(digest).cloned())
            .flatten()
    }

    /// Media type and bytes of the manifest under a tag or digest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.state()
            .manifests
            .get(&(repository.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Loses a blob, in all repositories.
    pub fn lose_blob(&self, digest: &Digest) {
        let mut state = self.state();
        state.blobs.remove(digest);
        state.holds.retain(|(_, held)| held != digest);
    }

    /// Orders a fault. Several wait for their turn in the order they were given.
    pub fn order(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes back every token, as if they had expired.
    pub fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; if it is gone already, there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>, stopped: &Arc<AtomicBool>) {
    for connection in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        let (state, stopped) = (Arc::clone(state), Arc::clone(stopped));
        thread::spawn(move || {
            // A client that hangs up ends its own connection, nothing else.
            let _ = serve(&connection, &state, &stopped);
        });
    }
}

fn serve(
    connection: &TcpStream,
    state: &Mutex<State>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut connection = http::Connection::new(connection);
    while let Some(mut request) = connection.read()? {
        if stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.received.push(request.received.clone());
        let mut cut = matches!(request.method(), "PUT" | "PATCH")
            && request.path().contains("/uploads/")
            && state.take(&Fault::CutUpload);
        if request.method() == "PATCH"
            && let Some(Fault::CutPatchAfter(bytes)) =
                state.take_if(|fault| matches!(fault, Fault::CutPatchAfter(_)))
        {
            request.body.truncate(bytes);
            cut = true;
        }
        let answer = answers::answer(&mut state, &request);
        drop(state);
        if cut || !connection.write(&request, &answer)? {
            return Ok(());
        }
    }
    Ok(())
}

impl State {
    /// Takes an ordered fault off the list; `false` if it is not there.
    pub(crate) fn take(&mut self, fault: &Fault) -> bool {
        self.take_if(|ordered| ordered == fault).is_some()
    }

    pub(crate) fn take_if(&mut self, matches: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.faults.iter().position(matches)?;
        Some(self.faults.remove(at))
    }
}
