//! The wire of a private network: a pair of virtual interfaces, one end on the node and one in the container's network.
//!
//! Made by the shim, which is root of the host, once the container's namespaces are there and before anything of the user runs.
//! The kernel removes both ends when the container's network goes, so nothing has to be cleaned up.
//!
//! The few netlink messages that it takes are put together here.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::RuntimeError;
use super::spec::Wire;

/// What the task sees its end as.
const INSIDE: &str = "eth0";

/// A pair of addresses is a network of its own.
const PREFIX: u8 = 31;

/// Kinds of attributes, as the kernel's headers number them.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NESTED: u16 = 0x8000;

/// Connects the network of a container, whose first process is `init`, with the node.
pub(crate) fn connect(init: Pid, wire: &Wire) -> Result<(), RuntimeError> {
    let step = |what| move |source: io::Error| RuntimeError::Step { what, source };
    let path = format!("/proc/{init}/ns/net");
    let open =
        |path: &str| File::open(path).map_err(|source| RuntimeError::Path { what: "open", path: path.into(), source });
    let (own, theirs) = (open("/proc/self/ns/net")?, open(&path)?);
    let node = Socket::open().map_err(step("speak about the node's network"))?;
    node.add_pair(&wire.interface, INSIDE, Some(theirs.as_raw_fd()))
        .map_err(step("make the private network's wire"))?;
    node.set_address(&wire.interface, wire.node).map_err(step("address the node's end of the private network"))?;
    setns(&theirs, CloneFlags::CLONE_NEWNET).map_err(|error| step("enter the private network")(error.into()))?;
    let inside = set_up_inside(wire).map_err(step("set up the private network"));
    setns(&own, CloneFlags::CLONE_NEWNET).map_err(|error| step("leave the private network")(error.into()))?;
    inside
}

fn set_up_inside(wire: &Wire) -> io::Result<()> {
    let socket = Socket::open()?;
    socket.set_address(INSIDE, wire.task)?;
    socket.raise(INSIDE)?;
    socket.route_all(INSIDE, wire.node)
}

/// Whether this process may make such wires, tried out with one of this name.
pub(crate) fn can(name: &str) -> Result<(), RuntimeError> {
    let refused = |source| RuntimeError::Step { what: "make the wire of a private network", source };
    let socket = Socket::open().map_err(refused)?;
    socket.add_pair(name, &format!("{name}y"), None).map_err(refused)?;
    socket.remove(name).map_err(refused)
}

/// A way to tell the kernel about the network that this thread was in when it was opened.
struct Socket(OwnedFd);

impl Socket {
    fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers; the descriptor it returns is new and nobody else's.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: see above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A pair of interfaces, the first one up; the second one in another network if one is given. What has the name is left of
    /// an earlier network.
    fn add_pair(&self, name: &str, peer: &str, network: Option<RawFd>) -> io::Result<()> {
        let message = || {
            let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
            message.link(0, libc::IFF_UP as u32);
            message.text(IFLA_IFNAME, name);
            message.nest(IFLA_LINKINFO, |message| {
                message.text(IFLA_INFO_KIND, "veth");
                message.nest(IFLA_INFO_DATA, |message| {
                    message.nest(VETH_INFO_PEER, |message| {
                        message.link(0, 0);
                        message.text(IFLA_IFNAME, peer);
                        if let Some(network) = network {
                            message.attribute(IFLA_NET_NS_FD, &network.to_ne_bytes());
                        }
                    });
                });
            });
            message
        };
        match self.ask(message()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.ask(message())
            }
            other => other,
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_DELLINK, 0);
        message.link(0, 0);
        message.text(IFLA_IFNAME, name);
        self.ask(message)
    }

    fn raise(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.link(0, libc::IFF_UP as u32);
        message.text(IFLA_IFNAME, name);
        self.ask(message)
    }

    fn set_address(&self, name: &str, address: Ipv4Addr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        message.bytes(&[libc::AF_INET as u8, PREFIX, 0, libc::RT_SCOPE_UNIVERSE]);
        message.bytes(&index(name)?.to_ne_bytes());
        message.attribute(IFA_LOCAL, &address.octets());
        message.attribute(IFA_ADDRESS, &address.octets());
        self.ask(message)
    }

    fn route_all(&self, name: &str, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        let (table, kind) = (libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
        message.bytes(&[libc::AF_INET as u8, 0, 0, 0, table, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, kind]);
        message.bytes(&0_u32.to_ne_bytes());
        message.attribute(RTA_GATEWAY, &gateway.octets());
        message.attribute(RTA_OIF, &index(name)?.to_ne_bytes());
        self.ask(message)
    }

    /// Sends a message and waits for the kernel's answer, which it gives at once.
    fn ask(&self, message: Message) -> io::Result<()> {
        super::sys::send(self.0.as_fd(), &message.finish())?;
        let answer = super::sys::receive(self.0.as_fd(), true)?.unwrap_or_default();
        // After the header of 16 bytes comes the error number, negative; 0 for none.
        let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(-libc::EPROTO, i32::from_ne_bytes);
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
    }
}

fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a valid C string for the duration of the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// A netlink message: a header, a fixed part, and attributes, each padded to four bytes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = Self(vec![0; 4]);
        message.bytes(&kind.to_ne_bytes());
        message.bytes(&flags.to_ne_bytes());
        // A number for the answer, and the sender's; each socket is used by one, for one question at a time.
        message.bytes(&[0; 8]);
        message
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The fixed part about an interface: its number, 0 if it is named, and its switches, of which only those given are touched.
    fn link(&mut self, index: i32, flags: u32) {
        self.bytes(&[0; 4]);
        self.bytes(&index.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.0.len();
        self.bytes(&[0; 2]);
        self.bytes(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.0.len() - begin) as u16;
        self.0[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nests_know_their_length() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.nest(IFLA_LINKINFO, |message| message.text(IFLA_INFO_KIND, "veth"));
        let bytes = message.finish();
        assert_eq!(bytes[..4], 32_u32.to_ne_bytes());
        // A nest of 16 bytes: its own 4, and a text of 4 + 5, padded to 12.
        assert_eq!(bytes[16..18], 16_u16.to_ne_bytes());
        assert_eq!(bytes[20..24], [9_u16.to_ne_bytes(), IFLA_INFO_KIND.to_ne_bytes()].concat());
        assert_eq!(&bytes[24..32], b"veth\0\0\0\0");
    }
}
