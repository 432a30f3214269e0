//! Answers what the data path asks: each question once a second, each tenant so many a second, so that a tenant that floods
//! its front end with questions spends only its own share.

use crate::agent::{FRONT_END_MAC, Inner, locked};
use crate::ask::{self, FrameSocket};
use aya::maps::{MapData, RingBuf};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdp_layout::event::Event;
use xdp_layout::port::Target;
use xdp_layout::{Addr, AttachmentId};

/// A question that was answered is not answered again for this long.
const REPEAT: Duration = Duration::from_secs(1);
/// Answers a tenant gets in that time.
const TENANT_SHARE: usize = 256;

/// What was answered in the current second.
#[derive(Default)]
struct Answered {
    since: Option<Instant>,
    questions: HashMap<(u32, u32, Addr), ()>,
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
        let is_new = self.questions.insert((event.kind, event.element, event.addr), ()).is_none();
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
        let mut waiting: Vec<Event> = Vec::new();
        while let Some(item) = events.next() {
            if let Ok(event) = zerocopy::FromBytes::read_from_bytes(&item)
                && answered.admit(&event, now)
            {
                waiting.push(event);
            }
        }
        if waiting.is_empty() {
            continue;
        }
        let targets: BTreeMap<AttachmentId, Target> = locked(inner).attachments().clone();
        for event in &waiting {
            let target = u16::try_from(event.element).ok().and_then(AttachmentId::new).and_then(|id| targets.get(&id));
            let (Some(target), Some(frame)) = (target, ask::answer(event, FRONT_END_MAC)) else {
                continue;
            };
            let frame = if target.vlan == 0 { frame } else { tagged(&frame, target.vlan) };
            if let Err(error) = socket.send(target.ifindex, &frame) {
                tracing::debug!(%error, ifindex = target.ifindex, "answer to the data path not sent");
            }
        }
    }
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
}
