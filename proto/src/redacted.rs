//! Messages that carry what nobody may read: in a log or an error they show only which message they are.

use std::fmt;

use crate::{agent, cluster, peer};

macro_rules! redacted {
    ($($message:path),* $(,)?) => {
        $(impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        })*
    };
}

redacted! {
    cluster::JoinRequest,
    cluster::JoinResponse,
    cluster::CreateTokenResponse,
    cluster::PutSecretRequest,
    agent::SecretsResponse,
    peer::KeepKeysRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_shown_by_no_debug() {
        let put = cluster::PutSecretRequest { value: "open sesame".into(), ..Default::default() };
        let told = agent::SecretsResponse { values: [("K".to_owned(), "open sesame".into())].into() };
        let keys = peer::KeepKeysRequest { keys: "open sesame".to_owned(), only: Vec::new(), term: 0 };
        let joined = cluster::JoinResponse { authority_key: "open sesame".to_owned(), ..Default::default() };
        let made = cluster::CreateTokenResponse { text: "open sesame".to_owned(), ..Default::default() };
        let join = cluster::JoinRequest { secret: "open sesame".into(), ..Default::default() };
        let shown = format!("{put:?}{told:?}{keys:?}{joined:?}{made:?}{join:?}");
        assert!(!shown.contains("sesame") && !shown.contains("[111, 112"), "{shown}");
    }
}
