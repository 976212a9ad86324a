//! What holds for every text. The fuzz targets of `parser/fuzz` hold the same promises.

#![allow(clippy::unwrap_used)]

mod tree;

use kiln_parser::print::print;
use kiln_parser::{Instruction, Parsed, Source, Span, Spanned, Word, parse};
use proptest::prelude::*;
use tree::placeless;

/// Every span of a tree and its diagnostics, by way of their debug text: none can be forgotten.
fn spans(parsed: &Parsed) -> Vec<Span> {
    let text = format!("{parsed:?}");
    let number = |text: &str| {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    let after = text.split("Span { start: ").skip(1);
    after
        .map(|rest| Span::new(number(rest), number(rest.split_once("end: ").unwrap().1)))
        .collect()
}

fn check_spans(parsed: &Parsed, source: &Source) -> Result<(), TestCaseError> {
    for span in spans(parsed) {
        prop_assert!(
            source.text().get(span.range()).is_some(),
            "{span:?} of {:?}",
            source.text()
        );
    }
    Ok(())
}

/// Words that stand in the file as they are: not those of JSON arrays and flags.
fn words(parsed: &Parsed) -> Vec<&Spanned<Word>> {
    let mut words = Vec::new();
    for stage in &parsed.dockerfile.stages {
        words.push(&stage.from.image);
        for statement in &stage.statements {
            match &statement.instruction {
                Instruction::Arg(arg) => {
                    words.extend(arg.pairs.iter().filter_map(|pair| pair.default.as_ref()));
                }
                Instruction::Env(env) => {
                    words.extend(env.pairs.iter().flat_map(|(key, value)| [key, value]));
                }
                Instruction::Label(label) => {
                    words.extend(label.pairs.iter().flat_map(|(key, value)| [key, value]));
                }
                Instruction::Expose(expose) => words.extend(&expose.ports),
                Instruction::Stopsignal(stopsignal) => words.push(&stopsignal.value),
                Instruction::User(user) => words.push(&user.value),
                Instruction::Workdir(workdir) => words.push(&workdir.value),
                Instruction::Copy(copy) if !statement.text.contains('[') => words.push(&copy.dest),
                _ => {}
            }
        }
    }
    words
}

/// Text that looks like a Dockerfile: what the grammar cares about, put together at random.
fn near_misses() -> impl Strategy<Value = String> {
    let keyword = prop_oneof![
        8 => "(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|CMD|ENTRYPOINT|ONBUILD|HEALTHCHECK|VOLUME|SHELL|EXPOSE|USER|WORKDIR|STOPSIGNAL)",
        1 => "(from|rUn|MAINTAINER|FORM|#|# escape=`|# syntax=a|# check=skip=all|)",
    ];
    let argument = prop_oneof![
        "[a-z]{1,4}",
        "--(from|chown|mount|link|exclude|platform|network|x)(=[a-z'\"\\\\$,]{0,5})?",
        "<<-?['\"]?[AB]['\"]?",
        "(NONE|CMD|AS|as|a=b|A=\"x y\"|\\$\\{A:-b\\}|\\[\"a\", \"b c\"\\]|\\[1\\]|\\[\\]|/|`|\\\\)",
        "[-a<$\"'\\[\\]{}=,\\\\`é# \t]{0,6}",
    ];
    let end = prop_oneof![8 => "\n", 1 => " \\\\ ?\n", 1 => "\r\n", 1 => "\\\\\n#c\n\n", 1 => "\n[AB]\n", 1 => "`\n"];
    let line = (keyword, prop::collection::vec(argument, 0..4), end);
    let line = line
        .prop_map(|(keyword, arguments, end)| format!("{keyword} {}{end}", arguments.join(" ")));
    (any::<bool>(), prop::collection::vec(line, 0..8)).prop_map(|(from, lines)| {
        let head = if from { "FROM a\n" } else { "" };
        head.to_owned() + &lines.concat()
    })
}

/// A file without errors, so that its whole tree is there.
fn right_files() -> impl Strategy<Value = String> {
    let word = "[a-z$é{}:/.*-]{0,3}[a-z]('[a \"]'|\"[b' $]\"|\\\\ )?";
    let argument = "[a-z/.*é$]{1,6}";
    let flag = "(\"[a ,]{1,4}\"|[a-z]{1,4}|a\\\\ b|'x\"y')";
    let line = prop_oneof![
        (word, word).prop_map(|(a, b)| format!("ENV A={a} B={b}")),
        (word, word).prop_map(|(a, b)| format!("LABEL k{a} {b}z")),
        word.prop_map(|a| format!("ARG A={a} B")),
        (flag, flag, argument, argument)
            .prop_map(|(a, b, c, d)| format!("COPY --chown={a} --exclude={b} --link {c} {d}")),
        (argument, argument).prop_map(|(a, b)| format!("ADD --unpack=false [\"{a} x\", \"{b}\"]")),
        (argument, "\t?[a-z$#\\\\ ]{0,5}")
            .prop_map(|(a, b)| format!("COPY 3<<-\"E'\" <<F {a}\n{b}\nE'\n{b}x\nF")),
        (flag, "[a-z \"'$\\\\]{0,8}[a-z]")
            .prop_map(|(a, b)| format!("RUN --device={a} --network=none {b}")),
        "[a-z ]{0,8}".prop_map(|a| format!("RUN <<A cat <<-'B C'\n{a}\nA\n\t{a}\n\tB C")),
        "[a-z\" ]{0,6}".prop_map(|a| format!("CMD [{a:?}, \"\\u0001\\n\"]")),
        "[a-z ]{1,6}z".prop_map(|a| format!(
            "HEALTHCHECK --interval=1m3.5s --timeout=1001us --retries=3 CMD {a}"
        )),
        "[a-z=# ]{0,6}".prop_map(|a| format!("# {a}\nVOLUME /{a}")),
        argument.prop_map(|a| format!("ONBUILD RUN {a} \\\n  b")),
        argument.prop_map(|a| format!("USER -- --{a}")),
        argument.prop_map(|a| format!("RUN {a}\\\u{b}")),
        Just(
            "STOPSIGNAL --x 9\nEXPOSE 80 $P\nSHELL [\"a\", \"-c\"]\nWORKDIR /a  b\nMAINTAINER x y"
                .to_owned()
        ),
        Just("HEALTHCHECK NONE\nENTRYPOINT\nFROM --platform=\"a b\" b AS Cd".to_owned()),
        "(type=cache|a|\"t=/a,b\"),x=\\$V".prop_map(|a| format!("RUN --mount='{a}' x")),
    ];
    let head =
        "(# syntax=a b\n)?(# escape=`\n)?(# check=skip=all;error=true\n)?(#\n# x=y\n)?(ARG G=1\n)?";
    (head, prop::collection::vec(line, 0..6))
        .prop_map(|(head, lines)| format!("{head}FROM a\n{}\n", lines.join("\n")))
}

/// Printing a tree and reading it again gives the same tree.
fn check_print(parsed: &Parsed, source: &Source) -> Result<(), TestCaseError> {
    let printed = Source::new("printed", print(&parsed.dockerfile));
    let again = parse(&printed);
    prop_assert!(
        !again.has_errors(),
        "{}\nbecame\n{}\n{:?}",
        source.text(),
        printed.text(),
        again.diagnostics
    );
    prop_assert_eq!(
        placeless(&again, &printed),
        placeless(parsed, source),
        "{}\nbecame\n{}",
        source.text(),
        printed.text()
    );
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let source = Source::from_bytes("Dockerfile", &bytes);
        check_spans(&parse(&source), &source)?;
    }

    #[test]
    fn near_misses_are_read(text in near_misses()) {
        let source = Source::new("Dockerfile", text);
        let parsed = parse(&source);
        check_spans(&parsed, &source)?;
        let _ = placeless(&parsed, &source);
        if parsed.has_errors() {
            let _ = print(&parsed.dockerfile);
        } else {
            check_print(&parsed, &source)?;
        }
    }

    #[test]
    fn words_are_where_they_say(text in right_files()) {
        let source = Source::new("Dockerfile", text);
        let parsed = parse(&source);
        for word in words(&parsed) {
            let written = source.snippet(word.span);
            prop_assert!(written == word.raw() || written.contains('\n'), "{written:?}, {:?}", word.raw());
        }
    }

    #[test]
    fn printing_loses_nothing(text in right_files()) {
        let source = Source::new("Dockerfile", text);
        let parsed = parse(&source);
        prop_assume!(!parsed.has_errors());
        check_print(&parsed, &source)?;
    }

    #[test]
    fn parsing_the_print_changes_nothing_more(text in right_files()) {
        let source = Source::new("Dockerfile", text);
        let parsed = parse(&source);
        prop_assume!(!parsed.has_errors());
        let once = print(&parsed.dockerfile);
        let twice = print(&parse(&Source::new("printed", once.clone())).dockerfile);
        prop_assert_eq!(once, twice);
    }
}

/// A file twice as long gives a tree and diagnostics at most a little more than twice as large.
#[test]
fn what_comes_out_grows_as_what_goes_in() {
    let kinds = [
        "FROM a\n",
        "RUN a \\\n",
        "COPY <<E ",
        "A=$B ",
        "--mount=type=a ",
        "ONBUILD ",
        "[\"a\",",
        "<<E\n",
        "# c\n",
        "\"",
        "${A:-",
        "\\",
        "`",
        "FORM\n",
    ];
    for kind in kinds {
        let size = |times: usize| {
            let text = format!("FROM a\nRUN x\nENV {}", kind.repeat(times));
            format!("{:?}", parse(&Source::new("Dockerfile", text))).len()
        };
        let (once, twice) = (size(500), size(1000));
        assert!(twice <= 2 * once + 1000, "{kind:?}: {once}, then {twice}");
    }
}
