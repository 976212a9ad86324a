//! How much of what a step prints is passed on (R-RT-19): enough to read, never so much that showing it holds the build
//! up. What is left out is counted out loud, and the end, where programs say why they failed, is always shown.

use std::collections::VecDeque;
use std::time::Duration;

/// How much of the end is kept of an output that was clipped, in bytes.
const TAIL: usize = 4 * 1024;

/// The most that is passed on of each of a step's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimit {
    /// Bytes in all; `None` for no limit.
    pub size: Option<u64>,
    /// Bytes a second, each second that has begun counted as a whole one; `None` for no limit.
    pub speed: Option<u64>,
}

/// One output of a step, on its way to be shown.
#[derive(Debug)]
pub(super) struct Clip {
    limit: LogLimit,
    passed: u64,
    /// The end of what was left out since the last byte that was passed on.
    tail: VecDeque<u8>,
    clipping: bool,
    has_clipped: bool,
    at_line_start: bool,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self {
            size: Some(2 << 20),
            speed: Some(200 << 10),
        }
    }
}

impl Clip {
    pub(super) fn new(limit: LogLimit) -> Self {
        Self {
            limit,
            passed: 0,
            tail: VecDeque::new(),
            clipping: false,
            has_clipped: false,
            at_line_start: true,
        }
    }

    /// Takes what the step printed `elapsed` after its start, and gives what of it is to be shown.
    pub(super) fn push(&mut self, data: &[u8], elapsed: Duration) -> Vec<u8> {
        let (most, reason) = self.most(elapsed);
        let left = usize::try_from(most.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        let (shown, clipped) = data.split_at(left.min(data.len()));
        let mut out = Vec::with_capacity(shown.len());
        if !shown.is_empty() {
            self.clipping = false;
            self.tail.clear();
            self.passed += shown.len() as u64;
            self.at_line_start = shown.ends_with(b"\n");
            out.extend_from_slice(shown);
        }
        if !clipped.is_empty() {
            if !self.clipping {
                (self.clipping, self.has_clipped) = (true, true);
                out.extend(self.notice(&reason));
            }
            self.tail
                .extend(&clipped[clipped.len().saturating_sub(TAIL)..]);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        }
        out
    }

    /// Whether anything was ever left out.
    pub(super) fn has_clipped(&self) -> bool {
        self.has_clipped
    }

    /// The end of what was left out: whole lines, unless there is but one.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let tail = Vec::from(std::mem::take(&mut self.tail));
        match tail.iter().position(|byte| *byte == b'\n') {
            Some(end) if tail.len() == TAIL && end + 1 < tail.len() => tail[end + 1..].to_vec(),
            _ => tail,
        }
    }

    /// How many bytes may have been passed on by now, and what the limit is called.
    fn most(&self, elapsed: Duration) -> (u64, String) {
        let seconds = elapsed.as_secs() + 1;
        let by_speed = self.limit.speed.map(|speed| speed.saturating_mul(seconds));
        let size = self.limit.size.unwrap_or(u64::MAX);
        match (by_speed, self.limit.speed) {
            (Some(most), Some(speed)) if most < size => (most, format!("{}/s", binary(speed))),
            _ => (size, binary(size)),
        }
    }

    fn notice(&self, reason: &str) -> Vec<u8> {
        let start = if self.at_line_start { "" } else { "\n" };
        format!("{start}[output clipped, log limit {reason} reached]\n").into_bytes()
    }
}

/// `2MiB`, `200KiB`, `1000B`.
fn binary(bytes: u64) -> String {
    match bytes {
        bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes > 0 && bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn clip(size: u64, speed: u64) -> Clip {
        Clip::new(LogLimit {
            size: Some(size),
            speed: Some(speed),
        })
    }

    fn push(clip: &mut Clip, data: &str, second: u64) -> String {
        String::from_utf8(clip.push(data.as_bytes(), Duration::from_secs(second))).unwrap()
    }

    #[test]
    fn output_within_the_limits_is_untouched() {
        let mut clip = Clip::new(LogLimit::default());
        assert_eq!(push(&mut clip, "a\nb", 0), "a\nb");
        assert_eq!(clip.finish(), b"");
    }

    #[test]
    fn the_rest_is_left_out_once_and_its_end_shown() {
        // R-RT-19
        let mut clip = clip(4, 1024);
        assert_eq!(
            push(&mut clip, "abcdef", 0),
            "abcd\n[output clipped, log limit 4B reached]\n"
        );
        assert_eq!(push(&mut clip, "\nwhy\n", 1), "");
        assert_eq!(clip.finish(), b"ef\nwhy\n");
    }

    #[test]
    fn a_fast_output_goes_on_with_the_next_second() {
        let mut clip = clip(1 << 20, 1024);
        let kibibyte = "x".repeat(1023) + "\n";
        assert_eq!(push(&mut clip, &kibibyte, 0), kibibyte);
        assert_eq!(
            push(&mut clip, "more\n", 0),
            "[output clipped, log limit 1KiB/s reached]\n"
        );
        assert_eq!(push(&mut clip, "later\n", 1), "later\n");
        assert_eq!(clip.finish(), b"");
    }

    #[test]
    fn the_end_that_is_kept_is_short_and_begins_with_a_line() {
        let mut clip = clip(0, 1024);
        for _ in 0..10_000 {
            push(&mut clip, "line\n", 0);
        }
        let tail = clip.finish();
        assert!(
            tail.len() <= TAIL && tail.starts_with(b"line\n"),
            "{}",
            tail.len()
        );
    }
}
