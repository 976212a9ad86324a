//! `--chmod`: octal and symbolic modes (R-COPY-27).

use std::fmt;

/// The permission bits with set-user-id, set-group-id and sticky.
const ALL_BITS: u32 = 0o7777;
/// What `a` stands for: all bits but the sticky one.
const ALL_CLASSES: u32 = 0o6777;
const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Sets all of them, 0..=07777.
    Octal(u32),
    /// Changes some of them.
    Symbolic(SymbolicMode),
}

/// A mode in the syntax of chmod(1): `u=rwX,go=rX`. What it means in corner cases is BSD's, as in BuildKit: `=` clears the
/// set-id bits of its classes, of directories too, and `t` needs a class other than `o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode {
    text: String,
    changes: Vec<Change>,
}

/// Why a `--chmod` value can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChmodError {
    /// A number that is not octal or above 07777.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    NotOctal(String),
    /// Not a symbolic mode.
    #[error("invalid chmod parameter: '{0}': invalid syntax")]
    BadSyntax(String),
}

/// One change of a mode. They are made one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Takes bits away.
    Clear(u32),
    /// Adds bits.
    Add(u32),
    /// Adds bits to directories, and to files that were executable by somebody before any change: `X`.
    AddIfExecutable(u32),
    /// What one class may, by the distance of its bits, for the classes in the mask: `g=u`.
    Copy {
        shift: u32,
        classes: u32,
        operator: Operator,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl Chmod {
    /// Reads a mode.
    ///
    /// # Errors
    /// When it is neither octal nor symbolic.
    pub fn parse(text: &str) -> Result<Chmod, ChmodError> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8)
                .ok()
                .filter(|bits| *bits <= ALL_BITS);
            return bits
                .map(Chmod::Octal)
                .ok_or_else(|| ChmodError::NotOctal(text.to_owned()));
        }
        let changes = parse_clauses(text).ok_or_else(|| ChmodError::BadSyntax(text.to_owned()))?;
        Ok(Chmod::Symbolic(SymbolicMode {
            text: text.to_owned(),
            changes,
        }))
    }

    /// The bits that a file or directory with the bits `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Chmod::Octal(bits) => *bits,
            Chmod::Symbolic(symbolic) => {
                let executable = is_dir || mode & EXECUTE != 0;
                let changes = symbolic.changes.iter();
                changes.fold(mode & ALL_BITS, |mode, change| {
                    change.apply(mode, executable)
                })
            }
        }
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chmod::Octal(bits) => write!(f, "{bits:o}"),
            Chmod::Symbolic(mode) => f.write_str(&mode.text),
        }
    }
}

impl Change {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        match self {
            Change::Clear(bits) => mode & !bits,
            Change::Add(bits) => mode | bits,
            Change::AddIfExecutable(bits) if executable => mode | bits,
            Change::AddIfExecutable(_) => mode,
            Change::Copy {
                shift,
                classes,
                operator,
            } => {
                let bits = (((mode >> shift) & 0o7) * EXECUTE) & classes;
                match operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Set => (mode & !classes) | bits,
                }
            }
        }
    }
}

/// clauses := clause ("," clause)*    clause := [ugoa]* (op perms)+    op := "+" | "-" | "="    perms := [rwxXstugo]*
fn parse_clauses(text: &str) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    for clause in text.split(',') {
        let operators = clause.find(['+', '-', '='])?;
        let (classes, mut rest) = clause.split_at(operators);
        let who = parse_who(classes)?;
        while !rest.is_empty() {
            let end = rest[1..]
                .find(['+', '-', '='])
                .map_or(rest.len(), |at| at + 1);
            let (change, next) = rest.split_at(end);
            let operator = parse_operator(change)?;
            parse_permissions(who, operator, &change[1..], &mut changes)?;
            rest = next;
        }
    }
    Some(changes)
}

/// The bits of the classes named; 0 if none is, which means all of them.
fn parse_who(classes: &str) -> Option<u32> {
    classes.chars().try_fold(0, |who, class| {
        Some(
            who | match class {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o0007,
                'a' => ALL_CLASSES,
                _ => return None,
            },
        )
    })
}

