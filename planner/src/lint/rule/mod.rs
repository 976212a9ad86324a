//! The rules, one file each.
//!
//! To add one: its file, its page beside it, its name in the list below, a folder in `testdata/check`.

use kiln_parser::Severity;

use super::finding::Found;
use super::subject::Subject;

/// Declares the modules and lists their rules.
macro_rules! rules {
    ($($module:ident)*) => {
        $(mod $module;)*
        static ALL: &[&Rule] = &[$(&$module::RULE),*];
    };
}

rules! {
    // BuildKit's, in the order of its documentation.
    stage_name_casing
    from_as_casing
    no_empty_continuation
    consistent_instruction_casing
    duplicate_stage_name
    reserved_stage_name
    json_args_recommended
    maintainer_deprecated
    undefined_arg_in_from
    workdir_relative_path
    undefined_var
    multiple_instructions_disallowed
    legacy_key_value_format
    invalid_base_image_platform
    redundant_target_platform
    secrets_used_in_arg_or_env
    invalid_default_arg_in_from
    from_platform_flag_const_disallowed
    copy_ignored_file
    invalid_definition_description
    expose_proto_casing
    expose_invalid_format
    // Those of kiln, in the order of a build.
    unpinned_base
    apt_update_alone
    apt_upgrade
    apt_key
    install_asks
    install_recommends
    package_lists_left
    package_cache_left
    cleanup_in_later_layer
    sudo
    cd_without_effect
    cd_instead_of_workdir
    service_without_effect
    pipe_without_pipefail
    add_instead_of_copy
    copy_before_install
    context_clutter
    secret_copied
    changing_value_early
    shell_entrypoint_drops_cmd
    root_server
}

pub use secrets_used_in_arg_or_env::names_a_secret;

/// A check.
#[derive(Debug)]
pub struct Rule {
    /// Its stable name: BuildKit's, or one that begins with `K-`.
    pub id: &'static str,
    /// A warning, or mere advice.
    pub severity: Severity,
    /// Whether it runs only when asked for (R-CHK-3).
    pub experimental: bool,
    /// What it is about, in a line.
    pub summary: &'static str,
    /// Its page of documentation, Markdown.
    pub page: &'static str,
    pub(super) check: fn(&Subject<'_>) -> Vec<Found>,
}

/// A rule is its id.
impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl Rule {
    /// Whether it is one of BuildKit's.
    #[must_use]
    pub fn is_buildkit(&self) -> bool {
        !self.id.starts_with("K-")
    }

    /// Whether it is about one line, not the whole instruction.
    pub(super) fn is_about_a_line(&self) -> bool {
        self.id == no_empty_continuation::RULE.id
    }

    /// Where the public documentation of a rule of BuildKit's is (R-CHK-9); empty for others.
    #[must_use]
    pub fn url(&self) -> String {
        if !self.is_buildkit() || self.id == "InvalidBaseImagePlatform" {
            return String::new();
        }
        format!(
            "https://docs.docker.com/go/dockerfile/rule/{}/",
            kebab(self.id)
        )
    }
}

/// Every rule.
#[must_use]
pub fn rules() -> &'static [&'static Rule] {
    ALL
}

/// A rule by its id in any letter case; the `K-` may be left out.
#[must_use]
pub fn find(name: &str) -> Option<&'static Rule> {
    let is_named = |rule: &&&Rule| {
        let short = rule.id.strip_prefix("K-").unwrap_or(rule.id);
        [rule.id, short]
            .iter()
            .any(|id| id.eq_ignore_ascii_case(name))
            || (rule.is_buildkit() && kebab(rule.id) == name)
    };
    ALL.iter().find(is_named).copied()
}

/// `JSONArgsRecommended` as `json-args-recommended`.
fn kebab(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (index, character) in characters.iter().enumerate() {
        let after_lower = index > 0 && characters[index - 1].is_lowercase();
        let before_lower = characters
            .get(index + 1)
            .is_some_and(|next| next.is_lowercase());
        if character.is_uppercase() && index > 0 && (after_lower || before_lower) {
            kebab.push('-');
        }
        kebab.extend(character.to_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_where_buildkit_has_it() {
        // R-CHK-9
        let url = |name| find(name).map(Rule::url).unwrap_or_default();
        let base = "https://docs.docker.com/go/dockerfile/rule";
        assert_eq!(
            url("JSONArgsRecommended"),
            format!("{base}/json-args-recommended/")
        );
        assert_eq!(url("UndefinedVar"), format!("{base}/undefined-var/"));
        assert_eq!(url("InvalidBaseImagePlatform"), "");
    }

    #[test]
    fn ids_are_unique_and_pages_are_complete() {
        for (index, rule) in ALL.iter().enumerate() {
            assert!(!ALL[..index].contains(rule), "{}", rule.id);
            assert_eq!(rule.page.lines().next(), Some(&*format!("# {}", rule.id)));
            for part in ["## Why", "## Bad", "## Good"] {
                assert!(rule.page.contains(part), "{}: no {part}", rule.id);
            }
        }
    }
}
