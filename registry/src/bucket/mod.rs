//! The objects of a bucket on an S3-compatible server: found, read, written.
//!
//! The signature of a request is in its address (`rusty_s3` makes it), which so is a credential for a quarter of an hour: no
//! error and no message has it, they name bucket and key. Every try is signed anew. Redirects are not followed: where a bucket
//! is elsewhere its owner has to say so. What is read is checked by its digest; what is sent too, so that a file that is
//! damaged on this side does not stay there.

mod error;
mod exchange;
mod lent;
mod read;
mod write;

use std::fmt;
use std::net::IpAddr;

use rusty_s3::{Credentials, UrlStyle};

pub use error::{BucketError, Refusal};
pub(crate) use lent::Lent;
pub use lent::{ContainerToken, KeyLender};
pub use read::Found;
pub use write::Upload;

use crate::Client;
use crate::host::{Url, host_of};
use crate::session::Session;

/// Where a bucket is and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// Its name.
    pub name: String,
    /// The region it is in; part of each signature.
    pub region: String,
    /// `http://` or `https://` and a host; without it Amazon's own of the region.
    pub endpoint: Option<String>,
    /// Whether the bucket is in the path of addresses and not in their host.
    pub path_style: bool,
    /// The key that requests are signed with.
    pub access_key: Option<AccessKey>,
    /// Who is asked for one, in this order, where there is none. Without any, requests are not signed.
    pub lenders: Vec<KeyLender>,
}

/// A key of an account. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its name.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// What belongs to a key that was lent for some time.
    pub session_token: Option<String>,
}

/// Sizes of what goes in one request, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// The largest object that is sent whole.
    pub(crate) whole: u64,
    /// A part of a larger one, as long as that makes no more than [`MOST_PARTS`].
    pub(crate) part: u64,
    /// The most that a server copies at once.
    pub(crate) copy: u64,
}

/// Parts of an object that the protocol allows.
const MOST_PARTS: u64 = 10_000;

const SIZES: Sizes = Sizes {
    whole: 64 << 20,
    part: 32 << 20,
    copy: 5 << 30,
};

/// A bucket, spoken to through a client's connections.
pub struct Bucket<'c> {
    session: &'c Session,
    pub(crate) place: rusty_s3::Bucket,
    credentials: Option<Credentials>,
    pub(crate) sizes: Sizes,
}

impl Client {
    /// A bucket. Nothing is contacted yet, but who lends keys.
    ///
    /// # Errors
    /// If its endpoint is no address, or a key that should be had can't.
    pub fn bucket(&self, settings: &BucketSettings) -> Result<Bucket<'_>, BucketError> {
        let wrong = |problem: String| BucketError {
            act: "use",
            key: String::new(),
            bucket: settings.name.clone(),
            why: Box::new(Refusal::Settings(problem)),
        };
        let endpoint = settings.endpoint();
        let home = Url::parse(&endpoint);
        let home = home.ok_or_else(|| {
            wrong("its endpoint is no address such as `https://s3.example.com`".into())
        })?;
        let style = match settings.in_path(&home) {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let (name, region) = (settings.name.clone(), settings.region.clone());
        let endpoint = endpoint
            .parse()
            .map_err(|_| wrong("its endpoint is no valid address".into()))?;
        let place = rusty_s3::Bucket::new(endpoint, style, name, region)
            .map_err(|error| wrong(error.to_string()))?;
        let key = match &settings.access_key {
            Some(key) => Some(key.clone()),
            None => {
                let lent = self.session.lent_key(&settings.lenders);
                lent.map_err(|problem| wrong(format!("no key could be had: {problem}")))?
            }
        };
        Ok(Bucket {
            session: &self.session,
            place,
            credentials: key.as_ref().map(AccessKey::for_signing),
            sizes: SIZES,
        })
    }
}

impl BucketSettings {
    fn endpoint(&self) -> String {
        let of_amazon = || {
            let china = if self.region.starts_with("cn-") {
                ".cn"
            } else {
                ""
            };
            format!("https://s3.{}.amazonaws.com{china}", self.region)
        };
        self.endpoint.clone().unwrap_or_else(of_amazon)
    }

    /// A bucket's name can't stand before an address of numbers, and with dots no certificate covers it.
    fn in_path(&self, home: &Url) -> bool {
        let host = host_of(home.authority());
        self.path_style || host.parse::<IpAddr>().is_ok() || self.name.contains('.')
    }
}

impl AccessKey {
    fn for_signing(&self) -> Credentials {
        match &self.session_token {
            Some(token) => Credentials::new_with_token(&self.id, &self.secret, token),
            None => Credentials::new(&self.id, &self.secret),
        }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(…)")
    }
}

impl fmt::Debug for Bucket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.place.name())
    }
}
