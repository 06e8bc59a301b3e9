//! Where a coordinator is reached, as the log's membership keeps it.

use std::fmt;
use std::str::FromStr;

/// The two addresses of a coordinator, each as host:port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAddress {
    /// Where other replicas reach it.
    pub peers: String,
    /// Where agents and people reach it.
    pub api: String,
}

/// A text that is no address of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address; write HOST:PORT")]
pub struct AddressError(String);

impl MemberAddress {
    /// The two, checked.
    ///
    /// # Errors
    /// When one of them is not host:port.
    pub fn new(api: &str, peers: &str) -> Result<Self, AddressError> {
        Ok(Self { peers: checked(peers)?, api: checked(api)? })
    }
}

/// An address with a host that is not empty, a port, and nothing that would break the text it is written in.
fn checked(address: &str) -> Result<String, AddressError> {
    let wrong = || AddressError(address.chars().take(100).flat_map(char::escape_debug).collect());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let bracketed = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    let numbered = port.parse::<u16>().is_ok_and(|port| port > 0);
    if plain && bracketed && numbered && address.len() <= 255 { Ok(address.to_owned()) } else { Err(wrong()) }
}

impl FromStr for MemberAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (peers, api) = text.split_once(',').ok_or_else(|| AddressError(text.to_owned()))?;
        Self::new(api, peers)
    }
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.peers, self.api)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_and_nonsense_is_refused() {
        let address = MemberAddress::new("c1.lab:7400", "[fd00::1]:7401").unwrap();
        assert_eq!(address.to_string().parse(), Ok(address));
        for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "a,b:1", "fd00::1:7400", "a b:1"] {
            assert!(MemberAddress::new(wrong, "a:1").is_err(), "{wrong}");
        }
        assert!("a:1".parse::<MemberAddress>().is_err());
    }
}
