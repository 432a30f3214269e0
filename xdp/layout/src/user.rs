//! Marks the map structs as plain data for the loader. Each already derives `FromBytes` and `IntoBytes`, which prove that
//! any bytes are a value and that there is no padding.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe marker; the zerocopy bounds carry its proof")]

use zerocopy::{FromBytes, IntoBytes};

const fn proven<T: FromBytes + IntoBytes + Copy + 'static>() {}

macro_rules! pod {
    ($($ty:ty),+ $(,)?) => {
        $(
            const _: () = proven::<$ty>();
            // SAFETY: `proven` requires that every bit pattern is valid and that the type has no padding.
            unsafe impl aya::Pod for $ty {}
        )+
    };
}

pod!(
    crate::Addr,
    crate::cache::CacheConfig,
    crate::config::Config,
    crate::event::Event,
    crate::event::TenantDropKey,
    crate::event::Traffic,
    crate::event::ViewTraffic,
    crate::flow::FlowKey,
    crate::flow::FlowRecord,
    crate::flow::FragmentKey,
    crate::flow::FragmentPorts,
    crate::flow::Neighbour,
    crate::flow::NeighbourKey,
    crate::flow::Note,
    crate::flow::NoteKey,
    crate::plan::ActiveWord,
    crate::plan::Edge,
    crate::plan::GraphWord,
    crate::plan::Node,
    crate::plan::NodeKey,
    crate::plan::OriginKey,
    crate::plan::OutsideKey,
    crate::plan::OutsideOwners,
    crate::plan::RouteKey,
    crate::plan::TableWord,
    crate::plan::View,
    crate::plan::ViewKey,
    crate::port::FrontEnd,
    crate::port::Instance,
    crate::port::OwnedKey,
    crate::port::Port,
    crate::port::PortKey,
    crate::port::TagKey,
    crate::port::Target,
    crate::port::Tenant,
    crate::port::Usage,
);
