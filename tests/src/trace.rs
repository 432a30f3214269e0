//! Killing a process between two of its writes to memory-mapped BPF arrays, which no system call announces.
//!
//! The arrays' pages are made read-only in the traced process, so that every instruction that writes to them stops before it
//! writes. It is carried out alone, and the pages are closed again. What programs in the kernel see is not touched by that.

mod ptrace;

use std::{collections::BTreeMap, fs, io, ops::Range, sync::mpsc, thread};

use crate::{Error, Result, sys};
use ptrace::{SYSCALL_BYTES, Stop, Thread};

const PAGE: u64 = 4096;
/// A page stays open after so many writes: tables are written word by word, and every stop takes its time.
const STOPS_ON_PAGE: u32 = 24;
/// How often a thread is looked for in a system call.
const TRIES: u32 = 1000;

/// Writes of one instruction each, in their order: lengths of the arrays in bytes and how many in a row.
pub type Writes = Vec<(u64, u64)>;

/// Watches all that a process writes to BPF arrays, until the process has ended.
#[derive(Debug)]
pub struct MappedWrites {
    tracer: thread::JoinHandle<io::Result<Writes>>,
    process: u32,
}

impl MappedWrites {
    /// Begins to watch; the process is killed as soon as it has made `last` writes. One that makes fewer runs on, slowly.
    ///
    /// # Errors
    /// If it cannot be traced, or has no BPF arrays mapped.
    pub fn watch(process: u32, last: u64) -> Result<Self> {
        let failed = || Error::io("trace", format!("process {process}"));
        let (ready, is_ready) = mpsc::channel();
        let leader = Thread::try_from(process).expect("Linux process ids fit in an i32");
        let tracer = thread::spawn(move || {
            let mut tracer = Tracer::attach(leader, last)?;
            ready.send(()).map_err(io::Error::other)?;
            tracer.run()
        });
        match is_ready.recv() {
            Ok(()) => Ok(Self { tracer, process }),
            // The thread ends without a word only by an error.
            Err(_) => Err(tracer.join().expect("the tracer does not panic").map_err(failed()).expect_err("an error")),
        }
    }

    /// The writes that the process has made. It must have ended.
    ///
    /// # Errors
    /// If it could not be traced to its end.
    pub fn writes(self) -> Result<Writes> {
        let traced = self.tracer.join().expect("the tracer does not panic");
        traced.map_err(Error::io("trace", format!("process {}", self.process)))
    }
}

/// The thread that traces.
struct Tracer {
    leader: Thread,
    arrays: Vec<Range<u64>>,
    /// Where an instruction `syscall` is.
    system_call: u64,
    /// Writes on each page.
    pages: BTreeMap<u64, u32>,
    writes: Writes,
    left: u64,
}

