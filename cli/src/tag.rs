//! The value of `-t`: a name for the image, and with several targets which of them it names.

use std::str::FromStr;

use kiln_image::{Reference, ReferenceError};

/// One `-t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The target, where it is said.
    pub(crate) target: Option<String>,
    /// The name.
    pub(crate) name: Reference,
}

impl FromStr for Tag {
    type Err = ReferenceError;

    /// `NAME[:TAG]`, or `STAGE=NAME[:TAG]`: no name of an image has an equals sign.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (target, name) = match text.split_once('=') {
            Some((target, name)) => (Some(target.to_owned()), name),
            None => (None, text),
        };
        let name = name.parse()?;
        Ok(Self { target, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_may_stand_before_a_name() {
        let read = |text: &str| {
            let tag = text.parse::<Tag>().ok();
            tag.map(|tag| (tag.target, tag.name.familiar()))
        };
        assert_eq!(read("app:1"), Some((None, "app:1".to_owned())));
        let named = Some((Some("b".to_owned()), "h:5000/app:1".to_owned()));
        assert_eq!(read("b=h:5000/app:1"), named);
        assert_eq!(read("b="), None);
    }
}
