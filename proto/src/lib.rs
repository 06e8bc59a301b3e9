//! The wire contract: generated messages, and all conversion between wire and model.
//!
//! Turning wire into domain is where validation happens, once. Nothing outside this crate converts.

mod convert;
pub mod decode;
mod entry;
#[cfg(any(test, feature = "generators"))]
pub mod generators;
mod redacted;
mod reply;
pub mod request;
mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;
pub mod view;

/// The generated modules, nested as the packages are because they refer to each other by that path.
#[allow(missing_docs, clippy::all, unreachable_pub)]
mod generated {
    pub mod api {
        pub mod v1 {
            tonic::include_proto!("flowyard.api.v1");
        }
    }
    pub mod blob {
        pub mod v1 {
            tonic::include_proto!("flowyard.blob.v1");
        }
    }
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("flowyard.agent.v1");
        }
    }
    pub mod cluster {
        pub mod v1 {
            tonic::include_proto!("flowyard.cluster.v1");
        }
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("flowyard.peer.v1");
        }
    }
}

pub use decode::{DecodeError, Problem};
pub use entry::{ENTRY_FORMAT, EncodeError, decode_entry, decode_spec, encode_entry, encode_spec, restamp};
pub use generated::agent::v1 as agent;
pub use generated::api::v1 as api;
pub use generated::blob::v1 as blob;
pub use generated::cluster::v1 as cluster;
pub use generated::peer::v1 as peer;
pub use reply::{decode_reply, encode_reply};

pub use snapshot::{
    RECORD_BYTES, Records, SNAPSHOT_FORMAT, SnapshotError, decode_record, encode_record, read_records, write_records,
};

/// The descriptors of all of it, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flowyard.bin"));