fn parse_operator(change: &str) -> Option<Operator> {
    match change.as_bytes().first()? {
        b'+' => Some(Operator::Add),
        b'-' => Some(Operator::Remove),
        b'=' => Some(Operator::Set),
        _ => None,
    }
}

/// What the letters after one operator change. A letter of a class ends what was gathered before it.
fn parse_permissions(
    mut who: u32,
    operator: Operator,
    letters: &str,
    changes: &mut Vec<Change>,
) -> Option<()> {
    let is_for_other_only = who != 0 && who & !0o007 == 0;
    let (mut bits, mut conditional) = (0, 0);
    let mut nothing_set_yet = operator == Operator::Set;
    for letter in letters.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= EXECUTE,
            'X' if operator == Operator::Remove => bits |= EXECUTE,
            'X' => conditional |= EXECUTE,
            's' | 't' if is_for_other_only => {}
            's' => bits |= SET_ID,
            't' if who == 0 => bits |= STICKY,
            't' => (who, bits) = (who | STICKY, bits | STICKY),
            'u' | 'g' | 'o' => {
                if bits != 0 {
                    change_bits(who, operator, bits, changes);
                }
                if conditional != 0 {
                    changes.push(Change::AddIfExecutable(of_classes(who, conditional)));
                }
                (bits, conditional, nothing_set_yet) = (0, 0, false);
                changes.push(Change::Copy {
                    shift: match letter {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    },
                    classes: of_classes(who, 0o777),
                    operator,
                });
            }
            _ => return None,
        }
    }
    if bits != 0 || nothing_set_yet {
        change_bits(who, operator, bits, changes);
    }
    if conditional != 0 {
        changes.push(Change::AddIfExecutable(of_classes(who, conditional)));
    }
    Some(())
}

fn change_bits(who: u32, operator: Operator, bits: u32, changes: &mut Vec<Change>) {
    let bits = of_classes(who, bits);
    match operator {
        Operator::Add => changes.push(Change::Add(bits)),
        Operator::Remove => changes.push(Change::Clear(bits)),
        Operator::Set => {
            changes.push(Change::Clear(of_classes(who, ALL_CLASSES | who)));
            changes.push(Change::Add(bits));
        }
    }
}

fn of_classes(who: u32, bits: u32) -> u32 {
    if who == 0 { bits } else { who & bits }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // R-COPY-27
    #[test]
    fn modes_change_bits_as_chmod_does() {
        for (text, mode, is_dir, expected) in [
            ("644", 0o777, false, 0o644),
            ("04755", 0o644, false, 0o4755),
            ("+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("go-w", 0o666, false, 0o644),
            ("a-w,g+s", 0o666, false, 0o2444),
            ("u=rw,go=", 0o755, false, 0o600),
            ("+t", 0o755, true, 0o1755),
            ("u+s", 0o755, false, 0o4755),
            ("a=r+w", 0o755, false, 0o666),
            ("go=", 0o2755, true, 0o700),
            ("u=g", 0o4754, false, 0o4554),
            ("o=u,g=o", 0o741, false, 0o777),
            ("ug+st", 0o644, false, 0o7644),
            ("o+st", 0o644, false, 0o644),
            ("=r", 0o1755, true, 0o1444),
            ("a-X", 0o755, true, 0o644),
            ("u-x+X", 0o744, false, 0o744),
            ("g=ur", 0o751, false, 0o741),
            ("go=u-w", 0o700, false, 0o755),
        ] {
            assert_eq!(
                Chmod::parse(text).unwrap().apply(mode, is_dir),
                expected,
                "{text} on {mode:o}"
            );
        }
    }

    #[test]
    fn bad_modes_are_refused() {
        for text in ["8", "10000", "0o7", "77x"] {
            assert_eq!(
                Chmod::parse(text),
                Err(ChmodError::NotOctal(text.to_owned()))
            );
        }
        for text in ["rwx", "u", "z+x", "u+q", "u=rw,", ",u=r", "é+x", "u+é"] {
            assert_eq!(
                Chmod::parse(text),
                Err(ChmodError::BadSyntax(text.to_owned())),
                "{text}"
            );
        }
    }
}
