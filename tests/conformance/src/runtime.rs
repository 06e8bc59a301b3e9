//! What every [`Runtime`] does: the library linked in, a runtime binary, the fake.
//!
//! Owns no processes: whoever calls it with a real runtime does so in a process with one thread.

use flowyard_agent::runtime::{End, Runtime, RuntimeError};

/// What the container under test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// A program that ends by itself with this code.
    Exits(i32),
    /// A program that runs until it is stopped, and ends with SIGTERM.
    Runs,
    /// A program that does not exist.
    NotFound,
}

/// SIGTERM and SIGKILL, by number: the suite itself needs no system library.
const TERM: i32 = 15;
const KILL: i32 = 9;

/// Most looks at a container that must end soon.
const LOOKS_MAX: u32 = 5_000;

/// Runs the suite; panics where the runtime does not keep the contract. `make` gives a fresh container each time.
pub fn runtime(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    the_exit_code_comes_back(make);
    the_order_of_calls_is_kept(make);
    signals_end_a_running_program(make);
    a_missing_program_is_the_users_fault(make);
    an_end_is_found_without_waiting(make);
    deleting_is_always_possible(make);
}

fn the_exit_code_comes_back(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    for code in [0, 1, 77] {
        let mut container = make(Behaviour::Exits(code));
        container.create().expect("created");
        container.start().expect("started");
        assert_eq!(container.wait().expect("an end"), End::Exited { code });
        assert_eq!(container.wait().expect("the same end again"), End::Exited { code });
        assert_eq!(container.try_wait().expect("the same end again"), Some(End::Exited { code }));
        container.kill(TERM).expect("signalling what has ended is no error");
        container.kill_all().expect("signalling what has ended is no error");
        container.delete().expect("deleted");
    }
}

fn the_order_of_calls_is_kept(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    let mut container = make(Behaviour::Runs);
    assert!(container.start().is_err(), "started before it was created");
    container.create().expect("created");
    assert!(container.create().is_err(), "created twice");
    assert_eq!(container.try_wait().expect("no end"), None, "nothing runs before the start");
    container.start().expect("started");
    container.delete().expect("deleted");
}

fn signals_end_a_running_program(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    for (signal, all) in [(TERM, false), (KILL, false), (KILL, true)] {
        let mut container = make(Behaviour::Runs);
        container.create().expect("created");
        container.start().expect("started");
        assert_eq!(container.try_wait().expect("no end"), None, "it ended by itself");
        assert!(container.stats().expect("stats").processes >= 1);
        let end = signal_until_it_ends(&mut *container, signal, all);
        // A program that catches SIGTERM ends as shells say it.
        let caught = signal == TERM && end == End::Exited { code: 128 + TERM };
        assert!(caught || end == End::Signalled { signal }, "{end:?}");
        container.delete().expect("deleted");
    }
}

/// Process 1 of a container does not get a SIGTERM that it does not yet catch, so an early one is sent again.
fn signal_until_it_ends(container: &mut dyn Runtime, signal: i32, all: bool) -> End {
    for _ in 0..LOOKS_MAX {
        if all { container.kill_all() } else { container.kill(signal) }.expect("signalled");
        if let Some(end) = container.try_wait().expect("a look") {
            return end;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("signal {signal} never ended the program");
}

fn a_missing_program_is_the_users_fault(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    let mut container = make(Behaviour::NotFound);
    // A binary looks for the program when it makes the container, we when we start it.
    let error = container.create().and_then(|()| container.start()).expect_err("a missing program was started");
    match error {
        RuntimeError::Command { code, message } => {
            assert_eq!(code, 127);
            assert!(message.contains("not found"), "{message}");
        }
        other => panic!("not the user's fault: {other:?}"),
    }
    container.delete().expect("deleted");
}

fn an_end_is_found_without_waiting(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    let mut container = make(Behaviour::Exits(5));
    container.create().expect("created");
    container.start().expect("started");
    for _ in 0..LOOKS_MAX {
        if let Some(end) = container.try_wait().expect("a look") {
            assert_eq!(end, End::Exited { code: 5 });
            container.delete().expect("deleted");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the end was never seen");
}

fn deleting_is_always_possible(make: &mut dyn FnMut(Behaviour) -> Box<dyn Runtime>) {
    make(Behaviour::Runs).delete().expect("deleted before it was created");
    let mut created = make(Behaviour::Runs);
    created.create().expect("created");
    created.delete().expect("deleted before it was started");
    created.delete().expect("deleted twice");
    let mut running = make(Behaviour::Runs);
    running.create().expect("created");
    running.start().expect("started");
    running.delete().expect("deleted while it runs");
    running.delete().expect("deleted twice");
}
