//! Go durations: `1m30s`, `500ms`, `1.5h` (R-HC-4).

use std::time::Duration;

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0, one_of};
use nom::combinator::{map_opt, opt, value, verify};
use nom::multi::fold_many1;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// The longest that Go's 64 signed bits of nanoseconds hold.
const LONGEST: u128 = i64::MAX as u128;

/// `duration = [ "+" ] ( "0" | 1*( amount unit ) )`. `None` for anything else: negative ones, too long ones.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let sum = fold_many1(part, || 0u128, u128::saturating_add);
    let (_, nanoseconds) = nom::combinator::all_consuming(sum).parse(text).ok()?;
    let nanoseconds = u64::try_from(nanoseconds)
        .ok()
        .filter(|total| u128::from(*total) <= LONGEST)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// `amount unit`, in nanoseconds; `amount = *digit [ "." *digit ]` with at least one digit
fn part(text: &str) -> IResult<&str, u128> {
    let fraction = opt(preceded(char('.'), digit0));
    let amount = verify(
        (digit0, fraction),
        |(whole, fraction): &(&str, Option<&str>)| {
            !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty())
        },
    );
    map_opt((amount, unit), |((whole, fraction), unit)| {
        nanoseconds(whole, fraction.unwrap_or(""), unit)
    })
    .parse(text)
}

/// `unit = "ns" | "us" | "µs" | "ms" | "s" | "m" | "h"`, in nanoseconds
fn unit(text: &str) -> IResult<&str, u128> {
    alt((
        value(1, tag("ns")),
        value(1_000, (one_of("u\u{b5}\u{3bc}"), char('s'))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, char('s')),
        value(60_000_000_000, char('m')),
        value(3_600_000_000_000, char('h')),
    ))
    .parse(text)
}

fn nanoseconds(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?
    };
    // Digits past the eighteenth are below a nanosecond whatever the unit.
    let digits = &fraction[..fraction.len().min(18)];
    let scale = 10u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let fraction = if digits.is_empty() {
        0
    } else {
        digits.parse::<u128>().ok()?
    };
    Some(u128::from(whole) * unit + fraction * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let cases = [
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("0", 0),
            ("0s", 0),
            ("+.5s", 500_000_000),
            ("1us1µs1ns", 2001),
            ("2562047h", 9_223_369_200_000_000_000),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(
                go_duration(text),
                Some(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for none in [
            "",
            "5",
            "-1s",
            ".s",
            "1x",
            "1s ",
            "2562048h",
            "99999999999999999999s",
            "s",
        ] {
            assert_eq!(go_duration(none), None, "{none}");
        }
    }
}
