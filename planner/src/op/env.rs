//! The variables of a command.

use std::collections::HashSet;
use std::fmt;
use std::iter;
use std::sync::Arc;

/// Variables in the order of their last assignment, each name once (R-RT-1).
///
/// A list is made longer without touching those it grew from: the RUNs of a stage share what they have in common, and a plan of
/// many ENVs and many RUNs stays small.
#[derive(Clone, Default)]
pub struct EnvList {
    last: Option<Arc<Assignment>>,
}

/// One assignment, and the list before it.
#[derive(Debug)]
pub(crate) struct Assignment {
    name: String,
    pub(crate) value: String,
    earlier: EnvList,
}

impl EnvList {
    /// Assigns a variable after all others.
    pub(crate) fn assign(&mut self, name: &str, value: &str) -> Arc<Assignment> {
        let assignment = Arc::new(Assignment {
            name: name.to_owned(),
            value: value.to_owned(),
            earlier: std::mem::take(self),
        });
        self.last = Some(Arc::clone(&assignment));
        assignment
    }

    /// Names and values in order.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let mut known = HashSet::new();
        let mut pairs: Vec<_> = self
            .assignments()
            .filter(|one| known.insert(one.name.as_str()))
            .map(|one| (one.name.as_str(), one.value.as_str()))
            .collect();
        pairs.reverse();
        pairs
    }

    /// The same, owned.
    #[must_use]
    pub fn to_vec(&self) -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.pairs().into_iter().map(owned).collect()
    }

    /// All assignments, the last one first.
    fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        iter::successors(self.last.as_deref(), |one| one.earlier.last.as_deref())
    }
}

impl FromIterator<(String, String)> for EnvList {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> EnvList {
        let mut list = EnvList::default();
        for (name, value) in pairs {
            list.assign(&name, &value);
        }
        list
    }
}

impl PartialEq for EnvList {
    fn eq(&self, other: &EnvList) -> bool {
        self.pairs() == other.pairs()
    }
}

impl Eq for EnvList {}

impl fmt::Debug for EnvList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs()).finish()
    }
}

/// A long list is taken apart link by link: dropping it from its head would need a stack as deep as the list is long.
impl Drop for EnvList {
    fn drop(&mut self) {
        let mut next = self.last.take();
        while let Some(mut assignment) = next.and_then(Arc::into_inner) {
            next = assignment.earlier.last.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> EnvList {
        let pairs = names.iter().enumerate();
        pairs
            .map(|(value, name)| ((*name).to_owned(), value.to_string()))
            .collect()
    }

    #[test]
    fn the_last_assignment_counts_and_gives_the_place() {
        // R-RT-1, R-EXP-15
        assert_eq!(
            list(&["A", "B", "C", "A"]).pairs(),
            [("B", "1"), ("C", "2"), ("A", "3")]
        );
    }

    #[test]
    fn lists_that_grew_from_one_another_are_independent() {
        let short = list(&["A"]);
        let mut long = short.clone();
        long.assign("B", "2");
        assert_eq!(short.pairs(), [("A", "0")]);
        assert_eq!(long.to_vec().len(), 2);
        assert_ne!(short, long);
    }

    #[test]
    fn a_very_long_list_can_be_dropped() {
        let pair = |index: u32| (index.to_string(), String::new());
        let long: EnvList = (0..200_000).map(pair).collect();
        drop(long);
    }
}
