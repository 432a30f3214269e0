//! TCP connections that stay open: echoed messages show that each is still alive.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Error, Namespace, Result};

/// Limit of one step of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP server that sends back whatever it gets, on a thread for each connection.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Binds and starts to accept.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(address))?;
        let listener = listener.map_err(Error::io("bind", format!("TCP {address}")))?;
        listener.set_nonblocking(true).map_err(Error::io("set non-blocking", format!("TCP {address}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        thread::spawn(move || echo(stream));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Ends when the client closes, the connection breaks, or nothing comes for long.
fn echo(mut stream: TcpStream) {
    let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE * 6)));
    let mut buffer = [0; 4096];
    if prepared.is_ok() {
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; dropping must not start another.
            let _ = thread.join();
        }
    }
}

/// Whether a TCP connection comes about within half a second.
///
/// # Panics
/// If the namespace cannot be entered.
#[must_use]
pub fn tcp_connects(from: &Namespace, to: SocketAddr) -> bool {
    let timeout = Duration::from_millis(500);
    from.run(|| TcpStream::connect_timeout(&to, timeout).is_ok()).expect("a namespace of the testbed")
}

/// Open connections to an [`EchoServer`], each from a port of its own.
#[derive(Debug)]
pub struct Connections {
    streams: Vec<TcpStream>,
    to: SocketAddr,
}

impl Connections {
    /// Opens `count` connections and exchanges a message on each.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn open(namespace: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let open = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let streams = namespace.run(|| (0..count).map(|_| open()).collect::<std::io::Result<Vec<_>>>())?;
        let mut connections = Self { streams: streams.map_err(Error::io("connect to", to.to_string()))?, to };
        connections.exchange()?;
        Ok(connections)
    }

    /// Sends a message on each connection and waits for all echoes.
    ///
    /// # Errors
    /// If a connection is broken or an echo is missing or wrong.
    pub fn exchange(&mut self) -> Result<()> {
        let message = [0x5a; 100];
        let failed = |from: &TcpStream, to: SocketAddr, source| {
            let from = from.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
            Error::Io { operation: "exchange a message on", object: format!("TCP {from} > {to}"), source }
        };
        for mut stream in &self.streams {
            stream.write_all(&message).map_err(|e| failed(stream, self.to, e))?;
        }
        for mut stream in &self.streams {
            let mut answer = [0; 100];
            stream.read_exact(&mut answer).map_err(|e| failed(stream, self.to, e))?;
            if answer != message {
                let source = std::io::Error::other("the echo differs");
                return Err(failed(stream, self.to, source));
            }
        }
        Ok(())
    }

    /// The clients' ports.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn ports(&self) -> Result<Vec<u16>> {
        let port = |stream: &TcpStream| Ok(stream.local_addr().map_err(Error::io("look at", "a TCP socket"))?.port());
        self.streams.iter().map(port).collect()
    }
}
