//! Who belongs to the cluster: looking, adding, promoting, removing, and handing leadership over.
//!
//! Only a leader changes it, one change at a time, each under the condition that membership is still what was looked at.
//! Invariant: no change is begun that the replicas heard from could not commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{BasicNode, ChangeMembers, Instant, RaftMetrics, ServerState};

use super::intake::{not_leader, unavailable};
use super::machine::Machine;
use super::replica::Replica;
use super::role::{Peer, Role, Unavailable};
use super::types::Types;

/// A learner further behind is not promoted: commits would wait for it.
pub const PROMOTE_LAG_MAX: u64 = 1_000;
/// A replica not heard from for longer is not counted on.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// How long a hand-over may take before it is said to have failed.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long this replica's own figures may take to show a change that is made already.
const SEEN_TIMEOUT: Duration = Duration::from_secs(1);

/// A replica of the cluster as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which, and where.
    pub peer: Peer,
    /// Whether it votes; otherwise it only learns.
    pub votes: bool,
    /// Whether it leads.
    pub leads: bool,
    /// The last entry it is known to have; only a leader knows.
    pub matched: Option<u64>,
    /// Entries it lacks; only a leader knows.
    pub lag: Option<u64>,
    /// Since when it is silent; only a leader knows, and nothing of itself.
    pub silent_for: Option<Duration>,
}

impl Member {
    /// Whether something was heard of it not long ago.
    pub(crate) fn heard(&self) -> bool {
        self.leads || self.silent_for.is_some_and(|silent| silent <= HEARD_WITHIN)
    }
}

/// Who votes now. While voters are exchanged there are two sets of them, and a majority of each must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voting {
    sets: Vec<BTreeSet<u64>>,
}

impl Voting {
    /// These sets, of which there is at least one.
    pub(crate) fn of(sets: Vec<BTreeSet<u64>>) -> Self {
        Self { sets }
    }

    /// All of them, in order.
    pub fn voters(&self) -> Vec<u64> {
        self.sets.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether it votes, in any set.
    pub fn has(&self, replica: u64) -> bool {
        self.sets.iter().any(|set| set.contains(&replica))
    }

    /// Whether these are a majority; of both sets where there are two.
    pub fn agree(&self, replicas: &BTreeSet<u64>) -> bool {
        let majority = |set: &BTreeSet<u64>| set.intersection(replicas).count() > set.len() / 2;
        !self.sets.is_empty() && self.sets.iter().all(majority)
    }

    /// Of the set that is furthest from a majority: how many of these are in it, how many vote, and how many it takes.
    pub fn lacking(&self, replicas: &BTreeSet<u64>) -> (usize, usize, usize) {
        let counts = self.sets.iter().map(|set| (set.intersection(replicas).count(), set.len(), set.len() / 2 + 1));
        counts.min_by_key(|(have, _, needed)| *have as i64 - *needed as i64).unwrap_or((0, 0, 1))
    }
}

/// A change of membership that was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// It may work later, or at the leader.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No such replica.
    #[error("coordinator {replica} is not a member")]
    Unknown {
        /// As asked for.
        replica: u64,
    },
    /// Two replicas cannot have one address.
    #[error("{address} is the address of coordinator {replica}")]
    AddressTaken {
        /// As asked for.
        address: String,
        /// Whose it is.
        replica: u64,
    },
    /// It votes already.
    #[error("coordinator {replica} votes already")]
    VotesAlready {
        /// Which.
        replica: u64,
    },
    /// It only learns.
    #[error("coordinator {replica} does not vote; promote it first, with `fctl cluster promote {replica}`")]
    DoesNotVote {
        /// Which.
        replica: u64,
    },
    /// It lacks too much of the log.
    #[error(
        "coordinator {replica} is {behind} entries behind, more than {PROMOTE_LAG_MAX}; wait until it has caught up"
    )]
    Behind {
        /// Which.
        replica: u64,
        /// How far.
        behind: u64,
    },
    /// Nothing is heard from it.
    #[error("coordinator {replica} is not heard from")]
    Silent {
        /// Which.
        replica: u64,
    },
    /// Without it nobody could decide anything.
    #[error("coordinator {replica} is the only one that votes")]
    LastVoter {
        /// Which.
        replica: u64,
    },
    /// Those left could not decide anything.
    #[error("without coordinator {replica}, {heard} of {voters} voters would be heard from, and {needed} are needed")]
    LosesQuorum {
        /// Which.
        replica: u64,
        /// Voters that would be left.
        voters: usize,
        /// Those of them that are heard from.
        heard: usize,
        /// How many it takes.
        needed: usize,
    },
    /// It leads.
    #[error("coordinator {replica} leads; let it hand that over first, with `fctl cluster step-down`")]
    Leads {
        /// Which.
        replica: u64,
    },
    /// Another change came first or is under way.
    #[error("membership is being changed by somebody else; look again")]
    Contended,
    /// Nobody is fit to take over.
    #[error("no other voter is close enough behind to take over")]
    NoSuccessor,
    /// It did not take over in time; this replica may lead on.
    #[error("coordinator {replica} did not take over")]
    NotTaken {
        /// Which.
        replica: u64,
    },
}

