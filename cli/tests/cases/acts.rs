//! What happens between two builds of a case, a line each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::context_tree::word;

/// The words of a line; quotes hold blanks.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (next, after) = word(rest);
        words.push(next);
        rest = after;
    }
    words
}

/// Does what one act says to a context.
pub fn edit(context: &Path, words: &[&str]) {
    let at = |path: &str| context.join(path);
    match *words {
        ["touch", path] => fs::File::open(at(path))
            .unwrap()
            .set_modified(SystemTime::now())
            .unwrap(),
        ["chmod", mode, path] => {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        ["write", path, content] => {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), content).unwrap();
        }
        ["replace", path, old, new] => {
            let text = fs::read_to_string(at(path)).unwrap();
            assert!(text.contains(old), "no {old:?} in {path}");
            fs::write(at(path), text.replace(old, new)).unwrap();
        }
        ["remove", path] => fs::remove_file(at(path)).unwrap(),
        ["link", path, target] => {
            let _ = fs::remove_file(at(path));
            std::os::unix::fs::symlink(target, at(path)).unwrap();
        }
        ["rename", from, to] => fs::rename(at(from), at(to)).unwrap(),
        _ => panic!("what is {words:?}?"),
    }
}
