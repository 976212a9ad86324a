//! Progress of a build on stderr: one stream of [`Event`]s, several ways to show it.
//!
//! Steps report from many threads; one thread draws. [`watch`] runs the work with a sink for its events and, when it is
//! over, hands back an [`Account`] of what was seen, for the summary and for the log of a failed step.

mod account;
mod json;
mod lines;
mod news;
mod plain;
mod tty;

use std::convert::Infallible;
use std::io::{BufWriter, Write};
use std::iter;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use kiln_executor::event::{Event, Numbers, Reporter};
use kiln_registry::Client;

use crate::args::ProgressMode;
pub(crate) use account::Account;
use news::News;

/// Events on their way to the screen; a build that outruns the terminal waits for it instead of filling memory.
const QUEUE: usize = 1024;
/// How often what only time changes (spinners, seconds) is redrawn.
const TICK: Duration = Duration::from_millis(100);
/// What happens within such a time is shown together: a step tells of a dozen things, and whoever is woken for each of them stands in the
/// way of the next step.
const PAUSE: Duration = Duration::from_millis(5);

/// What is said of a step that was done again for nothing.
const SAME_OUTPUT: &str = "same output, continuing from cache";

/// One way to show events. Nothing here may fail: a terminal that went away must not stop a build.
trait Renderer: Send {
    /// Shows one event.
    fn event(&mut self, event: &Event);
    /// Time has passed.
    fn tick(&mut self) {}
    /// No more events will come.
    fn finish(&mut self, _account: &Account) {}
}

/// One who is told of events besides the user.
pub(crate) trait Witness: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
    /// Time has passed.
    fn tick(&mut self);
}

/// Runs `work`, showing its events as `mode` says until it returns, and telling `witness`; and what is to be known of
/// `registries` meanwhile.
pub(crate) fn watch<T>(
    mode: ProgressMode,
    color: bool,
    witness: Option<&mut dyn Witness>,
    registries: &Client,
    work: impl FnOnce(Reporter<'_>) -> T,
) -> (T, Account) {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let (running, over) = sync_channel(0);
        let numbers = Numbers::default();
        let news = News::new(registries, numbers.clone());
        let drawing =
            scope.spawn(move || draw(renderer(mode, color), witness, news, &receiver, &over));
        // The channel is closed only after `work`, and the drawing thread takes from it until then: a failed send means
        // that thread is gone, and a build goes on without its progress.
        let sink = |event| drop(sender.send(event));
        let result = work(Reporter::numbered(&sink, numbers));
        drop((sender, running));
        (result, drawing.join().unwrap_or_default())
    })
}

fn draw(
    mut renderer: Box<dyn Renderer>,
    mut witness: Option<&mut dyn Witness>,
    mut news: News<'_>,
    events: &Receiver<Event>,
    over: &Receiver<Infallible>,
) -> Account {
    let mut account = Account::default();
    let mut next_tick = Instant::now() + TICK;
    loop {
        match events.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
            Ok(first) => {
                for event in iter::once(first).chain(events.try_iter().take(QUEUE)) {
                    account.event(&event);
                    renderer.event(&event);
                    if let Some(witness) = &mut witness {
                        witness.event(&event);
                    }
                }
                let _ = over.recv_timeout(PAUSE);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if Instant::now() >= next_tick {
            news.look(|event| renderer.event(&event));
            renderer.tick();
            if let Some(witness) = &mut witness {
                witness.tick();
            }
            next_tick = Instant::now() + TICK;
        }
    }
    news.end(|event| renderer.event(&event));
    renderer.finish(&account);
    account
}

fn renderer(mode: ProgressMode, color: bool) -> Box<dyn Renderer> {
    match mode {
        ProgressMode::Tty => Box::new(tty::Tty::new(color)),
        ProgressMode::Auto | ProgressMode::Plain => {
            Box::new(plain::Plain::new(BufWriter::new(std::io::stderr())))
        }
        ProgressMode::Rawjson => Box::new(json::Json::new(std::io::stderr())),
        ProgressMode::Quiet | ProgressMode::None => Box::new(Silent),
    }
}

/// `quiet` and `none`.
struct Silent;

impl Renderer for Silent {
    fn event(&mut self, _event: &Event) {}
}

/// Writes text and forgets about failures, see [`Renderer`].
fn put(out: &mut impl Write, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
