//! The armour of key files (RFC 7468, and RFC 1421 for old ones).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What is between the first `BEGIN` and its `END`.
pub(super) struct Block {
    /// What the `BEGIN` says it is.
    pub(super) label: String,
    /// The lines `Name: value` before the data.
    pub(super) headers: Vec<String>,
    pub(super) data: Vec<u8>,
}

/// `None` where there is no block, or not all of it.
pub(super) fn first_block(text: &str) -> Option<Block> {
    let mut lines = text.lines().map(str::trim);
    let label = lines.find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))?;
    let end = format!("-----END {label}-----");
    let (mut headers, mut data) = (Vec::new(), String::new());
    loop {
        match lines.next()? {
            line if line == end => break,
            line if line.contains(':') => headers.push(line.to_owned()),
            line => data.push_str(line),
        }
    }
    Some(Block {
        label: label.to_owned(),
        headers,
        data: STANDARD.decode(data).ok()?,
    })
}
