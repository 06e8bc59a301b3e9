//! What can be broken, how it is broken, and how it is mended again.

use std::fmt;

use crate::fleet::{AGENTS, Begun, COORDINATORS, Fleet};
use crate::proxy::Link;
use crate::{damage, programs};

/// Certificates live for a day.
const A_DAY_AND_MORE_MS: i64 = 25 * 3_600_000;
/// How long a barrier takes on a slow disk.
const SLOW_SYNC_MS: i64 = 300;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Whichever coordinator leads when it comes to that.
    Leader,
    Coordinator(usize),
    Agent(usize),
}

/// One fault. A plan names it; who leads is found when it strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9; started again when it is mended.
    Kill(Who),
    Pause(Who),
    /// Stopped as a service manager does, and started again.
    Restart(Who),
    /// Its cable is pulled.
    CutOff(Who),
    /// The second hears nothing from the first.
    OneWay(Who, Who),
    /// These and the others hear nothing of each other.
    Split(Vec<Who>),
    SlowLink(Who, u64),
    LossyLink(Who, u64),
    DiskFull(Who),
    SlowSync(Who),
    /// Killed, and the last bytes of its log are damaged before it starts again.
    TornLog(usize, u64),
    /// Some blobs on its disk are not any more what they were.
    BadBlobs(Who, u64),
    /// Its wall clock jumps by so many milliseconds, and back.
    ClockJump(Who, i64),
    /// Its wall clock jumps beyond the life of every certificate, and back.
    Expiry(Who),
    /// The folder in which a coordinator keeps blobs is gone.
    OriginDown(usize),
    /// All of these hosts lose their power at once.
    PowerCut(Vec<Who>),
    /// A host loses its power, and nobody hears of it again.
    LostForGood(usize),
    /// All coordinators, then all agents, are restarted one by one.
    RollingRestart,
    /// The next host gets the next program: the cluster is of two versions until all have it.
    UpgradeOne,
    /// All hosts that are left get the next program, coordinators first.
    RollingUpgrade,
    /// The leader hands over.
    HandOver,
}

/// Why something could not be broken or mended, which is a fault of the product or of the suite.
pub(crate) type Done = Result<(), String>;

impl Who {
    fn host(self) -> String {
        match self {
            Self::Leader => unreachable!("it was found when the fault began"),
            Self::Coordinator(number) => format!("c{number}"),
            Self::Agent(number) => format!("n{number}"),
        }
    }

    /// The same, with the coordinator that leads now in the place of the leader.
    fn now(self, leader: usize) -> Self {
        if self == Self::Leader { Self::Coordinator(leader) } else { self }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("the leader"),
            who => f.write_str(&who.host()),
        }
    }
}

