//! Variables: the global scope of FROM lines, and the build environment of a stage.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kiln_image::Platform;
use kiln_parser::{ArgPair, Diagnostic, Dockerfile, Variables};

use crate::op::Assignment;
use crate::{Argument, ArgumentOrigin, EnvList, PlanOptions, code};

/// Build arguments that mean something without an ARG (R-ARG-11).
const STEERING_ARGS: [&str; 9] = [
    "BUILDKIT_SYNTAX",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_BUILD_NAME",
    "SOURCE_DATE_EPOCH",
];

/// Proxy settings, which RUN gets in both spellings without an ARG (R-ARG-10).
const PROXY_ARGS: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The variables of a scope: what commands get, and the way to each value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    list: EnvList,
    values: HashMap<String, Arc<Assignment>>,
}

impl Environment {
    /// The variables of an image config: `NAME=value`.
    pub(crate) fn of_config(env: &[String]) -> Environment {
        let mut environment = Environment::default();
        environment.set_all(env);
        environment
    }

    /// Sets what an image config says, in its order.
    pub(crate) fn set_all(&mut self, env: &[String]) {
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value);
        }
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let assignment = self.list.assign(name, value);
        self.values.insert(name.to_owned(), assignment);
    }

    pub(crate) fn list(&self) -> &EnvList {
        &self.list
    }

    /// The names that are set, in the order of the list.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.pairs().into_iter().map(|(name, _)| name)
    }
}

impl Variables for Environment {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|one| one.value.as_str())
    }
}

/// The global scope (R-ARG-1, R-ARG-2).
#[derive(Debug)]
pub(crate) struct Globals {
    /// What has a value: automatic arguments, then ARGs before the first FROM.
    pub(crate) values: Environment,
    /// The ARGs, those without a value too.
    pub(crate) declared: HashSet<String>,
    /// The same in order, with where their values came from.
    pub(crate) arguments: Vec<Argument>,
}

impl Globals {
    /// Evaluates the ARGs before the first FROM.
    pub(crate) fn evaluate(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Globals {
        let mut globals = Globals {
            values: automatic(dockerfile, options),
            declared: HashSet::new(),
            arguments: Vec::new(),
        };
        for pair in dockerfile
            .global_args
            .iter()
            .flat_map(|statement| &statement.instruction.pairs)
        {
            globals.declared.insert(pair.name.value.clone());
            globals.declare(pair, options, diagnostics);
        }
        globals
    }

    fn declare(
        &mut self,
        pair: &ArgPair,
        options: &PlanOptions,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let name = &pair.name;
        let origin = if let Some(value) = options.build_arg(name) {
            self.values.set(name, value);
            ArgumentOrigin::BuildArg
        } else if let Some(default) = &pair.default {
            match default.expand(&self.values) {
                Ok(expanded) => self.values.set(name, &expanded.text),
                Err(error) => diagnostics.push(Diagnostic::error(
                    code::EXPANSION,
                    error.to_string(),
                    default.span,
                )),
            }
            ArgumentOrigin::Default
        } else {
            self.origin(name)
        };
        self.arguments.push(Argument {
            name: name.value.clone(),
            value: self.values.lookup(name).map(str::to_owned),
            origin,
            span: name.span,
        });
    }

    /// Where the value that a name has by now came from.
    fn origin(&self, name: &str) -> ArgumentOrigin {
        let declared = self.arguments.iter().rev().find(|one| one.name == name);
        match (declared, self.values.lookup(name)) {
            (Some(argument), _) => argument.origin,
            (None, Some(_)) => ArgumentOrigin::Automatic,
            (None, None) => ArgumentOrigin::Unset,
        }
    }

    /// The same as a stage sees it that declares the name without a default.
    pub(crate) fn origin_in_stages(&self, name: &str) -> ArgumentOrigin {
        match self.origin(name) {
            ArgumentOrigin::Default => ArgumentOrigin::Global,
            origin => origin,
        }
    }
}

/// The arguments that are there without an ARG; a build argument of the name wins.
fn automatic(dockerfile: &Dockerfile, options: &PlanOptions) -> Environment {
    let mut values = Environment::default();
    platform_args(&mut values, "BUILD", &options.build_platform);
    platform_args(&mut values, "TARGET", &options.target_platform);
    let last = || dockerfile.stages.last().and_then(|stage| stage.name());
    let target = options.target.as_deref().or_else(last);
    values.set("TARGETSTAGE", target.unwrap_or("default"));
    let names: Vec<String> = values.names().map(str::to_owned).collect();
    for name in names {
        if let Some(value) = options.build_arg(&name) {
            values.set(&name, value);
        }
    }
    values
}

fn platform_args(values: &mut Environment, prefix: &str, platform: &Platform) {
    values.set(&format!("{prefix}PLATFORM"), &platform.to_string());
    values.set(&format!("{prefix}OS"), &platform.os);
    values.set(
        &format!("{prefix}OSVERSION"),
        platform.os_version.as_deref().unwrap_or_default(),
    );
    values.set(&format!("{prefix}ARCH"), &platform.architecture);
    values.set(
        &format!("{prefix}VARIANT"),
        platform.variant.as_deref().unwrap_or_default(),
    );
}

/// The proxy settings that RUN gets, in upper and lower case; they outrank the stage's own variables (R-ARG-10).
pub(crate) fn proxies(options: &PlanOptions) -> Vec<(String, String)> {
    let given = |proxy: &str| {
        options
            .build_args
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case(proxy))
            .map(|(_, value)| value)
    };
    let set = PROXY_ARGS
        .iter()
        .filter_map(|proxy| given(proxy).map(|value| (*proxy, value)))
        .filter(|(_, value)| !value.is_empty());
    set.flat_map(|(proxy, value)| {
        [
            (proxy.to_owned(), value.clone()),
            (proxy.to_lowercase(), value.clone()),
        ]
    })
    .collect()
}

/// The build arguments that nothing reads (R-ARG-13). Every ARG of the file counts, reachable or not.
pub(crate) fn unused(dockerfile: &Dockerfile, options: &PlanOptions) -> Vec<String> {
    let globals = dockerfile
        .global_args
        .iter()
        .map(|statement| &statement.instruction);
    let statements = dockerfile.stages.iter().flat_map(|stage| &stage.statements);
    let locals = statements.filter_map(|statement| match &statement.instruction {
        kiln_parser::Instruction::Arg(arg) => Some(arg),
        _ => None,
    });
    let mut read: HashSet<&str> = globals
        .chain(locals)
        .flat_map(|arg| &arg.pairs)
        .map(|pair| pair.name.value.as_str())
        .collect();
    let automatic = automatic(dockerfile, options);
    read.extend(automatic.names());
    read.extend(STEERING_ARGS);
    let is_proxy = |name: &str| {
        PROXY_ARGS
            .iter()
            .any(|proxy| proxy.eq_ignore_ascii_case(name))
    };
    let mut unused: Vec<String> = Vec::new();
    for (name, _) in &options.build_args {
        if !read.contains(name.as_str())
            && !is_proxy(name)
            && !name.starts_with("BUILDKIT_SBOM_")
            && !unused.contains(name)
        {
            unused.push(name.clone());
        }
    }
    unused
}
