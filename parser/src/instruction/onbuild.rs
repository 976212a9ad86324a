//! ONBUILD (R-ONB).

use crate::arguments::first_word;
use crate::request::Request;
use crate::statement::{self, Item};
use crate::{Code, Diagnostic, Instruction, code};

/// `ONBUILD <instruction>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger's text, heredoc bodies and terminators appended (R-ONB-1). Read again with [`parse_trigger`](crate::parse_trigger)
    /// when it fires.
    pub trigger: String,
    /// What it would be if it fired now; `None` when it can't be read, which is no error here (R-ONB-2).
    pub instruction: Option<Box<Instruction>>,
}

/// What can't be a trigger (R-ONB-2).
const FORBIDDEN: [&str; 3] = ["ONBUILD", "FROM", "MAINTAINER"];

/// What is wrong with an instruction wherever it stands.
const LEXICAL: [Code; 2] = [code::MISSING_EQUALS, code::EXEC_FORM_NOT_STRINGS];

/// `"ONBUILD" instruction`
pub(super) fn parse(
    mut request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Onbuild> {
    request.no_flags(diagnostics);
    if request.text.is_empty() {
        diagnostics.push(request.missing("an instruction"));
        return None;
    }
    let (keyword, _) = first_word(request.text);
    if let Some(forbidden) = FORBIDDEN
        .into_iter()
        .find(|forbidden| forbidden.eq_ignore_ascii_case(keyword))
    {
        let message = format!("{forbidden} can't be an ONBUILD trigger");
        diagnostics.push(Diagnostic::error(
            code::FORBIDDEN_TRIGGER,
            message,
            request.line.place(keyword),
        ));
        return None;
    }
    let trigger = trigger(&request);
    Some(Onbuild {
        trigger,
        instruction: instruction(request, diagnostics),
    })
}

/// The text as kept in the image, blanks at its end included (R-ONB-1).
fn trigger(request: &Request<'_>) -> String {
    let mut trigger = request.line.from(request.text).to_owned();
    for heredoc in &request.heredocs {
        trigger.extend(["\n", &heredoc.body, &heredoc.name]);
    }
    trigger
}

/// What the trigger says. What is wrong with it matters only when it fires, unless it can't even be taken apart (R-LEX-12).
fn instruction(
    request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Box<Instruction>> {
    let mut later = Vec::new();
    let item = statement::parse(
        request.line,
        request.text,
        request.heredocs,
        request.escape,
        &mut later,
    );
    let now = later.iter().filter(|error| LEXICAL.contains(&error.code));
    diagnostics.extend(now.cloned());
    match item {
        Some(Item::Instruction(instruction)) if !later.iter().any(Diagnostic::is_error) => {
            Some(Box::new(instruction))
        }
        _ => None,
    }
}
