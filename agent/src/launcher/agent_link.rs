//! The launcher's side of its connection to the agent: buffered both ways, bounded both ways.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt::PeerCredentials};

use super::protocol::{Event, Incoming, Request, encode};
use super::reactor::{Reactor, Source};

/// With more than this unsent, no further request is read: the agent must first take what it asked for.
const STOP_READING_BYTES: usize = 1 << 20;
/// An agent that lets this much pile up is cut off; it connects again and gets the list, so nothing is lost.
const MAX_UNSENT_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 256 * 1024;

/// The current agent.
#[derive(Debug)]
pub(super) struct AgentLink {
    stream: UnixStream,
    incoming: Incoming,
    unsent: Vec<u8>,
    /// What the reactor watches for: input, output.
    watched: (bool, bool),
    /// Nothing more will be read.
    input_ended: bool,
    /// Nothing can be sent any more; what the agent asked for before it went is still read.
    output_failed: bool,
    buffer: Vec<u8>,
}

impl AgentLink {
    /// Takes a connection, if it comes from our own user or root.
    pub(super) fn accept(stream: UnixStream, reactor: &Reactor) -> io::Result<Option<Self>> {
        let peer = getsockopt(&stream, PeerCredentials)?;
        if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        reactor.add(&stream, Source::Agent)?;
        Ok(Some(Self {
            stream,
            incoming: Incoming::default(),
            unsent: Vec::new(),
            watched: (true, false),
            input_ended: false,
            output_failed: false,
            buffer: vec![0; READ_BYTES],
        }))
    }

    /// Whether the other side is gone. What it had asked for may still wait in [`AgentLink::next_request`].
    pub(super) fn is_gone(&self) -> bool {
        self.input_ended
    }

    /// Reads some of what has arrived; gives the number of bytes.
    pub(super) fn receive(&mut self) -> usize {
        if self.input_ended || self.unsent.len() > STOP_READING_BYTES {
            return 0;
        }
        match self.stream.read(&mut self.buffer) {
            Ok(0) => self.input_ended = true,
            Ok(count) => {
                self.incoming.extend(&self.buffer[..count]);
                return count;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.input_ended = true,
        }
        0
    }

    /// The next request that is here. An agent that sends nonsense is cut off.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        match self.incoming.take() {
            Ok(request) => request,
            Err(_) => {
                self.incoming = Incoming::default();
                self.input_ended = true;
                None
            }
        }
    }

    /// Queues an event.
    pub(super) fn queue(&mut self, event: &Event) {
        if self.output_failed {
            return;
        }
        encode(event, &mut self.unsent);
        if self.unsent.len() > MAX_UNSENT_BYTES {
            self.fail_output();
            self.input_ended = true;
        }
    }

    /// Says nothing more, and reads what is left: another agent has taken its place.
    pub(super) fn hang_up(&mut self) {
        self.fail_output();
    }

    fn fail_output(&mut self) {
        self.output_failed = true;
        self.unsent = Vec::new();
    }

    /// Ends the watch of the connection, before it is dropped.
    pub(super) fn unwatch(&self, reactor: &Reactor) {
        reactor.remove(&self.stream);
    }

    /// Sends what the socket takes now and tells the reactor what to wait for.
    pub(super) fn flush(&mut self, reactor: &Reactor) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match send(self.stream.as_raw_fd(), &self.unsent[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => sent += count,
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Err(_) => {
                    self.fail_output();
                    sent = 0;
                }
            }
        }
        self.unsent.drain(..sent);
        let wanted = (self.unsent.len() <= STOP_READING_BYTES, !self.unsent.is_empty());
        if wanted != self.watched && !self.input_ended {
            reactor.change(self.stream.as_fd(), Source::Agent, wanted.0, wanted.1)?;
            self.watched = wanted;
        }
        Ok(())
    }
}
