//! An object store of one test, on loopback.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Ran, Running, Yard};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/s3.py");
const SECRET: &str = "wJalrXUtnFEMI/bPxRfiCYEXAMPLEKEY";

pub struct Store {
    server: Child,
    endpoint: String,
    folder: PathBuf,
}

impl Store {
    /// An empty one; nothing where there is no python3.
    pub fn open(yard: &Yard) -> Option<Self> {
        let folder = yard.folder().join("store");
        let mut command = Command::new("python3");
        command.arg(SERVER).arg(&folder).arg(SECRET).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = match command.spawn() {
            Ok(server) => server,
            Err(error) => {
                flowyard_skip::skip(&format!("the object store needs python3: {error}"));
                return None;
            }
        };
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { server, endpoint: format!("http://127.0.0.1:{}", port.trim()), folder })
    }

    /// Runs a command of a yard that knows the store, with this secret key.
    pub fn run_with(&self, yard: &Yard, secret: &str, args: &[&str]) -> Ran {
        self.start_with(yard, secret, args).wait()
    }

    /// Starts one, with the right key.
    pub fn start(&self, yard: &Yard, args: &[&str]) -> Running {
        self.start_with(yard, SECRET, args)
    }

    fn start_with(&self, yard: &Yard, secret: &str, args: &[&str]) -> Running {
        let mut command = yard.command(args);
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", secret);
        yard.start_command(command)
    }

    /// The same, with the right one.
    pub fn run(&self, yard: &Yard, args: &[&str]) -> Ran {
        self.run_with(yard, SECRET, args)
    }

    /// A file of the store: `objects/BUCKET/KEY`, `uploads/`, `parts` (of the last object), and its faults, which `s3.py` names.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
