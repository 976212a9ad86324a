//! What kiln itself stands on: as whom it works with the store's files, and so which rungs steps can have.
//!
//! Root works as it is. Anybody else enters a user namespace at the start of a command that works with the store, while this process
//! has one thread, which costs half a millisecond, or three where newuidmap helps. So does root in an ordinary container, who may not
//! mount as it is but may be able to in there; as something may forbid even that, it is tried out first. From then on kiln is root in there: it unpacks layers with
//! their true owners, reads back what steps wrote whoever owns it, and removes it again, all by the same code as for the machine's
//! root. Steps get namespaces inside of it. The machine sees a process of the user, with no more rights than that.
//!
//! Files made in one way can't be used in the other: an owner of the range is nobody without it. So a store keeps a note of its
//! [`Form`], and a footing that makes another is refused.

use super::probe::{self, Site, Unavailable};
use super::trial::apart;
use super::{Rung, userns};
use crate::sys::{self, SingleThreaded};
use kiln_image::record::Record;
use kiln_image::scan::Owners;
use kiln_image::tar::{UnpackOptions, Whiteouts};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How files below the store carry what layers say of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Owners and devices are the files' own; overlayfs's marks are `trusted` attributes.
    Trusted,
    /// Owners are the files' own, as seen in the user namespace; devices stand in attributes ([`kiln_image::record`]), and overlayfs's
    /// marks are `user` attributes.
    Mapped,
    /// All files are one user's, and an attribute says what they are to be ([`kiln_image::record`]).
    Recorded,
    /// All files are one user's, and nothing says more: enough to copy from and to export.
    Content,
}

/// What this process stands on, arranged once by [`Footing::settle`].
#[derive(Debug, Clone)]
pub struct Footing {
    ground: Ground,
    asked: Option<Rung>,
    tried: Tried,
}

/// What was found out on the way, for who asks in vain.
#[derive(Debug, Clone, Default)]
struct Tried {
    /// Why root can't mount although it has the capability for it.
    mounting: Option<Unavailable>,
    /// Why root can't enter a user namespace.
    entering: Option<Unavailable>,
}

/// How steps are kept apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The rung.
    pub rung: Rung,
    /// Whether root filesystems are overlays, and not copies.
    pub overlay: bool,
}

#[derive(Debug, Clone)]
enum Ground {
    /// Root in the machine's first user namespace.
    Root,
    /// Root in a user namespace that somebody else made.
    Given,
    /// Root in a user namespace that this process made, for the rung that it is.
    Entered(Rung),
    /// A user, and why that can't be changed.
    User(Unavailable),
}

/// The file in the store's directory that names its form.
const NOTE: &str = "form";

/// The number of the machine's first user namespace (`PROC_USER_INIT_INO` of the kernel).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

impl Footing {
    /// Enters a user namespace if that is needed, to work with the store at `store` and on the rung `asked` for, or else on the
    /// best there is. Must be called before the first thread is started.
    ///
    /// # Errors
    /// When the rung asked for is impossible. That there is none at all is an error only once a step is to run.
    pub fn settle(asked: Option<Rung>, store: &Path) -> Result<Self, Unavailable> {
        let mut tried = Tried::default();
        let ground = match (is_root(), asked) {
            (_, Some(rung @ (Rung::UsernsRange | Rung::UsernsSingle))) => {
                userns::enter(rung)?;
                Ground::Entered(rung)
            }
            (true, Some(_)) => roots_own(),
            (true, None) => best_of_root(store, &mut tried),
            (false, Some(rung)) => return Err(not_root(rung)),
            (false, None) => first_of(suited(store)),
        };
        Ok(Self {
            ground,
            asked,
            tried,
        })
    }

    /// A footing as this process is, for commands that neither run steps nor look into layers.
    pub fn as_started() -> Self {
        let ground = match is_root() {
            true => roots_own(),
            false => Ground::User(Unavailable::new(
                "this command runs no steps",
                "use `kiln build` or `kiln run`",
            )),
        };
        Self {
            ground,
            asked: None,
            tried: Tried::default(),
        }
    }

