//! The graph of the steps for Graphviz: `kiln plan --format dot . | dot -Tsvg`.

use std::fmt::Write;

use super::picture::{Picture, Step, printable};

/// After how many characters a label goes on below, and how many lines it may have.
const LABEL: (usize, usize) = (40, 4);

/// The whole text: a box a step, those of a stage in a frame.
pub(super) fn of(picture: &Picture) -> String {
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=filled];\n".to_owned();
    for step in picture.steps.iter().filter(|step| step.stage.is_none()) {
        node(&mut text, "  ", step);
    }
    for stage in &picture.stages {
        let of_stage = |step: &&Step| step.stage.as_deref() == Some(&stage.name);
        let mut steps = picture.steps.iter().filter(of_stage).peekable();
        if steps.peek().is_none() {
            continue;
        }
        let (index, name) = (stage.index, quoted(&printable(&stage.name)));
        line(
            &mut text,
            format_args!("  subgraph cluster_{index} {{\n    label={name};"),
        );
        steps.for_each(|step| node(&mut text, "    ", step));
        text.push_str("  }\n");
    }
    for step in &picture.steps {
        for (position, input) in step.inputs.iter().enumerate() {
            // What is changed is drawn through, what is only read is dashed.
            let style = if position == 0 { "" } else { " [style=dashed]" };
            line(
                &mut text,
                format_args!("  v{input} -> v{}{style};", step.id),
            );
        }
    }
    text.push_str("}\n");
    text
}

fn node(text: &mut String, indent: &str, step: &Step) {
    let (label, color) = (quoted(&label(step)), color(step));
    line(
        text,
        format_args!(
            "{indent}v{} [label={label}, fillcolor=\"{color}\"];",
            step.id
        ),
    );
}

fn label(step: &Step) -> String {
    let name = wrapped(&printable(&step.name));
    match step.state {
        Some(state) => format!("{name}\n{state}"),
        None => name,
    }
}

/// Text in lines that are not too long; what is left in the end is cut.
fn wrapped(text: &str) -> String {
    let (width, most) = LABEL;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().map_or(0, |line| line.chars().count());
        if last > 0 && last + word.chars().count() >= width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

fn color(step: &Step) -> &'static str {
    match step.state {
        Some("hit") => "#c8e6c9",
        Some("miss") => "#ffcdd2",
        Some(_) => "#fff9c4",
        None => "#eeeeee",
    }
}

/// A string as Graphviz reads it back.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::{quoted, wrapped};

    #[test]
    fn long_labels_are_wrapped_and_cut() {
        let long = ["word"; 100].join(" ");
        let lines: Vec<_> = wrapped(&long).lines().map(str::len).collect();
        assert_eq!(lines, [39, 39, 39, 39, "…".len()]);
        assert_eq!(wrapped("RUN true"), "RUN true");
        let word = "w".repeat(99);
        assert_eq!(wrapped(&word), word);
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted("RUN \"a\\b\"\nhit"), r#""RUN \"a\\b\"\nhit""#);
    }
}
