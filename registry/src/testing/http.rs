//! Just enough HTTP/1.1 for a test: one request after another on a connection, bodies with a length or in chunks.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::Received;

/// Largest body a test may send, in bytes.
const BODY_LIMIT: usize = 256 * 1024 * 1024;

pub(crate) struct Connection<'a> {
    reader: BufReader<&'a TcpStream>,
    writer: &'a TcpStream,
}

pub(crate) struct Request {
    pub(crate) received: Received,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub(crate) cut_after: Option<u64>,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.received.line.split(' ').next().unwrap_or("")
    }

    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or("")
    }

    /// Values of a query parameter, percent-decoded.
    pub(crate) fn query(&self, name: &str) -> Vec<String> {
        let query = self.target().split_once('?').map_or("", |(_, query)| query);
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, v)| decoded(v))
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.received.headers.get(name).map(String::as_str)
    }

    fn target(&self) -> &str {
        self.received
            .line
            .split_once(' ')
            .map_or("", |(_, target)| target)
    }
}

impl<'a> Connection<'a> {
    pub(crate) fn new(stream: &'a TcpStream) -> Self {
        Connection {
            reader: BufReader::new(stream),
            writer: stream,
        }
    }

    /// The next request; `None` when the client is done.
    pub(crate) fn read(&mut self) -> io::Result<Option<Request>> {
        let first = self.line()?;
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) =
            (words.next(), words.next(), words.next())
        else {
            return Ok(None);
        };
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        let body = self.body(&headers)?;
        Ok(Some(Request {
            received: Received {
                line: format!("{method} {target}"),
                headers,
            },
            body,
        }))
    }

    /// Sends an answer; `false` if the connection must end.
    pub(crate) fn write(&mut self, request: &Request, answer: &Answer) -> io::Result<bool> {
        let mut head = format!(
            "HTTP/1.1 {} Test\r\ncontent-length: {}\r\n",
            answer.status,
            answer.body.len()
        );
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.writer.write_all(head.as_bytes())?;
        if request.method() == "HEAD" {
            return Ok(true);
        }
        let whole = answer.body.len();
        let sent = answer.cut_after.map_or(whole, |cut| {
            usize::try_from(cut).unwrap_or(whole).min(whole)
        });
        self.writer.write_all(&answer.body[..sent])?;
        self.writer.flush()?;
        Ok(answer.cut_after.is_none())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.by_ref().take(64 * 1024).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn body(&mut self, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
        if headers
            .get("transfer-encoding")
            .is_some_and(|encoding| encoding == "chunked")
        {
            return self.chunks();
        }
        let length = headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        self.exactly(length)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            body.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_LIMIT {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(body)
    }
}

/// `%XX` and `+` decoded.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
