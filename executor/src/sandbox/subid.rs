//! `/etc/subuid` and `/etc/subgid`: which ids a user may have besides their own (subuid(5)).

/// Ids that a user may have: the first and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The ranges that a file in this form gives the user, who is known by name and by number.
pub(super) fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let is_user = |owner: &str| Some(owner) == name || owner == number;
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let range = Range {
            first: first.parse().ok()?,
            count: count.parse().ok()?,
        };
        let usable = range.count > 0 && range.first.checked_add(range.count).is_some();
        (is_user(owner) && usable).then_some(range)
    });
    lines.collect()
}

/// A map of a user namespace as newuidmap takes it: root is the user, the ids above it are those of the ranges, in order.
pub(super) fn map(own: u32, ranges: &[Range]) -> Vec<[u32; 3]> {
    let mut map = vec![[0, own, 1]];
    let mut next = 1;
    for range in ranges {
        map.push([next, range.first, range.count]);
        next = match next.checked_add(range.count) {
            Some(next) => next,
            None => break,
        };
    }
    map
}

/// How many ids the ranges have together.
pub(super) fn total(ranges: &[Range]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let text = "# comment\nann:100000:65536\nbob:200000:65536\n1001:300000:10\nann:x:1\nann:4294967295:2\nann:5:0\n";
        let found = ranges(text, Some("ann"), 1001);
        let (first, second) = ((100_000, 65_536), (300_000, 10));
        let expected = [first, second].map(|(first, count)| Range { first, count });
        assert_eq!(found, expected);
        assert_eq!(
            map(1001, &found),
            [[0, 1001, 1], [1, 100_000, 65_536], [65_537, 300_000, 10]]
        );
        assert_eq!(total(&found), 65_546);
        assert!(ranges(text, None, 7).is_empty());
    }
}
