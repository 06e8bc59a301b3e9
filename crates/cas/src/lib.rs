//! Content-addressed storage: a digest names bytes, and the same bytes are kept once.
//!
//! | Module | Owns |
//! |---|---|
//! | [`folder`] | making folders that survive a power cut |
//! | [`hashing`] | turning bytes into a [`Digest`] |
//! | [`manifest`] | the list of paths that is an artifact, and its one encoding |
//! | [`pack`] | reading a file or folder of a user into a manifest and the files behind it |
//! | [`mod@checkout`] | writing a manifest back to a folder |
//! | [`items`] | JSON lists in which each item is found by its number |
//! | [`local`] | the blobs on this machine's disk: pinned, counted, evicted |
//! | [`origin`] | the durable blobs everybody reads from |
//! | [`store`] | the one composition of both |
//!
//! This crate knows nothing of jobs, of the replicated state or of the wire.
//!
//! Invariants: a blob is never changed in place and never served when its bytes do not hash to its digest; a digest that a
//! [`local::Pin`] holds is not evicted; nothing written by [`mod@checkout`] lies outside its destination.

pub mod checkout;
mod copying;
mod error;
pub mod folder;
pub mod hashing;
mod inflight;
pub mod items;
pub mod local;
pub mod manifest;
pub mod origin;
pub mod pack;
pub mod store;

pub use checkout::{Placing, checkout};
pub use error::StoreError;
pub use flowyard_model::Digest;
pub use folder::{make_folder, sync_folder};
pub use hashing::{BlobHasher, digest_bytes, digest_file, hashed_bytes};
pub use local::{BlobWriter, LocalOptions, LocalStore, Pin, PinnedBlob, PinnedTree};
pub use manifest::{Entry, EntryKind, Manifest, ManifestError, Summary};
pub use origin::{BlobUpload, LiveBlobs, Origin, Swept};
pub use pack::{PackError, Packed, RootLink, pack_code, pack_path};
pub use store::{Store, StoredArtifact};
