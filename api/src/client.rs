//! Client side: a channel to the server, and the generated clients.

pub use crate::v1::attachment_service_client::AttachmentServiceClient;
pub use crate::v1::config_service_client::ConfigServiceClient;
pub use crate::v1::flow_service_client::FlowServiceClient;
pub use crate::v1::graph_service_client::GraphServiceClient;
pub use crate::v1::network_function_service_client::NetworkFunctionServiceClient;
pub use crate::v1::rollout_service_client::RolloutServiceClient;
pub use crate::v1::system_service_client::SystemServiceClient;
pub use crate::v1::tenant_service_client::TenantServiceClient;
pub use tonic::transport::{Channel, Error as ConnectError};

use crate::server::Address;
use tonic::transport::Endpoint;

/// Most bytes of headers: errors list all violations in one.
const HEADER_BYTES_MAX: u32 = 1 << 20;

/// Connects.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(address: &Address) -> Result<Channel, ConnectError> {
    let uri = match address {
        Address::Tcp(socket) => format!("http://{socket}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    };
    Endpoint::from_shared(uri)?.http2_max_header_list_size(HEADER_BYTES_MAX).connect().await
}
