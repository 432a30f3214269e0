//! Frames and flows that the data-path figures are measured with.

use crate::bpf::{self, Insn};
use std::os::fd::AsFd;

/// Multiplier and increment of the generator that orders the flows: its low k bits take every value once in 2^k steps.
const MULTIPLIER: i32 = 1_664_525;
const INCREMENT: i32 = 1_013_904_223;

/// Ethernet to UDP: 64 bytes with the frame check sequence, which no veth carries.
pub(crate) const BYTES: usize = 60;
/// Offset of the source address.
pub(crate) const SOURCE: i16 = 26;
/// Offset of the source port.
pub(crate) const SOURCE_PORT: i16 = 34;

/// A UDP datagram of 64 bytes on the wire, without UDP checksum.
pub(crate) fn udp(source_mac: [u8; 6], destination_mac: [u8; 6], source: [u8; 4], destination: [u8; 4]) -> [u8; BYTES] {
    let mut frame = [0; BYTES];
    frame[..6].copy_from_slice(&destination_mac);
    frame[6..12].copy_from_slice(&source_mac);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = (BYTES - 14) as u8;
    frame[14..24].copy_from_slice(&[0x45, 0, 0, length, 0, 0, 0x40, 0, 64, 17]);
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&destination);
    let words = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..42].copy_from_slice(&[0x27, 0x10, 0x27, 0x10, 0, length - 20, 0, 0]);
    frame
}

/// The initial state of the generator over `flows` (a power of two): its position, and the mask in the upper half.
pub(crate) fn generator(flows: u64) -> u64 {
    (flows - 1) << 32
}

/// Instructions that take the next flow number into register 2. `state` is the generator; they use register 7.
pub(crate) fn next_flow(state: &impl AsFd) -> Vec<Insn> {
    let mut code = bpf::value_address(7, state).to_vec();
    code.extend([
        bpf::load32(2, 7, 0),
        bpf::arithmetic(0x24, 2, MULTIPLIER),
        bpf::arithmetic(0x04, 2, INCREMENT),
        bpf::store32(7, 0, 2),
        bpf::load32(3, 7, 4),
        bpf::and(2, 3),
    ]);
    code
}
