//! The product under test: `switchyard dev` in a node's namespace, driven by its own command line.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::link::{LinkEnd, MacAddr};
use crate::namespace::Namespace;
use crate::nf::Instance;
use crate::process::Process;
use crate::testbed::Node;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for the process to serve, or to program what was applied.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the data paths under test are pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// Removes data paths that crashed test processes left: they hold memory for as long as they are pinned. Their names begin
/// like those of testbeds, with the process id.
fn sweep() {
    for entry in std::fs::read_dir(BPFFS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("sy-")).and_then(|rest| rest.split('-').next());
        let is_dead = |id: &str| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists();
        if id.is_some_and(is_dead) {
            // One that another process sweeps at the same time is gone all the same.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// The program: `SWITCHYARD_BIN`, else beside the test that runs.
///
/// # Panics
/// If it was not built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SWITCHYARD_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("switchyard")).find(|path| path.is_file());
    found.expect("no `switchyard` program: build it with `cargo build`, or name it in SWITCHYARD_BIN")
}

/// A running `switchyard dev`. Dropping it ends the process and takes the data path down.
pub struct FrontEnd {
    namespace: Namespace,
    process: Option<Process>,
    directory: PathBuf,
    bpffs: PathBuf,
    capacity: u32,
}

/// Standard output, standard error and exit code of a client verb.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i32,
}

impl FrontEnd {
    /// Starts it with an empty state in the node's namespace.
    ///
    /// # Errors
    /// It does not start or does not serve in time.
    pub fn start(node: &Node) -> Result<Self> {
        Self::start_with_capacity(node, 1 << 17)
    }

    /// As [`start`](Self::start), with a connection table of `capacity` records.
    ///
    /// # Errors
    /// As there.
    pub fn start_with_capacity(node: &Node, capacity: u32) -> Result<Self> {
        let mut front_end = Self::prepare(node, capacity)?;
        front_end.restart()?;
        Ok(front_end)
    }

    /// Makes room for its state.
    fn prepare(node: &Node, capacity: u32) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = node.namespace().clone();
        let name = format!("{}-{}", namespace.name(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = namespace.directory().join(&name);
        std::fs::create_dir_all(&directory).map_err(|source| Error::Io {
            operation: "create",
            object: directory.display().to_string(),
            source,
        })?;
        sweep();
        let bpffs = Path::new(BPFFS).join(name);
        Ok(Self { namespace, process: None, directory, bpffs, capacity })
    }

    /// As [`start_with_capacity`](Self::start_with_capacity), with a copy of the state of another and a data path of its own.
    ///
    /// # Errors
    /// As there, or if there is no such state. The other's process must have ended.
    pub fn start_with_state_of(node: &Node, other: &Self) -> Result<Self> {
        let mut front_end = Self::prepare(node, other.capacity)?;
        front_end.take_state_of(other)?;
        front_end.restart()?;
        Ok(front_end)
    }

    /// Puts a copy of another's state in the place of its own, for the next start. Both processes must have ended.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn take_state_of(&self, other: &Self) -> Result<()> {
        let (from, to) = (other.directory.join("state.redb"), self.directory.join("state.redb"));
        std::fs::copy(&from, to).map(drop).map_err(Error::io("copy", from.display().to_string()))
    }

