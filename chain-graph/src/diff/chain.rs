//! A flow's way through one image: all its tuples, one behind the other.

use super::Flow;
use super::random::Random;
use crate::cidr::Cidr;
use crate::image::Image;
use crate::model::{PortRange, Protocol, ResourceName};
use crate::tables::ImageTables;
use std::collections::{BTreeMap, HashMap};
use xdp_forward::key::Tuple;
use xdp_forward::{Path, Question};
use xdp_layout::flow::{FlowKey, record_flags};
use xdp_layout::port::instance_traits;
use xdp_layout::{Addr, DropReason, InstanceId, Position, TenantId, ViewId};

/// Tuples that are followed. A flow whose fourth one is changed again is not looked at behind that.
const TUPLES_MAX: usize = 4;

/// What [`xdp_forward::recompute`] says of each tuple of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Chain {
    paths: [Path; TUPLES_MAX],
    len: usize,
    /// Why the last tuple's frames are dropped.
    dropped: Option<DropReason>,
}

impl Chain {
    fn paths(&self) -> &[Path] {
        &self.paths[..self.len]
    }

    /// Instances from the clients' side on, each once.
    pub(super) fn instances(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.paths().iter().enumerate().flat_map(|(index, path)| {
            // A tuple's path begins with the instance that made it, the last one of the path before.
            let known = usize::from(index > 0);
            let instances = &path.instances[..usize::from(path.len)];
            instances.get(known..).unwrap_or_default().iter().filter_map(|id| InstanceId::new(*id))
        })
    }

    /// Whether a frame would be delivered to the same instances and leave by the same attachments, or be dropped alike.
    pub(super) fn goes_as(&self, other: &Self) -> bool {
        let ends = |chain: &Self| {
            (chain.paths().first().map(|path| path.entry), chain.paths().last().map(|path| path.exit), chain.dropped)
        };
        ends(self) == ends(other) && self.instances().eq(other.instances())
    }
}

/// What an instance is, by its number.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Index of its function + 1; 0 if there is no such instance.
    function: u16,
    traits: u16,
}

/// An image, arranged for following many flows.
pub(super) struct Side<'a> {
    pub(super) image: &'a Image,
    pub(super) tables: ImageTables<'a>,
    instances: Vec<Known>,
    blocks: HashMap<(TenantId, InstanceId), Vec<(Cidr, PortRange)>>,
}

impl<'a> Side<'a> {
    /// `functions` gives each function's index.
    pub(super) fn new(image: &'a Image, functions: &BTreeMap<&ResourceName, u16>) -> Self {
        let mut instances = vec![Known::default(); usize::from(u16::MAX) + 1];
        for (name, function) in image.functions() {
            for (id, instance) in function.instances() {
                let function = functions.get(name).map_or(0, |index| index + 1);
                instances[usize::from(id.get())] = Known { function, traits: instance.traits };
            }
        }
        let mut blocks: HashMap<_, Vec<_>> = HashMap::new();
        for (tenant, image) in image.tenants() {
            for block in image.outside_blocks().into_iter().flat_map(|blocks| blocks.blocks()) {
                blocks.entry((*tenant, block.instance)).or_default().push((block.prefix.into(), block.ports));
            }
        }
        Self { image, tables: ImageTables::new(image), instances, blocks }
    }

    /// Index of an instance's function.
    pub(super) fn function_of(&self, instance: InstanceId) -> Option<u16> {
        self.instances[usize::from(instance.get())].function.checked_sub(1)
    }

    /// Recomputes a flow's tuples.
    pub(super) fn follow(&self, flow: &Flow) -> Chain {
        let mut chain = Chain::default();
        let (mut key, mut question) = (flow.key, flow.question);
        while let Some(place) = chain.paths.get_mut(chain.len) {
            match self.tables.path(&key, &question) {
                // Whether a view is on trial is no part of where its flows go.
                Ok(path) => *place = Path { flags: path.flags & !record_flags::WATCHED, ..path },
                Err(reason) => {
                    chain.dropped = Some(reason);
                    break;
                }
            }
            let path = *place;
            chain.len += 1;
            match flow.onward.and_then(|seed| self.made_of(&key, &question, &path, seed)) {
                Some(next) => (key, question) = next,
                None => break,
            }
        }
        chain
    }

    /// The tuple that the last instance of a path makes of it, and what is known of that tuple when it comes back: drawn
    /// from the instance's outside blocks, the same for the same instance.
    fn made_of(&self, key: &FlowKey, question: &Question, path: &Path, seed: u64) -> Option<(FlowKey, Question)> {
        if path.flags & record_flags::ENDS_AT_FUNCTION == 0 {
            return None;
        }
        let maker = InstanceId::new(*path.instances.get(usize::from(path.len).checked_sub(1)?)?)?;
        let ends = ((key.a, key.a_port), (key.b, key.b_port));
        let ((client, _), (server, server_port)) = if question.client_is_a { ends } else { (ends.1, ends.0) };
        let keeps_flow = self.instances[usize::from(maker.get())].traits & instance_traits::CHANGES_TUPLE != 0;
        let mut random = Random::new(seed ^ u64::from(maker.get()));
        let (source, ports) = match self.block(question.tenant, maker, server, &mut random) {
            Some((prefix, ports)) => (random.addr(prefix), ports),
            // A proxy without a block of its own may use any address; that of the client serves as well as another.
            None if !keeps_flow => (client, PortRange::ALL),
            None => return None,
        };
        let protocol = key.protocol();
        let port = random.port(ports.first, ports.last);
        let (source_port, destination_port) = match Protocol::new(protocol) {
            Some(known) if known.has_ports() => (port, server_port),
            // Both ends of an echo have its identifier.
            Some(Protocol::ICMP | Protocol::ICMPV6) => (port, port),
            _ => (0, 0),
        };
        let tuple = Tuple { source, destination: server, source_port, destination_port, protocol };
        let mut made = FlowKey::default();
        let client_is_a = tuple.key(question.tenant.get(), &mut made);
        let known = Question {
            tenant: question.tenant,
            client_is_a,
            graph: None,
            entry: None,
            exit: question.exit,
            origin: Some(maker),
            view: ViewId::new(path.view).filter(|_| keeps_flow),
            position: Position::new(path.cut_position).filter(|_| keeps_flow),
        };
        Some((made, known))
    }

    /// One of the instance's outside blocks of the server's family.
    fn block(
        &self,
        tenant: TenantId,
        maker: InstanceId,
        server: Addr,
        random: &mut Random,
    ) -> Option<(Cidr, PortRange)> {
        let blocks = self.blocks.get(&(tenant, maker))?;
        let fits = |block: &&(Cidr, PortRange)| block.0.is_v4() == server.is_v4();
        let index = random.below(blocks.iter().filter(fits).count() as u64);
        blocks.iter().filter(fits).nth(index as usize).copied()
    }
}
