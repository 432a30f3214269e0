//! Answers what the data path asks: each question once a second, each tenant so many a second, so that a tenant that floods
//! its front end with questions spends only its own share.

use crate::agent::{FRONT_END_MAC, Inner, locked};
use crate::ask::{self, FrameSocket};
use aya::maps::{MapData, RingBuf};
use std::collections::{HashMap, HashSet};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdp_layout::event::{Element, Event, EventKind};
use xdp_layout::flow::NeighbourKey;
use xdp_layout::port::{Instance, Side, Target, instance_traits};
use xdp_layout::{Addr, AttachmentId, InstanceId, TenantId};

/// A question that was answered is not answered again for this long.
const REPEAT: Duration = Duration::from_secs(1);
/// Answers a tenant gets in that time.
const TENANT_SHARE: usize = 256;

/// Events that are read at a time, so that those who ask without end cannot keep the answers from being sent.
const BATCH: usize = 256;

/// Kind, element, value and address of an event, and where a path's limit is asked for, the path's other end.
type Question = (u32, u32, u32, Addr, Option<[u8; 16]>);

/// What was answered in the current second.
#[derive(Default)]
struct Answered {
    since: Option<Instant>,
    questions: HashSet<Question>,
    by_tenant: HashMap<u32, usize>,
}

impl Answered {
    /// Whether a question may be answered now; counts it if so.
    fn admit(&mut self, event: &Event, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= REPEAT) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        let used = self.by_tenant.entry(event.tenant).or_default();
        if *used >= TENANT_SHARE {
            return false;
        }
        // A path's MTU is that towards one destination.
        let destination = (event.kind == EventKind::TooBig as u32).then(|| destination(event));
        let is_new = self.questions.insert((event.kind, event.element, event.value, event.addr, destination));
        *used += usize::from(is_new);
        is_new
    }
}

/// Waits for events and sends what they ask for, until `stop`.
pub(crate) fn answer(mut events: RingBuf<MapData>, socket: &FrameSocket, inner: &Mutex<Inner>, stop: &AtomicBool) {
    let mut answered = Answered::default();
    while !stop.load(Ordering::Relaxed) {
        if !crate::sys::readable(events.as_raw_fd(), Duration::from_millis(500)) {
            continue;
        }
        let now = Instant::now();
        let next = || events.next().map(|item| zerocopy::FromBytes::read_from_bytes(&item).ok());
        let waiting = batch(next, |event| answered.admit(event, now));
        if waiting.is_empty() {
            continue;
        }
        let frames: Vec<(Target, Vec<u8>)> = {
            let inner = locked(inner);
            waiting.iter().filter_map(|event| answer_to(event, &inner)).collect()
        };
        for (target, frame) in frames {
            if let Err(error) = socket.send(target.ifindex, &frame) {
                tracing::debug!(%error, ifindex = target.ifindex, "answer to the data path not sent");
            }
        }
    }
}

/// At most [`BATCH`] events of those that wait, the ones among them that are to be answered.
fn batch(next: impl FnMut() -> Option<Option<Event>>, mut admit: impl FnMut(&Event) -> bool) -> Vec<Event> {
    std::iter::from_fn(next).take(BATCH).flatten().filter(|event| admit(event)).collect()
}

/// The frame that answers an event, tagged, and where it goes.
fn answer_to(event: &Event, inner: &Inner) -> Option<(Target, Vec<u8>)> {
    let (target, vlan, sender) = match Element::from_raw(event.element)? {
        Element::Attachment(id) => {
            let target = *inner.attachments().get(&id)?;
            (target, target.vlan, host_behind(id, event, inner))
        }
        Element::Instance(id, side) => {
            let instance = inner.instances().get(&id)?;
            (instance.ports[side as usize], tag_at(id, event.tenant, inner), maker(instance, side, event))
        }
    };
    let frame = ask::answer(event, FRONT_END_MAC, sender)?;
    Some((target, if vlan == 0 { frame } else { tagged(&frame, vlan) }))
}

/// The MAC address of the host that a datagram came from, if it is known.
fn host_behind(attachment: AttachmentId, event: &Event, inner: &Inner) -> Option<[u8; 6]> {
    let key = NeighbourKey { addr: event.addr, attachment: attachment.get(), reserved: 0 };
    let known = inner.neighbour(&key).unwrap_or_else(|error| {
        tracing::debug!(%error, "sender of a datagram not looked up");
        None
    });
    let instances = inner.image().into_iter().flat_map(|image| image.functions().values()).flat_map(|f| f.instances());
    let ports = instances.flat_map(|(_, instance)| &instance.ports).map(|port| port.mac.0);
    known.map(|neighbour| neighbour.mac).or_else(|| host_mac(event, ports))
}

