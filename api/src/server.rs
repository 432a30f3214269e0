//! The server: all services on one listener.
//!
//! There is no encryption and no authentication: whoever reaches the listener may do everything. It must therefore be a
//! loopback address or a Unix socket, whose file only its owner may open.

use crate::metrics::Metrics;
use crate::requests::CountRequests;
use crate::service::Api;
use crate::v1::attachment_service_server::AttachmentServiceServer;
use crate::v1::config_service_server::ConfigServiceServer;
use crate::v1::flow_service_server::FlowServiceServer;
use crate::v1::graph_service_server::GraphServiceServer;
use crate::v1::network_function_service_server::NetworkFunctionServiceServer;
use crate::v1::rollout_service_server::RolloutServiceServer;
use crate::v1::system_service_server::SystemServiceServer;
use crate::v1::tenant_service_server::TenantServiceServer;
use state_sync::ControlPlane;
use std::fmt;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::server::NamedService;
use tonic::transport::Server;

/// Largest request, in bytes: room for some ten thousand resources in one Apply.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Descriptors of all messages and services, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/switchyard.bin"));

/// Where the server listens, or a client connects. Its text is `address:port`, or the path of a Unix socket, with or
/// without `unix:` before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Not an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("address {0:?}: neither ADDRESS:PORT nor the path of a Unix socket (with a slash, or unix: before it)")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError(text.to_owned())) } else { Ok(Self::Unix(path.into())) };
        }
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| AddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is reachable from other machines.
    #[error(
        "listen on {0}: not a loopback address, and the API has no authentication; use 127.0.0.1, ::1 or a Unix socket"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// Cause.
        source: std::io::Error,
    },
    /// A service cannot be set up.
    #[error("set up {what}: {cause}")]
    Setup {
        /// Which.
        what: &'static str,
        /// Cause.
        cause: String,
    },
    /// The transport failed.
    #[error("serve: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Binds. The file of a Unix socket that nobody listens on any more is replaced; only its owner may open the new one.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`], [`ServeError::Listen`].
    pub async fn bind(address: &Address) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address: address.clone(), source };
        match address {
            Address::Tcp(socket) if !socket.ip().is_loopback() => Err(ServeError::NotLoopback(*socket)),
            Address::Tcp(socket) => TcpListener::bind(socket).await.map(Self::Tcp).map_err(failed),
            Address::Unix(path) => {
                let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
                if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
                Ok(Self::Unix(listener))
            }
        }
    }
}

/// Serves until `shutdown` completes; requests that are under way are answered first.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listener: Listener,
    control: ControlPlane,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let api = Api { control, metrics: Arc::clone(&metrics), stopping };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let setup =
        |what| move |error: tonic_reflection::server::Error| ServeError::Setup { what, cause: error.to_string() };
    let v1 = reflection().build_v1().map_err(setup("reflection v1"))?;
    let v1alpha = reflection().build_v1alpha().map_err(setup("reflection v1alpha"))?;

    for name in service_names() {
        health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    let draining = async move {
        shutdown.await;
        stop.send_replace(true);
        for name in service_names().into_iter().chain([""]) {
            health.set_service_status(name, tonic_health::ServingStatus::NotServing).await;
        }
    };
    let router = Server::builder()
        .layer(CountRequests::new(metrics))
        .add_service(health_service)
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(TenantServiceServer::new(api.clone()))
        .add_service(AttachmentServiceServer::new(api.clone()))
        .add_service(NetworkFunctionServiceServer::new(api.clone()))
        .add_service(GraphServiceServer::new(api.clone()))
        .add_service(RolloutServiceServer::new(api.clone()))
        .add_service(FlowServiceServer::new(api.clone()))
        .add_service(SystemServiceServer::new(api.clone()))
        .add_service(ConfigServiceServer::new(api).max_decoding_message_size(REQUEST_BYTES_MAX));
    match listener {
        Listener::Tcp(tcp) => router.serve_with_incoming_shutdown(TcpListenerStream::new(tcp), draining).await?,
        Listener::Unix(unix) => router.serve_with_incoming_shutdown(UnixListenerStream::new(unix), draining).await?,
    }
    Ok(())
}

fn service_names() -> [&'static str; 8] {
    [
        TenantServiceServer::<Api>::NAME,
        AttachmentServiceServer::<Api>::NAME,
        NetworkFunctionServiceServer::<Api>::NAME,
        GraphServiceServer::<Api>::NAME,
        RolloutServiceServer::<Api>::NAME,
        FlowServiceServer::<Api>::NAME,
        SystemServiceServer::<Api>::NAME,
        ConfigServiceServer::<Api>::NAME,
    ]
}
