//! What a command works with: the store, the registries, the sandbox's launcher, and a way to be stopped.

use std::cell::OnceCell;
use std::fmt;
use std::path::PathBuf;

use kiln_cache::Store;
use kiln_executor::event::{Reporter, Task};
use kiln_executor::sandbox::{Footing, Launcher, Unavailable};
use kiln_executor::{GitSettings, Services};
use kiln_registry::Client;

use crate::args::ProgressMode;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::{self, Account, Witness};
use crate::signal::Interrupt;

/// One command's hold on the world.
pub(crate) struct Session {
    pub(crate) store: Store,
    registry: Client,
    pub(crate) launcher: Launcher,
    footing: Footing,
    git: GitSettings,
    color: bool,
}

/// A session that is opened when somebody first needs it, and once: a process enters a user namespace only once.
pub(crate) struct LazySession<'a> {
    open: Box<dyn Fn() -> Result<Session, Failure> + 'a>,
    session: OnceCell<Session>,
}

impl<'a> LazySession<'a> {
    /// A session that `open` will open.
    pub(crate) fn new(open: impl Fn() -> Result<Session, Failure> + 'a) -> Self {
        Self {
            open: Box::new(open),
            session: OnceCell::new(),
        }
    }

    /// The session, opened now if it is not.
    pub(crate) fn opened(&self) -> Result<&Session, Failure> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let session = (self.open)()?;
        Ok(self.session.get_or_init(|| session))
    }
}

impl fmt::Debug for LazySession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LazySession")
    }
}

impl Session {
    /// Opens the store for a command that neither runs steps nor looks into layers; everything else starts when it is needed.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_on(config, Footing::as_started())
    }

    /// Opens the store for a command that works with the files of layers. Without root, this process enters a user namespace first.
    /// `asked` is the sandbox that a flag names; else the environment may name one.
    pub(crate) fn open_with_files(config: &Config, asked: Option<&str>) -> Result<Self, Failure> {
        let session = Self::look_at_files(config, asked)?;
        session.footing.mark(&config.root);
        Ok(session)
    }

    /// The same for a command that leaves no trace.
    pub(crate) fn look_at_files(config: &Config, asked: Option<&str>) -> Result<Self, Failure> {
        let asked = config.sandbox(asked)?;
        let footing = Footing::settle(asked, &config.root).map_err(|why| unavailable(&why))?;
        let checked = footing.check(&config.root);
        checked.map_err(|why| unavailable(&why))?;
        Self::open_on(config, footing)
    }

    fn open_on(config: &Config, footing: Footing) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::open(&config.root).map_err(|error| Failure::from_store(&error))?,
            registry: Client::new(config.registry()),
            launcher: Launcher::new(),
            footing,
            git: config.git(),
            color: config.color,
        })
    }

    /// The same with registries that images are sent to without TLS, or whoever they say they are.
    #[must_use]
    pub(crate) fn with_insecure_pushes(mut self, config: &Config, hosts: &[String]) -> Self {
        if !hosts.is_empty() {
            self.registry = Client::new(kiln_registry::Options {
                insecure_pushes: hosts.to_vec(),
                ..config.registry()
            });
        }
        self
    }

    /// The same with an SSH agent that git may ask.
    #[must_use]
    pub(crate) fn with_agent(mut self, socket: Option<PathBuf>) -> Self {
        self.git.ssh_agent = socket;
        self
    }

    /// The engine's view of it.
    pub(crate) fn services(&self) -> Result<Services<'_>, Failure> {
        Services::new(&self.store, &self.registry, &self.launcher, &self.footing)
            .map(|services| services.with_git(self.git.clone()))
            .map_err(|error| Failure::from_store(&error))
    }

    /// Does `work` with its progress shown, and tells what was seen. SIGINT and SIGTERM ask it to stop.
    pub(crate) fn watch<T>(
        &self,
        mode: ProgressMode,
        work: impl FnOnce(Watched<'_>) -> Result<T, Failure>,
    ) -> (Result<T, Failure>, Account) {
        self.watch_with(mode, None, work)
    }

    /// The same with one more who is told what happens.
    pub(crate) fn watch_with<T>(
        &self,
        mode: ProgressMode,
        witness: Option<&mut dyn Witness>,
        work: impl FnOnce(Watched<'_>) -> Result<T, Failure>,
    ) -> (Result<T, Failure>, Account) {
        let interrupt = match Interrupt::listen() {
            Ok(interrupt) => interrupt,
            Err(error) => {
                let failure = Failure::from_error(Exit::Environment, None, &error)
                    .note("while setting up signal handling");
                return (Err(failure), Account::default());
            }
        };
        let stopper = self.registry.stopper();
        let _end_transfers = interrupt.cancel.on_request(move || stopper.stop());
        let registries = &self.registry;
        let (result, account) =
            progress::watch(mode, self.color, witness, registries, |reporter| {
                let watched = Watched {
                    services: self.services()?,
                    reporter,
                    interrupt: &interrupt,
                };
                work(watched)
            });
        // Whatever else failed while stopping, the reason is the signal.
        let result =
            result.map_err(|failure| interrupt.signal().map_or(failure, Failure::interrupted));
        (result, account)
    }
}

fn unavailable(why: &Unavailable) -> Failure {
    Failure::environment(why.reason.clone()).help(why.remedy.clone())
}

/// What work under [`Session::watch`] is given.
pub(crate) struct Watched<'a> {
    pub(crate) services: Services<'a>,
    pub(crate) reporter: Reporter<'a>,
    pub(crate) interrupt: &'a Interrupt,
}

impl Watched<'_> {
    /// Does something as a step with this name, which ends as the work does.
    pub(crate) fn task<T>(
        &self,
        name: String,
        work: impl FnOnce(&Task<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let task = self.reporter.start(name);
        match work(&task) {
            Ok(result) => {
                task.done();
                Ok(result)
            }
            // Nobody reads what it writes any more: there is nothing to tell.
            Err(failure) if failure.reports.is_empty() => {
                task.done();
                Err(failure)
            }
            Err(failure) => {
                let reports = failure.reports.iter();
                task.fail(
                    reports
                        .map(|report| report.message.as_str())
                        .collect::<Vec<_>>()
                        .join("; "),
                );
                Err(failure)
            }
        }
    }
}
