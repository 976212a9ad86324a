//! One small matcher for the three wildcard languages: `.dockerignore`, Go's `filepath.Match`, and `${v#pattern}`.
//!
//! Each language is translated to [`Token`]s. Matching follows all possibilities at once, one character at a time, so that no pattern
//! takes more than (tokens × characters) steps; patterns with few repetitions take a shorter way.

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Char(char),
    /// One character of the kind.
    One(Wild),
    /// Any number of characters of the kind.
    Many(Wild),
    /// One character of a class.
    Class(Class),
    /// Any number of characters of a class.
    Repeat(Class),
    /// What follows up to the next [`Token::DirsEnd`] may be left out: always stands just before it.
    MaybeDirs,
    /// Any number of characters other than newline, the last one a slash.
    DirsEnd,
}

/// What a wildcard stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wild {
    /// Any character but `/`.
    NotSlash,
    /// Any character but a newline.
    NotNewline,
}

impl Wild {
    fn accepts(self, character: char) -> bool {
        match self {
            Wild::NotSlash => character != '/',
            Wild::NotNewline => character != '\n',
        }
    }
}

/// `[a-z]`, `[^a-z]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Class {
    /// `[^`: accepts what is in none of the ranges.
    pub(crate) negated: bool,
    /// First and last character of each range.
    pub(crate) ranges: Vec<(char, char)>,
}

impl Class {
    fn accepts(&self, character: char) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&character))
            != self.negated
    }
}

/// Where a pattern can end when it starts at the start of the text: byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) shortest: usize,
    pub(crate) longest: usize,
}

/// With up to this many repeating tokens, trying one possibility after the other is faster, and still
/// takes no more than the square of the text.
const FEW: usize = 2;

/// Whether the tokens match the whole text.
pub(crate) fn matches(tokens: &[Token], text: &str) -> bool {
    let repeats =
        |token: &&Token| matches!(token, Token::Many(_) | Token::Repeat(_) | Token::DirsEnd);
    if tokens.iter().filter(repeats).count() <= FEW {
        matches_by_trying(tokens, text)
    } else {
        matches_all_at_once(tokens, text)
    }
}

fn matches_by_trying(mut tokens: &[Token], mut text: &str) -> bool {
    while let Some((token, after)) = tokens.split_first() {
        let first = text.chars().next();
        let accepted = match token {
            Token::Char(expected) => first == Some(*expected),
            Token::One(wild) => first.is_some_and(|first| wild.accepts(first)),
            Token::Class(class) => first.is_some_and(|first| class.accepts(first)),
            Token::Many(wild) => {
                return tails(text, |c| wild.accepts(c)).any(|tail| matches_by_trying(after, tail));
            }
            Token::Repeat(class) => {
                return tails(text, |c| class.accepts(c))
                    .any(|tail| matches_by_trying(after, tail));
            }
            Token::MaybeDirs => {
                return matches_by_trying(&after[1..], text) || matches_by_trying(after, text);
            }
            Token::DirsEnd => {
                let below = tails(text, |c| Wild::NotNewline.accepts(c))
                    .filter_map(|tail| tail.strip_prefix('/'));
                return { below }.any(|tail| matches_by_trying(after, tail));
            }
        };
        if !accepted {
            return false;
        }
        text = &text[first.map_or(0, char::len_utf8)..];
        tokens = after;
    }
    text.is_empty()
}

/// The text, and what remains of it as long as its first character is accepted.
fn tails(text: &str, accepts: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(text), move |text| {
        let first = text.chars().next().filter(|first| accepts(*first))?;
        Some(&text[first.len_utf8()..])
    })
}

fn matches_all_at_once(tokens: &[Token], text: &str) -> bool {
    let mut states = States::start(tokens);
    for character in text.chars() {
        if states.is_dead() {
            return false;
        }
        states.step(tokens, character);
    }
    states.accepts(tokens)
}

/// Where a match at the start of the text can end; `None` when there is none.
pub(crate) fn ends(tokens: &[Token], text: impl Iterator<Item = char>) -> Option<Ends> {
    let mut states = States::start(tokens);
    let mut found = None;
    let mut note = |accepted: bool, at: usize| {
        if accepted {
            let shortest = found.map_or(at, |ends: Ends| ends.shortest);
            found = Some(Ends {
                shortest,
                longest: at,
            });
        }
    };
    let mut at = 0;
    note(states.accepts(tokens), at);
    for character in text {
        if states.is_dead() {
            break;
        }
        states.step(tokens, character);
        at += character.len_utf8();
        note(states.accepts(tokens), at);
    }
    found
}

