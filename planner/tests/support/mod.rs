//! Plans from text, with images that need no registry.

use std::collections::BTreeMap;

use kiln_image::{Digest, ImageConfig};
use kiln_parser::{Diagnostic, Parsed, Source, parse};
use kiln_planner::{BaseImage, Bases, Plan, PlanOptions, base_images, plan};

/// An image for every name that a test doesn't describe: one layer, a CMD.
const ANY_IMAGE: &str = r#"{"architecture":"amd64","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"created":"2024-01-01T00:00:00Z",
"history":[{"created":"2024-01-01T00:00:00Z","created_by":"base"}],"os":"linux",
"rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#;

/// Images by the name a Dockerfile may use: their configs.
pub type Images = BTreeMap<String, ImageConfig>;

pub fn config(json: &str) -> ImageConfig {
    ImageConfig::from_json(json.as_bytes()).unwrap()
}

#[allow(dead_code)]
pub fn any_config() -> ImageConfig {
    config(ANY_IMAGE)
}

pub fn options() -> PlanOptions {
    PlanOptions::new("linux/amd64".parse().unwrap())
}

/// Resolves what is asked for, as often as it takes, and plans. The names asked for come first.
#[allow(dead_code)]
pub fn resolve_and_plan(
    parsed: &Parsed,
    options: &PlanOptions,
    images: &Images,
) -> (Vec<String>, Result<Plan, Vec<Diagnostic>>) {
    let (mut bases, mut asked) = (Bases::new(), Vec::new());
    loop {
        let requests = match base_images(parsed, options, &bases) {
            Ok(requests) => requests,
            // The plan tells the same errors, and more.
            Err(_) => return (asked, plan(parsed, options, &bases)),
        };
        if requests.is_empty() {
            return (asked, plan(parsed, options, &bases));
        }
        for request in requests {
            asked.push(format!("{} {}", request.reference, request.platform));
            let described = images
                .iter()
                .find(|(name, _)| name.parse() == Ok(request.reference.clone()));
            let config = described.map_or_else(|| config(ANY_IMAGE), |(_, config)| config.clone());
            let manifest_digest = Some(Digest::of(request.reference.to_string().as_bytes()));
            bases.insert(
                request.key(),
                BaseImage {
                    manifest_digest,
                    config,
                },
            );
        }
    }
}

/// The plan of a correct Dockerfile.
#[allow(dead_code)]
pub fn planned(dockerfile: &str, options: &PlanOptions) -> Plan {
    let source = Source::new("Dockerfile", dockerfile);
    let parsed = parse(&source);
    assert!(
        !parsed.has_errors(),
        "{dockerfile}\n{:?}",
        parsed.diagnostics
    );
    match resolve_and_plan(&parsed, options, &Images::new()).1 {
        Ok(plan) => plan,
        Err(errors) => panic!("{dockerfile}\n{errors:?}"),
    }
}

/// The messages of a wrong one.
#[allow(dead_code)]
pub fn refused(dockerfile: &str, options: &PlanOptions) -> Vec<String> {
    let parsed = parse(&Source::new("Dockerfile", dockerfile));
    assert!(
        !parsed.has_errors(),
        "{dockerfile}\n{:?}",
        parsed.diagnostics
    );
    match resolve_and_plan(&parsed, options, &Images::new()).1 {
        Ok(_) => panic!("no error in\n{dockerfile}"),
        Err(errors) => errors.into_iter().map(|error| error.message).collect(),
    }
}
