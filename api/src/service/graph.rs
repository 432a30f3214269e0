//! Graphs.

use super::Api;
use crate::v1;
use crate::v1::graph_service_server::GraphService;
use state_sync::Kind;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl GraphService for Api {
    async fn create_graph(&self, request: Request<v1::CreateGraphRequest>) -> Result<Response<v1::Graph>, Status> {
        let v1::CreateGraphRequest { parent, graph_id, graph, validate_only, request_id } = request.into_inner();
        self.create(&parent, &graph_id, graph, validate_only, request_id).await
    }

    async fn get_graph(&self, request: Request<v1::GetGraphRequest>) -> Result<Response<v1::Graph>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_graphs(
        &self,
        request: Request<v1::ListGraphsRequest>,
    ) -> Result<Response<v1::ListGraphsResponse>, Status> {
        let v1::ListGraphsRequest { parent, page_size, page_token } = request.into_inner();
        let (graphs, next_page_token) = self.list(&parent, page_size, &page_token)?;
        Ok(Response::new(v1::ListGraphsResponse { graphs, next_page_token }))
    }

    async fn update_graph(&self, request: Request<v1::UpdateGraphRequest>) -> Result<Response<v1::Graph>, Status> {
        let v1::UpdateGraphRequest { graph, update_mask, validate_only } = request.into_inner();
        self.update(graph, update_mask, validate_only).await
    }

    async fn delete_graph(&self, request: Request<v1::DeleteGraphRequest>) -> Result<Response<()>, Status> {
        let v1::DeleteGraphRequest { name, etag, validate_only } = request.into_inner();
        self.delete(&name, Kind::Graph, &etag, false, validate_only).await
    }
}
