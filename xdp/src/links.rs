//! The front end's interfaces, by netlink: sysfs may show another network namespace than the one this process is in.

use crate::error::{Error, Result};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

/// Multicast group of link changes (`RTNLGRP_LINK`).
const GROUP_LINK: u32 = 1;

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Administratively up and with carrier.
    pub(crate) is_up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: [u8; 6],
    /// A veth whose peer is in another network namespace.
    pub(crate) leads_elsewhere: bool,
    /// Frames keep the mark of another host's on the way to the peer: see [`xdp_layout::port::target_flags::CLAIM`].
    pub(crate) keeps_mark: bool,
}

/// Whether this kernel is older than the first that clears the mark. One that does not tell its version is taken for older,
/// which costs a little and is never wrong.
static KEEPS_MARK: LazyLock<bool> = LazyLock::new(|| {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).is_none_or(|version| version < (6, 15))
});

/// Major and minor number of a kernel release such as `6.12.43+deb13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Interfaces by name.
pub(crate) type Links = BTreeMap<String, Link>;

/// How often a list is asked for that a change of interfaces interrupts each time.
const DUMP_ATTEMPTS: usize = 10;
/// Messages of changes that are taken together.
const BURST_MAX: usize = 4096;

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { operation, object: "network interfaces".to_owned(), source }
}

/// All interfaces as they are now.
pub(crate) fn dump() -> Result<Links> {
    for _ in 0..DUMP_ATTEMPTS {
        if let Some(links) = dump_once().map_err(failed("list"))? {
            return Ok(links);
        }
    }
    let cause = format!("they changed during each of {DUMP_ATTEMPTS} attempts");
    Err(failed("list")(io::Error::new(io::ErrorKind::Interrupted, cause)))
}

/// `None` if an interface changed meanwhile: others may be missing then, or be listed twice.
fn dump_once() -> io::Result<Option<Links>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut listing = Listing::default();
    while !listing.is_done {
        listing.add(&socket.recv_from_full()?.0)?;
    }
    Ok((!listing.is_interrupted).then_some(listing.links))
}

/// The answer to a dump, as far as it was read.
#[derive(Default)]
struct Listing {
    links: Links,
    is_done: bool,
    /// Some message said that the list is inconsistent (`NLM_F_DUMP_INTR`, kernel 3.2).
    is_interrupted: bool,
}

impl Listing {
    /// Takes the messages of one datagram.
    fn add(&mut self, datagram: &[u8]) -> io::Result<()> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let length = message.header.length as usize;
            self.is_interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::Done(_) => {
                    self.is_done = true;
                    return Ok(());
                }
                NetlinkPayload::Error(e) => return Err(e.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => self.links.extend(describe(&link)),
                _ => {}
            }
            // Messages are aligned to four bytes.
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn describe(message: &LinkMessage) -> Option<(String, Link)> {
    let flags = message.header.flags;
    let (mut name, mut is_veth, mut leads_elsewhere) = (None, false, false);
    let mut link = Link {
        index: message.header.index,
        is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: [0; 6],
        leads_elsewhere: false,
        keeps_mark: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::LinkNetNsId(_) => leads_elsewhere = true,
            LinkAttribute::LinkInfo(info) => is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => {}
        }
    }
    link.leads_elsewhere = is_veth && leads_elsewhere;
    link.keeps_mark = link.leads_elsewhere && *KEEPS_MARK;
    Some((name?, link))
}

/// Waits for changes of links.
pub(crate) struct Watch(Socket);

impl Watch {
    /// Begins to listen.
    pub(crate) fn new() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("watch"))?;
        socket.bind_auto().map_err(failed("watch"))?;
        socket.add_membership(GROUP_LINK).map_err(failed("watch"))?;
        Ok(Self(socket))
    }

    /// Blocks until some link changed, and takes what else changed by then: a burst of changes is one. Lost messages (a full
    /// socket buffer) also mean that something changed.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.take(0)?;
        for _ in 1..BURST_MAX {
            match self.take(libc::MSG_DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                taken => taken?,
            }
        }
        Ok(())
    }

    /// Takes one message; what it says is not wanted, so that it may be cut off.
    fn take(&self, flags: libc::c_int) -> io::Result<()> {
        let mut start = [0; 16];
        match self.0.recv(&mut &mut start[..], flags) {
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            taken => taken.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::DoneMessage;

    fn datagram(flags: u16) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.attributes.push(LinkAttribute::IfName("eth7".to_owned()));
        let payloads = [
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)),
            NetlinkPayload::Done(DoneMessage::default()),
        ];
        payloads
            .into_iter()
            .flat_map(|payload| {
                let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
                message.header.flags = flags;
                message.finalize();
                let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
                message.serialize(&mut bytes);
                bytes
            })
            .collect()
    }

    #[test]
    fn kernels_are_told_apart_by_their_release() {
        assert_eq!(version("6.12.43+deb13-amd64\n"), Some((6, 12)));
        assert_eq!(version("6.15-rc1"), Some((6, 15)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn a_list_that_was_interrupted_is_known() {
        for (flags, is_interrupted) in [(2, false), (2 | NLM_F_DUMP_INTR, true)] {
            let mut listing = Listing::default();
            listing.add(&datagram(flags)).expect("well-formed");
            assert_eq!(listing.links.keys().collect::<Vec<_>>(), ["eth7"]);
            assert!(listing.is_done);
            assert_eq!(listing.is_interrupted, is_interrupted, "flags {flags:#x}");
        }
    }

    #[test]
    fn a_burst_of_changes_is_waited_for_once() {
        testbed::require!();
        let testbed = testbed::Testbed::new().expect("testbed");
        let namespace = testbed.node().namespace().clone();
        let watch = namespace.run(Watch::new).expect("namespace").expect("watch");
        let lines: Vec<String> = (0..25).map(|n| format!("link add burst{n}a type veth peer name burst{n}b")).collect();
        namespace.ip(&lines).expect("interfaces");
        watch.wait().expect("changes");
        let again = watch.take(libc::MSG_DONTWAIT).map_err(|e| e.kind());
        assert_eq!(again, Err(io::ErrorKind::WouldBlock), "every change was taken");
        let links = namespace.run(dump).expect("namespace").expect("list");
        assert_eq!(links.keys().filter(|name| name.starts_with("burst")).count(), 50);
    }
}