impl Fault {
    /// What the summary counts it as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill(Who::Agent(_)) => "agent killed",
            Self::Kill(_) => "coordinator killed",
            Self::Pause(Who::Agent(_)) => "agent paused",
            Self::Pause(_) => "coordinator paused",
            Self::Restart(Who::Agent(_)) => "agent restarted",
            Self::Restart(_) => "coordinator restarted",
            Self::CutOff(Who::Leader) => "leader isolated",
            Self::CutOff(Who::Coordinator(_)) => "coordinator cut off",
            Self::CutOff(Who::Agent(_)) => "node cut off",
            Self::OneWay(..) => "one-way partition",
            Self::Split(_) => "minority with nodes isolated",
            Self::SlowLink(..) => "slow links",
            Self::LossyLink(..) => "lossy links",
            Self::DiskFull(Who::Agent(_)) => "disk full (node)",
            Self::DiskFull(_) => "disk full (coordinator)",
            Self::SlowSync(_) => "slow fsync",
            Self::TornLog(..) => "log tail damaged",
            Self::BadBlobs(Who::Agent(_), _) => "blobs damaged (node)",
            Self::BadBlobs(..) => "blobs damaged (coordinator)",
            Self::ClockJump(Who::Agent(_), _) => "clock jump (node)",
            Self::ClockJump(..) => "clock jump (coordinator)",
            Self::Expiry(_) => "certificates expired",
            Self::OriginDown(_) => "origin down",
            Self::PowerCut(several) if several.contains(&Who::Coordinator(0)) => "power cut of all coordinators",
            Self::PowerCut(_) => "power cut of several nodes",
            Self::LostForGood(_) => "node lost for good",
            Self::RollingRestart => "rolling restart",
            Self::UpgradeOne => "one host upgraded",
            Self::RollingUpgrade => "rolling upgrade",
            Self::HandOver => "leadership handed over",
        }
    }

    /// Whether it can be done to this fleet: a clock and a disk need a library to be preloaded, and blobs of which there is one copy
    /// are the business of whoever keeps that.
    pub(crate) fn is_possible(&self, fleet: &Fleet) -> bool {
        match self {
            Self::SlowSync(_) | Self::ClockJump(..) | Self::Expiry(_) => fleet.preload.is_some(),
            Self::BadBlobs(Who::Coordinator(_), _) => !fleet.shares_origin,
            Self::UpgradeOne | Self::RollingUpgrade => programs::is_possible(fleet),
            _ => true,
        }
    }

    /// The same fault of the coordinator that leads now.
    pub(crate) fn now(self, leader: usize) -> Self {
        match self {
            Self::Kill(who) => Self::Kill(who.now(leader)),
            Self::Pause(who) => Self::Pause(who.now(leader)),
            Self::Restart(who) => Self::Restart(who.now(leader)),
            Self::CutOff(who) => Self::CutOff(who.now(leader)),
            Self::OneWay(from, to) => Self::OneWay(from.now(leader), to.now(leader)),
            Self::Split(few) => Self::Split(few.into_iter().map(|who| who.now(leader)).collect()),
            Self::SlowLink(who, ms) => Self::SlowLink(who.now(leader), ms),
            Self::LossyLink(who, share) => Self::LossyLink(who.now(leader), share),
            Self::DiskFull(who) => Self::DiskFull(who.now(leader)),
            Self::SlowSync(who) => Self::SlowSync(who.now(leader)),
            Self::ClockJump(who, ms) => Self::ClockJump(who.now(leader), ms),
            Self::Expiry(who) => Self::Expiry(who.now(leader)),
            named => named,
        }
    }

    /// Breaks it. Nobody is the leader any more in a fault that strikes.
    pub(crate) fn strike(&self, fleet: &mut Fleet) -> Done {
        match self {
            Self::Kill(who) => drop(fleet.take(&who.host()).map(crate::process::Process::kill)),
            Self::Pause(who) => drop(fleet.process(&who.host()).map(crate::process::Process::pause)),
            Self::Restart(who) => fleet.take(&who.host()).map_or(Ok(()), crate::process::Process::stop)?,
            Self::CutOff(who) => fleet.network.connect(&who.host(), false),
            Self::OneWay(from, to) if from != to => fleet.network.reach(&from.host(), &to.host(), false),
            Self::OneWay(..) => {}
            Self::Split(few) => split(fleet, few, true),
            Self::SlowLink(who, delay_ms) => fleet.link(&who.host(), Link { delay_ms: *delay_ms, loss_per_mille: 0 }),
            Self::LossyLink(who, share) => fleet.link(&who.host(), Link { delay_ms: 0, loss_per_mille: *share }),
            Self::DiskFull(who) => fleet.host(&who.host()).fill(true).map_err(|error| error.to_string())?,
            Self::SlowSync(who) => fleet.skew(&who.host(), |skew| skew.1 = SLOW_SYNC_MS)?,
            Self::TornLog(number, seed) => {
                if let Some(process) = fleet.take(&format!("c{number}")) {
                    process.kill();
                }
                damage::log_tail(fleet.coordinator_folder(*number).as_ref(), *seed)?;
            }
            Self::BadBlobs(Who::Agent(number), seed) => {
                damage::blobs(fleet.agent_folder(*number).as_ref(), "cache", *seed)?
            }
            Self::BadBlobs(who, seed) => {
                let Who::Coordinator(number) = who else { return Ok(()) };
                damage::blobs(fleet.coordinator_folder(*number).as_ref(), "origin", *seed)?;
            }
            Self::ClockJump(who, ms) => fleet.skew(&who.host(), |skew| skew.0 = *ms)?,
            Self::Expiry(who) => fleet.skew(&who.host(), |skew| skew.0 = A_DAY_AND_MORE_MS)?,
            Self::OriginDown(number) => {
                for (host, origin) in fleet.origin(*number) {
                    fleet.host(&host).run("mount", &["-t", "tmpfs", "-o", "ro,size=4k", "gone", &origin])?;
                }
            }
            Self::PowerCut(several) => several.iter().for_each(|who| fleet.switch_off(&who.host())),
            Self::LostForGood(number) => {
                fleet.agents[*number].lost = true;
                fleet.switch_off(&format!("n{number}"));
            }
            Self::RollingRestart => rolling_restart(fleet)?,
            Self::UpgradeOne => programs::upgrade_next(fleet)?,
            Self::RollingUpgrade => {
                programs::upgrade_next(fleet)?;
                programs::upgrade_all(fleet)?;
            }
            Self::HandOver => hand_over(fleet)?,
        }
        Ok(())
    }

    /// Mends it.
    pub(crate) fn heal(&self, fleet: &mut Fleet) -> Done {
        match self {
            Self::Kill(who) | Self::Restart(who) => fleet.run_host(&who.host())?,
            Self::Pause(who) => drop(fleet.process(&who.host()).map(crate::process::Process::resume)),
            Self::CutOff(who) => fleet.network.connect(&who.host(), true),
            Self::OneWay(from, to) if from != to => fleet.network.reach(&from.host(), &to.host(), true),
            Self::OneWay(..) => {}
            Self::Split(few) => split(fleet, few, false),
            Self::SlowLink(who, _) | Self::LossyLink(who, _) => fleet.link(&who.host(), Link::default()),
            Self::DiskFull(who) => fleet.host(&who.host()).fill(false).map_err(|error| error.to_string())?,
            Self::SlowSync(who) => fleet.skew(&who.host(), |skew| skew.1 = 0)?,
            Self::TornLog(number, _) => match fleet.run_coordinator(*number)? {
                Begun::Runs => {}
                Begun::Quarantined => fleet.replace_coordinator(*number)?,
            },
            Self::ClockJump(who, _) | Self::Expiry(who) => fleet.skew(&who.host(), |skew| skew.0 = 0)?,
            Self::OriginDown(number) => {
                for (host, origin) in fleet.origin(*number) {
                    fleet.host(&host).run("umount", &["--lazy", &origin])?;
                }
            }
            Self::PowerCut(several) => {
                for who in several {
                    fleet.switch_on(&who.host())?;
                }
            }
            Self::BadBlobs(..)
            | Self::LostForGood(_)
            | Self::RollingRestart
            | Self::UpgradeOne
            | Self::RollingUpgrade
            | Self::HandOver => {}
        }
        Ok(())
    }

    /// The host on which the product may end by itself under it: the log of a full disk cannot be written, and a coordinator whose
    /// log cannot be written stops.
    pub(crate) fn may_fell(&self) -> Option<String> {
        match self {
            Self::DiskFull(who) => Some(who.host()),
            _ => None,
        }
    }
}

