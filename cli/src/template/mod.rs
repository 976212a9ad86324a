//! Templates for `--format`, in the form that users of Docker write: Go's `text/template`, as far as such templates go.
//!
//! There are fields (`{{.Config.Cmd}}`), variables, pipelines, parentheses, literals, comments, `{{-` and `-}}`, the actions `if`, `else`,
//! `range`, `with`, `break`, `continue` and `end`, and the functions in [`function`]. What Go has beyond that (`define`, `template`, `block`,
//! methods) is refused by name when the template is read. Values are those of JSON.

mod escape;
mod evaluate;
mod function;
mod lex;
mod parse;

use std::collections::BTreeSet;

use serde_json::Value;

use evaluate::{Scope, evaluate};
use function::Functions;
use parse::{Node, parse};

/// A template that was read and can be filled in any number of times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nodes = parse(lex::lex(text)?)?;
        Ok(Self { nodes })
    }
}

impl Template {
    /// The text it gives for a value.
    pub(crate) fn fill(&self, dot: &Value) -> Result<String, String> {
        let mut text = String::new();
        let mut scope = Scope::new(dot, Functions::Values);
        evaluate(&self.nodes, dot, &mut scope, &mut text)?;
        Ok(text)
    }

    /// The text it gives for the headings of a table: `headings` has one for each field, and functions leave them as they are.
    pub(crate) fn fill_headings(&self, headings: &Value) -> Result<String, String> {
        let mut text = String::new();
        let mut scope = Scope::new(headings, Functions::Headings);
        evaluate(&self.nodes, headings, &mut scope, &mut text)?;
        Ok(text)
    }

