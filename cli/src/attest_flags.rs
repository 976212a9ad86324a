//! `--attest`, `--provenance` and `--sbom`: what is to be said about images (R-ATT, R-CLI-4).

use std::str::FromStr;

use kiln_executor::attest::{Attest, Provenance, ProvenanceMode, SlsaVersion};

// No doc comment: clap would take it for the command's own.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Attestations")]
pub(crate) struct AttestFlags {
    /// Say something about the image, in an attestation beside it: type=provenance or type=sbom, with what `--provenance` and `--sbom`
    /// take; may be repeated
    #[arg(long = "attest", value_name = "ATTESTATION")]
    attest: Vec<AttestFlag>,
    /// Say where the image comes from: true, false, or mode=min|max, version=v1|v0.2, builder-id=ADDRESS, reproducible=BOOL, with
    /// commas between them. `min` leaves out build arguments, labels and steps [default: false]
    #[arg(long, value_name = "PROVENANCE")]
    provenance: Option<ProvenanceFlag>,
    /// Say what packages are in the image, as dpkg, apk, Python and npm have recorded them: true or false [default: false]
    #[arg(long, value_name = "SBOM")]
    sbom: Option<SbomFlag>,
}

/// One `--attest`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AttestFlag {
    Provenance(ProvenanceFlag),
    Sbom(SbomFlag),
}

/// What to say of where the image comes from; `None` for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProvenanceFlag(Option<Provenance>);

/// Whether to say what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SbomFlag(bool);

impl AttestFlags {
    /// What is asked for; the last word on a thing counts, and flags of its own go before `--attest`.
    pub(crate) fn attest(&self) -> Attest {
        let mut asked = Attest::default();
        for flag in &self.attest {
            match flag {
                AttestFlag::Provenance(flag) => asked.provenance.clone_from(&flag.0),
                AttestFlag::Sbom(flag) => asked.sbom = flag.0,
            }
        }
        if let Some(flag) = &self.provenance {
            asked.provenance.clone_from(&flag.0);
        }
        if let Some(flag) = self.sbom {
            asked.sbom = flag.0;
        }
        asked
    }
}

impl FromStr for AttestFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest): (Vec<&str>, Vec<&str>) = text
            .split(',')
            .partition(|field| field.starts_with("type="));
        let rest = rest.join(",");
        match kind[..] {
            ["type=provenance"] => rest.parse().map(Self::Provenance),
            ["type=sbom"] => rest.parse().map(Self::Sbom),
            [] => Err("it needs a `type`: provenance or sbom".to_owned()),
            [kind] => Err(format!(
                "unknown attestation `{kind}`: there are type=provenance and type=sbom"
            )),
            _ => Err("it has several types".to_owned()),
        }
    }
}

impl FromStr for ProvenanceFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut asked = Provenance::default();
        let mut is_disabled = false;
        for field in text.split(',').filter(|field| !field.is_empty()) {
            match field.split_once('=') {
                Some(("mode", "min")) => asked.mode = ProvenanceMode::Min,
                Some(("mode", "max" | "full")) => asked.mode = ProvenanceMode::Max,
                Some(("version", "v1" | "1")) => asked.version = SlsaVersion::V1,
                Some(("version", "v0.2" | "0.2")) => asked.version = SlsaVersion::V02,
                Some(("builder-id", id)) => id.clone_into(&mut asked.builder_id),
                Some(("reproducible", value)) => asked.reproducible = boolean(value)?,
                Some(("disabled", value)) => is_disabled = boolean(value)?,
                Some(("inline-only", value)) => asked.inline_only = boolean(value)?,
                None => is_disabled = !boolean(field)?,
                Some((name @ ("mode" | "version"), value)) => {
                    return Err(format!("unknown {name} `{value}`"));
                }
                Some((name, _)) => return Err(format!("unknown option `{name}`")),
            }
        }
        Ok(Self((!is_disabled).then_some(asked)))
    }
}

impl FromStr for SbomFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut is_asked = true;
        for field in text.split(',').filter(|field| !field.is_empty()) {
            match field.split_once('=') {
                None => is_asked = boolean(field)?,
                Some(("disabled", value)) => is_asked = !boolean(value)?,
                Some(("generator", _)) => {
                    let reason = "kiln lists packages itself and runs no `generator`";
                    return Err(reason.to_owned());
                }
                Some((name, _)) => return Err(format!("unknown option `{name}`")),
            }
        }
        Ok(Self(is_asked))
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn flags_are_read_as_buildx_has_them() {
        // R-ATT-4
        let max = Provenance {
            mode: ProvenanceMode::Max,
            version: SlsaVersion::V02,
            ..Provenance::default()
        };
        let cases = [
            ("true", Some(Provenance::default())),
            ("", Some(Provenance::default())),
            ("false", None),
            ("mode=max,version=v0.2", Some(max)),
            ("mode=max,disabled=true", None),
        ];
        for (text, expected) in cases {
            let flag: ProvenanceFlag = text.parse().unwrap();
            assert_eq!(flag.0, expected, "{text}");
            let flag: AttestFlag = format!("type=provenance,{text}").parse().unwrap();
            assert_eq!(flag, AttestFlag::Provenance(ProvenanceFlag(expected)));
        }
        for bad in [
            "mode=most",
            "version=v2",
            "x=1",
            "maybe",
            "filename=a",
            "inline-only=x",
        ] {
            assert!(bad.parse::<ProvenanceFlag>().is_err(), "{bad}");
        }
        assert_eq!("type=sbom".parse(), Ok(AttestFlag::Sbom(SbomFlag(true))));
        for bad in [
            "",
            "type=vex",
            "type=sbom,generator=x",
            "type=sbom,type=sbom",
        ] {
            assert!(bad.parse::<AttestFlag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_shorter_flags_have_the_last_word() {
        let flags = AttestFlags {
            attest: vec![
                "type=provenance".parse().unwrap(),
                "type=sbom".parse().unwrap(),
            ],
            provenance: Some("false".parse().unwrap()),
            sbom: None,
        };
        let asked = flags.attest();
        assert_eq!((asked.provenance, asked.sbom), (None, true));
    }
}
