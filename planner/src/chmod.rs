//! `--chmod`: octal and symbolic modes (R-COPY-27).

use std::fmt;

/// The permission bits with set-user-id, set-group-id and sticky.
const ALL_BITS: u32 = 0o7777;

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Sets all of them, 0..=07777.
    Octal(u32),
    /// Changes some of them.
    Symbolic(SymbolicMode),
}

/// A mode in the syntax of chmod(1): `u=rwX,go=rX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode {
    text: String,
    clauses: Vec<Clause>,
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

/// One change: `go-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clause {
    /// Classes it is for, as the mask of their bits; set-id and sticky bits are in the masks of their classes.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// What is added, removed or set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// Bits for every class at once; `conditional_execute` is `X`.
    Bits {
        bits: u32,
        conditional_execute: bool,
    },
    /// Those that another class has, as the distance of its bits: `g=u`.
    Copy { shift: u32 },
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
        let clauses = parse_clauses(text).ok_or_else(|| ChmodError::BadSyntax(text.to_owned()))?;
        Ok(Chmod::Symbolic(SymbolicMode {
            text: text.to_owned(),
            clauses,
        }))
    }

    /// The bits that a file or directory with the bits `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Chmod::Octal(bits) => *bits,
            Chmod::Symbolic(symbolic) => symbolic
                .clauses
                .iter()
                .fold(mode & ALL_BITS, |mode, clause| clause.apply(mode, is_dir)),
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

impl Clause {
    fn apply(self, mode: u32, is_dir: bool) -> u32 {
        let bits = self.who & self.permissions.bits(mode, is_dir);
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // As chmod(1) does, `=` leaves the set-id bits of a directory alone unless it names them.
            Operator::Set => (mode & !(self.who & if is_dir { 0o1777 } else { ALL_BITS })) | bits,
        }
    }
}

impl Permissions {
    fn bits(self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Permissions::Bits {
                bits,
                conditional_execute,
            } => {
                let execute = conditional_execute && (is_dir || mode & 0o111 != 0);
                bits | if execute { 0o111 } else { 0 }
            }
            Permissions::Copy { shift } => (mode >> shift & 0o7) * 0o111,
        }
    }
}

/// clauses := clause ("," clause)*    clause := [ugoa]* (op perms)+    op := "+" | "-" | "="    perms := [rwxXst]* | [ugo]
fn parse_clauses(text: &str) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    for clause in text.split(',') {
        let operators = clause.find(['+', '-', '='])?;
        let (classes, mut rest) = clause.split_at(operators);
        let who = parse_who(classes)?;
        while !rest.is_empty() {
            let end = rest[1..]
                .find(['+', '-', '='])
                .map_or(rest.len(), |at| at + 1);
            let (change, next) = rest.split_at(end);
            clauses.push(Clause {
                who,
                operator: parse_operator(change)?,
                permissions: parse_permissions(&change[1..])?,
            });
            rest = next;
        }
    }
    Some(clauses)
}

fn parse_who(classes: &str) -> Option<u32> {
    if classes.is_empty() {
        return Some(ALL_BITS);
    }
    classes.chars().try_fold(0, |who, class| {
        Some(
            who | match class {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => ALL_BITS,
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

fn parse_permissions(letters: &str) -> Option<Permissions> {
    match letters {
        "u" => return Some(Permissions::Copy { shift: 6 }),
        "g" => return Some(Permissions::Copy { shift: 3 }),
        "o" => return Some(Permissions::Copy { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut conditional_execute) = (0, false);
    for letter in letters.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => conditional_execute = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(Permissions::Bits {
        bits,
        conditional_execute,
    })
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
            ("go=", 0o2755, true, 0o2700),
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
