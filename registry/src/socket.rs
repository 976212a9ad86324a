//! Connections that a [`Stopper`] can end at any time: while a name is looked up, while a host is called, while it is heard.
//!
//! What the HTTP library brings can be interrupted once a connection is there. Before, a thread is in `getaddrinfo` or `connect`,
//! out of which nothing wakes it; so these two are done apart.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    ShutdownHandle, SocksConnector, Transport,
};

use crate::forwarded::Forwarder;
use crate::stop::{GaveUp, Stopper};
use crate::tls::Tls;
use crate::waits::Pace;

/// Most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 8;

/// All that leads to a connection: the proxy, the socket, TLS.
pub(crate) fn connector(
    stopper: &Stopper,
    stall_timeout: Duration,
    forwarder: Option<&Forwarder>,
    tls: Tls,
) -> impl Connector {
    let sockets = Sockets {
        stopper: stopper.clone(),
        stall_timeout,
        forwarder: forwarder.cloned(),
    };
    ().chain(SocksConnector::default())
        .chain(ConnectProxyConnector::default())
        .chain(sockets)
        .chain(tls)
}

/// Looks up names.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) stopper: Stopper,
    /// Whose name it is, where requests don't go to their host.
    pub(crate) forwarder: Option<Forwarder>,
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let uri = self
            .forwarder
            .as_ref()
            .map_or(uri, |forwarder| &forwarder.place);
        let name = uri.scheme().zip(uri.authority());
        let name = name.and_then(|(scheme, host)| DefaultResolver::host_and_port(scheme, host));
        let name = name.ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let looked_up = move || name.to_socket_addrs();
        let found = self.stopper.apart(*timeout.after, looked_up);
        let found = found.map_err(|why| gave_up(why, timeout))??;
        let mut addresses = self.empty();
        for address in found.take(MOST_ADDRESSES) {
            addresses.push(address);
        }
        match addresses.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}

/// Opens sockets.
#[derive(Debug)]
struct Sockets {
    stopper: Stopper,
    /// How long the other side may take nothing.
    stall_timeout: Duration,
    forwarder: Option<Forwarder>,
}

impl<In: Transport> Connector<In> for Sockets {
    type Out = Either<In, Socket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(through_proxy) = chained {
            return Ok(Some(Either::A(through_proxy)));
        }
        let addresses: Vec<SocketAddr> = details.addrs.iter().copied().collect();
        let limit = *details.timeout.after;
        let stream = self.stopper.apart(limit, move || call(&addresses, limit));
        let stream = stream.map_err(|why| gave_up(why, details.timeout))?;
        let stream = match stream {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Error::Timeout(details.timeout.reason));
            }
            stream => stream?,
        };
        stream.set_nodelay(true)?;
        let stream = Arc::new(stream);
        let handle: Weak<dyn ShutdownHandle> = Arc::<TcpStream>::downgrade(&stream);
        (details.register_shutdown)(handle)?;
        let config = details.config;
        Ok(Some(Either::B(Socket {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            read_limit: None,
            write_limit: None,
            taken: Pace::new(self.stall_timeout),
            forwarded: self.forwarder.clone().map(|forwarder| Forwarded {
                forwarder,
                origin: origin_of(details.uri),
                begins: true,
            }),
        })))
    }
}

/// The first address that answers. Each gets its share of the time that is left.
fn call(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let begun = Instant::now();
    let mut failure = io::Error::from(io::ErrorKind::ConnectionRefused);
    for (at, address) in addresses.iter().enumerate() {
        let left = limit.saturating_sub(begun.elapsed());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        if share.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn gave_up(why: GaveUp, timeout: NextTimeout) -> Error {
    match why {
        GaveUp::TooLong => Error::Timeout(timeout.reason),
        GaveUp::Stopped => Error::Io(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// An open connection.
#[derive(Debug)]
struct Socket {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// What the socket was told last.
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
    /// How fast the other side takes what it is sent.
    taken: Pace,
    forwarded: Option<Forwarded>,
}

/// A connection to a proxy that is given requests.
#[derive(Debug)]
struct Forwarded {
    forwarder: Forwarder,
    /// Whom they are for.
    origin: String,
    /// Whether what is sent next is the beginning of one.
    begins: bool,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let limit = limit(timeout)?;
        if self.write_limit != limit {
            self.stream.set_write_timeout(limit)?;
            self.write_limit = limit;
        }
        let sent = &self.buffers.output()[..amount];
        let (mut stream, taken) = (&*self.stream, &mut self.taken);
        let forwarded = self.forwarded.as_mut();
        let Some(forwarded) = forwarded.filter(|forwarded| forwarded.begins) else {
            return write(&mut stream, sent, taken, timeout);
        };
        forwarded.begins = false;
        let begun = forwarded.forwarder.begin(&forwarded.origin, sent);
        let (head, rest) = begun.ok_or_else(|| {
            Error::Io(io::Error::other(
                "a request's first line is too long for a proxy",
            ))
        })?;
        write(&mut stream, &head, taken, timeout)?;
        write(&mut stream, rest, taken, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = limit(timeout)?;
        if self.read_limit != limit {
            self.stream.set_read_timeout(limit)?;
            self.read_limit = limit;
        }
        let amount = loop {
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| failed(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.begins = true;
        }
        Ok(amount > 0)
    }

    /// Whether it can be used again: nothing was said unasked, and nobody hung up.
    fn is_open(&mut self) -> bool {
        let quiet = || -> io::Result<bool> {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            Ok(matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
        };
        quiet().unwrap_or(false)
    }
}

/// All of `bytes`, unless the other side takes them too slowly.
fn write(
    stream: &mut &TcpStream,
    mut bytes: &[u8],
    taken: &mut Pace,
    timeout: NextTimeout,
) -> Result<(), Error> {
    while !bytes.is_empty() {
        let begun = Instant::now();
        match stream.write(bytes) {
            Ok(0) => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                taken.moved(count, begun.elapsed())?;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error, timeout)),
        }
    }
    Ok(())
}

/// `http://host:port` of an address.
fn origin_of(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or("http"))
}

/// The time for one read or write; `None` is any.
fn limit(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_not_happening() {
        return Ok(None);
    }
    match *timeout.after {
        Duration::ZERO => Err(Error::Timeout(timeout.reason)),
        after => Ok(Some(after)),
    }
}

fn failed(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        // What Linux says when the time is over.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}