/// The byte offsets at which some match can start, for each offset of the text; found by running the tokens backwards over it once.
pub(crate) fn possible_starts(tokens: &[Token], text: &str) -> Vec<bool> {
    let reversed: Vec<Token> = tokens.iter().rev().cloned().collect();
    let mut starts = vec![false; text.len() + 1];
    let mut states = States::start(&reversed);
    starts[text.len()] = states.accepts(&reversed);
    for (at, character) in text.char_indices().rev() {
        states.step(&reversed, character);
        states.enter(&reversed, 0);
        starts[at] = states.accepts(&reversed);
    }
    starts
}

/// The tokens that may come next, all possibilities at once.
struct States {
    current: Vec<usize>,
    next: Vec<usize>,
    seen: Vec<bool>,
}

impl States {
    fn start(tokens: &[Token]) -> States {
        let mut states = States {
            current: Vec::new(),
            next: Vec::new(),
            seen: vec![false; tokens.len() + 1],
        };
        states.enter(tokens, 0);
        states
    }

    fn is_dead(&self) -> bool {
        self.current.is_empty()
    }

    fn accepts(&self, tokens: &[Token]) -> bool {
        self.seen[tokens.len()]
    }

    /// Adds a state to the current ones, with all that it reaches without a character.
    fn enter(&mut self, tokens: &[Token], state: usize) {
        add(&mut self.current, &mut self.seen, tokens, state);
    }

    fn step(&mut self, tokens: &[Token], character: char) {
        for state in &self.current {
            self.seen[*state] = false;
        }
        self.next.clear();
        for &state in &self.current {
            let (stays, moves) = match tokens.get(state) {
                None | Some(Token::MaybeDirs) => (false, false),
                Some(Token::Char(expected)) => (false, *expected == character),
                Some(Token::One(wild)) => (false, wild.accepts(character)),
                Some(Token::Many(wild)) => (wild.accepts(character), false),
                Some(Token::Class(class)) => (false, class.accepts(character)),
                Some(Token::Repeat(class)) => (class.accepts(character), false),
                Some(Token::DirsEnd) => (character != '\n', character == '/'),
            };
            if stays {
                add(&mut self.next, &mut self.seen, tokens, state);
            }
            if moves {
                add(&mut self.next, &mut self.seen, tokens, state + 1);
            }
        }
        std::mem::swap(&mut self.current, &mut self.next);
    }
}

fn add(list: &mut Vec<usize>, seen: &mut [bool], tokens: &[Token], state: usize) {
    let mut push = |list: &mut Vec<usize>, state: usize| {
        if !std::mem::replace(&mut seen[state], true) {
            list.push(state);
        }
    };
    let mut at = list.len();
    push(list, state);
    while let Some(&state) = list.get(at) {
        match tokens.get(state) {
            Some(Token::Many(_) | Token::Repeat(_)) => push(list, state + 1),
            Some(Token::MaybeDirs) => {
                push(list, state + 1);
                push(list, state + 2);
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> impl Strategy<Value = Token> {
        prop_oneof![
            Just(Token::Char('a')),
            Just(Token::Char('/')),
            Just(Token::One(Wild::NotSlash)),
            Just(Token::Many(Wild::NotSlash)),
            Just(Token::Many(Wild::NotNewline)),
            Just(Token::Repeat(Class {
                negated: false,
                ranges: vec![('a', 'a'), ('/', '/')]
            })),
            Just(Token::Class(Class {
                negated: true,
                ranges: vec![('a', 'a')]
            })),
        ]
    }

    proptest! {
        #[test]
        fn both_ways_agree(before in prop::collection::vec(token(), 0..4), dirs: bool, after in prop::collection::vec(token(), 0..4), text in "[ab/\n]{0,8}") {
            let dirs: &[Token] = if dirs { &[Token::MaybeDirs, Token::DirsEnd] } else { &[] };
            let tokens = [&before, dirs, &after].concat();
            prop_assert_eq!(matches_by_trying(&tokens, &text), matches_all_at_once(&tokens, &text));
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        let mut tokens: Vec<Token> = Vec::new();
        for _ in 0..200 {
            tokens.extend([Token::Many(Wild::NotSlash), Token::Char('a')]);
        }
        tokens.push(Token::Char('b'));
        assert!(!matches(&tokens, &"a".repeat(5000)));
    }

    #[test]
    fn ends_and_starts() {
        let tokens = [
            Token::Char('a'),
            Token::Many(Wild::NotNewline),
            Token::Char('b'),
        ];
        assert_eq!(
            ends(&tokens, "axbxb-".chars()),
            Some(Ends {
                shortest: 3,
                longest: 5
            })
        );
        assert_eq!(ends(&tokens, "xab".chars()), None);
        assert_eq!(
            possible_starts(&tokens, "xaab"),
            [false, true, true, false, false]
        );
    }
}
