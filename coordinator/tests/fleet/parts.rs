//! Jobs, artifacts and agents of the tests: an agent here says what a test wants it to say.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_cas::{Entry, EntryKind, Manifest, digest_bytes};
use flowyard_identity::{Certificate, Credential, Current, JoinToken, KeyRequest};
use flowyard_model::*;
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::agent::{AgentMessage, CoordinatorMessage, Hello, Observed, agent_message, coordinator_message};
use flowyard_proto::api::{self, SubmitRequest};
use flowyard_proto::blob::PutRequest;
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{AgentJoins, JoinRequest, JoinResponse, join_request};
use flowyard_proto::peer::Joiner;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::house::{Host, to_join};

/// What is stored under its digest, as one upload.
pub(crate) fn upload(blobs: &[&[u8]]) -> impl tokio_stream::Stream<Item = PutRequest> + use<> {
    let put = |bytes: &&[u8]| PutRequest { digest: Some(digest_bytes(bytes).into()), bytes: bytes.to_vec().into() };
    tokio_stream::iter(blobs.iter().map(put).collect::<Vec<_>>())
}

/// The manifest of a folder with one file of this content.
pub(crate) fn manifest(of: Digest) -> Vec<u8> {
    let file = Entry { path: b"file".to_vec(), kind: EntryKind::File { digest: of, executable: false } };
    Manifest::from_entries(vec![file]).unwrap().encode()
}

/// A job of one step with this code, which writes `out`.
pub(crate) fn job(queue: &str, code: Option<Digest>) -> SubmitRequest {
    let step = StepSpec {
        name: "work".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Container,
        code,
        inputs: BTreeMap::new(),
        outputs: [("out".parse().unwrap(), "out".to_owned())].into(),
        fan_out: FanOut::Single,
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 500,
            memory_bytes: 64 << 20,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: Vec::new(),
        },
        size: 1,
        retry: Retry::plain(0, 0, []),
        stop_signal: StopSignal::default(),
        timeout_ms: None,
        expected_ms: None,
        on_failure: OnFailure::Stop,
        max_parallel: None,
        constraints: Vec::new(),
        network: NetworkMode::Host,
        mounts: Vec::new(),
        kill_grace_ms: 10_000,
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    };
    let spec = JobSpec {
        name: "job".parse().unwrap(),
        queue: queue.parse().unwrap(),
        priority: 0,
        tags: BTreeSet::new(),
        params: BTreeMap::new(),
        steps: vec![step],
        after: Vec::new(),
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    };
    SubmitRequest { spec: Some((&spec).into()), key: None }
}

/// What a join with this token, key and name says.
pub(crate) fn joins(token: &JoinToken, key: &KeyRequest, name: &str) -> JoinRequest {
    JoinRequest {
        token: token.id.0,
        secret: token.secret.bytes().to_vec().into(),
        request: key.bytes().to_vec().into(),
        joiner: Some(join_request::Joiner::Agent(AgentJoins { name: name.to_owned() })),
        version: "0".to_owned(),
    }
}

/// The certificate that an answer holds, with its key.
pub(crate) fn credential(host: &Host, key: &KeyRequest, answer: &JoinResponse) -> Current {
    let chain = vec![Certificate::from(answer.certificate.to_vec())];
    Current::new(Credential::new(key, chain, &host.trust()).unwrap())
}

/// A node of this name that was let in.
pub(crate) async fn let_in(host: &Host, name: &str) -> Current {
    let token: JoinToken = host.token(to_join(Joiner::Agent)).await.parse().unwrap();
    let key = KeyRequest::generate().unwrap();
    let answer = EntranceClient::new(host.channel(None)).join(joins(&token, &key, name)).await.unwrap().into_inner();
    credential(host, &key, &answer)
}

/// An agent that was let in and holds a session.
pub(crate) struct Agent {
    pub(crate) own: Current,
    pub(crate) say: mpsc::Sender<AgentMessage>,
    pub(crate) told: Streaming<CoordinatorMessage>,
    reported: u64,
    last: Option<AgentMessage>,
}

fn inventory() -> Inventory {
    Inventory {
        cpu_milli: 4_000,
        memory_bytes: 1 << 30,
        disk_bytes: 0,
        gpus: vec![],
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        },
    }
}

/// The beginning of a session of a node that was never registered.
pub(crate) fn hello(name: &str) -> AgentMessage {
    let hello = Hello { name: name.to_owned(), inventory: Some((&inventory()).into()), ..Hello::default() };
    AgentMessage { message: Some(agent_message::Message::Hello(hello)) }
}

impl Agent {
    pub(crate) async fn connect(host: &Host, own: Current, name: &str) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        say.send(hello(name)).await.unwrap();
        let session = AgentsClient::new(host.channel(Some(own.clone()))).session(ReceiverStream::new(said)).await?;
        let mut agent = Self { own, say, told: session.into_inner(), reported: 0, last: None };
        match agent.told.message().await?.and_then(|told| told.message) {
            Some(coordinator_message::Message::Welcome(_)) => Ok(agent),
            other => panic!("a session begins with a welcome, not with {other:?}"),
        }
    }

    /// The next member it is told to run.
    pub(crate) async fn next_member(&mut self) -> api::MemberKey {
        loop {
            let told = self.told.message().await.unwrap().expect("it goes on").message;
            if let Some(coordinator_message::Message::Desired(desired)) = told
                && let Some(member) = desired.run.into_iter().next()
            {
                return member.key.unwrap();
            }
        }
    }

    /// Says that the member succeeded, having written this artifact and printed this log.
    pub(crate) async fn succeed(&mut self, member: api::MemberKey, out: Digest, stdout: Option<Digest>) {
        let output = api::Output { manifest: Some(out.into()), list: None };
        let end = api::End {
            outcome: api::AttemptOutcome::Succeeded.into(),
            reason: api::Reason::Exit.into(),
            blame: api::Blame::User.into(),
            exit_code: Some(0),
            outputs: [("out".to_owned(), output)].into(),
            stdout: stdout.map(Into::into),
            ..api::End::default()
        };
        let report = api::AttemptReport {
            member: Some(member),
            phase: api::Phase::Ended.into(),
            times: Some(api::PhaseTimes::default()),
            end: Some(end),
            checkpoint: None,
            stuck: 0,
            saved_at_ms: None,
        };
        self.reported += 1;
        let observed = Observed { sequence: self.reported, reports: vec![report] };
        let message = AgentMessage { message: Some(agent_message::Message::Observed(observed)) };
        self.last = Some(message.clone());
        self.say.send(message).await.unwrap();
    }

    /// Says once more what it said last.
    pub(crate) async fn say_again(&mut self) {
        self.say.send(self.last.clone().unwrap()).await.unwrap();
    }

    /// Waits until the coordinator has ended the session; why.
    pub(crate) async fn ended(&mut self) -> tonic::Status {
        loop {
            match self.told.message().await {
                Ok(told) => assert!(told.is_some(), "it ends with a reason"),
                Err(status) => return status,
            }
        }
    }

    /// Waits until what it said last is in the log.
    pub(crate) async fn acknowledged(&mut self) {
        loop {
            let told = self.told.message().await.unwrap().expect("it goes on").message;
            if let Some(coordinator_message::Message::Acknowledged(acknowledged)) = told {
                assert_eq!(acknowledged.sequence, self.reported);
                return;
            }
        }
    }
}
