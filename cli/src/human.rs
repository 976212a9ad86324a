//! Sizes and ages the way people who know Docker expect to read them: three significant digits in powers of a
//! thousand (`7.05MB`), and an age in its largest sensible unit (`2 weeks ago`).

use jiff::Timestamp;

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// A number of bytes with three significant digits: `0B`, `999B`, `1.2kB`, `7.05MB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would round to a fourth digit, so it already belongs to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), UNITS[unit])
}

/// How long before `now` something happened: `5 minutes ago`. A moment in the future counts as now.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.as_second() - then.as_second()).unwrap_or(0);
    format!("{} ago", span(seconds))
}

/// The time a step took: `0.0s`, `12.3s`, `3m 05s`.
pub(crate) fn elapsed(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Three significant digits, trailing zeros of the fraction dropped.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A span of seconds in words, rounded down except for hours, which round to the nearest.
fn span(seconds: u64) -> String {
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (7_050_000, "7.05MB"),
            (77_900_000, "77.9MB"),
            (116_400_000, "116MB"),
            (999_999, "1MB"),
            (1_500_000_000, "1.5GB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn ages_take_the_largest_unit() {
        let day = 86_400;
        let cases = [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3 * 60, "3 minutes"),
            (3700, "About an hour"),
            (day, "24 hours"),
            (3 * day, "3 days"),
            (20 * day, "2 weeks"),
            (100 * day, "3 months"),
            (800 * day, "2 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_future_moment_is_now() {
        assert_eq!(
            age(Timestamp::MAX, Timestamp::UNIX_EPOCH),
            "Less than a second ago"
        );
    }

    #[test]
    fn elapsed_switches_to_minutes() {
        assert_eq!(elapsed(Duration::from_millis(40)), "0.0s");
        assert_eq!(elapsed(Duration::from_millis(12_340)), "12.3s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3m 05s");
        assert_eq!(elapsed(Duration::from_secs(7260)), "2h 01m");
    }
}