impl<M: Machine> Replica<M> {
    /// Who votes now.
    pub fn voting(&self) -> Voting {
        Voting::of(self.metrics().membership_config.membership().get_joint_config().clone())
    }

    /// All replicas of the cluster, by id.
    pub fn members(&self) -> Vec<Member> {
        members_of(&self.metrics())
    }

    /// Adds a learner at `address` under an id that was never used, and returns the id. The machine there is then opened with
    /// [`Start::Join`](super::Start::Join) under it; it need not run yet.
    pub async fn add_learner(&self, address: &str) -> Result<u64, MembershipError> {
        let metrics = self.leading()?;
        if let Some(member) = members_of(&metrics).into_iter().find(|member| member.peer.address == address) {
            let replica = member.peer.replica;
            return Err(MembershipError::AddressTaken { address: address.to_owned(), replica });
        }
        let id = self.mint_replica_id().await?;
        let node = BTreeMap::from([(id, BasicNode { addr: address.to_owned() })]);
        self.change(&metrics, ChangeMembers::AddNodes(node)).await?;
        Ok(id)
    }

    /// Lets a learner vote.
    pub async fn promote(&self, replica: u64) -> Result<(), MembershipError> {
        let metrics = self.leading()?;
        let member = find(&metrics, replica)?;
        if member.votes {
            return Err(MembershipError::VotesAlready { replica });
        }
        if !member.heard() {
            return Err(MembershipError::Silent { replica });
        }
        check_lag(&member)?;
        self.change(&metrics, ChangeMembers::AddVoterIds(BTreeSet::from([replica]))).await
    }

    /// Takes a replica out of the cluster. It never comes back under its id.
    pub async fn remove(&self, replica: u64) -> Result<(), MembershipError> {
        let metrics = self.leading()?;
        let member = find(&metrics, replica)?;
        if !member.votes {
            return self.change(&metrics, ChangeMembers::RemoveNodes(BTreeSet::from([replica]))).await;
        }
        let rest = members_of(&metrics).into_iter().filter(|other| other.votes && other.peer.replica != replica);
        let rest: Vec<Member> = rest.collect();
        check_quorum(replica, &rest)?;
        if member.leads {
            return Err(MembershipError::Leads { replica });
        }
        self.change(&metrics, ChangeMembers::RemoveVoters(BTreeSet::from([replica]))).await
    }

    /// Hands leadership to a voter, and waits until this replica follows.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MembershipError> {
        let metrics = self.leading()?;
        let member = find(&metrics, to)?;
        if member.leads {
            return Ok(());
        }
        if !member.votes {
            return Err(MembershipError::DoesNotVote { replica: to });
        }
        if !member.heard() {
            return Err(MembershipError::Silent { replica: to });
        }
        check_lag(&member)?;
        let mut role = self.role();
        let asked = self.library().trigger().transfer_leader(to).await;
        asked.map_err(|_| Unavailable::Stopped)?;
        let moved = role.wait_for(|role| matches!(role, Role::Follower { .. } | Role::Stopped { .. }));
        match tokio::time::timeout(TRANSFER_TIMEOUT, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Unavailable::Stopped.into()),
            Err(_) => Err(MembershipError::NotTaken { replica: to }),
        }
    }

    /// Hands leadership to the voter that is least behind.
    pub async fn step_down(&self) -> Result<(), MembershipError> {
        let fit = self.members().into_iter().filter(|member| member.votes && !member.leads && member.heard());
        let next = fit.filter(|member| check_lag(member).is_ok()).max_by_key(|member| member.matched);
        self.leading()?;
        self.transfer_leader(next.ok_or(MembershipError::NoSuccessor)?.peer.replica).await
    }

    fn metrics(&self) -> RaftMetrics<Types<M::Reply>> {
        // A copy, so that no lock is held.
        self.library().metrics().borrow_watched().clone()
    }

    /// What the leader knows; an error names the leader where this replica is not it.
    fn leading(&self) -> Result<RaftMetrics<Types<M::Reply>>, Unavailable> {
        let metrics = self.metrics();
        if metrics.state == ServerState::Leader {
            return Ok(metrics);
        }
        let leader = metrics.current_leader.and_then(|leader| {
            let node = metrics.membership_config.get_node(&leader)?;
            Some(Peer { replica: leader, address: node.addr.clone() })
        });
        Err(leader.map_or(Unavailable::NoQuorum, |leader| Unavailable::NotLeader { leader }))
    }

    /// Makes one change if membership is still what `seen` says.
    async fn change(
        &self,
        seen: &RaftMetrics<Types<M::Reply>>,
        change: ChangeMembers<u64, BasicNode>,
    ) -> Result<(), MembershipError> {
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *seen.membership_config.log_id() };
        match self.library().change_membership_if(change, false, [unchanged]).await {
            Ok(written) => {
                // So that whoever made this change sees it, and can make the next.
                let made = Some(written.log_id);
                let seen = self.library().wait(Some(SEEN_TIMEOUT));
                let _ = seen.metrics(|now| *now.membership_config.log_id() >= made, "the new membership").await;
                Ok(())
            }
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped.into()),
            Err(RaftError::APIError(refused)) => Err(match refused {
                ClientWriteError::PreconditionFailed(_) => MembershipError::Contended,
                ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(unknown)) => {
                    MembershipError::Unknown { replica: unknown.node_id }
                }
                ClientWriteError::ChangeMembershipError(_) => MembershipError::Contended,
                ClientWriteError::ForwardToLeader(forward) => not_leader(forward).into(),
                other @ ClientWriteError::LogEntryDiscarded(_) => unavailable(other).into(),
            }),
        }
    }
}

