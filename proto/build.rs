//! Compiles the wire contract without a protoc on the machine.

use std::path::PathBuf;

/// Messages with something that nobody may read.
const SECRET: [&str; 6] = [
    "flowyard.cluster.v1.JoinRequest",
    "flowyard.cluster.v1.JoinResponse",
    "flowyard.cluster.v1.CreateTokenResponse",
    "flowyard.cluster.v1.PutSecretRequest",
    "flowyard.agent.v1.SecretsResponse",
    "flowyard.peer.v1.KeepKeysRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "flowyard/api/v1/types.proto",
        "flowyard/api/v1/api.proto",
        "flowyard/blob/v1/blob.proto",
        "flowyard/agent/v1/agent.proto",
        "flowyard/peer/v1/access.proto",
        "flowyard/peer/v1/account.proto",
        "flowyard/peer/v1/entry.proto",
        "flowyard/peer/v1/past.proto",
        "flowyard/peer/v1/record.proto",
        "flowyard/peer/v1/raft.proto",
        "flowyard/peer/v1/members.proto",
        "flowyard/peer/v1/backup.proto",
        "flowyard/cluster/v1/cluster.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    println!("cargo:rerun-if-changed=flowyard");
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("flowyard.bin");
    let mut published = descriptors.clone();
    // Comments and positions are for the generated code only.
    published.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(&path, prost::Message::encode_to_vec(&published))?;
    // What is secret is shown by no `Debug`; see `redacted.rs`.
    tonic_prost_build::configure().bytes(".").btree_map(".").skip_debug(SECRET).compile_fds(descriptors)?;
    Ok(())
}
