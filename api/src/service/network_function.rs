//! Network functions, replica sets, instances.

use super::Api;
use crate::v1;
use crate::v1::network_function_service_server::NetworkFunctionService;
use state_sync::Kind;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl NetworkFunctionService for Api {
    async fn create_network_function(
        &self,
        request: Request<v1::CreateNetworkFunctionRequest>,
    ) -> Result<Response<v1::NetworkFunction>, Status> {
        let v1::CreateNetworkFunctionRequest { network_function_id, network_function, validate_only, request_id } =
            request.into_inner();
        self.create("", &network_function_id, network_function, validate_only, request_id).await
    }

    async fn get_network_function(
        &self,
        request: Request<v1::GetNetworkFunctionRequest>,
    ) -> Result<Response<v1::NetworkFunction>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_network_functions(
        &self,
        request: Request<v1::ListNetworkFunctionsRequest>,
    ) -> Result<Response<v1::ListNetworkFunctionsResponse>, Status> {
        let v1::ListNetworkFunctionsRequest { page_size, page_token } = request.into_inner();
        let (network_functions, next_page_token) = self.list("", page_size, &page_token)?;
        Ok(Response::new(v1::ListNetworkFunctionsResponse { network_functions, next_page_token }))
    }

    async fn update_network_function(
        &self,
        request: Request<v1::UpdateNetworkFunctionRequest>,
    ) -> Result<Response<v1::NetworkFunction>, Status> {
        let v1::UpdateNetworkFunctionRequest { network_function, update_mask, validate_only } = request.into_inner();
        self.update(network_function, update_mask, validate_only).await
    }

    async fn delete_network_function(
        &self,
        request: Request<v1::DeleteNetworkFunctionRequest>,
    ) -> Result<Response<()>, Status> {
        let v1::DeleteNetworkFunctionRequest { name, etag, force, validate_only } = request.into_inner();
        self.delete(&name, Kind::NetworkFunction, &etag, force, validate_only).await
    }

    async fn create_replica_set(
        &self,
        request: Request<v1::CreateReplicaSetRequest>,
    ) -> Result<Response<v1::ReplicaSet>, Status> {
        let v1::CreateReplicaSetRequest { parent, replica_set_id, replica_set, validate_only, request_id } =
            request.into_inner();
        self.create(&parent, &replica_set_id, replica_set, validate_only, request_id).await
    }

    async fn get_replica_set(
        &self,
        request: Request<v1::GetReplicaSetRequest>,
    ) -> Result<Response<v1::ReplicaSet>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_replica_sets(
        &self,
        request: Request<v1::ListReplicaSetsRequest>,
    ) -> Result<Response<v1::ListReplicaSetsResponse>, Status> {
        let v1::ListReplicaSetsRequest { parent, page_size, page_token } = request.into_inner();
        let (replica_sets, next_page_token) = self.list(&parent, page_size, &page_token)?;
        Ok(Response::new(v1::ListReplicaSetsResponse { replica_sets, next_page_token }))
    }

    async fn update_replica_set(
        &self,
        request: Request<v1::UpdateReplicaSetRequest>,
    ) -> Result<Response<v1::ReplicaSet>, Status> {
        let v1::UpdateReplicaSetRequest { replica_set, update_mask, validate_only } = request.into_inner();
        self.update(replica_set, update_mask, validate_only).await
    }

    async fn delete_replica_set(&self, request: Request<v1::DeleteReplicaSetRequest>) -> Result<Response<()>, Status> {
        let v1::DeleteReplicaSetRequest { name, etag, force, validate_only } = request.into_inner();
        self.delete(&name, Kind::ReplicaSet, &etag, force, validate_only).await
    }

    async fn create_instance(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::CreateInstanceRequest { parent, instance_id, instance, validate_only, request_id } =
            request.into_inner();
        self.create(&parent, &instance_id, instance, validate_only, request_id).await
    }

    async fn get_instance(&self, request: Request<v1::GetInstanceRequest>) -> Result<Response<v1::Instance>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        let v1::ListInstancesRequest { parent, page_size, page_token } = request.into_inner();
        let (instances, next_page_token) = self.list(&parent, page_size, &page_token)?;
        Ok(Response::new(v1::ListInstancesResponse { instances, next_page_token }))
    }

    async fn update_instance(
        &self,
        request: Request<v1::UpdateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::UpdateInstanceRequest { instance, update_mask, validate_only } = request.into_inner();
        self.update(instance, update_mask, validate_only).await
    }

    async fn delete_instance(&self, request: Request<v1::DeleteInstanceRequest>) -> Result<Response<()>, Status> {
        let v1::DeleteInstanceRequest { name, etag, validate_only } = request.into_inner();
        self.delete(&name, Kind::Instance, &etag, false, validate_only).await
    }
}
