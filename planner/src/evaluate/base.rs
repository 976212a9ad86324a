//! What a stage starts with (R-FROM-9..16).

use std::collections::BTreeMap;

use kiln_image::{ImageConfig, Platform};
use kiln_parser::Diagnostic;

use super::name::Naming;
use super::{Attached, Builder, StageState};
use crate::resolve::{Base, ImageName, Origin, ResolvedStage};
use crate::scope::Environment;
use crate::{
    BaseImage, BaseKey, ContextName, CopyOp, CopySourceOp, FileOp, Op, SourceOp, StepPolicy,
    Vertex, VertexId, code, paths,
};

/// `PATH` where nobody chose one (R-FROM-10, R-FROM-11).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Builder<'_> {
    /// The state before a stage's first instruction. `None` when it is based on a stage that has none.
    pub(super) fn base_state(
        &mut self,
        index: usize,
        stage: &ResolvedStage<'_>,
        naming: &mut Naming,
    ) -> Option<StageState> {
        match &stage.base {
            Base::Unknown => Some(self.guessed_state()),
            Base::Scratch | Base::Files(_) if stage.replaced => {
                Some(self.configless_state(index, stage))
            }
            Base::Scratch => Some(self.scratch_state()),
            Base::Files(name) => Some(self.files_state(index, stage, name)),
            Base::Stage(parent) => self
                .states
                .get_mut(*parent)?
                .as_mut()
                .map(|parent| inherited(parent, stage)),
            Base::Image(image) => Some(self.image_state(index, stage, image, naming)),
        }
    }

    /// A stand-in for a base that could not be had, which was told, so that the instructions are looked at all the same.
    fn guessed_state(&mut self) -> StageState {
        StageState {
            guessed: true,
            ..self.scratch_state()
        }
    }

    fn scratch_state(&mut self) -> StageState {
        let platform = self.options.target_platform.clone();
        let mut config = ImageConfig::for_platform(&platform);
        "/".clone_into(&mut config.config.working_dir);
        new_state(self.scratch_vertex(), config, platform)
    }

    /// The files of a named context with the config of an empty image (R-CTX-5).
    fn files_state(
        &mut self,
        index: usize,
        stage: &ResolvedStage<'_>,
        name: &ContextName,
    ) -> StageState {
        let output = self.files_vertex(name, Some(index), &stage.platform);
        let mut config = ImageConfig::for_platform(&stage.platform);
        "/".clone_into(&mut config.config.working_dir);
        let mut state = new_state(output, config, stage.platform.clone());
        state.attached = Some(Attached {
            vertex: output,
            context: name.clone(),
        });
        state
    }

    /// A stage that files took the place of: there is no config at all, so no image can be made of it (R-CTX-5).
    fn configless_state(&mut self, index: usize, stage: &ResolvedStage<'_>) -> StageState {
        let state = match &stage.base {
            Base::Files(name) => self.files_state(index, stage, name),
            _ => self.scratch_state(),
        };
        StageState {
            config: ImageConfig::default(),
            ..state
        }
    }

    fn image_state(
        &mut self,
        index: usize,
        stage: &ResolvedStage<'_>,
        image: &ImageName,
        naming: &mut Naming,
    ) -> StageState {
        let key = image.on(&stage.platform);
        let reference = &key.reference;
        let Some(base) = self.bases.get(&key) else {
            let message = format!("`{reference}` is not among the resolved images");
            self.diagnostics.push(Diagnostic::error(
                code::BASE_NOT_RESOLVED,
                message,
                stage.stage.span,
            ));
            return self.guessed_state();
        };
        let platform = self.image_platform(stage, base);
        let name = match &stage.context {
            Some(context) => format!("[context {context}] {}", base.name(reference)),
            None => {
                let none = BTreeMap::<String, String>::new(); // what FROM knows tells nothing of the stage
                naming.next(&format!("FROM {}", base.name(reference)), false, &none)
            }
        };
        let output = self.image_vertex(&key, base, name, Some(index), &platform);
        let mut config = base.config.clone();
        config.created = None;
        config.config.on_build = Vec::new();
        let layers = config.rootfs.diff_ids.take().unwrap_or_default();
        let mut state = new_state(output, config, platform);
        state.base_layers = layers;
        state.base_manifest = base.manifest_digest;
        state
    }

    /// Without any wish of the user for a platform, an image of another one that this machine can run decides (R-FROM-13).
    fn image_platform(&mut self, stage: &ResolvedStage<'_>, base: &BaseImage) -> Platform {
        let wanted = &stage.platform;
        let offered = base.config.platform();
        let fits = offered.os == wanted.os && offered.architecture == wanted.architecture;
        if fits || offered.os.is_empty() || offered.architecture.is_empty() {
            return wanted.clone();
        }
        if stage.replaced {
            return offered;
        }
        if stage.context.is_some() {
            return wanted.clone();
        }
        if !stage.platform_given
            && !self.options.platform_requested
            && self.options.build_platform.matches(&offered)
        {
            return offered;
        }
        let message = format!(
            "Base image {} was pulled with platform \"{offered}\", expected \"{wanted}\" for current build",
            stage.base_text
        );
        self.diagnostics.push(Diagnostic::warning(
            code::INVALID_BASE_IMAGE_PLATFORM,
            message,
            stage.stage.span,
        ));
        wanted.clone()
    }

    /// The tree that a `from` names in a stage that has come to `here`. `None` when it could not be had, which was told.
    pub(super) fn origin_vertex(
        &mut self,
        stage: usize,
        here: VertexId,
        name: &str,
        numbers: bool,
    ) -> Option<VertexId> {
        let origin = self.resolution.origin(stage, name, numbers, self.options);
        match origin? {
            Origin::Stage(index) if index == stage => Some(here), // in a trigger only
            Origin::Stage(index) => match &self.resolution.stages.get(index)?.base {
                // Only the files that are used are read (R-CTX-6).
                Base::Files(name) if self.resolution.stages[index].replaced => {
                    Some(self.context_vertex(Some(name)))
                }
                _ => self.states.get(index)?.as_ref().map(|state| state.output),
            },
            Origin::Scratch => Some(self.scratch_vertex()),
            Origin::Files(name) => Some(self.context_vertex(Some(&name))),
            Origin::Image(image) => {
                let platform = self.options.target_platform.clone();
                let key = image.on(&platform);
                let Some(base) = self.bases.get(&key) else {
                    let message = format!("`{}` is not among the resolved images", key.reference);
                    self.diagnostics.push(Diagnostic::error(
                        code::BASE_NOT_RESOLVED,
                        message,
                        None,
                    ));
                    return None;
                };
                let name = format!("FROM {}", base.name(&key.reference));
                Some(self.image_vertex(&key, base, name, None, &platform))
            }
        }
    }

    /// The files of a named context, or of the build context.
    pub(super) fn context_vertex(&mut self, name: Option<&ContextName>) -> VertexId {
        if let Some(id) = self.contexts.get(&name.cloned()) {
            return *id;
        }
        let (source, shown) = match name {
            Some(name) => self.options.contexts.source(name),
            None => (
                SourceOp::Local { name: None },
                "[internal] load build context".to_owned(),
            ),
        };
        let id = self.source(Op::Source(source), shown, None, None);
        self.contexts.insert(name.cloned(), id);
        id
    }

    /// A root filesystem with all files of a named context.
    fn files_vertex(
        &mut self,
        name: &ContextName,
        stage: Option<usize>,
        platform: &Platform,
    ) -> VertexId {
        let span = stage.map(|stage| self.resolution.stages[stage].stage.span);
        let everything = CopySourceOp::Path {
            input: 1,
            path: "/".to_owned(),
            pivot: "/".to_owned(),
            unpack: false,
            span: span.unwrap_or_default(),
        };
        let inputs = [self.scratch_vertex(), self.context_vertex(Some(name))];
        let vertex = Vertex {
            op: Op::File(FileOp::Copy(CopyOp::of_everything(everything))),
            name: format!("[context {name}] FROM {name}"),
            span,
            text: String::new(),
            variables: Vec::new(),
            stage,
            no_cache: false,
            policy: StepPolicy::default(),
            platform: platform.clone(),
        };
        self.add(vertex, &inputs)
    }

    fn scratch_vertex(&mut self) -> VertexId {
        if let Some(id) = self.scratch {
            return id;
        }
        let id = self.source(
            Op::Source(SourceOp::Scratch),
            "scratch".to_owned(),
            None,
            None,
        );
        self.scratch = Some(id);
        id
    }

    fn image_vertex(
        &mut self,
        key: &BaseKey,
        base: &BaseImage,
        name: String,
        stage: Option<usize>,
        platform: &Platform,
    ) -> VertexId {
        if let Some(id) = self.images.get(key) {
            return *id;
        }
        let diff_ids = base.config.diff_ids().to_vec();
        let id = if diff_ids.is_empty() {
            self.scratch_vertex()
        } else {
            let op = SourceOp::Image {
                reference: key.reference.clone(),
                manifest_digest: base.manifest_digest,
                diff_ids,
            };
            self.source(Op::Source(op), name, stage, Some(platform))
        };
        self.images.insert(key.clone(), id);
        id
    }

    fn source(
        &mut self,
        op: Op,
        name: String,
        stage: Option<usize>,
        platform: Option<&Platform>,
    ) -> VertexId {
        let platform = platform.unwrap_or(&self.options.target_platform).clone();
        let span = stage.map(|stage| self.resolution.stages[stage].stage.span);
        self.add(
            Vertex {
                op,
                name,
                span,
                text: String::new(),
                variables: Vec::new(),
                stage,
                no_cache: false,
                policy: StepPolicy::default(),
                platform,
            },
            &[],
        )
    }
}