    /// The way for steps whose changes are kept on the filesystem of `store`; probed anew at each call.
    pub fn way(&self, store: &Path) -> Result<Way, Unavailable> {
        self.way_at(Site::alone(store))
    }

    /// The same with a directory of the store that can be used for it, and is left with something in it.
    pub(crate) fn way_leaving(
        &self,
        store: &Path,
        scratch: &(dyn Fn() -> Option<PathBuf> + Sync),
    ) -> Result<Way, Unavailable> {
        self.way_at(Site { store, scratch })
    }

    fn way_at(&self, site: Site<'_>) -> Result<Way, Unavailable> {
        match (&self.ground, self.asked) {
            (Ground::User(why), _) => Err(why.clone()),
            // That it has namespaces was tried out, or else there is nothing lower: then a step's own set-up tells.
            (Ground::Entered(rung), _) => Way::stacked(*rung, site),
            (Ground::Root, asked) => self.privileged_way(Rung::Root, asked, site),
            (Ground::Given, asked) => self.privileged_way(Rung::UsernsGiven, asked, site),
        }
    }

    fn privileged_way(
        &self,
        own: Rung,
        asked: Option<Rung>,
        site: Site<'_>,
    ) -> Result<Way, Unavailable> {
        match asked {
            Some(rung) if rung == own => privileged(own, site),
            Some(rung @ (Rung::Root | Rung::UsernsGiven)) => Err(not_this_root(rung)),
            Some(_) => lowest(site.store),
            None => {
                let own = match &self.tried.mounting {
                    Some(why) => Err(why.clone()),
                    None => privileged(own, site),
                };
                own.or_else(|why| lowest(site.store).map_err(|low| self.none_at_all(&why, &low)))
            }
        }
    }

    /// Why root has no sandbox. What the lowest lacks is the least to ask for.
    fn none_at_all(&self, own: &Unavailable, lowest: &Unavailable) -> Unavailable {
        match &self.tried.entering {
            None => Unavailable::new(format!("{own}; and {lowest}"), lowest.remedy.clone()),
            // Its own is the most to ask for, then.
            Some(entering) => Unavailable::new(
                format!("{lowest}; and {entering}"),
                format!("{}; or: {}", lowest.remedy, entering.remedy),
            ),
        }
    }

    /// The rung of that way.
    pub fn rung(&self, store: &Path) -> Result<Rung, Unavailable> {
        self.way(store).map(|way| way.rung)
    }

    /// How files in the store are to look.
    pub fn form(&self) -> Form {
        match &self.ground {
            Ground::Root if has_rights(Rung::Root).is_ok() => Form::Trusted,
            Ground::Root | Ground::Given | Ground::Entered(Rung::UsernsRange) => Form::Mapped,
            Ground::Entered(_) => Form::Recorded,
            Ground::User(_) => Form::Content,
        }
    }

    /// Makes sure that the store's files have the form of this footing, if it has any.
    pub fn check(&self, store: &Path) -> Result<(), Unavailable> {
        let form = self.form();
        match noted(&store.join(NOTE)) {
            Some(found) if found != form => Err(Unavailable::new(
                format!(
                    "the store `{}` {}, but kiln {}",
                    store.display(),
                    found.holds(),
                    form.makes()
                ),
                "use another store with `--root`, or remove this one; `kiln doctor` tells which sandboxes there are",
            )),
            _ => Ok(()),
        }
    }

    /// Notes the form in a store that has none yet. Who can't write there hears of it when something is put into the store.
    pub fn mark(&self, store: &Path) {
        let note = store.join(NOTE);
        if noted(&note).is_none() && fs::write(&note, self.form().name()).is_err() {
            let _ = fs::remove_file(&note); // half a name would be none
        }
    }

    /// Makes somebody the owner of a directory that was made for a step.
    pub(crate) fn give(&self, directory: &Path, uid: u32, gid: u32) -> io::Result<()> {
        match self.form() {
            Form::Trusted | Form::Mapped => {
                std::os::unix::fs::chown(directory, Some(uid), Some(gid))
            }
            Form::Recorded => {
                let record = Record {
                    uid,
                    gid,
                    device: None,
                };
                Ok(record.write(File::open(directory)?)?)
            }
            Form::Content => Ok(()),
        }
    }

