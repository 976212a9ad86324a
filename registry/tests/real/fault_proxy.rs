//! Between a client and a registry: passes everything on, but for what it was told to spoil.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy. It stops to be of use when dropped: nobody knows its port.
pub struct FaultProxy {
    address: SocketAddr,
    plan: Arc<Mutex<Option<Plan>>>,
    ranges: Arc<Mutex<Vec<String>>>,
}

/// What to spoil, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    pub method: &'static str,
    /// In the path, or in the query.
    pub path: &'static str,
    pub fault: Fault,
    pub times: u32,
}

/// What goes wrong with one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The registry gets so many bytes of the body, then both connections end.
    CutRequest(usize),
    /// The registry does what it is asked; the client gets so many bytes of the answer's body, `None`: no answer at all.
    CutAnswer(Option<usize>),
    /// The registry isn't asked.
    Status(u16, &'static str),
    /// One byte of the answer's body is another.
    Corrupt,
    /// One byte of the answer's body is missing, and the length says so.
    Shorter,
    /// The length says one byte more than there is.
    TooLong,
    /// The answer comes in pieces of so many bytes.
    Drip(usize),
    /// The client is sent to the same path elsewhere.
    Redirect(String),
    /// Nothing ever comes back.
    Silence,
}

struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl FaultProxy {
    /// Before the registry at `upstream` (`host:port`).
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(None));
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&plan));
        let noted = Arc::clone(&ranges);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, shared) = (upstream.clone(), Arc::clone(&shared));
                let noted = Arc::clone(&noted);
                // Whoever hangs up ends one connection.
                thread::spawn(move || drop(serve(&client, &upstream, &shared, &noted)));
            }
        });
        FaultProxy {
            address,
            plan,
            ranges,
        }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The parts of blobs that clients sent, by their headers.
    pub fn content_ranges(&self) -> Vec<String> {
        self.ranges.lock().unwrap().clone()
    }

    /// What to do from now on.
    pub fn order(&self, plan: Option<Plan>) {
        *self.plan.lock().unwrap() = plan;
    }
}

fn serve(
    client: &TcpStream,
    upstream: &str,
    plan: &Mutex<Option<Plan>>,
    ranges: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    while let Some(request) = read(&mut reader)? {
        let headers = request.headers.iter();
        let range = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-range"));
        ranges
            .lock()
            .unwrap()
            .extend(range.map(|(_, value)| value.clone()));
        let fault = due(&request, plan);
        if !exchange(client, upstream, &request, fault)? {
            return client.shutdown(Shutdown::Both);
        }
    }
    Ok(())
}

/// The fault for this request, if it is its turn.
fn due(request: &Message, plan: &Mutex<Option<Plan>>) -> Option<Fault> {
    let mut plan = plan.lock().unwrap();
    let ordered = plan.as_mut().filter(|plan| {
        plan.times > 0
            && request.first.starts_with(&format!("{} ", plan.method))
            && request.first.contains(plan.path)
    })?;
    ordered.times -= 1;
    Some(ordered.fault.clone())
}

/// One request and its answer; `false` if the connection has to end.
fn exchange(
    mut client: &TcpStream,
    upstream: &str,
    request: &Message,
    fault: Option<Fault>,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::Status(status, header)) => {
            let text = format!("HTTP/1.1 {status} Ordered\r\ncontent-length: 0\r\n{header}\r\n");
            client.write_all(text.as_bytes())?;
            return Ok(true);
        }
        Some(Fault::Redirect(origin)) => {
            let path = request.first.split(' ').nth(1).unwrap();
            let text = format!(
                "HTTP/1.1 307 Ordered\r\ncontent-length: 0\r\nlocation: {origin}{path}\r\n\r\n"
            );
            client.write_all(text.as_bytes())?;
            return Ok(true);
        }
        Some(Fault::Silence) => {
            // Until the client goes.
            let _ = client.read(&mut [0]);
            return Ok(false);
        }
        _ => {}
    }
    let mut server = TcpStream::connect(upstream)?;
    let cut = match fault {
        Some(Fault::CutRequest(bytes)) => Some(bytes),
        _ => None,
    };
    send_request(&mut server, request, cut)?;
    if cut.is_some() {
        server.shutdown(Shutdown::Write)?;
        // The registry has dealt with it when it hangs up.
        io::copy(&mut server, &mut io::sink())?;
        return Ok(false);
    }
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(answer.len(), |at| at + 4);
    let mut body = answer.split_off(head);
    let mut head = String::from_utf8(answer).unwrap();
    let length = body.len();
    let mut whole = true;
    let mut piece = usize::MAX;
    match fault {
        Some(Fault::CutAnswer(None)) => return Ok(false),
        Some(Fault::CutAnswer(Some(bytes))) => {
            body.truncate(bytes);
            whole = false;
        }
        Some(Fault::Corrupt) => body[length / 2] ^= 1,
        Some(Fault::Shorter) => {
            body.pop();
            head = with_length(&head, length - 1);
        }
        Some(Fault::TooLong) => {
            head = with_length(&head, length + 1);
            whole = false;
        }
        Some(Fault::Drip(bytes)) => piece = bytes,
        _ => {}
    }
    client.write_all(head.replace("Connection: close\r\n", "").as_bytes())?;
    for piece in body.chunks(piece.min(length.max(1))) {
        client.write_all(piece)?;
        client.flush()?;
    }
    Ok(whole)
}

fn with_length(head: &str, length: usize) -> String {
    let lines = head.split("\r\n").map(|line| {
        match line.to_ascii_lowercase().starts_with("content-length:") {
            true => format!("Content-Length: {length}"),
            false => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

fn send_request(server: &mut TcpStream, request: &Message, cut: Option<usize>) -> io::Result<()> {
    let mut head = format!("{}\r\n", request.first);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("connection") {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += "Connection: close\r\n\r\n";
    server.write_all(head.as_bytes())?;
    let body = &request.body[..cut.unwrap_or(usize::MAX).min(request.body.len())];
    server.write_all(body)
}

/// A request with its body, whose length its header says.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Message>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Message {
        first: first.trim_end().to_owned(),
        headers,
        body,
    }))
}
