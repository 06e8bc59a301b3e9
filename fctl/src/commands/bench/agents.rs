//! Hollow agents in a process of their own: how it is started and told, and what it is.

use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use flowyard_hollow::{Counts, Order, Shake, Told};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::super::Outcome;
use super::process::{Process, Taken, ourselves};
use crate::failure::Failure;

/// What its process is called.
pub(super) const NAME: &str = "agents";
/// How often it tells its figures.
const OFTEN: Duration = Duration::from_millis(100);
/// Threads that all agents share.
const THREADS: &str = "2";
/// They give way to the coordinators that are measured: in a cluster they would have machines of their own.
const NICE: i32 = 5;

/// The process, as whoever started it has it.
#[derive(Debug)]
pub(super) struct Agents {
    process: Process,
    /// It ends with this, whatever becomes of us.
    stdin: ChildStdin,
    told: watch::Receiver<Told>,
    listening: AbortHandle,
}

impl Agents {
    /// Starts them.
    pub(super) async fn start(folder: &Path, order: &Order) -> Result<Self, Failure> {
        let mut command = ourselves(folder, &["bench", "agents"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("TOKIO_WORKER_THREADS", THREADS);
        let mut process = Process::start(command, NAME, folder)?;
        let pipes = process.child.stdin.take().zip(process.child.stdout.take());
        let (mut stdin, stdout) = pipes.ok_or_else(|| Failure::Internal("a process without its pipes".to_owned()))?;
        let order = serde_json::to_string(order).map_err(|error| Failure::Internal(error.to_string()))?;
        stdin.write_all(format!("{order}\n").as_bytes()).await.map_err(Failure::local("the hollow agents"))?;
        let (tell, told) = watch::channel(Told::default());
        let listening = tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(figures) = serde_json::from_str(&line) {
                    tell.send_replace(figures);
                }
            }
        });
        Ok(Self { process, stdin, told, listening: listening.abort_handle() })
    }

    /// A share of them loses its connections, at once.
    pub(super) async fn shake(&mut self, number: u64, share_ppm: u32) -> Result<(), Failure> {
        let line = format!("{}\n", Shake { number, share_ppm }.line());
        self.stdin.write_all(line.as_bytes()).await.map_err(Failure::local("the hollow agents"))
    }

    /// Their figures, as told last.
    pub(super) fn told(&self) -> Told {
        self.told.borrow().clone()
    }

    /// What the process takes.
    pub(super) fn taken(&self) -> Taken {
        self.process.taken()
    }

    /// Why they are over, if they are.
    pub(super) fn fault(&mut self, folder: &Path) -> Option<Failure> {
        match self.told().fault {
            Some(fault) => Some(Failure::Home(fault)),
            None => self.process.fault(folder),
        }
    }

    /// Ends them.
    pub(super) async fn end(self) {
        drop(self.stdin);
        self.process.end().await;
        self.listening.abort();
    }
}

/// `fctl bench agents`: runs the agents that standard input asks for, tells their figures on standard output, and ends when standard
/// input does.
pub(super) async fn serve() -> Outcome {
    // Before there are threads that it would not reach. Giving way is allowed to everybody.
    let _ = rustix::process::setpriority_process(None, NICE);
    let (first, over) = (oneshot::channel(), oneshot::channel::<()>());
    let (shake, shaken) = watch::channel(Shake::default());
    // It may block for as long as it likes; nobody waits for it.
    std::thread::spawn(move || listen(first.0, &shake, over.0));
    let line =
        first.1.await.map_err(|_| Failure::Usage("standard input holds no order for hollow agents".to_owned()))?;
    let order: Order = serde_json::from_str(&line)
        .map_err(|error| Failure::Usage(format!("standard input is no order for hollow agents: {error}")))?;
    let counts = Arc::new(Counts::default());
    let mut often = tokio::time::interval(OFTEN);
    let mut running = std::pin::pin!(flowyard_hollow::run(order, Arc::clone(&counts), shaken));
    let mut end = over.1;
    loop {
        tokio::select! {
            ended = &mut running => {
                let fault = match ended {
                    Ok(never) => match never {},
                    Err(error) => flowyard_sdk::shown::chain(&error),
                };
                tell(&Told { fault: Some(fault.clone()), ..counts.told() })?;
                return Err(Failure::Home(fault));
            }
            _ = &mut end => return Ok(ExitCode::SUCCESS),
            _ = often.tick() => tell(&counts.told())?,
        }
    }
}

/// Hands on the first line of standard input and what is asked for later, and lets go of `over` with its end.
fn listen(first: oneshot::Sender<String>, shake: &watch::Sender<Shake>, over: oneshot::Sender<()>) {
    let (mut input, mut line) = (std::io::stdin().lock(), String::new());
    if std::io::BufRead::read_line(&mut input, &mut line).is_ok_and(|read| read > 0) {
        // It is over when nobody can say anything any more; what makes no sense does not matter.
        if first.send(line).is_ok() {
            let lines = std::io::BufRead::lines(input).map_while(Result::ok);
            for asked in lines.filter_map(|line| Shake::of_line(&line)) {
                shake.send_replace(asked);
            }
        }
    }
    drop(over);
}

fn tell(told: &Told) -> Result<(), Failure> {
    let line = serde_json::to_string(told).map_err(|error| Failure::Internal(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::local("standard output"))
}
