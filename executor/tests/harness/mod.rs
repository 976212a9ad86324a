//! What test runners ask of a harness of our own, for the test binaries that have one.

/// Which cases the arguments ask for, as those of the standard harness do.
pub(crate) struct Wanted<'a> {
    exact: bool,
    filters: Vec<&'a str>,
    skipped: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn read(args: &'a [String]) -> Self {
        let mut wanted = Self {
            exact: args.iter().any(|arg| arg == "--exact"),
            filters: Vec::new(),
            skipped: Vec::new(),
        };
        let mut rest = args.iter().map(String::as_str);
        while let Some(arg) = rest.next() {
            match arg {
                "--skip" => wanted.skipped.extend(rest.next()),
                "terse" => {}
                filter if !filter.starts_with('-') => wanted.filters.push(filter),
                _ => {}
            }
        }
        wanted
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let matches = |filter: &&str| match self.exact {
            true => name == *filter,
            false => name.contains(*filter),
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skipped.iter().any(matches)
    }
}
