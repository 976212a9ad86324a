//! Progress as JSON, one object a line, in the shape of BuildKit's `SolveStatus` (R-PROG-5), so that what reads
//! `--progress=rawjson` of Docker reads kiln's too. A vertex is named by a digest there; ours is made from its number.

use std::collections::HashMap;
use std::io::Write;

use jiff::Timestamp;
use kiln_executor::event::{Event, EventKind, Stream, VertexId};
use kiln_image::Digest;
use serde::Serialize;

use super::{Renderer, put};

/// The renderer of `--progress=rawjson`.
pub(super) struct Json<W> {
    out: W,
    running: HashMap<VertexId, Vertex>,
}

#[derive(Debug, Default, Serialize)]
struct SolveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log>,
    /// Of ours: what steps used. Readers of BuildKit's status pass over it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usages: Vec<StepUsage>,
}

/// What a step used of the machine, in nanoseconds and bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepUsage {
    vertex: Digest,
    user_time: u128,
    system_time: u128,
    peak_memory: u64,
    /// Whether the peak is that of all of the step's processes together, or of the largest.
    peak_of_whole_step: bool,
    disk_read: u64,
    disk_written: u64,
    timestamp: Timestamp,
}

#[derive(Debug, Clone, Serialize)]
struct Vertex {
    digest: Digest,
    name: String,
    started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    /// Of ours: it was done again and gave what it gave before.
    #[serde(rename = "sameOutput", skip_serializing_if = "std::ops::Not::not")]
    same_output: bool,
    /// Of ours: what a failed step left, for `kiln shell`.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    id: String,
    vertex: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    current: u64,
    timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
struct Log {
    vertex: Digest,
    /// A file descriptor's number.
    stream: u8,
    /// Base64: output need not be text.
    data: String,
    timestamp: Timestamp,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            running: HashMap::new(),
        }
    }

    fn status(&mut self, event: &Event) -> SolveStatus {
        let at = event.at;
        let mut status = SolveStatus::default();
        match &event.kind {
            EventKind::VertexStarted { vertex, name } => {
                status.vertexes.push(self.start(*vertex, name, at));
            }
            EventKind::VertexCached { vertex } => {
                status.vertexes.extend(self.end(*vertex, at, true, None));
            }
            EventKind::VertexDone { vertex, .. } => {
                status.vertexes.extend(self.end(*vertex, at, false, None));
            }
            EventKind::VertexFailed {
                vertex, message, ..
            } => {
                status
                    .vertexes
                    .extend(self.end(*vertex, at, false, Some(message.clone())));
            }
            EventKind::VertexCanceled { vertex } => {
                status.vertexes.extend(self.end(
                    *vertex,
                    at,
                    false,
                    Some("context canceled".to_owned()),
                ));
            }
            EventKind::Printed { .. } => {} // more than is to be shown
            EventKind::SameOutput { vertex } => {
                if let Some(vertex) = self.running.get_mut(vertex) {
                    vertex.same_output = true;
                }
            }
            EventKind::Kept { vertex, container } => {
                if let Some(vertex) = self.running.get_mut(vertex) {
                    vertex.container = Some(container.clone());
                }
            }
            EventKind::Used { vertex, usage } => status.usages.push(StepUsage {
                vertex: digest(*vertex),
                user_time: usage.user.as_nanos(),
                system_time: usage.system.as_nanos(),
                peak_memory: usage.peak_memory,
                peak_of_whole_step: usage.whole_step,
                disk_read: usage.read,
                disk_written: usage.written,
                timestamp: at,
            }),
            EventKind::Log {
                vertex,
                stream,
                data,
            } => status.logs.push(log(*vertex, *stream, data, at)),
            EventKind::Progress {
                vertex,
                part,
                current,
                total,
            } => status.statuses.push(Status {
                id: part.clone(),
                vertex: digest(*vertex),
                total: *total,
                current: *current,
                timestamp: at,
            }),
        }
        status
    }

    fn start(&mut self, id: VertexId, name: &str, at: Timestamp) -> Vertex {
        let vertex = Vertex {
            digest: digest(id),
            name: name.to_owned(),
            started: at,
            completed: None,
            cached: false,
            same_output: false,
            container: None,
            error: None,
        };
        self.running.insert(id, vertex.clone());
        vertex
    }

    fn end(
        &mut self,
        id: VertexId,
        at: Timestamp,
        cached: bool,
        error: Option<String>,
    ) -> Option<Vertex> {
        let vertex = self.running.remove(&id)?;
        Some(Vertex {
            completed: Some(at),
            cached,
            error,
            ..vertex
        })
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn event(&mut self, event: &Event) {
        let status = self.status(event);
        let line = serde_json::to_string(&status).expect("a status is made of strings and numbers");
        put(&mut self.out, format_args!("{line}\n"));
    }
}

fn digest(vertex: VertexId) -> Digest {
    Digest::of(format!("vertex {}", vertex.0).as_bytes())
}

fn log(vertex: VertexId, stream: Stream, data: &[u8], timestamp: Timestamp) -> Log {
    let stream = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    Log {
        vertex: digest(vertex),
        stream,
        data: base64(data),
        timestamp,
    }
}

/// RFC 4648, section 4, with padding.
fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0, |bits: u32, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn base64_is_the_standard_one() {
        // RFC 4648, section 10
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (data, expected) in cases {
            assert_eq!(base64(data.as_bytes()), expected);
        }
    }

    #[test]
    fn events_become_solve_statuses() {
        // R-PROG-5
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        let id = VertexId(1);
        let kinds = [
            EventKind::VertexStarted {
                vertex: id,
                name: "[1/1] RUN x".to_owned(),
            },
            EventKind::Log {
                vertex: id,
                stream: Stream::Stderr,
                data: b"foo".to_vec(),
            },
            EventKind::VertexDone {
                vertex: id,
                elapsed: Duration::ZERO,
            },
        ];
        for kind in kinds {
            json.event(&Event {
                at: Timestamp::UNIX_EPOCH,
                kind,
            });
        }
        let text = String::from_utf8(out).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .collect::<Vec<_>>();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["vertexes"][0]["name"], "[1/1] RUN x");
        assert_eq!(lines[1]["logs"][0]["data"], "Zm9v");
        assert_eq!(
            lines[1]["logs"][0]["vertex"],
            lines[0]["vertexes"][0]["digest"]
        );
        assert_eq!(lines[2]["vertexes"][0]["completed"], "1970-01-01T00:00:00Z");
    }
}