/// The MAC address of the function that made a datagram: a routed one's own, else the one that it left in the frame.
fn maker(instance: &Instance, side: Side, event: &Event) -> Option<[u8; 6]> {
    if instance.traits & instance_traits::ROUTED != 0 {
        return Some(instance.macs[side as usize]);
    }
    event.frame[6..12].try_into().ok()
}

/// The tenant's tag at an instance, 0 for none.
fn tag_at(instance: InstanceId, tenant: u32, inner: &Inner) -> u16 {
    let tenant = TenantId::new(tenant).and_then(|id| inner.image()?.tenants().get(&id));
    tenant.and_then(|tenant| tenant.tags().get(&instance)).map_or(0, |tag| tag.get())
}

/// The bytes of the datagram's destination address.
fn destination(event: &Event) -> [u8; 16] {
    let mut bytes = [0; 16];
    match u16::from_be_bytes([event.frame[12], event.frame[13]]) {
        0x0800 => bytes[..4].copy_from_slice(&event.frame[30..34]),
        _ => bytes.copy_from_slice(&event.frame[38..54]),
    }
    bytes
}

/// The frame's source MAC address, if it is a host's: after a routed function it is the function's or ours.
fn host_mac(event: &Event, mut others: impl Iterator<Item = [u8; 6]>) -> Option<[u8; 6]> {
    let mac = event.frame[6..12].try_into().ok()?;
    (mac != FRONT_END_MAC && others.all(|other| other != mac)).then_some(mac)
}

fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0]);
    tagged.extend_from_slice(&vlan.to_be_bytes());
    tagged.extend_from_slice(&frame[12..]);
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdp_layout::event::EVENT_FRAME;

    fn event(tenant: u32, last: u8) -> Event {
        let addr = Addr::v4([10, 0, last, 1]);
        Event { kind: 1, tenant, element: 1, value: 0, addr, frame: [0; EVENT_FRAME] }
    }

    #[test]
    fn a_question_is_answered_once_a_second_and_a_tenant_has_its_share() {
        let (mut answered, now) = (Answered::default(), Instant::now());
        assert!(answered.admit(&event(1, 1), now));
        assert!(!answered.admit(&event(1, 1), now), "the same question");
        assert!(answered.admit(&event(1, 1), now + REPEAT), "a second later");
        let later = now + REPEAT * 2;
        let flood = |answered: &mut Answered, n: u32| {
            let addr = Addr::v4(n.to_be_bytes());
            answered.admit(&Event { addr, ..event(1, 0) }, later)
        };
        let admitted = (0..10_000).filter(|n| flood(&mut answered, *n)).count();
        assert_eq!(admitted, TENANT_SHARE);
        assert!(answered.admit(&event(2, 1), later), "another tenant is not affected");
    }

    #[test]
    fn a_sender_is_told_the_limit_of_each_of_its_destinations() {
        let (mut answered, now) = (Answered::default(), Instant::now());
        let towards = |kind: EventKind, last| {
            let mut event = Event { kind: kind as u32, ..event(1, 1) };
            event.frame[12] = 8;
            event.frame[33] = last;
            event
        };
        assert!(answered.admit(&towards(EventKind::TooBig, 1), now));
        assert!(answered.admit(&towards(EventKind::TooBig, 2), now), "another path");
        assert!(!answered.admit(&towards(EventKind::TooBig, 1), now));
        assert!(answered.admit(&towards(EventKind::NeighbourWanted, 1), now));
        assert!(!answered.admit(&towards(EventKind::NeighbourWanted, 2), now), "one host");
    }

    #[test]
    fn who_asks_without_end_is_left_after_a_batch() {
        let mut read = 0;
        let endless = || {
            read += 1;
            Some((read % 2 == 0).then(|| event(1, 1)))
        };
        assert_eq!(batch(endless, |_| true).len(), BATCH / 2, "every other one is no event");
        assert_eq!(read, BATCH);
    }

    #[test]
    fn a_functions_mac_address_is_no_hosts() {
        let mut event = event(1, 1);
        event.frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        assert_eq!(host_mac(&event, [[2, 0, 0, 0, 0, 8]].into_iter()), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(host_mac(&event, [[2, 0, 0, 0, 0, 9]].into_iter()), None);
        event.frame[6..12].copy_from_slice(&FRONT_END_MAC);
        assert_eq!(host_mac(&event, std::iter::empty()), None);
    }
}