    /// The directory of the bpf file system below which the data path is pinned.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The id of the process, unless it was ended by [`kill`](Self::kill).
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Whether the process runs.
    ///
    /// # Errors
    /// If its state cannot be read.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.as_mut().map_or(Ok(false), Process::is_running)
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }

    /// Where the state is kept.
    #[must_use]
    pub fn state_directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the process the hard way, if it runs. The data path goes on.
    ///
    /// # Errors
    /// The process cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill().map(drop))
    }

    /// Takes the data path down, with all records, as a reboot does. The process must have ended before.
    ///
    /// # Errors
    /// Its pins cannot be removed.
    pub fn take_down(&self) -> Result<()> {
        let failed = |source| Error::Io { operation: "remove", object: self.bpffs.display().to_string(), source };
        std::fs::remove_dir_all(&self.bpffs).map_err(failed)
    }

    /// Starts the process again over its state and the running data path.
    ///
    /// # Errors
    /// It does not start or does not serve in time.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with_state(&self.directory.clone())
    }

    /// As [`restart`](Self::restart), with the state of another directory.
    ///
    /// # Errors
    /// As there.
    pub fn restart_with_state(&mut self, directory: &Path) -> Result<()> {
        self.kill()?;
        let mut command = self.namespace.command(binary());
        command.arg("dev").arg("--listen").arg(self.socket()).arg("--state-dir").arg(directory);
        command.arg("--bpffs").arg(&self.bpffs).arg("--flow-capacity").arg(self.capacity.to_string());
        command.arg("--metrics-listen").arg("127.0.0.1:9090");
        let mut process = self.namespace.spawn(command)?;
        process.wait_until("the API serves", PATIENCE, |_| self.run(&["status"]).is_ok_and(|ran| ran.code == 0))?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs a client verb.
    ///
    /// # Errors
    /// The program cannot be run; its own failure is in [`Ran::code`].
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        self.run_with_input(arguments, "")
    }

    /// Runs a client verb that reads its standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<Ran> {
        use std::io::Write;
        use std::process::Stdio;
        let mut command = std::process::Command::new(binary());
        command.arg("--server").arg(self.socket()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |source| Error::Io { operation: "run", object: binary().display().to_string(), source };
        let mut child = command.spawn().map_err(failed)?;
        let mut stdin = child.stdin.take().expect("piped above");
        // A program that ends without reading breaks the pipe; its exit code tells.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().map_err(failed)?;
        Ok(Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        })
    }

    /// Applies documents; whether they are programmed is another matter.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn try_apply(&self, documents: &str) -> Result<Ran> {
        self.run_apply(documents, &[])
    }

    /// As [`try_apply`](Self::try_apply), with more arguments.
    ///
    /// # Errors
    /// As there.
    pub fn run_apply(&self, documents: &str, more: &[&str]) -> Result<Ran> {
        self.run_with_input(&[&["apply", "-f", "-"][..], more].concat(), documents)
    }

    /// Applies documents and waits until the data path runs them.
    ///
    /// # Panics
    /// If they are refused, or not programmed in time.
    pub fn apply(&self, documents: &str) {
        let ran = self.try_apply(documents).expect("the command line runs");
        assert_eq!(ran.code, 0, "apply failed: {}\n{}\n{documents}", ran.stderr, ran.stdout);
        self.wait_programmed();
    }

    /// Waits until the data path runs what was applied.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_programmed(&self) {
        let began = Instant::now();
        loop {
            let status = self.json(&["status"]);
            if status["programmed"] == true {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not programmed in time: {status:#}");
            std::thread::yield_now();
        }
    }

    /// What a verb prints with `-o json`.
    ///
    /// # Panics
    /// If it fails.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.run(&[arguments, &["-o", "json"]].concat()).expect("the command line runs");
        assert_eq!(ran.code, 0, "{arguments:?} failed: {}", ran.stderr);
        serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|e| panic!("{arguments:?} printed no JSON ({e}): {}", ran.stdout))
    }

    /// Standard error of the process so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(|process| process.stderr()).unwrap_or_default()
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        drop(self.kill());
        drop(std::fs::remove_dir_all(&self.bpffs));
    }
}

/// Documents for `switchyard apply`, put together from a testbed's parts.
#[derive(Clone, Debug, Default)]
pub struct Documents(String);

impl Documents {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(mut self, kind: &str, metadata: &str, spec: &str) -> Self {
        writeln!(
            self.0,
            "---\napiVersion: switchyard.dev/v1alpha1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}"
        )
        .expect("writing to a string does not fail");
        self
    }

