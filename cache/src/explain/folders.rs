//! Files that come or go with their directory: that is one edit, and it is told once.

use super::FileCause;

/// Leaves out what goes without saying of what came, went or was hidden with a directory above it.
pub(super) fn told(files: Vec<FileCause>) -> Vec<FileCause> {
    let is_whole = |file: &&FileCause| {
        let changes = ["added", "removed", "ignored", "unignored"];
        changes.contains(&file.change)
    };
    let mut whole: Vec<FileCause> = files.iter().filter(is_whole).cloned().collect();
    whole.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let goes_without_saying = |file: &FileCause| {
        let above = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        let mut above = above.filter_map(|path| {
            let at = whole.binary_search_by(|one| one.path.as_str().cmp(path));
            at.ok().map(|at| &whole[at])
        });
        above.any(|above| {
            above.change == file.change
                && (&above.before, &above.after) == (&file.before, &file.after)
        })
    };
    let mut told = files;
    told.retain(|file| !goes_without_saying(file));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stands_for_what_is_in_it() {
        let cases = [
            ("-d -d/a -d/e -d/e/c", "-d"),
            ("+d +d/a", "+d"),
            ("-d/a -d/b", "-d/a -d/b"),
            ("+d -d/a", "+d -d/a"),
            ("-d -d.c -dd/a", "-d -d.c -dd/a"),
            ("-/d -/d/a", "-/d"),
        ];
        for (files, expected) in cases {
            let files = files.split(' ').map(|text| FileCause {
                path: text[1..].to_owned(),
                change: if text.starts_with('+') {
                    "added"
                } else {
                    "removed"
                },
                before: None,
                after: None,
            });
            let told = told(files.collect());
            let told = told.iter().map(|file| {
                let sign = if file.change == "added" { "+" } else { "-" };
                format!("{sign}{}", file.path)
            });
            assert_eq!(told.collect::<Vec<_>>().join(" "), expected);
        }
    }
}