fn members_of<R: Send + Sync + 'static>(metrics: &RaftMetrics<Types<R>>) -> Vec<Member> {
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let nodes = metrics.membership_config.membership().nodes();
    let members = nodes.map(|(id, node)| {
        let leads = metrics.current_leader == Some(*id);
        let here = metrics.id == *id;
        let matched = match &metrics.replication {
            _ if here => metrics.last_log_index,
            Some(replication) => replication.get(id).and_then(|at| at.as_ref().map(|at| at.index())),
            None => None,
        };
        let knows = metrics.replication.is_some();
        let last = metrics.last_log_index.map_or(0, |last| last + 1);
        let lag = knows.then(|| last.saturating_sub(matched.map_or(0, |at| at + 1)));
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id)).and_then(|heard| heard.as_ref());
        Member {
            peer: Peer { replica: *id, address: node.addr.clone() },
            votes: voters.contains(id),
            leads,
            matched,
            lag,
            silent_for: heard.filter(|_| !here).map(|heard| heard.elapsed()),
        }
    });
    members.collect()
}

fn find<R: Send + Sync + 'static>(metrics: &RaftMetrics<Types<R>>, replica: u64) -> Result<Member, MembershipError> {
    let found = members_of(metrics).into_iter().find(|member| member.peer.replica == replica);
    found.ok_or(MembershipError::Unknown { replica })
}

fn check_lag(member: &Member) -> Result<(), MembershipError> {
    let behind = member.lag.unwrap_or(u64::MAX);
    let replica = member.peer.replica;
    if behind > PROMOTE_LAG_MAX { Err(MembershipError::Behind { replica, behind }) } else { Ok(()) }
}

/// Refuses to leave voters behind that could not decide.
fn check_quorum(replica: u64, rest: &[Member]) -> Result<(), MembershipError> {
    let (voters, heard) = (rest.len(), rest.iter().filter(|member| member.heard()).count());
    let needed = voters / 2 + 1;
    if voters == 0 {
        return Err(MembershipError::LastVoter { replica });
    }
    if heard < needed { Err(MembershipError::LosesQuorum { replica, voters, heard, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(replica: u64, silent_ms: Option<u64>) -> Member {
        Member {
            peer: Peer { replica, address: String::new() },
            votes: true,
            leads: replica == 1,
            matched: None,
            lag: Some(0),
            silent_for: silent_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn while_voters_are_exchanged_a_majority_of_the_old_and_of_the_new_must_agree() {
        let set = |replicas: &[u64]| replicas.iter().copied().collect::<BTreeSet<_>>();
        let one = Voting::of(vec![set(&[1, 2, 3])]);
        assert!(one.agree(&set(&[1, 3])) && !one.agree(&set(&[1])));
        assert!(!one.agree(&set(&[1, 7, 8])), "who does not vote does not count");
        let joint = Voting::of(vec![set(&[1, 2, 3]), set(&[3, 4, 5])]);
        assert!(!joint.agree(&set(&[1, 2, 3])) && !joint.agree(&set(&[1, 4, 5])));
        assert!(joint.agree(&set(&[1, 3, 4])) && joint.has(5) && !joint.has(6));
        assert_eq!(joint.lacking(&set(&[1, 2, 3])), (1, 3, 2));
        assert!(!Voting::of(vec![]).agree(&set(&[1])));
    }

    #[test]
    fn a_removal_must_leave_a_majority_that_is_heard_from() {
        let (leader, near) = (voter(1, None), |replica| voter(replica, Some(40)));
        let gone = |replica| voter(replica, Some(60_000));
        assert!(check_quorum(3, &[leader.clone(), near(2)]).is_ok());
        assert!(check_quorum(3, std::slice::from_ref(&leader)).is_ok());
        assert!(check_quorum(4, &[leader.clone(), near(2), gone(3)]).is_ok());
        let refused = check_quorum(2, &[leader.clone(), gone(3)]);
        assert!(matches!(refused, Err(MembershipError::LosesQuorum { voters: 2, heard: 1, needed: 2, .. })));
        assert!(matches!(check_quorum(1, &[]), Err(MembershipError::LastVoter { replica: 1 })));
    }
}
