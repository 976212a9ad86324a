//! One request about an object, signed and tried again where that helps.

use std::time::Duration;

use rusty_s3::S3Action;
use ureq::http::Method;

use super::{Bucket, BucketError, Refusal};
use crate::error::TransportError;
use crate::host::Url;
use crate::retry::{self, Setback};
use crate::transport::{Answer, BodyError, ExchangeError, Payload, Request, printable};

/// How long a signature is good for. Only the beginning of a request has to be within it.
const VALIDITY: Duration = Duration::from_secs(15 * 60);
/// Longest answer that is read besides objects, in bytes.
const ANSWER_LIMIT: u64 = 256 * 1024;

/// What is attempted.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) act: &'static str,
    pub(super) key: &'a str,
}

/// What an answer said that was no success, in words of the protocol: `NoSuchKey`.
pub(super) struct Said {
    pub(super) host: String,
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

impl Bucket<'_> {
    /// Sends what `action` signs, and again after passing failures. Any status is an answer.
    pub(super) fn ask<'a, A: S3Action<'a>>(
        &self,
        at: Attempt<'_>,
        action: &A,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, BucketError> {
        let retries = self.session.options.retries;
        let asked = self.session.persist(|| {
            let signed = action.sign(VALIDITY);
            let url = Url::parse(signed.as_str()).ok_or_else(|| {
                let host = signed.host_str().unwrap_or_default();
                Setback::last(Err(self.protocol(at, host, "the object has no address")))
            })?;
            let host = url.authority().to_owned();
            let request = Request {
                method: method_of::<A>(),
                url,
                headers: headers.to_vec(),
                unverified: false,
                grace: Duration::ZERO,
                host: None,
                payload,
            };
            match self.session.wire.send(&request, None) {
                Ok(answer) => retry::unless_busy(answer, retries),
                Err(ExchangeError::Transport(source)) => {
                    let tries = retry::limit(&source, retries);
                    Err(self.setback(at, host, tries, source).map(Err))
                }
                Err(ExchangeError::Payload(source)) => {
                    let side = "reading it here failed";
                    let why = Refusal::Local { side, source };
                    Err(Setback::last(Err(self.failed(at, why))))
                }
            }
        });
        asked.or_else(|last| last)
    }

    /// `host` can't be reached.
    pub(super) fn setback(
        &self,
        at: Attempt<'_>,
        host: String,
        tries: u32,
        source: TransportError,
    ) -> Setback<BucketError> {
        let why = Refusal::Unreachable {
            host: host.clone(),
            source,
        };
        Setback::at(host, tries, self.failed(at, why))
    }

    /// As [`Bucket::ask`]; what is no success is an error.
    pub(super) fn ask_for_success<'a, A: S3Action<'a>>(
        &self,
        at: Attempt<'_>,
        action: &A,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> Result<Answer, BucketError> {
        let answer = self.ask(at, action, headers, payload)?;
        match answer.is_success() {
            true => Ok(answer),
            false => Err(self.refused(at, said(answer))),
        }
    }

    pub(super) fn refused(&self, at: Attempt<'_>, said: Said) -> BucketError {
        let Said {
            host,
            status,
            region,
            ..
        } = said;
        let detail = match (said.code.as_str(), said.message.as_str()) {
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        let why = match (status, said.code.as_str()) {
            (301 | 307 | 308, _) | (_, "PermanentRedirect") => Refusal::Elsewhere { host, region },
            (400, "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError")
                if region.is_some() =>
            {
                Refusal::Elsewhere { host, region }
            }
            (401 | 403, _) => Refusal::Denied {
                host,
                detail,
                signed: self.credentials.is_some(),
            },
            _ => Refusal::Status {
                host,
                status,
                detail,
            },
        };
        self.failed(at, why)
    }

    pub(super) fn protocol(&self, at: Attempt<'_>, host: &str, problem: &str) -> BucketError {
        let (host, problem) = (host.to_owned(), problem.to_owned());
        self.failed(at, Refusal::Protocol { host, problem })
    }

    pub(super) fn failed(&self, at: Attempt<'_>, why: Refusal) -> BucketError {
        BucketError {
            act: at.act,
            key: at.key.to_owned(),
            bucket: self.place.name().to_owned(),
            why: Box::new(why),
        }
    }

    /// The whole body of an answer that is no object.
    pub(super) fn text(&self, at: Attempt<'_>, answer: Answer) -> Result<String, BucketError> {
        let host = answer.url.authority().to_owned();
        let bytes = answer.bytes(ANSWER_LIMIT).map_err(|error| match error {
            BodyError::TooLarge => {
                let limit = ANSWER_LIMIT;
                self.failed(at, Refusal::TooLarge { limit })
            }
            BodyError::Transport(source) => self.failed(at, Refusal::Unreachable { host, source }),
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads what an answer says of its failure. Only code and message: the rest of it repeats the signature.
pub(super) fn said(answer: Answer) -> Said {
    let (host, status) = (answer.url.authority().to_owned(), answer.status);
    let named = answer.header("x-amz-bucket-region").map(str::to_owned);
    let body = answer.bytes(ANSWER_LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let part = |name| element(&text, name).map(|text| printable(&text));
    Said {
        host,
        status,
        region: named
            .map(|text| printable(&text))
            .or_else(|| part("Region")),
        code: part("Code").unwrap_or_default(),
        message: part("Message").unwrap_or_default(),
    }
}

/// The text of the first element of this name, in the small flat documents of the protocol. Servers differ in namespaces.
pub(super) fn element(document: &str, name: &str) -> Option<String> {
    let (_, after) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once(&format!("</{name}>"))?;
    let plain = text.trim().replace("&lt;", "<").replace("&gt;", ">");
    let plain = plain.replace("&quot;", "\"").replace("&#34;", "\"");
    Some(plain.replace("&apos;", "'").replace("&amp;", "&"))
}

fn method_of<'a, A: S3Action<'a>>() -> Method {
    match A::METHOD {
        rusty_s3::Method::Get => Method::GET,
        rusty_s3::Method::Head => Method::HEAD,
        rusty_s3::Method::Put => Method::PUT,
        rusty_s3::Method::Post => Method::POST,
        rusty_s3::Method::Delete => Method::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_with_and_without_namespaces() {
        for (document, found) in [
            (
                "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>",
                Some("NoSuchKey"),
            ),
            (
                "<Error xmlns=\"x\"><Code> a&amp;lt;b </Code></Error>",
                Some("a&lt;b"),
            ),
            ("<Code>open", None),
            ("", None),
        ] {
            assert_eq!(element(document, "Code").as_deref(), found, "{document}");
        }
    }
}
