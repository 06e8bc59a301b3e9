//! Addresses: those that private networks get, and those that an operator opens or closes. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A network, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

/// What is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address such as 10.1.2.3 nor a network such as 10.0.0.0/8 or fd00::/8")]
pub struct NoNet(String);

impl FromStr for Net {
    type Err = NoNet;

    fn from_str(text: &str) -> Result<Self, NoNet> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let no = || NoNet(text.to_owned());
        let address: IpAddr = address.trim().parse().map_err(|_| no())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.trim().parse().map_err(|_| no()))?;
        if prefix <= most { Ok(Self { address, prefix }) } else { Err(no()) }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Net {
    /// Whether it is of version 4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

/// Addresses of private networks: each gets a pair, one for the node's end and one for the task's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    prefix: u8,
}

/// What is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no network of version 4 such as 198.19.0.0/16, from /8 to /30, of which each private network gets two addresses"
)]
pub struct NoPool(String);

impl Pool {
    /// Half of the network that is set aside for measuring devices (RFC 2544): nothing on a site or in the world has its
    /// addresses.
    pub const USUAL: Self = Self { first: 0xc613_0000, prefix: 16 };

    /// How many pairs there are.
    pub(crate) fn pairs(self) -> u32 {
        1 << (31 - u32::from(self.prefix))
    }

    /// The node's address and the task's of a pair.
    pub(crate) fn pair(self, number: u32) -> (Ipv4Addr, Ipv4Addr) {
        let node = self.first + 2 * number;
        (Ipv4Addr::from_bits(node), Ipv4Addr::from_bits(node + 1))
    }

    /// Which pair a task's address is of.
    pub(crate) fn number(self, task: Ipv4Addr) -> Option<u32> {
        let number = task.to_bits().checked_sub(self.first)? / 2;
        (number < self.pairs()).then_some(number)
    }

    /// A route of this machine that leads to some of the addresses, if there is one beside the default one and those of `own`
    /// interfaces. `table` is `/proc/net/route`: interface, destination and, six fields later, mask, as hexadecimal numbers in
    /// this machine's order.
    pub(crate) fn routed(self, table: &str, own: &str) -> Option<String> {
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let hex = |at: usize| Some(u32::from_be(u32::from_str_radix(fields.get(at)?, 16).ok()?));
            let (interface, to, mask) = (*fields.first()?, hex(1)?, hex(7)?);
            let common = mask & self.mask();
            let meets = mask != 0 && to & common == self.first & common;
            (meets && !interface.starts_with(own))
                .then(|| format!("{}/{} by {interface}", Ipv4Addr::from_bits(to), mask.count_ones()))
        })
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl FromStr for Pool {
    type Err = NoPool;

    fn from_str(text: &str) -> Result<Self, NoPool> {
        let no = || NoPool(text.to_owned());
        match text.parse::<Net>().map_err(|_| no())? {
            Net { address: IpAddr::V4(first), prefix: prefix @ 8..=30 } => {
                let pool = Self { first: first.to_bits(), prefix };
                if pool.first & !pool.mask() == 0 { Ok(pool) } else { Err(no()) }
            }
            _ => Err(no()),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_gets_a_pair_and_no_pair_leaves_the_pool() {
        let pool: Pool = "10.9.0.0/29".parse().expect("a pool");
        assert_eq!((pool.pairs(), pool.to_string()), (4, "10.9.0.0/29".to_owned()));
        assert_eq!(pool.pair(3), (Ipv4Addr::new(10, 9, 0, 6), Ipv4Addr::new(10, 9, 0, 7)));
        assert_eq!(pool.number(Ipv4Addr::new(10, 9, 0, 7)), Some(3));
        assert_eq!(pool.number(Ipv4Addr::new(10, 9, 0, 9)), None);
        assert_eq!(Pool::USUAL.to_string().parse(), Ok(Pool::USUAL));
        for text in ["", "10.9.0.1/29", "10.9.0.0", "10.0.0.0/31", "0.0.0.0/0", "fd00::/8", "10.9.0.0/x"] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_route_to_the_pool_is_found_and_our_own_and_the_default_are_none() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
                     fyab-1 000013C6 00000000 0001 0 0 0 FEFFFFFF 0 0 0\n";
        assert_eq!(Pool::USUAL.routed(table, "fyab-"), None);
        let more = format!("{table}tun0 000012C6 00000000 0001 0 0 0 0000FEFF 0 0 0\n");
        assert_eq!(Pool::USUAL.routed(&more, "fyab-").as_deref(), Some("198.18.0.0/15 by tun0"));
        assert!(Pool::USUAL.routed(table, "fycd-").is_some());
    }

    #[test]
    fn networks_and_addresses_are_read() {
        for (text, shown) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("1.2.3.4", "1.2.3.4/32"), ("fd00:ec2::254", "fd00:ec2::254/128")]
        {
            assert_eq!(text.parse::<Net>().expect(text).to_string(), shown);
        }
        for text in ["example.org", "10.0.0.0/33", "1.2.3.4; drop", "fd00::/129"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
