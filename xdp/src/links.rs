//! The front end's interfaces, by netlink: sysfs may show another network namespace than the one this process is in.

use crate::error::{Error, Result};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::collections::BTreeMap;
use std::io;

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
}

/// Interfaces by name.
pub(crate) type Links = BTreeMap<String, Link>;

/// All interfaces as they are now.
pub(crate) fn dump() -> Result<Links> {
    let failed = |source| Error::Host { operation: "list", object: "network interfaces".to_owned(), source };
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(failed)?;
    let mut links = Links::new();
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(failed)?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let invalid = |e| failed(io::Error::new(io::ErrorKind::InvalidData, e));
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(invalid)?;
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(e) => return Err(failed(e.to_io())),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => links.extend(describe(&link)),
                _ => {}
            }
            // Messages are aligned to four bytes.
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
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
    Some((name?, link))
}

/// Waits for changes of links.
pub(crate) struct Watch(Socket);

impl Watch {
    /// Begins to listen.
    pub(crate) fn new() -> Result<Self> {
        let failed = |source| Error::Host { operation: "watch", object: "network interfaces".to_owned(), source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.add_membership(GROUP_LINK).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Blocks until some link changed. Lost messages (a full socket buffer) also mean that something changed.
    pub(crate) fn wait(&self) -> io::Result<()> {
        match self.0.recv_from_full() {
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