    /// The names that stand first after a dot: `Config` of `{{.Config.Cmd}}`.
    pub(crate) fn fields(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for node in &self.nodes {
            node.fields(&mut found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn image() -> Value {
        json!({
            "ID": "0123456789ab",
            "Repository": "team/app",
            "Tag": "1.2",
            "Size": 1234,
            "Ratio": 0.5,
            "Dangling": false,
            "Nothing": null,
            "Config": {
                "Cmd": ["sh", "-c", "echo <&>"],
                "Env": ["A=1", "B=two words"],
                "Labels": {"z": "26", "a.b": "first"},
                "Volumes": {},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            },
        })
    }

    fn filled(template: &str) -> String {
        let template: Template = template.parse().unwrap();
        template.fill(&image()).unwrap()
    }

    #[test]
    fn templates_give_what_go_gives() {
        // What text/template of Go 1.27 printed for the same values, with Docker's functions.
        let cases = [
            ("{{.Repository}}:{{.Tag}}", "team/app:1.2"),
            ("{{ .ID }}  {{- .Tag -}}  x", "0123456789ab1.2x"),
            ("{{/* nothing */}}a{{- /* b */ -}} c", "ac"),
            ("{{.Config.Cmd}}", "[sh -c echo <&>]"),
            ("{{html .Config.Cmd}}", "[sh -c echo &lt;&amp;&gt;]"),
            ("{{.Repository | urlquery}}", "team%2Fapp"),
            ("{{js \"a'\" .Tag}}", "a\\'1.2"),
            ("{{json .Config.Cmd}}", r#"["sh","-c","echo <&>"]"#),
            ("{{.Config.Env | json}}", r#"["A=1","B=two words"]"#),
            ("{{.Config.Labels}}", "map[a.b:first z:26]"),
            ("{{index .Config.Labels \"a.b\"}}", "first"),
            ("{{index .Config.Labels \"none\"}}!", "!"),
            ("{{index .Config.Cmd 1}}", "-c"),
            ("{{with index .Config.Cmd 0}}{{.}}{{end}}", "sh"),
            (
                "{{range .Config.Env}}{{println .}}{{end}}",
                "A=1\nB=two words\n",
            ),
            (
                "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}",
                "0=A=1;1=B=two words;",
            ),
            (
                "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}",
                "a.b:first z:26 ",
            ),
            ("{{range .Config.Volumes}}x{{else}}none{{end}}", "none"),
            ("{{if .Dangling}}a{{else if .Tag}}b{{else}}c{{end}}", "b"),
            ("{{if and .Tag (not .Dangling)}}yes{{end}}", "yes"),
            ("{{if eq .Tag \"1.1\" \"1.2\"}}in{{end}}", "in"),
            ("{{if gt .Size 1000}}big{{else}}small{{end}}", "big"),
            (
                "{{len .Config.Cmd}} {{len .Tag}} {{len .Config.Labels}}",
                "3 3 2",
            ),
            ("{{join .Config.Cmd \" \"}}", "sh -c echo <&>"),
            ("{{upper .Tag}}{{lower \"AB\"}}{{title \"ab\"}}", "1.2abAb"),
            ("{{index (split .Repository \"/\") 1}}", "app"),
            ("{{truncate .ID 4}}|{{pad .Tag 1 2}}|", "0123| 1.2  |"),
            ("{{slice .ID 2 5}}", "234"),
            (
                "{{$id := .ID}}{{range .Config.Env}}{{$id}}{{$.Tag}} {{end}}",
                "0123456789ab1.2 0123456789ab1.2 ",
            ),
            (
                "{{printf \"%.4s|%6.2s|%.99s\" .ID .ID .Tag}}",
                "0123|    01|1.2",
            ),
            (
                "{{printf \"%05d|%-5d|%x|%x\" .Size .Size 255 .Tag}}",
                "01234|1234 |ff|312e32",
            ),
            ("{{printf \"%q\" .Config.Env}}", "[\"A=1\" \"B=two words\"]"),
            (
                "{{range .Config.Cmd}}{{if eq . \"-c\"}}{{continue}}{{end}}{{.}};{{end}}",
                "sh;echo <&>;",
            ),
            (
                "{{range $i, $e := .Config.Cmd}}{{$x := $e}}{{with $i}}{{break}}{{end}}{{$x}}{{end}}",
                "sh",
            ),
            (
                "{{range .Config.Env}}{{range $.Config.Cmd}}{{break}}{{end}}{{.}};{{end}}",
                "A=1;B=two words;",
            ),
            (
                "{{printf \"%-5s|%5d|%q|%v%%\" .Tag .Size .Tag .Config.Env}}",
                "1.2  | 1234|\"1.2\"|[A=1 B=two words]%",
            ),
            ("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3"),
            (
                "{{.Nothing}} {{.Ratio}} {{.Dangling}}",
                "<no value> 0.5 false",
            ),
            ("{{`raw \\n`}} {{\"esc\\t\\\"\"}}", "raw \\n esc\t\""),
            ("{{.Config.ExposedPorts}}", "map[53/udp:{} 80/tcp:{}]"),
            ("{{or .Config.Volumes .Tag}}", "1.2"),
            (
                "{{range .Config.Env}}{{with $x := .}}{{$x}},{{end}}{{end}}",
                "A=1,B=two words,",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(filled(template), expected, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_template_is_told_when_it_is_read() {
        let cases = [
            ("{{.Tag", "`{{.Tag` is not closed by `}}`"),
            ("{{}}", "`{{}}` says nothing"),
            ("{{if .Tag}}x", "`{{if .Tag}}` has no `{{end}}`"),
            ("x{{end}}", "`{{end}}` belongs to nothing"),
            ("{{nope .Tag}}", "there is no function `nope`"),
            ("{{$x}}", "`$x` is not set"),
            ("{{define \"a\"}}{{end}}", "`define` is not supported"),
            ("{{break}}", "`{{break}}` is in no `range`"),
            (
                "{{range .A}}{{else}}{{continue}}{{end}}",
                "`{{continue}}` is in no `range`",
            ),
            (
                "{{range .A}}{{break 1}}{{end}}",
                "`{{break 1}}` can't be read",
            ),
            ("{{.Tag \"x}}", "a string is not closed in `{{.Tag \"x}}`"),
            ("{{(.Tag}}", "a parenthesis is not closed in `{{(.Tag}}`"),
            ("{{.Tag | 3}}", "`3` in `{{.Tag | 3}}` is not a function"),
        ];
        for (template, expected) in cases {
            let error = template.parse::<Template>().unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn what_a_value_does_not_have_is_told_when_it_is_filled_in() {
        let cases = [
            (
                "{{.Config.Nope}}",
                "there is no field `Nope` in `.Config.Nope`, only `Cmd`, `Env`, `ExposedPorts`, `Labels`, `Volumes`",
            ),
            ("{{.Tag.More}}", "`.Tag.More` asks for a field of a string"),
            ("{{index .Config.Cmd 9}}", "`index` asks for number 9 of 3"),
            ("{{range .Size}}{{end}}", "`range` is over a number"),
            ("{{len .Size}}", "`len` is of a number"),
            ("{{join .Tag \",\"}}", "`join` takes a list"),
            ("{{lt .Tag 1}}", "`lt` compares a string and a number"),
        ];
        for (template, expected) in cases {
            let template: Template = template.parse().unwrap();
            let error = template.fill(&image()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn headings_stay_as_they_are() {
        let template: Template =
            "{{upper .ID}} {{json .Tag}} {{join .Tags \",\"}} {{range .Tags}}{{.}}{{end}}"
                .parse()
                .unwrap();
        assert_eq!(
            template.fields().into_iter().collect::<Vec<_>>(),
            ["ID", "Tag", "Tags"]
        );
        let headings = json!({"ID": "Image id", "Tag": "TAG", "Tags": "TAGS"});
        assert_eq!(
            template.fill_headings(&headings).unwrap(),
            "Image id TAG TAGS TAGS"
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "{{".to_owned() + &"(".repeat(100_000) + "}}";
        assert!(deep.parse::<Template>().unwrap_err().contains("nested"));
        let ifs = "{{if 1}}".repeat(100_000);
        assert!(ifs.parse::<Template>().unwrap_err().contains("nested"));
    }
}
