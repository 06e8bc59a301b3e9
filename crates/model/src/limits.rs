//! Every bound that a command or a spec is held to, with its name. Units are in the names.

/// Longest contract of what may be evicted, all its times together: an hour, in milliseconds.
pub const CONTRACT_MS: u64 = 3_600_000;
/// What fetching may take of the time until an attempt runs, at most, before its minimum run counts all the same; and never more than that is.
/// In milliseconds.
pub const FETCH_MS: u64 = 300_000;
/// Attempts of one task that are evicted at most; after that it is left alone.
pub const RELOCATIONS: usize = 8;
/// Claims that there are at one time. A queue that wants its reserve back by many small tasks has one for each, and what is beyond this comes
/// back only once the first have left. One is some hundred bytes in State, and apply looks at no other's to make it.
pub const CLAIMS: usize = 4_096;
/// Steps of whom it is remembered how long they took.
pub const DURATIONS: usize = 20_000;
/// Attempts whose end one claim waits for: a gang of a thousand nodes on each of which sixteen tasks run. So many and the gang's seats have
/// room in an entry.
pub const AWAITED: usize = 16_384;
/// How long a claim outlives the time by which whoever leaves for it must have left: agents and rounds of placement take some. In
/// milliseconds.
pub const CLAIM_GRACE_MS: u64 = 300_000;
/// Bytes of a name.
pub const NAME_BYTES: usize = 63;
/// Parts of a queue path.
pub const QUEUE_DEPTH: usize = 8;
/// Models of devices and tokens together that one amount of a queue names.
pub const QUEUE_COLUMNS: usize = 64;
/// How long it takes until past use counts half: a week, so that who used much on one day is back in line some weeks later, and
/// nobody is repaid for what was long ago. In milliseconds.
pub const HALF_LIFE_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Hours of which it is known singly what was used in them.
pub const LEDGER_HOURS: u64 = 48;
/// Days of which it is known what was used in them: the month before the last is there until this one ends.
pub const LEDGER_DAYS: u64 = 62;
/// Queues of a cluster.
pub const QUEUES: usize = 10_000;
/// Queues that one call puts.
pub const QUEUES_PER_CALL: usize = 1_000;
/// The heaviest queue.
pub const QUEUE_WEIGHT: u32 = 1_000_000;
/// Thousandths of a CPU that a queue may name: as many as a thousand of the largest nodes offer.
pub const QUEUE_CPU_MILLI: u64 = 1_000_000_000_000;
/// Bytes of memory or disk that a queue may name: one exbibyte.
pub const QUEUE_BYTES: u64 = 1 << 60;
/// Thousandths of a GPU that a queue may name.
pub const QUEUE_GPU_MILLI: u64 = 1_000_000_000;
/// Tokens of one name that a queue may name.
pub const QUEUE_TOKENS: u64 = 1_000_000_000;
/// Shapes of all work that has not ended.
pub const SHAPES: usize = 10_000;
/// Of these, those that one person may have whatever others have; who has more leaves as many free for everybody else.
pub const SHAPES_OF_ONE: usize = 2_500;
/// Steps of one job.
pub const STEPS: usize = 1_000;
/// Tasks of one step.
pub const TASKS_PER_STEP: u32 = 10_000_000;
/// Tasks of one job over all steps.
pub const TASKS_PER_JOB: u64 = 50_000_000;
/// Bytes of an encoded job spec.
pub const SPEC_BYTES: usize = 512 * 1024;
/// Bytes of an encoded log entry.
pub const ENTRY_BYTES: usize = 1024 * 1024;
/// Arguments of one command.
pub const ARGUMENTS: usize = 4_096;
/// Inputs, and outputs, of one step.
pub const ARTIFACTS_PER_STEP: usize = 256;
/// Environment variables of one step.
pub const ENV_VARIABLES: usize = 512;
/// Tags of one job.
pub const TAGS: usize = 64;
/// Bytes of a submission key, a tag, a free text such as a label's value.
pub const TEXT_BYTES: usize = 256;
/// Bytes of the message in the end of an attempt.
pub const MESSAGE_BYTES: usize = 1_024;
/// Placements in one plan; larger plans are split before they are proposed.
pub const PLACEMENTS_PER_PLAN: usize = 1_000;
/// Jobs that one call may submit.
pub const JOBS_PER_BATCH: usize = 1_000;
/// Attempt reports in one entry.
pub const REPORTS_PER_ENTRY: usize = 1_000;
/// Tries of one task whose end is blamed on the platform or the hardware, before the task is given up.
pub const UNBLAMED_ATTEMPTS: u32 = 20;
/// Thousandths of a CPU one task may ask for.
pub const CPU_MILLI: u64 = 4_096_000;
/// Bytes of memory, disk or shared memory one task may ask for: one pebibyte.
pub const RESOURCE_BYTES: u64 = 1 << 50;
/// GPUs one task may ask for.
pub const GPUS: u32 = 1_024;
/// Alternatives of GPUs that a step may name.
pub const GPU_ALTERNATIVES: usize = 8;
/// Retries of one task.
pub const RETRIES: u32 = 1_000;
/// Exceptions of one retry rule.
pub const RETRY_RULES: usize = 16;
/// Exit codes that one exception names.
pub const RETRY_CODES: usize = 256;
/// The most a wait before a retry grows by from one try to the next.
pub const RETRY_FACTOR: u32 = 100;
/// A wait before a retry grows to this many times the first, where its rule does not say how far.
pub const BACKOFF_GROWTH: u64 = 64;
/// Longest duration in a spec: ten years, in milliseconds.
pub const DURATION_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Finished jobs kept; the oldest are forgotten first.
pub const FINISHED_JOBS: usize = 10_000;
/// Finished jobs kept at most while they could not be archived; beyond that the oldest are forgotten all the same.
pub const UNARCHIVED_JOBS: usize = 2 * FINISHED_JOBS;
/// Jobs that one entry archives.
pub const ARCHIVED_PER_ENTRY: usize = 128;
/// Segments of the log that one entry seals or drops.
pub const SEGMENTS_PER_ENTRY: usize = 256;
/// Work that one `Tick` does at most; the rest is due at the same deadline and done by the next.
pub const WORK_PER_TICK: usize = 1_000;
/// Jobs that one job may wait for.
pub const AFTER_JOBS: usize = 64;
/// How long an ended job is remembered when its spec does not say: 30 days, in milliseconds.
pub const RETENTION_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Wait before a task is tried again after an end that is not the user's fault, in milliseconds; doubled each time.
pub const UNBLAMED_BACKOFF_MS: u64 = 1_000;
/// Tokens that have not expired.
pub const TOKENS: usize = 10_000;
/// Joiners that one token lets in.
pub const TOKEN_USES: u32 = 1_000;
/// Queues that one submitter may be bound to.
pub const QUEUES_PER_ROLE: usize = 64;
/// Conditions that one step prefers.
pub const PREFERENCES: usize = 16;
/// The most that one of them counts.
pub const PREFERENCE: u32 = 100;
/// Tags that one step keeps apart from.
pub const APART: usize = 8;
/// Levels of the topology.
pub const TOPOLOGY_LEVELS: usize = 8;
/// Secrets that are kept.
pub const SECRETS: usize = 10_000;
/// Secrets that one step is given.
pub const SECRETS_PER_STEP: usize = 64;
/// Bytes of one secret.
pub const SECRET_BYTES: usize = 64 * 1024;
/// Bytes of all secrets of one step.
pub const STEP_SECRETS_BYTES: usize = 512 * 1024;
/// Bytes of the addresses of a coordinator that is let in.
pub const ADDRESS_BYTES: usize = 600;
/// Bytes of one manifest, which is read as a whole.
pub const MANIFEST_BYTES: u64 = 256 * 1024 * 1024;
/// Identities that are shut out.
pub const REVOCATIONS: usize = 100_000;
/// Members of one gang.
pub const GANG: u32 = 1_000;
/// Members of one attempt of a gang that are replaced, before it is lost as a whole.
pub const REPLACEMENTS: usize = 256;
/// Ports of a node that are given to gangs.
pub const GANG_PORTS: u32 = 16_384;
/// Bytes of one blob: four tebibytes.
pub const BLOB_BYTES: u64 = 1 << 42;
/// Thousandths of a CPU that one node may offer.
pub const NODE_CPU_MILLI: u64 = 1_000_000_000;
/// Bytes of memory, of disk or of a GPU that one node may offer: one exbibyte.
pub const NODE_BYTES: u64 = 1 << 60;
/// GPUs that one node may offer.
pub const NODE_GPUS: usize = 1_024;
/// The largest number that an agent may remember of a former registration. They count up by one from 1, so none ever comes near.
pub const REMEMBERED: u64 = 1 << 48;
/// The latest moment that an agent may report: the end of the year 9999.
pub const TIME_MS: u64 = 253_402_300_799_999;
/// How long it takes until half of what is held against a node is gone: an hour, in milliseconds.
pub const DISCREDIT_HALF_LIFE_MS: u64 = 3_600_000;
/// What an attempt that the platform failed counts against its node, in thousandths of a point.
pub const DISCREDIT_PLATFORM_MILLI: u64 = 1_000;
/// What an attempt that the hardware failed counts against its node, in thousandths of a point.
pub const DISCREDIT_HARDWARE_MILLI: u64 = 3_000;
/// What it counts against a node that it was lost, in thousandths of a point.
pub const DISCREDIT_LOST_MILLI: u64 = 3_000;
/// From so many thousandths of a point on, a node is given only what fits nowhere else.
pub const AVOIDED_MILLI: u64 = 1_500;
/// From so many thousandths of a point on, a node is given nothing.
pub const SHUNNED_MILLI: u64 = 10_000;
/// Thousandths of a point that are held against a node at most, so that it is given work again after one half-life at the latest.
pub const DISCREDIT_MILLI: u64 = 20_000;
/// What is less than so many thousandths of a point is forgotten.
pub const DISCREDIT_FORGOTTEN_MILLI: u64 = 500;
/// How many of the last things that are held against a node are known one by one.
pub const CHARGES: usize = 5;
/// Of so many nodes that take work one may be shunned.
pub const SHUNNED_OF: usize = 4;
