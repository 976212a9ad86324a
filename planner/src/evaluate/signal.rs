//! The signals that STOPSIGNAL knows (R-STOP-1).

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// How many signals have no names of their own above `RTMIN` and below `RTMAX`.
const REAL_TIME: std::ops::RangeInclusive<u8> = 1..=15;

/// Whether a text is a number other than zero or a signal's name, with or without `SIG`, in any case.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let distance = |base: &str| {
        name.strip_prefix(base).and_then(|digits| {
            digits
                .parse::<u8>()
                .ok()
                .filter(|_| !digits.starts_with(['0', '+']))
        })
    };
    let above = distance("RTMIN+").is_some_and(|distance| REAL_TIME.contains(&distance));
    let below = distance("RTMAX-").is_some_and(|distance| (1..=14).contains(&distance));
    above || below || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    // R-STOP-1
    #[test]
    fn numbers_and_names_are_signals() {
        for text in [
            "9",
            "999",
            "-1",
            "TERM",
            "sigterm",
            "SIGRTMIN+3",
            "rtmax-14",
            "SIGRTMIN",
        ] {
            assert!(is_signal(text), "{text}");
        }
        for text in [
            "0",
            "",
            "FOO",
            "SIG",
            "SIGSIGTERM",
            "RTMIN+16",
            "RTMAX-15",
            "RTMIN+0",
            "9x",
        ] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
