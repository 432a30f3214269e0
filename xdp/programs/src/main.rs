//! eBPF entry points. Each turns its context into a frame, runs the one core, and turns the verdict into a kernel constant.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "core has no atomics for this target")]

mod kernel;
mod maps;
mod tc;
mod xdp;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, xdp_action};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use kernel::Kernel;
use xdp_forward::frame::Frame;
use xdp_forward::sweep::expire;
use xdp_forward::tables::{PlanTables, Round};
use xdp_forward::{Arrival, Scratch, Verdict, Workspace, step};
use xdp_layout::config::{Handover, MAGIC};
use xdp_layout::event::{SWEEP_DELETED, SWEEP_FORCE, Sweep, SweepHeader};
use xdp_layout::flow::FlowKey;
use xdp_layout::port::target_flags;
use xdp_layout::{Addr, Counter, DropReason};

/// The tick counter: the kernel's jiffies, which cost nothing to read.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: no arguments.
    unsafe { bpf_jiffies64() as u32 }
}

/// This CPU's working memory.
struct PerCpu;

impl Workspace<'static> for PerCpu {
    #[inline(always)]
    fn get(self) -> Option<&'static mut Scratch> {
        // SAFETY: programs of one CPU do not interrupt each other (they run with bottom halves off), so the reference is
        // exclusive; the map starts as zeros, a valid value, and only `step` writes it.
        maps::SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }
}

/// tcx ingress of attachments and instances' ports.
#[classifier]
pub fn port(ctx: TcContext) -> i32 {
    let mut frame = tc::TcFrame(ctx.skb.skb);
    let ifindex = frame.ifindex();
    match step(&mut frame, &Kernel, PerCpu, Arrival { ifindex, now: now() }) {
        Verdict::Pass => TC_ACT_OK as i32,
        Verdict::Drop(_) => TC_ACT_SHOT as i32,
        Verdict::Deliver(delivery) => {
            if delivery.flags & target_flags::CLAIM != 0 {
                // Refused only for marks that no frame arrives with.
                let _is_claimed = frame.claim();
            }
            deliver(delivery.ifindex, delivery.flags)
        }
        // The kernel fills in the MAC addresses of the underlay's next hop.
        // SAFETY: plain integers and no address.
        Verdict::Transmit { ifindex } => unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 },
        // SAFETY: plain integers.
        Verdict::Reply => unsafe { bpf_redirect(ifindex, 0) as i32 },
    }
}

/// tcx ingress of uplinks, behind XDP and receive offload: delivers what XDP has taken out of its encapsulation.
#[classifier]
pub fn handover(ctx: TcContext) -> i32 {
    let frame = tc::TcFrame(ctx.skb.skb);
    let Some(handover) = frame.handover() else {
        return TC_ACT_OK as i32;
    };
    if !frame.claim() {
        return TC_ACT_SHOT as i32;
    }
    deliver(handover.ifindex, handover.flags)
}

/// Into the namespace behind a veth, or out of an interface.
#[inline(always)]
fn deliver(ifindex: u32, flags: u16) -> i32 {
    // SAFETY: plain integers.
    unsafe {
        if flags & target_flags::PEER != 0 {
            bpf_redirect_peer(ifindex, 0) as i32
        } else {
            bpf_redirect(ifindex, 0) as i32
        }
    }
}

/// XDP of uplinks.
#[xdp]
pub fn uplink(ctx: XdpContext) -> u32 {
    let mut frame = xdp::XdpFrame(ctx.ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    match step(&mut frame, &Kernel, PerCpu, Arrival { ifindex, now: now() }) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        // Receive offload merges frames only if their metadata agree, so it never merges two tenants' frames.
        Verdict::Deliver(delivery) => {
            let handover = Handover {
                magic: MAGIC,
                tenant: delivery.tenant,
                spi: delivery.spi,
                ifindex: delivery.ifindex,
                vlan: delivery.vlan,
                flags: delivery.flags,
                element: delivery.element,
            };
            if frame.hand_over(&handover) {
                xdp_action::XDP_PASS
            } else {
                Kernel.turn_into_drop(Counter::Delivered, DropReason::FrameEdit, delivery.tenant);
                xdp_action::XDP_DROP
            }
        }
        // SAFETY: plain integers.
        Verdict::Transmit { ifindex } => unsafe { bpf_redirect(ifindex, 0) as u32 },
        Verdict::Reply => xdp_action::XDP_TX,
    }
}

/// Not attached: the agent runs it by hand to expire records and to read the tick counter. The frame is a
/// [`xdp_layout::event::SweepHeader`] and keys; the header comes back filled in.
#[classifier]
pub fn sweep(ctx: TcContext) -> i32 {
    let mut frame = tc::TcFrame(ctx.skb.skb);
    // SAFETY: no arguments.
    let ticks = unsafe { bpf_jiffies64() };
    let Some([force, count, _, view]) = frame.words_at(SWEEP_FORCE) else {
        return TC_ACT_SHOT as i32;
    };
    let sweep = Sweep::from_raw(force);
    let mut keys =
        Keys { skb: ctx.skb.skb, offset: size_of::<SweepHeader>() as u32, now: ticks as u32, sweep, view, deleted: 0 };
    Kernel.repeat(count, &mut keys);
    let deleted = keys.deleted;
    if !frame.store(0, ticks.to_ne_bytes()) || !frame.store(SWEEP_DELETED, deleted.to_ne_bytes()) {
        return TC_ACT_SHOT as i32;
    }
    TC_ACT_OK as i32
}

/// Expires one key a round.
struct Keys {
    skb: *mut __sk_buff,
    offset: u32,
    now: u32,
    sweep: Sweep,
    view: u32,
    deleted: u32,
}

impl Round for Keys {
    #[inline(always)]
    fn round(&mut self) -> bool {
        let Some([a, b, c, d, e, f, g, h, i, j]) = tc::TcFrame(self.skb).words_at(self.offset) else {
            return false;
        };
        let key = FlowKey {
            a: Addr::words([a, b, c, d]),
            b: Addr::words([e, f, g, h]),
            a_port: i as u16,
            b_port: (i >> 16) as u16,
            tenant_protocol: j,
        };
        self.offset += size_of::<FlowKey>() as u32;
        self.deleted += expire(&Kernel, &key, self.now, self.sweep, self.view) as u32;
        true
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so a panic that can be reached does not load.
    loop {}
}
