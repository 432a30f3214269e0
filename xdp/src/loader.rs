//! Loads the programs, keeps maps and links pinned, and takes them over after a restart.
//!
//! Everything lies under `<bpffs>/v<LAYOUT_VERSION>/`: maps by name, links by interface. The data path runs on its own; an
//! agent that comes back loads its programs over the pinned maps and replaces them link by link.

use crate::error::{Error, Result};
use crate::object;
use crate::sys;
use aya::maps::{Map, MapData};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use xdp_layout::{LAYOUT_VERSION, names};

/// Which program an interface gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// tcx ingress of attachments and instances' ports.
    Port,
    /// XDP of uplinks.
    Uplink,
    /// tcx ingress of uplinks, behind XDP and receive offload.
    Handover,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Port, Self::Uplink, Self::Handover];

    const fn program(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Uplink => "uplink",
            Self::Handover => "handover",
        }
    }
}

/// Name of the program that expires records.
const SWEEP: &str = "sweep";

/// The loaded object: programs in the kernel, maps pinned.
pub struct Loader {
    ebpf: Ebpf,
    directory: PathBuf,
    /// Held for the life of the process: only one agent may write the maps and replace the links.
    _lock: File,
}

impl Loader {
    /// Loads programs and creates or takes over the maps under `bpffs` (a directory of a bpf file system). `flow_capacity`
    /// is the size of the connection table when it is created; a table that exists keeps its size. Only the programs of `hooks`
    /// are loaded, since the verifier takes its time for each.
    pub fn open(bpffs: &Path, flow_capacity: u32, hooks: &[Hook]) -> Result<Self> {
        let directory = bpffs.join(format!("v{LAYOUT_VERSION}"));
        fs::create_dir_all(&directory).map_err(|source| Error::PinDirectory {
            operation: "create the pin directory",
            path: directory.clone(),
            source,
        })?;
        let lock = lock(bpffs)?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(names::FLOWS, flow_capacity);
        for (name, ..) in names::MAPS {
            loader.map_pin_path(name, directory.join(name));
        }
        let mut ebpf = loader.load(object::bytes()).map_err(Error::Load)?;
        for hook in hooks {
            load(&mut ebpf, *hook)?;
        }
        let sweep = classifier(&mut ebpf, SWEEP)?;
        sweep.load().map_err(|source| Error::Program { program: SWEEP, source })?;
        Ok(Self { ebpf, directory, _lock: lock })
    }

    /// Where maps and links are pinned.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A map by name, for good.
    pub fn take_map(&mut self, name: &'static str) -> Result<Map> {
        self.ebpf
            .take_map(name)
            .ok_or(Error::Map { map: name, source: aya::maps::MapError::InvalidName { name: name.to_owned() } })
    }

