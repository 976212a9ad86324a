//! The graph of the steps as a Mermaid flowchart, which forges draw in Markdown.

use std::fmt::Write;

use super::picture::{Picture, Step, printable};

/// The whole text.
pub(super) fn of(picture: &Picture) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for step in &picture.steps {
        let class = step.state.unwrap_or("source");
        line(
            &mut text,
            format_args!("  v{}[\"{}\"]:::{class}", step.id, label(step)),
        );
    }
    for step in &picture.steps {
        for (position, input) in step.inputs.iter().enumerate() {
            let arrow = if position == 0 { "-->" } else { "-.->" };
            line(&mut text, format_args!("  v{input} {arrow} v{}", step.id));
        }
    }
    text.push_str(
        "  classDef hit fill:#c8e6c9,color:#000\n  classDef miss fill:#ffcdd2,color:#000\n  \
         classDef unknown fill:#fff9c4,color:#000\n  classDef source fill:#eeeeee,color:#000\n",
    );
    text
}

fn label(step: &Step) -> String {
    let name = escaped(&printable(&step.name));
    match step.state {
        Some(state) => format!("{name}<br/>{state}"),
        None => name,
    }
}

/// Everything that means something in a label or in Markdown as the number of its character.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | ';' | '<' | '>' | '&' | '`' | '*' | '_' | '\\' => {
                escaped.push_str(&format!("#{};", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_would_end_a_label_is_a_number() {
        assert_eq!(
            escaped("RUN \"a\" && <b>"),
            "RUN #34;a#34; #38;#38; #60;b#62;"
        );
    }
}
