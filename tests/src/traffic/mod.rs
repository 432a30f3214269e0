//! Load from real programs, and UDP with sequence numbers.

mod frame;
mod iperf;
mod ping;
mod stream;
mod tcp;
mod udp;
mod web;

pub use frame::{FrameSender, race_frames};
pub use iperf::{Iperf, IperfReport, IperfServer};
pub use ping::{Ping, PingReport, RoundTrip};
pub use stream::{EchoStream, short_connection};
pub use tcp::{Connections, EchoServer, tcp_connects};
pub use udp::{UdpLoad, UdpReceiver, UdpReport, connected_udp, send_from_ports};
pub(crate) use web::NGINX_GLOBAL;
pub use web::{Curl, CurlReport, WebServer};
