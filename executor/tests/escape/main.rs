//! What is known to have broken out of software of this kind, tried on kiln: a case for each published hole and each trick, on every rung
//! that this machine can do.
//!
//! A case sets a trap as the hole's public description has it, runs steps, and then looks whether anything outside of the root was
//! read or changed ([`yard::Outside`]). It fails when the defence it names is taken out.
//!
//! The harness runs itself once for each rung, since a process can enter a user namespace only while it has one thread; with
//! `KILN_SANDBOX` only for that rung. In the rung `chroot` the container around kiln is the boundary: cases that ask for more than that
//! are not run there, and say so.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod files;
mod forged;
#[path = "../harness/mod.rs"]
mod harness;
#[cfg(target_arch = "x86_64")]
mod i386;
mod kernel;
mod mounts;
mod processes;
mod recorder;
mod session;
mod yard;

use harness::Wanted;
use kiln_executor::sandbox::{CapabilitySet, Footing, Rung, init_main_if_asked};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use yard::Yard;

/// Something tried.
struct Case {
    name: &'static str,
    run: fn(&Yard),
    rungs: &'static [Rung],
}

/// What is around kiln.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    Machine,
    /// Parts of `/proc` are hidden, as in containers: no step gets one of its own, kiln's processes are in that which it gets.
    Container,
}

impl Surroundings {
    /// For the command line, and for people.
    const fn name(self) -> &'static str {
        match self {
            Self::Machine => "the machine",
            Self::Container => "a container",
        }
    }
}

/// In containers, beside the machine itself.
const IN_CONTAINERS: [Rung; 2] = [Rung::UsernsRange, Rung::UsernsSingle];

/// Where a case makes sense.
const EVERYWHERE: &[Rung] = &Rung::ALL;
const WITH_NAMESPACES: &[Rung] = &[
    Rung::Root,
    Rung::UsernsRange,
    Rung::UsernsGiven,
    Rung::UsernsSingle,
];

/// Where kiln records what the kernel can't keep, or could.
const RECORDING: &[Rung] = &[
    Rung::UsernsRange,
    Rung::UsernsGiven,
    Rung::UsernsSingle,
    Rung::Chroot,
];

/// Every case by its function's name.
macro_rules! cases {
    ($($module:ident :: $name:ident on $rungs:expr),* $(,)?) => {
        &[$(Case { name: stringify!($name), run: $module::$name, rungs: $rungs }),*]
    };
}

const CASES: &[Case] = cases![
    processes::sandbox_keeps_kilns_binary on EVERYWHERE,
    processes::sandbox_shows_no_process_of_the_machine on WITH_NAMESPACES,
    processes::sandbox_hides_kilns_environment on EVERYWHERE,
    processes::sandbox_signals_nobody_outside on EVERYWHERE,
    processes::sandbox_signals_nobody_outside_for_a_user on WITH_NAMESPACES,
    processes::sandbox_traces_nobody_outside on EVERYWHERE,
    processes::sandbox_reaches_no_abstract_socket on EVERYWHERE,
    processes::sandbox_ends_whatever_was_left on EVERYWHERE,
    processes::sandbox_inherits_no_descriptor on EVERYWHERE,
    processes::sandbox_inherits_no_group on EVERYWHERE,
    mounts::sandbox_mounts_where_a_racing_link_leads_inside_only on EVERYWHERE,
    mounts::sandbox_binds_what_a_racing_link_selects_inside_only on EVERYWHERE,
    mounts::sandbox_makes_no_working_directory_through_a_racing_link on EVERYWHERE,
    mounts::sandbox_makes_no_mount_point_through_a_link on EVERYWHERE,
    mounts::sandbox_removes_no_mount_point_through_a_link on EVERYWHERE,
    mounts::sandbox_takes_no_cache_for_a_link on EVERYWHERE,
    mounts::sandbox_writes_no_hosts_through_a_link on EVERYWHERE,
    mounts::sandbox_enters_no_directory_of_the_machine on EVERYWHERE,
    mounts::sandbox_survives_kernel_directories_that_are_none on EVERYWHERE,
    mounts::sandbox_hides_nothing_with_a_link on WITH_NAMESPACES,
    mounts::sandbox_gives_up_its_rights_below_a_false_proc on WITH_NAMESPACES,
    kernel::sandbox_changes_no_setting_of_the_kernel on EVERYWHERE,
    kernel::sandbox_shows_nothing_hidden_by_another_name on EVERYWHERE,
    kernel::sandbox_reads_no_disk on WITH_NAMESPACES,
    kernel::sandbox_changes_no_device_of_the_machine on WITH_NAMESPACES,
    kernel::sandbox_mounts_nothing_of_its_own on WITH_NAMESPACES,
    files::sandbox_finds_no_way_up on WITH_NAMESPACES,
    recorder::sandbox_makes_nothing_by_way_of_proc on WITH_NAMESPACES,
    recorder::sandbox_opens_nothing_exchanged_while_it_is_made on WITH_NAMESPACES,
    forged::sandbox_lets_no_user_forge_a_record on RECORDING,
    forged::sandbox_lets_no_foreign_program_forge_a_record on RECORDING,
    forged::sandbox_changes_other_attributes_as_the_kernel_does on RECORDING,
    session::sandbox_types_nothing_into_the_users_terminal on EVERYWHERE,
    session::sandbox_reaches_no_key on EVERYWHERE,
    session::sandbox_inherits_no_key on WITH_NAMESPACES,
];

fn main() -> ExitCode {
    init_main_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("probe") => kernel::probe(&args[1..]),
        Some("on-rung") => on_rung(args[1].parse().unwrap(), &args[2], &args[3..]),
        _ => harness(&args),
    }
}

