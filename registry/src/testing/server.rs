//! A web server for tests: each request is answered by a function, and noted.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Received;
use super::http::{self, Answer};

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    stopped: Arc<AtomicBool>,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Method, target and headers.
    pub request: &'a Received,
    /// The body.
    pub body: &'a [u8],
}

/// What is answered. `HEAD` gets it without the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers besides `content-length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<u64>,
}

type Handler = dyn Fn(Asked<'_>) -> Reply + Send + Sync;

impl TestServer {
    /// Starts one on a free port of loopback.
    ///
    /// # Panics
    /// If there is no such port.
    #[must_use]
    pub fn start(handler: impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let (received, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let server = TestServer {
            address,
            received: Arc::clone(&received),
            stopped: Arc::clone(&stopped),
        };
        let handler: Arc<Handler> = Arc::new(handler);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (received, handler) = (Arc::clone(&received), Arc::clone(&handler));
                thread::spawn(move || {
                    // A client that hangs up ends its own connection, nothing else.
                    let _ = serve(&connection, &received, &*handler);
                });
            }
        });
        server
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }

    /// The requests since this was asked the last time: method, a space, and path with query.
    #[allow(clippy::must_use_candidate)] // asked to forget them, too
    pub fn lines(&self) -> Vec<String> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.drain(..).map(|request| request.line).collect()
    }
}

impl Reply {
    /// 200 with this body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status: 200,
            body: body.into(),
            ..Reply::default()
        }
    }

    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Reply {
            status,
            ..Reply::default()
        }
    }

    /// One header more.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Asked<'_> {
    /// `GET`, `HEAD`…
    #[must_use]
    pub fn method(&self) -> &str {
        self.request.line.split(' ').next().unwrap_or_default()
    }

    /// Path with query.
    #[must_use]
    pub fn target(&self) -> &str {
        let line = self.request.line.split_once(' ');
        line.map_or("", |(_, target)| target)
    }

    /// A header by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name).map(String::as_str)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; if it is gone already, there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    connection: &TcpStream,
    received: &Mutex<Vec<Received>>,
    handler: &Handler,
) -> std::io::Result<()> {
    let mut connection = http::Connection::new(connection);
    while let Some(request) = connection.read()? {
        received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.received.clone());
        let reply = handler(Asked {
            request: &request.received,
            body: &request.body,
        });
        let answer = Answer {
            status: reply.status,
            headers: reply.headers,
            body: reply.body,
            cut_after: reply.cut_after,
        };
        if !connection.write(&request, &answer)? {
            return Ok(());
        }
    }
    Ok(())
}
