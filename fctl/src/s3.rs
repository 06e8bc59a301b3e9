//! A backup in an object store that speaks S3: sent in parts while it is made, read as a stream.
//!
//! Owns: which object an `s3://` address names, and how its bytes come and go. Must not: know what a backup is made of.
//!
//! Invariant: an object is there whole or not at all: parts that never became one are taken back.

mod http;

use std::io::Read;

use bytes::Bytes;
use flowyard_sdk::shown::{chain, shown};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayloadMut, RetryConfig};
use tokio::task::JoinSet;
use tokio_util::io::{StreamReader, SyncIoBridge};

use self::http::Plain;
use crate::failure::Failure;

const SCHEME: &str = "s3://";
/// Size of a part.
const PART_BYTES: usize = 32 << 20;
/// What fits into the 10,000 parts that a store takes.
const MOST_BYTES: u64 = 10_000 * PART_BYTES as u64;
/// Parts on their way at a time; one more is being gathered.
const PARTS: usize = 2;
/// How long after its beginning a request is still tried again, or an answer that broke off is asked for from there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// One object.
#[derive(Debug)]
pub(crate) struct S3File {
    store: AmazonS3,
    key: Path,
    shown: String,
}

impl S3File {
    /// The object that a text names; nothing if it is no `s3://` address.
    ///
    /// # Errors
    /// When the address, or what the environment says of the store, makes no sense.
    pub(crate) fn named(text: &str) -> Result<Option<Self>, Failure> {
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(None) };
        let wrong = |why: &str| Failure::Usage(format!("`{}`: {why}; write s3://BUCKET/KEY", shown(text)));
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || key.is_empty() {
            return Err(wrong("a bucket or a key is missing"));
        }
        let key = Path::parse(key).map_err(|error| wrong(&error.to_string()))?;
        endpoint_makes_sense()?;
        let retry = RetryConfig { retry_timeout: PATIENCE, ..RetryConfig::default() };
        // Not every store that speaks S3 takes a list of what is to be removed.
        let store = AmazonS3Builder::from_env().with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
        let store = store.with_bucket_name(bucket).with_http_connector(Plain).with_retry(retry);
        let store = store.build().map_err(|error| wrong(&chain(&error)))?;
        Ok(Some(Self { store, key, shown: shown(text) }))
    }

    /// Whether there is such an object.
    pub(crate) async fn exists(&self) -> Result<bool, Failure> {
        match self.store.head(&self.key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("look for it", &error)),
        }
    }

    /// Begins to write it; it is not there before [`Upload::finish`].
    pub(crate) async fn create(&self) -> Result<Upload<'_>, Failure> {
        let begun = self.store.put_multipart(&self.key).await;
        let begun = begun.map_err(|error| self.failed("begin to write it", &error))?;
        Ok(Upload { file: self, begun, part: PutPayloadMut::new(), sending: JoinSet::new(), bytes: 0 })
    }

    /// Removes it.
    pub(crate) async fn remove(&self) -> Result<(), Failure> {
        self.store.delete(&self.key).await.map_err(|error| self.failed("remove it", &error))
    }

    /// Has `read` read all of it, on a thread of its own.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let got = self.store.get(&self.key).await.map_err(|error| self.failed("read it", &error))?;
        let reader = SyncIoBridge::new(StreamReader::new(got.into_stream()));
        let done = tokio::task::spawn_blocking(move || read(Box::new(reader)));
        done.await.map_err(|panic| Failure::Internal(panic.to_string()))
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Failure {
        let told = match error {
            object_store::Error::NotFound { .. } => {
                "not found: the store has no such object, or no such bucket".to_owned()
            }
            error => format!(
                "{}; where the store is and who asks is taken from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, \
                 AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
                chain(error)
            ),
        };
        let source = std::io::Error::other(format!("cannot {what}: {told}"));
        Failure::Local { path: self.shown.clone(), source }
    }
}

/// The library ends the program where it is told of a store that cannot be.
fn endpoint_makes_sense() -> Result<(), Failure> {
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"] {
        let Some(value) = std::env::var_os(name) else { continue };
        let told = value.to_string_lossy();
        let address = told.parse::<hyper::Uri>().ok();
        let whole = address.is_some_and(|it| matches!(it.scheme_str(), Some("http" | "https")) && it.host().is_some());
        if !whole {
            return Err(Failure::Usage(format!(
                "{name} is `{}`, which is no address of a store: write https://HOST[:PORT]",
                shown(&told)
            )));
        }
    }
    Ok(())
}

/// An object that is being written. The library's own writer cannot be stopped once it sends the last part.
pub(crate) struct Upload<'a> {
    file: &'a S3File,
    begun: Box<dyn MultipartUpload>,
    /// Of the next part.
    part: PutPayloadMut,
    sending: JoinSet<object_store::Result<()>>,
    bytes: u64,
}

impl Upload<'_> {
    /// Adds these bytes; waits where too much is on its way.
    pub(crate) async fn put(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST_BYTES {
            let most = "an object takes 312 GiB at most; write it to a file, or `fctl cluster backup -` into the store's own tool";
            return Err(Failure::Local { path: self.file.shown.clone(), source: std::io::Error::other(most) });
        }
        while !bytes.is_empty() {
            let room = PART_BYTES - self.part.content_length();
            self.part.push(bytes.split_to(room.min(bytes.len())));
            if self.part.content_length() == PART_BYTES {
                self.wait_until_sending(PARTS - 1).await?;
                self.send();
            }
        }
        Ok(())
    }

    /// Waits until all of it was sent.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if !self.part.is_empty() {
            self.send();
        }
        self.wait_until_sending(0).await
    }

    fn send(&mut self) {
        let part = std::mem::take(&mut self.part).freeze();
        self.sending.spawn(self.begun.put_part(part));
    }

    /// Waits until no more parts than this are on their way.
    async fn wait_until_sending(&mut self, parts: usize) -> Result<(), Failure> {
        while self.sending.len() > parts {
            let sent = self.sending.join_next().await.expect("parts are on their way");
            let sent = sent.map_err(|panic| Failure::Internal(panic.to_string()))?;
            sent.map_err(|error| self.file.failed("write it", &error))?;
        }
        Ok(())
    }

    /// Makes the object of what was put and flushed. On an error there is none, unless only the store's answer was lost; parts are
    /// then still to be taken back.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        self.begun.complete().await.map(|_| ()).map_err(|error| self.file.failed("write it", &error))
    }

    /// Takes back what was put; whether the store said that it did.
    pub(crate) async fn abort(mut self) -> bool {
        self.sending.shutdown().await;
        self.begun.abort().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_bucket_and_key_and_other_texts_are_none() {
        let file = S3File::named("s3://bucket/folder/lab.fybackup").unwrap().unwrap();
        assert_eq!(file.key.to_string(), "folder/lab.fybackup");
        for other in ["lab.fybackup", "/s3://x", "gs://bucket/key", "-"] {
            assert!(S3File::named(other).unwrap().is_none(), "{other}");
        }
        for wrong in ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://bucket/a//b"] {
            let told = S3File::named(wrong).unwrap_err().to_string();
            assert!(told.contains("write s3://BUCKET/KEY"), "{told}");
        }
    }
}