    /// The object, for running its programs by hand.
    pub fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Puts the hook's program on an interface: replaces the program of a link that is pinned for it, or attaches and pins. A
    /// pin whose link does not lead to the interface, or leads nowhere since its interface is gone, is replaced.
    pub fn attach(&mut self, interface: &str, ifindex: u32, hook: Hook) -> Result<()> {
        let path = self.link_path(ifindex, hook);
        let pinned = match PinnedLink::from_pin(&path) {
            Ok(pinned) => Some(FdLink::from(pinned)),
            Err(LinkError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(link_error(interface, &path, source)),
        };
        if let Some(link) = pinned {
            let found = sys::pinned_ifindex(&path).map_err(|source| link_error(interface, &path, source))?;
            let cause = if found == ifindex {
                match self.replace(link, hook) {
                    Ok(()) => return Ok(()),
                    Err(error) => error.to_string(),
                }
            } else {
                format!("it leads to interface {found} (0: to none any more)")
            };
            tracing::warn!(interface, path = %path.display(), cause, "pinned link not usable, made anew");
            // Unpinned while it is open, so that the link has ended when this returns: an interface takes one XDP link.
            let unpinned = PinnedLink::from_pin(&path).map_err(|source| link_error(interface, &path, source))?.unpin();
            drop(unpinned.map_err(|source| link_error(interface, &path, source))?);
        }
        let link = self.attach_anew(interface, ifindex, hook)?;
        link.pin(&path).map(drop).map_err(|source| link_error(interface, &path, source))
    }

    fn attach_anew(&mut self, interface: &str, ifindex: u32, hook: Hook) -> Result<FdLink> {
        let attach_error = |source| Error::Attach { program: hook.program(), interface: interface.to_owned(), source };
        let link: std::result::Result<FdLink, LinkError> = match hook {
            Hook::Port | Hook::Handover => {
                let program = classifier(&mut self.ebpf, hook.program())?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                let id =
                    program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(attach_error)?;
                program.take_link(id).map_err(attach_error)?.try_into()
            }
            Hook::Uplink => {
                let program = xdp(&mut self.ebpf)?;
                let id = program.attach_to_if_index(ifindex, XdpMode::Driver).map_err(attach_error)?;
                program.take_link(id).map_err(attach_error)?.try_into()
            }
        };
        link.map_err(|source| link_error(interface, &self.link_path(ifindex, hook), source))
    }

    /// Gives a link the hook's program; its pin keeps it.
    fn replace(&mut self, link: FdLink, hook: Hook) -> std::result::Result<(), Box<dyn std::error::Error>> {
        match hook {
            Hook::Port | Hook::Handover => {
                let program = classifier(&mut self.ebpf, hook.program())?;
                let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
                drop(program.take_link(id)?);
            }
            Hook::Uplink => {
                let program = xdp(&mut self.ebpf)?;
                let id = program.attach_to_link(XdpLink::try_from(link)?)?;
                drop(program.take_link(id)?);
            }
        }
        Ok(())
    }

    /// Takes the program off an interface. An interface that is gone took its link with it.
    pub fn detach(&mut self, ifindex: u32, hook: Hook) -> Result<()> {
        let path = self.link_path(ifindex, hook);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::PinDirectory { operation: "unpin the link", path, source }),
        }
    }

    /// Interfaces (by index) that have a pinned link.
    pub fn attached(&self) -> Result<Vec<(u32, Hook)>> {
        let read =
            |source| Error::PinDirectory { operation: "list the pin directory", path: self.directory.clone(), source };
        let mut links = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let name = name.to_string_lossy();
            for hook in [Hook::Port, Hook::Uplink, Hook::Handover] {
                let prefix = format!("link_{}_", hook.program());
                if let Some(index) = name.strip_prefix(&prefix).and_then(|i| i.parse().ok()) {
                    links.push((index, hook));
                }
            }
        }
        Ok(links)
    }

    fn link_path(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.directory.join(format!("link_{}_{ifindex}", hook.program()))
    }

    /// The program that expires records, for `BPF_PROG_TEST_RUN`.
    pub fn sweep(&self) -> Result<&SchedClassifier> {
        let program = self.ebpf.program(SWEEP).ok_or_else(|| missing(SWEEP))?;
        program.try_into().map_err(|source| Error::Program { program: SWEEP, source })
    }

    /// How many instructions the verifier walked through for a program.
    pub fn verified_instructions(&self, hook: Hook) -> Option<u32> {
        self.ebpf.program(hook.program())?.info().ok()?.verified_instruction_count()
    }
}

/// Takes every program off, forgets every map of `bpffs`, and removes the directory itself if nothing else is in it. Flows
/// lose their records.
pub fn remove(bpffs: &Path) -> Result<()> {
    let _lock = lock(bpffs)?;
    let directory = bpffs.join(format!("v{LAYOUT_VERSION}"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| Error::PinDirectory { operation: "remove the pin directory", path, source }
    };
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&directory)(error)),
        _ => {}
    }
    match fs::remove_dir(bpffs) {
        // Another version's pins, or the mount point itself.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(bpffs)(error)),
        _ => Ok(()),
    }
}

/// bpffs knows no locks, so the lock file lies in /run, named after the directory it guards.
fn lock(bpffs: &Path) -> Result<File> {
    let name: String = bpffs.to_string_lossy().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let path = PathBuf::from(format!("/run/switchyard{name}.lock"));
    let file = File::create(&path).map_err(|source| Error::PinDirectory {
        operation: "create the lock file",
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::Locked { path: bpffs.to_owned(), source: io::Error::from(io::ErrorKind::WouldBlock) })
        }
        Err(fs::TryLockError::Error(source)) => Err(Error::PinDirectory { operation: "lock", path, source }),
    }
}

fn link_error(interface: &str, path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Link { interface: interface.to_owned(), path: path.to_owned(), source: source.into() }
}

fn missing(program: &'static str) -> Error {
    Error::Program { program, source: aya::programs::ProgramError::InvalidName { name: program.to_owned() } }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|source| Error::Program { program: name, source })
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let name = Hook::Uplink.program();
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|source| Error::Program { program: name, source })
}

fn load(ebpf: &mut Ebpf, hook: Hook) -> Result<()> {
    let program = hook.program();
    match hook {
        Hook::Port | Hook::Handover => classifier(ebpf, program)?.load(),
        Hook::Uplink => xdp(ebpf)?.load(),
    }
    .map_err(|source| Error::Program { program, source })
}

/// The data of a map, for file-descriptor work.
pub(crate) fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data) => data,
        other => unreachable!("the object has no map of kind {other:?}"),
    }
}
