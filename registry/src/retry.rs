//! When to try again, and how long to wait first.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use jiff::fmt::rfc2822;
use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

use crate::error::TransportError;
use crate::transport::Answer;

/// First wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait of our own choice.
const LONGEST: Duration = Duration::from_secs(8);
/// Longest wait a registry may ask for; a longer one is cut to this.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// A host that refuses or has no address seldom changes its mind: it is asked this often again.
const REFUSED_RETRIES: u32 = 2;
/// A stall has cost its whole limit already.
const STALL_RETRIES: u32 = 1;

/// A try that came to nothing.
pub(crate) struct Setback<E> {
    /// Who would be asked again.
    pub(crate) host: String,
    /// How often that may be done in all.
    pub(crate) tries: u32,
    /// How long to wait, if somebody said so.
    pub(crate) asked: Option<Duration>,
    /// What it comes to if nobody is asked again.
    pub(crate) error: Box<E>,
}

impl<E> Setback<E> {
    pub(crate) fn at(host: String, tries: u32, error: E) -> Self {
        Setback {
            host,
            tries,
            asked: None,
            error: Box::new(error),
        }
    }

    /// One that another try would not better.
    pub(crate) fn last(error: E) -> Self {
        Setback::at(String::new(), 0, error)
    }

    pub(crate) fn map<F>(self, change: impl FnOnce(E) -> F) -> Setback<F> {
        Setback {
            host: self.host,
            tries: self.tries,
            asked: self.asked,
            error: Box::new(change(*self.error)),
        }
    }
}

/// An answer, unless it may be another one later. If it never is, it is the answer after all.
pub(crate) fn unless_busy<E>(
    answer: Answer,
    retries: u32,
) -> Result<Answer, Setback<Result<Answer, E>>> {
    if !passing_status(answer.status) {
        return Ok(answer);
    }
    Err(Setback {
        host: answer.url.authority().to_owned(),
        tries: retries,
        asked: asked_pause(&answer.headers),
        error: Box::new(Ok(answer)),
    })
}

/// How long to wait before try number `tries` + 1.
pub(crate) fn pause(tries: u32, asked: Option<Duration>) -> Duration {
    let own = FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST);
    asked.map_or(own, |asked| asked.clamp(own.min(FIRST), LONGEST_ASKED))
}

/// The same pause, more or less: many clients that failed together are not to come back together. Never shorter than what a
/// registry asked for.
pub(crate) fn spread(pause: Duration, was_asked: bool) -> Duration {
    // Each of these has other keys; nothing here needs better chance than that.
    let chance = RandomState::new().build_hasher().finish() % 1000;
    let part = |of: Duration| of.mul_f64(chance as f64 / 1000.0);
    match was_asked {
        true => pause + part(pause / 10),
        false => pause / 2 + part(pause / 2),
    }
}

/// Whether a status is worth another try: too many requests, or the server's own trouble.
pub(crate) fn passing_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// How often a request may be tried again after such a failure.
pub(crate) fn limit(error: &TransportError, retries: u32) -> u32 {
    match error {
        TransportError::Tls(_)
        | TransportError::Proxy(_)
        | TransportError::Other(_)
        | TransportError::Silent(_)
        | TransportError::Stopped => 0,
        TransportError::Refused | TransportError::UnknownHost => retries.min(REFUSED_RETRIES),
        TransportError::TimedOut(_) => retries.min(STALL_RETRIES),
        TransportError::Cut(_) => retries,
    }
}

/// `Retry-After`, in seconds or as a date, which is measured against the answer's own `Date` so that clocks need not agree.
pub(crate) fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for us is longer than anybody waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = |text: &str| {
        rfc2822::parse(text)
            .ok()
            .map(|zoned| zoned.timestamp().as_second())
    };
    let now = at(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::from_secs(
        u64::try_from(at(value)? - now).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_yield_to_the_registry() {
        let ms = |ms| Duration::from_millis(ms);
        for (tries, asked, expected) in [
            (0, None, ms(250)),
            (1, None, ms(500)),
            (3, None, ms(2000)),
            (30, None, ms(8000)),
            (0, Some(ms(3000)), ms(3000)),
            (0, Some(ms(0)), ms(250)),
            (0, Some(Duration::from_secs(86400)), LONGEST_ASKED),
        ] {
            assert_eq!(pause(tries, asked), expected, "{tries} {asked:?}");
        }
    }

    #[test]
    fn pauses_are_spread_and_never_shorter_than_asked() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let own = spread(second, false);
            assert!(own >= second / 2 && own <= second, "{own:?}");
            let asked = spread(second, true);
            assert!(asked >= second && asked <= second * 11 / 10, "{asked:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |retry: &str, date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, retry.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            headers
        };
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (retry, expected) in [
            ("7", Some(7)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Thu, 31 Dec 2099 23:59:59 GMT", Some(3_318_333_022)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(
                asked_pause(&headers(retry, now)),
                expected.map(Duration::from_secs),
                "{retry}"
            );
        }
    }
}