fn new_state(output: VertexId, mut config: ImageConfig, platform: Platform) -> StageState {
    if !config
        .config
        .env
        .iter()
        .any(|entry| entry.starts_with("PATH="))
    {
        config.config.env.push(DEFAULT_PATH.to_owned());
    }
    let workdir = &mut config.config.working_dir;
    if !workdir.is_empty() && !workdir.starts_with('/') {
        // No builder makes such an image. BuildKit joins the path to itself.
        *workdir = paths::join(&paths::join("/", workdir), workdir);
    }
    let environment = Environment::of_config(&config.config.env);
    StageState {
        output,
        config,
        history: Vec::new(),
        base_layers: Vec::new(),
        base_manifest: None,
        platform,
        environment,
        args: Vec::new(),
        attached: None,
        command_set: false,
        guessed: false,
        workdir_set: false,
    }
}

/// A stage based on another one has all of it but its triggers, which fire, and the memory of its CMD (R-FROM-9).
fn inherited(parent: &mut StageState, stage: &ResolvedStage<'_>) -> StageState {
    // The history stays with its stage: copied down a long chain of stages it would grow with the square of their number.
    let history = std::mem::take(&mut parent.history);
    let mut child = parent.clone();
    parent.history = history;
    child.config.config.on_build = Vec::new();
    child.command_set = false;
    // The config speaks last once more: an ARG of the parent doesn't outlive an ENV of its name.
    child.environment.set_all(&child.config.config.env);
    if stage.platform_given {
        child.platform = stage.platform.clone();
    }
    child
}