    /// Where the owners and devices of what a step wrote are found.
    pub(crate) fn owners(&self) -> Owners {
        match self.form() {
            Form::Trusted | Form::Content => Owners::Own,
            Form::Mapped => Owners::Mapped,
            Form::Recorded => Owners::Recorded(HashMap::new()),
        }
    }

    /// How layers and copies are put below the store.
    pub fn unpack_options(&self, whiteouts: Removals) -> UnpackOptions {
        let form = self.form();
        let whiteouts = match whiteouts {
            Removals::Mark => Whiteouts::Overlay {
                userxattr: form != Form::Trusted,
            },
            Removals::Ignore => Whiteouts::Ignore,
            Removals::Delete => Whiteouts::Delete,
        };
        match form {
            Form::Trusted => UnpackOptions::privileged(whiteouts),
            Form::Mapped => UnpackOptions::mapped(whiteouts),
            Form::Recorded => UnpackOptions::recorded(whiteouts),
            Form::Content => UnpackOptions::unprivileged(whiteouts),
        }
    }
}

/// What to do about what a layer removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// Mark it as overlayfs wants it.
    Mark,
    /// Nothing: the directory is no layer's.
    Ignore,
    /// Delete it: the directory has the layers below as well.
    Delete,
}

impl Form {
    const ALL: [Self; 4] = [Self::Trusted, Self::Mapped, Self::Recorded, Self::Content];

    const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Mapped => "mapped",
            Self::Recorded => "recorded",
            Self::Content => "content",
        }
    }

    const fn holds(self) -> &'static str {
        match self {
            Self::Trusted => "holds files of root",
            Self::Mapped => {
                "holds files of a user namespace with many ids (userns-range, userns-given)"
            }
            Self::Recorded => "holds files of a user namespace with one id (userns-single)",
            Self::Content => "was filled where there was no sandbox",
        }
    }

    const fn makes(self) -> &'static str {
        match self {
            Self::Trusted => "works as root here",
            Self::Mapped => "works in a user namespace with many ids here",
            Self::Recorded => "works in a user namespace with one id here (userns-single)",
            Self::Content => "has no sandbox here",
        }
    }
}

fn noted(note: &Path) -> Option<Form> {
    let text = fs::read_to_string(note).ok()?;
    Form::ALL.into_iter().find(|form| form.name() == text)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where `/proc` can't tell, it is: then at worst a mount is refused that another option would have allowed.
pub(super) fn in_first_user_namespace() -> bool {
    fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() == FIRST_USER_NAMESPACE)
}

/// Root's, as it was started.
fn roots_own() -> Ground {
    match in_first_user_namespace() {
        true => Ground::Root,
        false => Ground::Given,
    }
}

/// Root's, as it is, where it may mount and has ids enough. Otherwise a user namespace gives it both, or one id and what records the others,
/// if nothing that surrounds kiln forbids that.
fn best_of_root(store: &Path, tried: &mut Tried) -> Ground {
    let enough = userns::has_enough_ids();
    let own = match in_first_user_namespace() {
        true => Rung::Root,
        false => Rung::UsernsGiven,
    };
    if has_rights(own).and_then(|()| has_all(own)).is_ok() && enough.is_ok() {
        let possible = match probe::is_confined() {
            true => try_apart(probe::isolation),
            false => Ok(()),
        };
        tried.mounting = possible.err();
        if tried.mounting.is_none() {
            return roots_own();
        }
    }
    let mut last = None;
    for rung in suited(store) {
        let works = try_apart(|| {
            userns::enter(*rung)?;
            probe::isolation()
        });
        match works.and_then(|()| userns::enter(*rung)) {
            Ok(()) => return Ground::Entered(*rung),
            Err(why) => last = Some(why),
        }
        // The better one's reason is what helps.
        if tried.entering.is_none() {
            tried.entering.clone_from(&last);
        }
    }
    match enough {
        Ok(()) => roots_own(),
        // With too few ids, only the last one could have worked.
        Err(why) => Ground::User(last.unwrap_or(why)),
    }
}

