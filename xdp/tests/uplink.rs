//! Two tenants whose frames agree in every header byte arrive encapsulated at one uplink with receive offload on. The kernel
//! merges segments there; no byte may cross over.
#![allow(unsafe_code, reason = "a packet socket to see what arrived, merged segments included")]

use aya::Pod;
use aya::maps::{Array, HashMap, MapData};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed::traffic::FrameSender;
use testbed::{Host, HostConfig, MacAddr, Namespace, Testbed, require};
use xdp::loader::{Hook, Loader};
use xdp_layout::config::{Config, MAGIC};
use xdp_layout::port::{Port, PortKey, PortKind, Target, target_flags};
use xdp_layout::{Addr, names};

const UNDERLAY: [u8; 4] = [192, 0, 2, 1];
const PEER: [u8; 4] = [192, 0, 2, 2];
const STRANGER: [u8; 4] = [192, 0, 2, 3];
const SEGMENTS: u32 = 400;
const PAYLOAD: usize = 1000;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Takes the data path down when the test ends.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        drop(xdp::loader::remove(&self.0));
    }
}

fn put<K: Pod, V: Pod>(loader: &mut Loader, name: &'static str, key: K, value: V) {
    let mut map: HashMap<MapData, K, V> = loader.take_map(name).expect("map").try_into().expect("hash");
    map.insert(key, value, 0).expect("insert");
}

