//! What a user does at a terminal: Ctrl-C under `submit --local`, and a shell beside a running task.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::{Yard, until};
use nix::libc;
use nix::pty::openpty;

/// A program at a terminal of its own, and what the terminal shows.
struct AtTerminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
}

impl AtTerminal {
    fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let side = || Stdio::from(pty.slave.as_fd().try_clone_to_owned().unwrap());
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
        // SAFETY: both calls are async-signal-safe and touch no memory.
        unsafe {
            command.pre_exec(|| {
                let leads = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
                if leads { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let child = command.spawn().unwrap();
        // Only then does the screen end with the program.
        drop((command, pty.slave));
        let keyboard = File::from(pty.master);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, kept) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard, shown }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn shows(&self, text: &str) {
        until(&format!("the terminal to show {text:?}"), || self.shown.lock().unwrap().contains(text));
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn ctrl_c_under_a_local_submit_asks_and_then_cancels() {
    let yard = Yard::new();
    let submit = yard.command(&["submit", "--local", "--isolation", "process", "--", "sleep", "1000"]);
    let mut submit = AtTerminal::start(submit);
    yard.wait_running("1", &["--local"]);
    submit.types("\u{3}");
    submit.shows("cancel job 1?");
    submit.types("n");
    submit.types("\r");
    until("the job to go on", || yard.json(&["show", "1", "--local"])["state"] == "active");
    submit.types("\u{3}");
    until("the question to come again", || submit.shown.lock().unwrap().matches("Otherwise it goes on").count() > 1);
    submit.types("y");
    submit.shows("cancelling job 1");
    assert_eq!(submit.code(), Some(115));
    yard.nothing_is_left();
}

#[test]
fn a_shell_beside_a_task_sees_what_it_sees_and_ends_with_its_code() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let submit =
        ["submit", "--isolation", "process", "--env", "COLOUR=blue", "--", "sh", "-c", "echo x >made; exec sleep 1000"];
    yard.json(&submit);
    yard.wait_running("1", &[]);
    let piped =
        yard.run(&["exec", "1", "--", "sh", "-c", "echo $COLOUR $FLOWYARD_TASK; cat made; echo no >&2; exit 7"]);
    assert_eq!((piped.code(), piped.stdout.as_str()), (7, "blue 0\nx\n"), "{piped:#?}");
    piped.says(&["no"]);
    let mut shell = AtTerminal::start(yard.command(&["exec", "1", "--", "sh"]));
    shell.types("echo $((40 + 2))$COLOUR; exit 5\n");
    shell.shows("42blue");
    assert_eq!(shell.code(), Some(5));
    yard.refused(127, &["not found"], &["exec", "1", "--", "no-such-program"]);
    yard.ok(&["cancel", "1"]);
    yard.run(&["wait", "1"]);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
