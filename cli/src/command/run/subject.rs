//! What `kiln run` and `kiln shell` run something in: an image, a stage, or where a step failed.

use kiln_cache::{ContainerRecord, FailedStep};
use kiln_executor::container::Subject;
use kiln_executor::images::{self, StoredImage};
use kiln_image::{Platform, Reference};

use super::{ContainerFlags, Pull};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// What was chosen.
pub(crate) struct Chosen {
    pub(crate) subject: Subject,
    /// As the user calls it.
    pub(crate) name: String,
    /// The step that failed there, if one did.
    pub(crate) step: Option<FailedStep>,
}

impl Chosen {
    pub(crate) fn image(image: StoredImage, name: &str) -> Self {
        Self {
            subject: image.into(),
            name: name.to_owned(),
            step: None,
        }
    }

    pub(crate) fn container(container: ContainerRecord) -> Self {
        Self {
            subject: Subject::from(&container),
            name: container.name,
            step: container.step,
        }
    }
}

/// The image in the store, or else from its registry.
pub(crate) fn find_or_pull(
    session: &Session,
    config: &Config,
    text: &str,
    flags: &ContainerFlags,
) -> Result<Chosen, Failure> {
    let asked = flags.platform.as_ref();
    let found = stored::find_for(&session.services()?, text, asked);
    let missing = match (found, flags.pull) {
        (Ok(image), Pull::Missing | Pull::Never) => {
            if asked.is_none() {
                tell_of_other_platform(text, &image);
            }
            return Ok(Chosen::image(image, text));
        }
        (Ok(_), Pull::Always) => None,
        (Err(failure), Pull::Missing | Pull::Always) if failure.exit == Exit::Failed => {
            Some(failure)
        }
        (Err(failure), _) => return Err(failure),
    };
    let reference = match (text.parse::<Reference>(), missing) {
        (Ok(reference), _) => reference,
        (Err(_), Some(missing)) => return Err(missing),
        (Err(error), None) => return Err(Failure::from_error(Exit::Usage, None, &error)),
    };
    let platform = asked.cloned().unwrap_or_else(Platform::host);
    let mode = config.progress(None, flags.quiet)?;
    let (pulled, _) = session.watch(mode, |watched| {
        images::pull(&watched.services, &reference, &platform, &watched.reporter)
            .map_err(Failure::from_engine)
    });
    let pulled = pulled.map_err(|failure| match flags.pull {
        Pull::Always => failure,
        _ => failure.note(format!(
            "`{text}` is not in the store, so its registry was asked"
        )),
    })?;
    Ok(Chosen::image(pulled, text))
}

/// It may not run, and nobody has asked for it.
fn tell_of_other_platform(text: &str, image: &StoredImage) {
    let (host, own) = (Platform::host(), image.config.platform());
    if host.preference(&own).is_none() {
        crate::say(&format!(
            "warning: image `{text}` is for {own}, and this machine is {host}\n"
        ));
    }
}

/// Where a step failed: the one that `text` names, or else the latest.
pub(crate) fn failed_step(session: &Session, text: Option<&str>) -> Result<Chosen, Failure> {
    if let Some(text) = text {
        return stored::container(&session.services()?, text).map(Chosen::container);
    }
    let kept = session.store.containers().list();
    let kept = kept.map_err(|error| Failure::from_store(&error))?;
    let latest = kept.into_iter().find(|container| container.step.is_some());
    latest.map(Chosen::container).ok_or_else(|| {
        Failure::new(Exit::Failed, "container", "no failed step is kept").help(
            "a step that fails is kept until its Dockerfile can be built; `kiln shell IMAGE` opens a shell in an image",
        )
    })
}
