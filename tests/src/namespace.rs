//! Network namespaces: made, entered, swept.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use crate::{Error, Process, Result, sys};

/// Where iproute2 keeps the names of network namespaces.
const NAMED: &str = "/run/netns";

/// Every namespace of every testbed starts with this; the maker's process id follows.
pub(crate) const PREFIX: &str = "sy-";

/// A named network namespace. Clones refer to the same one; the last to be dropped ends what
/// still runs in it and removes it.
#[derive(Debug, Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// As `ip netns list` shows it.
    name: String,
    /// As the caller knows it: `client`, `fw1`.
    short_name: String,
    file: Arc<File>,
    /// For configuration and output of the programs started in it.
    directory: PathBuf,
}

impl Namespace {
    /// Makes `<prefix>-<short_name>`; its directory is a sub-folder of `directory`.
    pub(crate) fn create(prefix: &str, short_name: &str, directory: &Path) -> Result<Self> {
        let fits = !short_name.is_empty()
            && short_name.len() <= 11
            && short_name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !fits {
            return Err(Error::Config {
                object: format!("name {short_name:?}"),
                reason: "must be 1 to 11 ASCII letters, digits, '-' or '_', since interface \
                         names (at most 15 bytes) are made of it"
                    .into(),
            });
        }
        let name = format!("{prefix}-{short_name}");
        let added = Command::new("ip").args(["netns", "add", &name]).output();
        check("ip", &["netns", "add", &name], "(the caller's)", added)?;
        let path = Path::new(NAMED).join(&name);
        let file = File::open(&path).map_err(Error::io("open", path.display().to_string()))?;
        let directory = directory.join(short_name);
        fs::create_dir_all(&directory).map_err(Error::io("create", directory.display().to_string()))?;
        let namespace = Self {
            inner: Arc::new(Inner { name, short_name: short_name.to_owned(), file: Arc::new(file), directory }),
        };
        // Addresses must be usable at once, and nobody may speak unasked.
        namespace.set_sysctls(&[
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/accept_redirects", "0"),
            ("net/ipv4/conf/default/accept_redirects", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/dad_transmits", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/autoconf", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ])?;
        namespace.ip(&["link set lo up".into()])?;
        Ok(namespace)
    }

    /// The full name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The name the caller gave.
    #[must_use]
    pub fn short_name(&self) -> &str {
        &self.inner.short_name
    }

    /// A folder for configuration files and program output; removed with the testbed.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The number by which the kernel knows it.
    pub(crate) fn inode(&self) -> Result<u64> {
        self.inner.file.metadata().map(|data| data.ino()).map_err(Error::io("look at namespace", self.name()))
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. Sockets opened there
    /// belong to the namespace for good and may be returned. A panic of `work` goes on in the
    /// caller.
    ///
    /// Inside, read `/proc/thread-self/net`, not `/proc/net`: the latter is the main thread's.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = &self.inner.file;
        let outcome = thread::scope(|scope| {
            scope
                .spawn(move || {
                    sys::enter_network_namespace(file.as_fd())?;
                    Ok(work())
                })
                .join()
        });
        match outcome {
            Ok(done) => done.map_err(Error::io("enter namespace", self.name())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A command that will start inside the namespace, in a process group of its own, with the
    /// caller's mounts. Give it to [`Namespace::spawn`] or run it with std's methods.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::start_inside(&mut command, Arc::clone(&self.inner.file));
        command.stdin(Stdio::null());
        command
    }

    /// Starts `command` (made by [`Namespace::command`]) in the background; stdout and stderr go
    /// to files in [`Namespace::directory`].
    ///
    /// # Errors
    /// If the program cannot be started or the files cannot be made.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        Process::start(self.clone(), command)
    }

    /// Runs a short program to its end and returns its stdout.
    ///
    /// # Errors
    /// If it cannot be started or ends unsuccessfully; the error holds its stderr.
    pub fn output<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String> {
        let output = self.command(program).args(arguments).output();
        check(program, arguments, self.name(), output)
    }

    /// As [`Namespace::output`], with `input` on its stdin.
    ///
    /// # Errors
    /// As [`Namespace::output`]; the error also holds the input.
    pub fn output_of_input<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S], input: &str) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.spawn().and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                // A program that ends early says why on stderr: better than a broken pipe.
                match stdin.write_all(input.as_bytes()) {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                    _ => {}
                }
            }
            child.wait_with_output()
        });
        check(program, arguments, self.name(), output).map_err(|error| match error {
            Error::Command { command, namespace, status, output } => {
                Error::Command { command, namespace, status, output: format!("{output}\ninput was:\n{input}") }
            }
            other => other,
        })
    }

    /// Runs iproute2 commands (without the leading `ip`) in one batch.
    ///
    /// # Errors
    /// If one fails; iproute2 names its line.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        self.output_of_input("ip", &["-batch", "-"], &lines.join("\n")).map(drop)
    }

    /// Sets sysctls, named by their path below `/proc/sys` (slashes, since interface names may
    /// hold dots), in this order.
    ///
    /// # Errors
    /// If one does not exist here or refuses the value.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(path, value)| {
                fs::write(Path::new("/proc/sys").join(path), value)
                    .map_err(Error::io("set sysctl", format!("{path}={value} in {}", self.name())))
            })
        })?
    }

    /// Reads a sysctl, named as in [`Namespace::set_sysctls`], trimmed.
    ///
    /// # Errors
    /// If it does not exist here.
    pub fn sysctl(&self, path: &str) -> Result<String> {
        self.read(&format!("/proc/sys/{path}")).map(|text| text.trim().to_owned())
    }

    /// Reads a file as a thread inside the namespace sees it (`/proc/thread-self/net/...`).
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        self.run(|| fs::read_to_string(path))?.map_err(Error::io("read", format!("{path} in {}", self.name())))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        destroy(&self.name);
    }
}

/// Names of all namespaces that begin with `prefix`.
pub(crate) fn named_with(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(NAMED) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Ends every process inside the namespace and removes it; one that is gone is no error.
pub(crate) fn destroy(name: &str) {
    if !Path::new(NAMED).join(name).exists() {
        return;
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        let inside = String::from_utf8_lossy(&output.stdout);
        for process in inside.split_whitespace().filter_map(|id| id.parse::<i32>().ok()) {
            if process > 1 && process != own {
                // Drop cannot report; a process that refuses shows up as a leftover namespace.
                let _ = sys::send_signal(sys::Target::Process(process), libc::SIGKILL);
            }
        }
    }
    // Fails only if another sweep was quicker.
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

fn check<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    namespace: &str,
    output: io::Result<Output>,
) -> Result<String> {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
    let command = std::iter::once(program.into()).chain(words).collect::<Vec<_>>().join(" ");
    let output = output.map_err(Error::io("run", format!("`{command}` in namespace {namespace}")))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let shown = if stderr.trim().is_empty() { stdout } else { stderr };
    Err(Error::Command {
        command,
        namespace: namespace.to_owned(),
        status: output.status.to_string(),
        output: shown.trim().to_owned(),
    })
}