fn split(fleet: &Fleet, few: &[Who], apart: bool) {
    let hosts: Vec<String> = few.iter().map(|who| who.host()).collect();
    fleet.network.split(&hosts.iter().map(String::as_str).collect::<Vec<_>>(), apart);
}

fn rolling_restart(fleet: &mut Fleet) -> Done {
    let coordinators = (0..COORDINATORS).map(Who::Coordinator);
    for who in coordinators.chain((0..AGENTS).map(Who::Agent)) {
        if let Some(process) = fleet.take(&who.host()) {
            process.stop()?;
            fleet.run_host(&who.host())?;
        }
    }
    Ok(())
}

fn hand_over(fleet: &mut Fleet) -> Done {
    let leader = fleet.leader().ok_or("nobody leads")?;
    let request = flowyard_proto::cluster::TransferLeaderRequest { replica: None };
    let answer = fleet.owner.ask(&fleet.socket(leader), async |client| client.transfer_leader(request).await);
    // It may have lost the leadership meanwhile: whoever is asked says so, and nothing is handed over.
    answer.map(|_| ()).or(Ok(()))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |several: &[Who]| several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Kill(who) => write!(f, "{who} is killed"),
            Self::Pause(who) => write!(f, "{who} is paused"),
            Self::Restart(who) => write!(f, "{who} is restarted"),
            Self::CutOff(who) => write!(f, "{who} is cut off"),
            Self::OneWay(from, to) => write!(f, "{to} hears nothing from {from}"),
            Self::Split(few) => write!(f, "{} and the others hear nothing of each other", list(few)),
            Self::SlowLink(who, ms) => write!(f, "the links of {who} take {ms} ms longer"),
            Self::LossyLink(who, share) => write!(f, "the links of {who} lose {share} of 1000 pieces"),
            Self::DiskFull(who) => write!(f, "the disk of {who} is full"),
            Self::SlowSync(who) => write!(f, "each fsync of {who} takes {SLOW_SYNC_MS} ms longer"),
            Self::TornLog(number, _) => write!(f, "c{number} is killed and the end of its log damaged"),
            Self::BadBlobs(who, _) => write!(f, "blobs of {who} are damaged"),
            Self::ClockJump(who, ms) => write!(f, "the clock of {who} jumps by {} s", ms / 1_000),
            Self::Expiry(who) => write!(f, "the clock of {who} jumps by 25 h, beyond every certificate"),
            Self::OriginDown(number) => write!(f, "the stored blobs of c{number} are gone, and of all who share them"),
            Self::PowerCut(several) => write!(f, "{} lose their power", list(several)),
            Self::LostForGood(number) => write!(f, "n{number} loses its power for good"),
            Self::RollingRestart => f.write_str("all are restarted one by one"),
            Self::UpgradeOne => f.write_str("the next host is upgraded"),
            Self::RollingUpgrade => f.write_str("all hosts that are left are upgraded, coordinators first"),
            Self::HandOver => f.write_str("the leader hands over"),
        }
    }
}