    /// A tenant with a budget of 20,000 records of each kind.
    pub fn tenant(self, name: &str, vni: u32) -> Self {
        self.add(
            "Tenant",
            &format!("name: {name}"),
            &format!("vni: {vni}, budget: {{unanswered: 20000, established: 20000}}"),
        )
    }

    /// An attachment of a host's node end.
    pub fn attachment(self, tenant: &str, name: &str, side: &str, host: &Host) -> Self {
        self.attachment_of(tenant, name, side, &host.node, "")
    }

    /// Attachments `clients` and `servers` of two hosts.
    pub fn hosts(self, tenant: &str, client: &Host, server: &Host) -> Self {
        self.attachment(tenant, "clients", "client", client).attachment(tenant, "servers", "server", server)
    }

    /// An attachment of an interface, with more of a spec.
    pub fn attachment_of(self, tenant: &str, name: &str, side: &str, node: &LinkEnd, more: &str) -> Self {
        let spec = format!("side: {side}, interface: {}{more}", node.interface);
        self.add("Attachment", &format!("name: {name}, tenant: {tenant}"), &spec)
    }

    /// A network function with one replica set `v1` for up to `max` members.
    pub fn function(self, name: &str, spec: &str, max: u16) -> Self {
        self.add("NetworkFunction", &format!("name: {name}"), spec).replica_set(name, "v1", max)
    }

    /// A replica set.
    pub fn replica_set(self, function: &str, name: &str, max: u16) -> Self {
        self.add("ReplicaSet", &format!("name: {name}, networkFunction: {function}"), &format!("maxMembers: {max}"))
    }

    /// An instance in replica set `v1` of weight 1, or with what `more` says.
    pub fn instance(self, function: &str, name: &str, instance: &Instance, more: &str) -> Self {
        self.member(function, "v1", name, instance, more)
    }

    /// An instance in a replica set, under its own name, of weight 1 or with what `more` says.
    pub fn instance_of(self, function: &str, set: &str, instance: &Instance, more: &str) -> Self {
        self.member(function, set, instance.name(), instance, more)
    }

    fn member(self, function: &str, set: &str, name: &str, instance: &Instance, more: &str) -> Self {
        let weight = if more.contains("weight:") { "" } else { "weight: 1, " };
        let port = |port: &crate::nf::Port| {
            let MacAddr(mac) = port.inside.mac;
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            format!("{{interface: {}, mac: '{mac}'}}", port.node.interface)
        };
        let ports = if instance.ports().len() == 1 {
            format!("inside: {}", port(instance.inward()))
        } else {
            format!("inside: {}, outside: {}", port(instance.inward()), port(instance.outward()))
        };
        let metadata = format!("name: {name}, networkFunction: {function}, replicaSet: {set}");
        self.add("Instance", &metadata, &format!("{weight}{ports}{more}"))
    }

    /// A graph from attachments `clients` to `servers` through functions' `v1` in a row.
    pub fn chain(self, tenant: &str, name: &str, functions: &[&str]) -> Self {
        let nodes: Vec<String> = functions.iter().map(|f| format!("{{name: {f}, replicaSet: {f}/v1}}")).collect();
        let mut edges = Vec::new();
        for index in 0..=functions.len() {
            let from = index.checked_sub(1).map(|i| format!("from: {}", functions[i]));
            let to = functions.get(index).map(|f| format!("to: {f}"));
            let ends: Vec<String> = from.into_iter().chain(to).collect();
            edges.push(format!("{{{}}}", ends.join(", ")));
        }
        let spec = format!(
            "clientAttachments: [clients], serverAttachments: [servers], nodes: [{}], edges: [{}]",
            nodes.join(", "),
            edges.join(", ")
        );
        self.add("Graph", &format!("name: {name}, tenant: {tenant}"), &spec)
    }

    /// Any document.
    pub fn raw(self, kind: &str, metadata: &str, spec: &str) -> Self {
        self.add(kind, metadata, spec)
    }
}

impl std::ops::Deref for Documents {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
