//! The RST that answers a segment of a TCP flow that is to be reset.

use crate::ask::{checksum, ethernet, word};
use xdp_layout::event::{EVENT_FRAME, Event};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Bytes of a TCP header without options.
const TCP: usize = 20;

/// A segment as far as its answer depends on it.
struct Segment<'a> {
    /// Source and destination address.
    addresses: [&'a [u8]; 2],
    tcp: &'a [u8],
    /// Bytes of payload.
    payload: u32,
}

/// The answer to the segment that the event carries, as if from its destination (RFC 9293 section 3.10.7.1). `None` if there
/// is no whole TCP header in it.
pub(crate) fn answer(event: &Event) -> Option<Vec<u8>> {
    let quoted = &event.frame;
    let segment = segment(quoted)?;
    let mut frame = ethernet(quoted[6..12].try_into().ok()?, quoted[..6].try_into().ok()?, 0);
    frame[12..14].copy_from_slice(&quoted[12..14]);
    let [source, destination] = segment.addresses;
    let tcp = reset(&segment);
    if source.len() == 4 {
        let mut header = vec![0x45, 0, 0, (20 + TCP) as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
        header.extend_from_slice(destination);
        header.extend_from_slice(source);
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&header);
    } else {
        frame.extend_from_slice(&[0x60, 0, 0, 0, 0, TCP as u8, 6, 64]);
        frame.extend_from_slice(destination);
        frame.extend_from_slice(source);
    }
    frame.extend_from_slice(&tcp);
    Some(frame)
}

/// Finds the TCP header; behind extension headers it is not looked for.
fn segment(quoted: &[u8; EVENT_FRAME]) -> Option<Segment<'_>> {
    let packet = &quoted[14..];
    let (header, length, protocol, addresses) = match u16::from_be_bytes([quoted[12], quoted[13]]) {
        0x0800 => {
            let length = u16::from_be_bytes([packet[2], packet[3]]);
            (usize::from(packet[0] & 15) * 4, length, packet[9], [&packet[12..16], &packet[16..20]])
        }
        0x86dd => {
            let length = u16::from_be_bytes([packet[4], packet[5]]).saturating_add(40);
            (40, length, packet[6], [&packet[8..24], &packet[24..40]])
        }
        _ => return None,
    };
    let tcp = packet.get(header..header + TCP).filter(|_| protocol == 6)?;
    let headers = header as u32 + u32::from(tcp[12] >> 4) * 4;
    Some(Segment { addresses, tcp, payload: u32::from(length).saturating_sub(headers) })
}

/// The TCP header of the answer.
fn reset(segment: &Segment<'_>) -> Vec<u8> {
    let Segment { addresses: [source, destination], tcp, payload } = segment;
    let flags = tcp[13];
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let mut answer = vec![tcp[2], tcp[3], tcp[0], tcp[1]];
    if flags & ACK != 0 {
        answer.extend_from_slice(&tcp[8..12]);
        answer.extend_from_slice(&[0, 0, 0, 0, 0x50, RST]);
    } else {
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(&sequence.wrapping_add(*payload).wrapping_add(controls).to_be_bytes());
        answer.extend_from_slice(&[0x50, RST | ACK]);
    }
    answer.extend_from_slice(&[0; 6]);
    let pseudo: u32 = source.chunks(2).chain(destination.chunks(2)).map(word).sum::<u32>() + TCP as u32 + 6;
    let sum = checksum(&answer, pseudo);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdp_layout::Addr;

    /// A segment from 10.0.0.1 port 1000 to 10.0.0.2 port 80.
    fn event(flags: u8, payload: u16) -> Event {
        let mut frame = [0; EVENT_FRAME];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[16..18].copy_from_slice(&(40 + payload).to_be_bytes());
        frame[22..24].copy_from_slice(&[64, 6]);
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..38].copy_from_slice(&[3, 232, 0, 80]);
        frame[38..46].copy_from_slice(&[0, 0, 1, 0, 0, 0, 2, 0]);
        frame[46..48].copy_from_slice(&[0x50, flags]);
        Event { kind: 3, tenant: 1, element: 1, value: 0, addr: Addr::v4([10, 0, 0, 1]), frame }
    }

    #[test]
    fn an_acknowledging_segment_is_reset_at_what_it_acknowledges() {
        let answer = answer(&event(ACK, 100)).expect("a TCP segment");
        assert_eq!(answer[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(answer[26..38], [10, 0, 0, 2, 10, 0, 0, 1, 0, 80, 3, 232]);
        assert_eq!(answer[38..48], [0, 0, 2, 0, 0, 0, 0, 0, 0x50, RST]);
        assert_eq!(checksum(&answer[14..34], 0), 0, "the sum over a right header is zero");
        let pseudo: u32 = answer[26..34].chunks(2).map(word).sum::<u32>() + TCP as u32 + 6;
        assert_eq!(checksum(&answer[34..54], pseudo), 0);
    }

    #[test]
    fn a_segment_without_acknowledgement_is_acknowledged_in_full() {
        let answer = answer(&event(SYN, 10)).expect("a TCP segment");
        assert_eq!(answer[38..48], [0, 0, 0, 0, 0, 0, 1, 11, 0x50, RST | ACK]);
    }

    #[test]
    fn what_is_no_tcp_segment_has_no_answer() {
        let mut udp = event(ACK, 0);
        udp.frame[23] = 17;
        assert!(answer(&udp).is_none());
        let mut arp = event(ACK, 0);
        arp.frame[13] = 6;
        assert!(answer(&arp).is_none());
    }
}