/// Programs an uplink and two attachments, of tenants 100 and 200.
fn program(uplink: u32, servers: [u32; 2]) -> (Loader, Pins) {
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/switchyard-test-uplink-{}-{uplink}", std::process::id())));
    let mut loader = Loader::open(&pins.0, 1024, &Hook::ALL).expect("load");
    let config = Config {
        magic: MAGIC,
        version: xdp_layout::LAYOUT_VERSION,
        ticks_per_second: 250,
        underlay: Addr::v4(UNDERLAY),
        mac: xdp::FRONT_END_MAC,
        ..Config::default()
    };
    let mut configs: Array<MapData, Config> = loader.take_map(names::CONFIG).expect("map").try_into().expect("array");
    configs.set(0, config, 0).expect("config");
    let port = Port { kind: PortKind::Uplink as u8, ..Port::default() };
    put(&mut loader, names::PORTS, PortKey { ifindex: uplink, vlan: 0 }, port);
    put(&mut loader, names::SENDERS, Addr::v4(PEER).0, 2u32);
    let mut attachments: Array<MapData, Target> =
        loader.take_map(names::ATTACHMENTS).expect("map").try_into().expect("array");
    for (id, (ifindex, tenant)) in [(servers[0], 100), (servers[1], 200)].into_iter().enumerate() {
        let flags = target_flags::EXISTS | target_flags::UP | target_flags::PEER;
        let target = Target { ifindex, tenant, vlan: 0, flags, node: 0, mtu: 1500 };
        attachments.set(id as u32 + 1, target, 0).expect("attachment");
    }
    loader.attach("up0", uplink, Hook::Uplink).expect("XDP");
    loader.attach("up0", uplink, Hook::Handover).expect("tcx");
    (loader, pins)
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header.extend([source, destination].concat());
    let sum = checksum(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

/// Segment `number` of a TCP stream that is the same for both tenants but for its payload.
fn segment(number: u32, mark: u8) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut tcp = vec![0x9c, 0x40, 0, 80];
    tcp.extend((1 + number * PAYLOAD as u32).to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(std::iter::repeat_n(mark, PAYLOAD));
    let pseudo = [client, server].concat().chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum::<u32>();
    let sum = checksum(&tcp, pseudo + 6 + tcp.len() as u32);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(ipv4(6, client, server, &tcp));
    frame
}

/// The frame as `docs/wire-format.md` says, written apart from the product's own encoder.
fn encapsulated(sender: [u8; 4], macs: [[u8; 6]; 2], tenant: u8, exit: u16, inner: &[u8]) -> Vec<u8> {
    let mut nsh = vec![0x0f, 0xd2, 2, 3, 0, 0, 14, 1];
    nsh.extend([0, 0, 5, 4, 0, 0, 0, tenant]);
    nsh.extend([0, 0, 8, 4, 0, 0, 0, 1]);
    nsh.extend([0xff, 0xf6, 1, 44, 0, 0, 0, 9, 0, 0, 0, 0]);
    nsh.extend(9u16.to_be_bytes());
    nsh.extend(exit.to_be_bytes());
    nsh.extend([0; 32]);
    let mut udp = vec![0xc0, 0, 0x12, 0xb6];
    udp.extend((8 + 8 + nsh.len() as u16 + inner.len() as u16).to_be_bytes());
    udp.extend([0, 0, 0x0c, 0, 0, 4, 0, 0, tenant, 0]);
    udp.extend(nsh);
    udp.extend(inner);
    let mut frame = macs.concat();
    frame.extend([8, 0]);
    frame.extend(ipv4(17, sender, UNDERLAY, &udp));
    frame
}

/// A packet socket on a host's interface.
struct Capture(OwnedFd);

impl Capture {
    fn open(namespace: &Namespace) -> Self {
        namespace
            .run(|| {
                // SAFETY: no pointers; the descriptor is checked before it is owned.
                let fd = unsafe {
                    libc::socket(
                        libc::AF_PACKET,
                        libc::SOCK_RAW | libc::SOCK_NONBLOCK,
                        (libc::ETH_P_ALL as u16).to_be().into(),
                    )
                };
                assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
                let size = 32 << 20;
                // SAFETY: a fresh descriptor and an integer that lives through the call.
                unsafe {
                    let option = (&raw const size).cast();
                    libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, option, size_of::<i32>() as u32);
                    Self(OwnedFd::from_raw_fd(fd))
                }
            })
            .expect("namespace")
    }

    /// Frames and payload bytes by value until `wanted` bytes came or five seconds passed.
    fn read(&self, wanted: usize) -> (usize, [usize; 256]) {
        let (mut frames, mut marks) = (0, [0; 256]);
        let mut buffer = vec![0u8; 1 << 16];
        let began = Instant::now();
        while marks.iter().sum::<usize>() < wanted && began.elapsed() < Duration::from_secs(5) {
            let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd, then a buffer of the length given.
            let read = unsafe {
                libc::poll(&raw mut poll, 1, 100);
                libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            let Ok(read) = usize::try_from(read) else { continue };
            if read > 54 && buffer[12..14] == [8, 0] && buffer[23] == 6 && buffer[36..38] == [0, 80] {
                frames += 1;
                buffer[54..read].iter().for_each(|byte| marks[usize::from(*byte)] += 1);
            }
        }
        (frames, marks)
    }
}

#[test]
fn receive_offload_at_an_uplink_keeps_tenants_apart() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let host = |name: &str| {
        let address = "10.0.0.2/24".parse().expect("prefix");
        Host::new(testbed.node(), HostConfig::new(name).mac(MacAddr(SERVER_MAC)).address(address)).expect("host")
    };
    let servers = [host("red"), host("blue")];
    let peer = testbed.add_node("peer").expect("peer");
    let net = |text: &str| vec![text.parse().expect("prefix")];
    let uplink = testbed
        .uplink((testbed.node(), "up0", &net("192.0.2.1/24")), (&peer, "up0", &net("192.0.2.2/24")), 1700)
        .expect("uplink");
    let indexes = [servers[0].node.index().expect("index"), servers[1].node.index().expect("index")];
    let up0 = uplink.a.index().expect("index");
    let (_loader, _pins) = testbed.node().namespace().run(|| program(up0, indexes)).expect("namespace");
    // Frames that arrive one by one are merged too: the offload holds them back for this many nanoseconds.
    let hold = "mount -t sysfs sysfs /sys && echo 20000000 > /sys/class/net/up0/gro_flush_timeout";
    testbed.node().namespace().output("unshare", &["-m", "sh", "-c", hold]).expect("hold frames back");
    let captures = [Capture::open(servers[0].namespace()), Capture::open(servers[1].namespace())];
    let macs = [uplink.a.mac.0, uplink.b.mac.0];
    let sender = FrameSender::open(&uplink.b).expect("sender");
    for number in 0..SEGMENTS {
        let (red, blue) = (segment(number, b'R'), segment(number, b'B'));
        sender.send(&encapsulated(PEER, macs, 100, 1, &red)).expect("send");
        sender.send(&encapsulated(PEER, macs, 200, 2, &blue)).expect("send");
        // Not from a front end; to the other tenant's attachment: neither may arrive anywhere.
        sender.send(&encapsulated(STRANGER, macs, 100, 1, &segment(number, b'S'))).expect("send");
        sender.send(&encapsulated(PEER, macs, 100, 2, &segment(number, b'X'))).expect("send");
    }
    let wanted = SEGMENTS as usize * PAYLOAD;
    for (capture, (name, mark)) in captures.iter().zip([("red", b'R'), ("blue", b'B')]) {
        let (frames, marks) = capture.read(wanted);
        println!("{name}: {wanted} bytes in {frames} frames");
        let others: usize = marks.iter().sum::<usize>() - marks[usize::from(mark)];
        assert_eq!((marks[usize::from(mark)], others), (wanted, 0), "{name}: own bytes, others' bytes");
        assert!(frames < SEGMENTS as usize, "{name}: receive offload merged nothing, so the test shows nothing");
    }
}