impl Tracer {
    fn attach(leader: Thread, left: u64) -> io::Result<Self> {
        let arrays = arrays(leader)?;
        if arrays.is_empty() {
            return Err(io::Error::other("no BPF arrays are mapped into it for writing"));
        }
        let mut seized = std::collections::BTreeSet::new();
        // Threads that start meanwhile are found in the next round, or were started by a tracee.
        while let Some(thread) = threads(leader)?.into_iter().find(|thread| !seized.contains(thread)) {
            seized.insert(thread);
            if let Err(error) = ptrace::seize(thread)
                && !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ESRCH))
            {
                return Err(error);
            }
        }
        let mut tracer = Self { leader, arrays, system_call: 0, pages: BTreeMap::new(), writes: Writes::new(), left };
        tracer.stop_in_system_call()?;
        for array in tracer.arrays.clone() {
            tracer.protect(leader, array, libc::PROT_READ)?;
        }
        ptrace::go_on(leader, 0)?;
        Ok(tracer)
    }

    /// Stops the first thread where it waits for something, which is where the instruction is found.
    fn stop_in_system_call(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            ptrace::interrupt(self.leader)?;
            while ptrace::wait(self.leader, self.leader)?.1 != Stop::Event {
                ptrace::go_on(self.leader, 0)?;
            }
            let behind = ptrace::registers(self.leader)?.rip;
            if ptrace::is_system_call(self.leader, behind - SYSCALL_BYTES) {
                self.system_call = behind - SYSCALL_BYTES;
                return Ok(());
            }
            ptrace::go_on(self.leader, 0)?;
        }
        Err(io::Error::other("its first thread never waits"))
    }

    fn run(&mut self) -> io::Result<Writes> {
        loop {
            match ptrace::wait(0, self.leader)? {
                (thread, Stop::Ended) if thread == self.leader => return Ok(std::mem::take(&mut self.writes)),
                (_, Stop::Ended) => {}
                (thread, Stop::Event) => lenient(ptrace::go_on(thread, 0))?,
                (thread, Stop::Signal(signal)) => lenient(self.signal(thread, signal))?,
            }
        }
    }

    fn signal(&mut self, thread: Thread, signal: i32) -> io::Result<()> {
        let address = if signal == libc::SIGSEGV { ptrace::fault_address(thread)? } else { 0 };
        let Some(array) = self.arrays.iter().find(|array| array.contains(&address)).cloned() else {
            return ptrace::go_on(thread, signal);
        };
        let page = address - address % PAGE;
        // An instruction may write across the end of a page.
        let pages = page..(page + 2 * PAGE).min(array.end);
        self.protect(thread, pages.clone(), libc::PROT_READ | libc::PROT_WRITE)?;
        ptrace::step(thread)?;
        self.trapped(thread)?;
        let length = array.end - array.start;
        match self.writes.last_mut() {
            Some((last, count)) if *last == length => *count += 1,
            _ => self.writes.push((length, 1)),
        }
        self.left -= 1;
        if self.left == 0 {
            return sys::send_signal(sys::Target::Process(self.leader), libc::SIGKILL);
        }
        let stops = self.pages.entry(page).or_default();
        *stops += 1;
        let closed = if *stops < STOPS_ON_PAGE { pages } else { page + PAGE..pages.end };
        if !closed.is_empty() {
            self.protect(thread, closed, libc::PROT_READ)?;
        }
        ptrace::go_on(thread, 0)
    }

    /// Has a stopped thread call mprotect(2).
    fn protect(&self, thread: Thread, pages: Range<u64>, protection: i32) -> io::Result<()> {
        let before = ptrace::registers(thread)?;
        let call = libc::user_regs_struct {
            rip: self.system_call,
            rax: libc::SYS_mprotect as u64,
            rdi: pages.start,
            rsi: pages.end - pages.start,
            rdx: protection as u64,
            // Else the kernel would begin the system call anew that the thread was stopped in.
            orig_rax: u64::MAX,
            ..before
        };
        ptrace::set_registers(thread, &call)?;
        ptrace::step(thread)?;
        self.trapped(thread)?;
        let answer = ptrace::registers(thread)?.rax as i64;
        ptrace::set_registers(thread, &before)?;
        if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-answer as i32)) }
    }

    /// Waits until a thread has carried out its one instruction.
    fn trapped(&self, thread: Thread) -> io::Result<()> {
        match ptrace::wait(thread, self.leader)?.1 {
            Stop::Signal(libc::SIGTRAP) => Ok(()),
            // Killed from outside, which whoever steps is told as for a thread that is gone.
            Stop::Ended => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            other => Err(io::Error::other(format!("{other:?} in the middle of a step"))),
        }
    }
}

/// A thread that is killed meanwhile is no error: its end comes next.
fn lenient(answer: io::Result<()>) -> io::Result<()> {
    answer.or_else(|error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) })
}

fn threads(process: Thread) -> io::Result<Vec<Thread>> {
    let entries = fs::read_dir(format!("/proc/{process}/task"))?;
    let number = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().parse().ok());
    entries.filter_map(|entry| number(entry).transpose()).collect()
}

/// Where BPF arrays are mapped for writing (`proc_pid_maps(5)`). The reader's position of a ring buffer is among them.
fn arrays(process: Thread) -> io::Result<Vec<Range<u64>>> {
    let text = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let is_array = rest.starts_with("rw-s") && rest.ends_with("anon_inode:bpf-map");
        is_array.then_some(number(start)?..number(end)?)
    };
    Ok(text.lines().filter_map(range).collect())
}
