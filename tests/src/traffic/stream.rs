//! TCP to an [`EchoServer`](super::EchoServer), one connection at a time: a stream that goes on, or one message and the end.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{Error, Result};

/// Limit of one step of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes sent before they are waited for. Fits into the buffers on the way, so that neither side waits for the other.
const CHUNK: usize = 16 << 10;

/// A connection that carries full-sized segments both ways.
#[derive(Debug)]
pub struct EchoStream {
    stream: TcpStream,
    rounds: u64,
    to: SocketAddr,
}

impl EchoStream {
    /// Connects from the namespace that the calling thread is in: see [`Namespace::run`](crate::Namespace::run).
    ///
    /// # Errors
    /// If nobody accepts in time.
    pub fn open(to: SocketAddr) -> Result<Self> {
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(Error::io("connect to", format!("TCP {to}")))?;
        Ok(Self { stream, rounds: 0, to })
    }

    /// Sends 16 KiB and waits for all of them.
    ///
    /// # Errors
    /// If the connection is broken, or what came back differs.
    pub fn round(&mut self) -> Result<()> {
        let first = self.rounds.to_le_bytes()[0];
        let sent: Vec<u8> = (0..CHUNK).map(|at| first.wrapping_add(at.to_le_bytes()[0])).collect();
        self.exchange(&sent)
    }

    fn exchange(&mut self, sent: &[u8]) -> Result<()> {
        let mut back = vec![0; sent.len()];
        let exchanged = self.stream.write_all(sent).and_then(|()| self.stream.read_exact(&mut back));
        exchanged
            .and_then(|()| if back == sent { Ok(()) } else { Err(std::io::Error::other("the echo differs")) })
            .map_err(|error| self.failed("exchange data on", error))?;
        self.rounds += 1;
        Ok(())
    }

    /// Ends the connection from this side and waits for the other. The port stays taken (TIME-WAIT), so no later connection of
    /// the test has the same tuple.
    ///
    /// # Errors
    /// If the other side does not end it, or resets it.
    pub fn close(mut self) -> Result<()> {
        let closed = self.stream.shutdown(Shutdown::Write).and_then(|()| self.stream.read(&mut [0]));
        match closed {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.failed("close", std::io::Error::other("the server sent more than it got"))),
            Err(error) => Err(self.failed("close", error)),
        }
    }

    fn failed(&self, operation: &'static str, error: std::io::Error) -> Error {
        let from = self.stream.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
        Error::io(operation, format!("TCP {from} > {} in round {}", self.to, self.rounds))(error)
    }
}

/// Connects from the namespace that the calling thread is in, exchanges a hundred bytes and closes.
///
/// # Errors
/// As [`EchoStream`]'s methods.
pub fn short_connection(to: SocketAddr) -> Result<()> {
    let mut stream = EchoStream::open(to)?;
    stream.exchange(&[0x5a; 100])?;
    stream.close()
}