/// Whether something works, tried in a process that ends with it.
fn try_apart(work: impl FnOnce() -> Result<(), Unavailable>) -> Result<(), Unavailable> {
    let failed = |error: sys::Error| Unavailable::new(error.to_string(), "see its cause");
    let proof = SingleThreaded::prove().ok_or_else(|| {
        failed(sys::Error::new(
            "fork",
            "several threads",
            nix::libc::EINVAL,
        ))
    })?;
    apart(&proof, work).map_err(failed)?
}

/// The rungs in a user namespace of kiln's own: all, or those whose files the store has already.
fn suited(store: &Path) -> &'static [Rung] {
    match noted(&store.join(NOTE)) {
        Some(Form::Recorded) => &[Rung::UsernsSingle],
        Some(Form::Mapped) if is_root() => &[Rung::UsernsRange],
        Some(Form::Trusted) if is_root() => &[],
        _ => &[Rung::UsernsRange, Rung::UsernsSingle],
    }
}

/// Enters for the first of `rungs` that can be had. With none, the last one's reason is the one to tell: what stops it stops all.
fn first_of(rungs: &[Rung]) -> Ground {
    let mut why = not_root(Rung::Root);
    for rung in rungs {
        match userns::enter(*rung) {
            Ok(()) => return Ground::Entered(*rung),
            Err(reason) => why = reason,
        }
    }
    Ground::User(why)
}

impl Way {
    /// With layers stacked, if the store's filesystem is good for that.
    fn stacked(rung: Rung, site: Site<'_>) -> Result<Self, Unavailable> {
        let overlay = probe::overlay(rung, site)?;
        if !overlay {
            probe::executes(site.store)?;
        }
        Ok(Self { rung, overlay })
    }

    const COPIED: Self = Self {
        rung: Rung::Chroot,
        overlay: false,
    };
}

fn privileged(rung: Rung, site: Site<'_>) -> Result<Way, Unavailable> {
    has_rights(rung).map_err(|why| match rung {
        Rung::Root => Unavailable {
            remedy: format!(
                "run kiln outside of the container, or {}, and where AppArmor is in use `--security-opt apparmor=unconfined`",
                why.remedy
            ),
            ..why
        },
        _ => why,
    })?;
    userns::has_enough_ids()?;
    Way::stacked(rung, site)
}

/// Whether root, as it was started, has what its own rung needs. An ordinary container takes some of it away.
fn has_rights(own: Rung) -> Result<(), Unavailable> {
    match own {
        Rung::Root => probe::require(&probe::FOR_ROOT, "the sandbox `root` needs"),
        _ => probe::require(&probe::FOR_GIVEN, "the sandbox `userns-given` needs"),
    }
}

/// Whether there is nothing that a user namespace of kiln's own would add.
fn has_all(own: Rung) -> Result<(), Unavailable> {
    match own {
        Rung::UsernsGiven => probe::require(&probe::FOR_ALL_OF_GIVEN, ""),
        _ => Ok(()),
    }
}

fn not_root(rung: Rung) -> Unavailable {
    Unavailable::new(
        format!("the sandbox `{rung}` needs root"),
        "run kiln as root, or leave the choice of the sandbox to kiln",
    )
}

fn not_this_root(rung: Rung) -> Unavailable {
    match rung {
        Rung::Root => Unavailable::new(
            "this root is one of a user namespace, so the sandbox `root` is out of reach",
            "use `userns-given`, or run kiln as the machine's root",
        ),
        _ => Unavailable::new(
            "this process is in the machine's first user namespace, so the sandbox `userns-given` has nothing to stand on",
            "use `root`, or `userns-range`, which makes one of its own",
        ),
    }
}

/// The one that needs no namespaces, for root alone.
fn lowest(store: &Path) -> Result<Way, Unavailable> {
    userns::has_enough_ids()?;
    probe::require(&probe::FOR_CHROOT, "the sandbox `chroot` needs")?;
    probe::executes(store)?;
    probe::change_of_root()?;
    Ok(Way::COPIED)
}
