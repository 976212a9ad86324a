//! "Did you mean": the nearest of the words that were possible.

/// The candidate at edit distance 1 or 2 from `word`, the nearest one, the first of equals. `None` when `word` is itself a
/// candidate or nothing is near. Case counts; lower-case both sides when it shouldn't.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Nothing longer is ever a typing mistake of a name we know, and the distance is quadratic.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let distances = candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(word, candidate), candidate));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (1..=2).contains(&distance).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let flags = ["from", "chown", "chmod", "link"];
        assert_eq!(suggest("form", flags), Some("from"));
        assert_eq!(suggest("chwn", flags), Some("chown"));
        assert_eq!(suggest("platform", flags), None);
        assert_eq!(suggest("link", flags), None, "a correct word needs no help");
    }
}
