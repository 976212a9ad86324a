//! Platforms as in `--platform` and in image indexes, normalised so that equal ones are written alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// As Go's GOOS: `linux`.
    pub os: String,
    /// As Go's GOARCH: `amd64`.
    pub architecture: String,
    /// Variant of the processor, where there is one that isn't the usual: `v7`.
    pub variant: Option<String>,
    /// Version of the operating system; only Windows images have one.
    pub os_version: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three words of letters, digits, `_`, `.` and `-`.
    #[error(
        "`{text}` is not a platform: it is written `os/architecture` or `os/architecture/variant`"
    )]
    Malformed {
        /// The text as given.
        text: String,
    },
    /// A single word that is neither a known operating system nor a known processor.
    #[error("`{text}` is neither an operating system nor an architecture")]
    Unknown {
        /// The text as given.
        text: String,
    },
}

/// What an index says of one of its images.
impl From<&oci_spec::image::Platform> for Platform {
    fn from(platform: &oci_spec::image::Platform) -> Self {
        let (os, architecture) = (
            platform.os().to_string(),
            platform.architecture().to_string(),
        );
        let variant = platform.variant().as_deref();
        Self {
            os_version: platform.os_version().clone(),
            ..Self::new(&os, &architecture, variant)
        }
    }
}

impl Platform {
    /// The platform with these parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalised(architecture, variant.unwrap_or_default());
        Self {
            os: normalised_os(os),
            architecture,
            variant,
            os_version: None,
        }
    }

    /// The platform this program was built for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, host_architecture(), None)
    }

    /// Whether an image for `offered` runs where this platform is wanted.
    pub fn matches(&self, offered: &Platform) -> bool {
        self.preference(offered).is_some()
    }

    /// How well an image for `offered` fits where this platform is wanted: 0 is exact, more is worse, `None` is
    /// not at all. Processors run what was made for their predecessors (`arm/v7` runs `arm/v6`).
    pub fn preference(&self, offered: &Platform) -> Option<u32> {
        let offered = Self::new(
            &offered.os,
            &offered.architecture,
            offered.variant.as_deref(),
        );
        let wanted = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        if offered.os != wanted.os {
            return None;
        }
        let wanted = wanted.generations();
        let position = wanted
            .iter()
            .position(|generation| *generation == offered.generation())?;
        u32::try_from(position).ok()
    }

    /// Architecture and variant, the usual variant spelled out.
    fn generation(&self) -> (String, u32) {
        let written = self
            .variant
            .as_deref()
            .and_then(|variant| variant.strip_prefix('v'));
        let number = written.and_then(|number| number.parse().ok());
        let usual = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            "amd64" => 1,
            _ => 0,
        };
        (self.architecture.clone(), number.unwrap_or(usual))
    }

    /// What this processor runs, best first.
    fn generations(&self) -> Vec<(String, u32)> {
        let (architecture, newest) = self.generation();
        let oldest = match architecture.as_str() {
            "arm64" => 8,
            "arm" => 5,
            "amd64" => 1,
            _ => newest,
        };
        let below = (oldest.min(newest)..=newest)
            .rev()
            .map(|number| (architecture.clone(), number));
        let arm32 = (5..=8).rev().map(|number| ("arm".to_owned(), number));
        let also = arm32.filter(|_| architecture == "arm64");
        below.chain(also).collect()
    }
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn normalised_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normalised(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "x86" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (
        architecture.to_owned(),
        Some(variant.to_owned()).filter(|variant| !variant.is_empty()),
    )
}

const SYSTEMS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
const ARCHITECTURES: [&str; 19] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc",
    "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
];

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError::Malformed {
            text: text.to_owned(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, os_version) = split_version(parts[0]).ok_or_else(malformed)?;
        if !parts[1..].iter().chain([&os]).all(|part| is_word(part)) {
            return Err(malformed());
        }
        let platform = match parts[1..] {
            [] => single(os).ok_or_else(|| PlatformError::Unknown {
                text: text.to_owned(),
            })?,
            [architecture] => Self::new(os, architecture, None),
            [architecture, variant] => Self::new(os, architecture, Some(variant)),
            _ => return Err(malformed()),
        };
        Ok(Self {
            os_version: os_version.map(str::to_owned),
            ..platform
        })
    }
}

/// `windows(10.0.17763)` has the version in brackets.
fn split_version(os: &str) -> Option<(&str, Option<&str>)> {
    match os.split_once('(') {
        None => Some((os, None)),
        Some((os, version)) => Some((os, Some(version.strip_suffix(')')?))),
    }
}

fn is_word(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !part.is_empty() && part.bytes().all(allowed)
}

/// One word: an operating system with the host's processor, or a processor with the host's system.
fn single(word: &str) -> Option<Platform> {
    let os = normalised_os(word);
    if SYSTEMS.contains(&os.as_str()) {
        return Some(Platform::new(&os, host_architecture(), None));
    }
    let platform = Platform::new("linux", word, None);
    ARCHITECTURES
        .contains(&platform.architecture.as_str())
        .then_some(platform)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn equal_platforms_are_written_alike() {
        // R-CFG-7
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("Linux/ARM64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("amd64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ];
        for (written, expected) in cases {
            assert_eq!(
                written.parse::<Platform>().unwrap().to_string(),
                expected,
                "{written}"
            );
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "/",
            "linux/",
            "a b/c",
            "linux/amd64/v1/x",
            "windows(1/amd64",
        ] {
            assert!(
                matches!(
                    text.parse::<Platform>(),
                    Err(PlatformError::Malformed { .. })
                ),
                "{text}"
            );
        }
        assert!(matches!(
            "nonsense".parse::<Platform>(),
            Err(PlatformError::Unknown { .. })
        ));
    }

    #[test]
    fn a_processor_runs_what_was_made_for_its_predecessors() {
        let preference = |wanted: &str, offered: &str| {
            let [wanted, offered] = [wanted, offered].map(|text| text.parse::<Platform>().unwrap());
            wanted.preference(&offered)
        };
        assert_eq!(preference("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(preference("linux/amd64", "linux/arm64"), None);
        assert_eq!(preference("linux/amd64", "windows/amd64"), None);
        assert_eq!(preference("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(preference("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(preference("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(preference("linux/arm64", "linux/arm/v7"), Some(2));
        assert_eq!(preference("linux/s390x", "linux/s390x"), Some(0));
    }
}
