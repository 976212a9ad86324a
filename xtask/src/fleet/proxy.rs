//! Counts what goes to a server and comes back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;

/// A port that hands everything on to a server.
pub(super) struct Proxy {
    /// `127.0.0.1:port`.
    pub(super) host: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Proxy {
    /// Listens until the program ends.
    pub(super) fn before(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let host = listener.local_addr()?.to_string();
        let counts = Arc::new(Counts::default());
        let (counted, server) = (counts.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue; // the client sees its connection closed
                };
                let (up, down) = (counted.clone(), counted.clone());
                if let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) {
                    thread::spawn(move || pass(client, server, &up.sent));
                    thread::spawn(move || pass(server_too, client_too, &down.received));
                }
            }
        });
        Ok(Self { host, counts })
    }

    /// Bytes that went to the server, and that came back.
    pub(super) fn moved(&self) -> (u64, u64) {
        let Counts { sent, received } = &*self.counts;
        (
            sent.load(Ordering::Relaxed),
            received.load(Ordering::Relaxed),
        )
    }
}

/// Hands on until one side ends.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    let mut step = || -> io::Result<usize> {
        let read = from.read(&mut buffer)?;
        to.write_all(&buffer[..read])?;
        Ok(read)
    };
    while let Ok(read @ 1..) = step() {
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}
