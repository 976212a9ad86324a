//! The graph of the steps for Graphviz: `kiln plan --format dot . | dot -Tsvg`.

use std::fmt::Write;

use super::picture::{Picture, Step, printable};

/// The whole text.
pub(super) fn of(picture: &Picture) -> String {
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=filled];\n".to_owned();
    for step in &picture.steps {
        let (label, color) = (quoted(&label(step)), color(step));
        line(
            &mut text,
            format_args!("  v{} [label={label}, fillcolor=\"{color}\"];", step.id),
        );
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

fn label(step: &Step) -> String {
    let name = printable(&step.name);
    match step.state {
        Some(state) => format!("{name}\n{state}"),
        None => name,
    }
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
    use super::quoted;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted("RUN \"a\\b\"\nhit"), r#""RUN \"a\\b\"\nhit""#);
    }
}