fn harness(args: &[String]) -> ExitCode {
    let wanted = Wanted::read(args);
    let chosen: Vec<_> = CASES.iter().filter(|case| wanted.has(case.name)).collect();
    if args.iter().any(|arg| arg == "--ignored") || chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        let list = |case: &&Case| println!("{}: test", case.name);
        chosen.iter().for_each(list);
        return ExitCode::SUCCESS;
    }
    run_all(&chosen)
}

/// A rung's outcome that is no failure: it can't be had here.
const IMPOSSIBLE: u8 = 77;

fn run_all(chosen: &[&Case]) -> ExitCode {
    println!("\nrunning {} tests", chosen.len());
    let asked = std::env::var("KILN_SANDBOX").ok();
    let rungs = Rung::ALL
        .into_iter()
        .filter(|rung| asked.as_ref().is_none_or(|name| rung.name() == name));
    let (mut failed, mut tried) = (Vec::new(), 0);
    let in_containers = rungs.clone().filter(|rung| IN_CONTAINERS.contains(rung));
    let in_containers = in_containers.map(|rung| (rung, Surroundings::Container));
    let tries = rungs.map(|rung| (rung, Surroundings::Machine));
    for (rung, surroundings) in tries.chain(in_containers) {
        let cases: Vec<_> = chosen
            .iter()
            .filter(|case| case.rungs.contains(&rung))
            .map(|case| case.name)
            .collect();
        let own = std::env::current_exe().unwrap();
        let output = Command::new(own)
            .arg("on-rung")
            .arg(rung.name())
            .arg(surroundings.name())
            .args(&cases)
            .env("KILN_TEST_CANARY", yard::SECRET)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        if output.status.code() == Some(IMPOSSIBLE.into()) {
            print!("{said}");
            continue;
        }
        tried += 1;
        let passed = |name: &str| said.lines().any(|line| line == format!("{name} passed"));
        failed.extend(
            cases
                .into_iter()
                .filter(|name| !passed(name))
                .map(|name| (name, format!("{rung} in {}", surroundings.name()))),
        );
    }
    for case in chosen {
        let on: Vec<_> = failed
            .iter()
            .filter(|(name, _)| *name == case.name)
            .map(|(_, place)| place.as_str())
            .collect();
        match on.is_empty() {
            true => println!("test {} ... ok", case.name),
            false => println!("test {} ... FAILED\n    on {}", case.name, on.join(", ")),
        }
    }
    let names: std::collections::BTreeSet<_> = failed.iter().map(|(name, _)| name).collect();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored\n",
        chosen.len() - names.len(),
        names.len()
    );
    let must_run = std::env::var_os("CI").is_some_and(|ci| ci == "true")
        && rustix::process::geteuid().is_root();
    match failed.is_empty() && (tried > 0 || !must_run) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs cases on one rung, and says of each whether it passed.
fn on_rung(rung: Rung, surroundings: &str, names: &[String]) -> ExitCode {
    let place = yard::place();
    let in_container = surroundings == Surroundings::Container.name();
    let stands = match in_container {
        true => hide_a_part_of_proc(),
        false => Ok(()),
    };
    if let Err(why) = stands.and_then(|()| stand_on(rung, &place)) {
        println!("*** SKIPPED on {rung} in {surroundings}: {why} ***");
        return ExitCode::from(IMPOSSIBLE);
    }
    let yard = Yard::new(rung, in_container, &place);
    for name in names {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        if catch_unwind(AssertUnwindSafe(|| (case.run)(&yard))).is_ok() {
            println!("{name} passed");
        }
    }
    ExitCode::SUCCESS
}

fn hide_a_part_of_proc() -> Result<(), String> {
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    let done = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|error| rustix::io::Errno::from_raw_os_error(error as i32))
        .and_then(|()| rustix::mount::mount_change("/", private))
        .and_then(|()| {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", "/proc/tty", "tmpfs", flags, None)
        });
    done.map_err(|error| format!("no part of /proc can be hidden: {error}"))
}

/// Gives this process no more rights than the root of an ordinary container has: who has more can't be looked into for that alone.
fn have_a_containers_rights() {
    use rustix::thread::{CapabilitySet as Set, CapabilitySets};
    let kept = Set::from_bits_retain(CapabilitySet::DOCKER_DEFAULT.mask());
    for capability in (0..64).map(|number| Set::from_bits_retain(1 << number)) {
        if !kept.contains(capability)
            && rustix::thread::remove_capability_from_bounding_set(capability).is_err()
        {
            break; // the kernel knows no more than these
        }
    }
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: Set::empty(),
    };
    rustix::thread::set_capabilities(None, sets).unwrap();
}

fn stand_on(rung: Rung, place: &std::path::Path) -> Result<(), String> {
    if !std::path::Path::new(yard::BUSYBOX).exists() {
        return Err(format!(
            "there is no {} (apt-get install busybox-static)",
            yard::BUSYBOX
        ));
    }
    // Others than root have none to give away, and it is told below that they can't have this sandbox.
    if rung == Rung::Chroot && rustix::process::geteuid().is_root() {
        have_a_containers_rights();
    }
    let settled = match rung {
        // As the root of a namespace that somebody else made, which until here is what this process is.
        Rung::UsernsGiven => Footing::settle(Some(rung), place)
            .and_then(|footing| footing.rung(place))
            .or_else(|_| {
                Footing::settle(Some(Rung::UsernsRange), place)?;
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                Footing::as_started().rung(place)
            }),
        rung => Footing::settle(Some(rung), place).and_then(|footing| footing.rung(place)),
    };
    match settled {
        Ok(found) if found == rung => Ok(()),
        Ok(found) => Err(format!("this is {found}")),
        Err(why) => Err(format!("{why}; {}", why.remedy)),
    }
}
