//! Tenants.

use super::Api;
use crate::v1;
use crate::v1::tenant_service_server::TenantService;
use state_sync::Kind;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl TenantService for Api {
    async fn create_tenant(&self, request: Request<v1::CreateTenantRequest>) -> Result<Response<v1::Tenant>, Status> {
        let v1::CreateTenantRequest { tenant_id, tenant, validate_only, request_id } = request.into_inner();
        self.create("", &tenant_id, tenant, validate_only, request_id).await
    }

    async fn get_tenant(&self, request: Request<v1::GetTenantRequest>) -> Result<Response<v1::Tenant>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let v1::ListTenantsRequest { page_size, page_token } = request.into_inner();
        let (tenants, next_page_token) = self.list("", page_size, &page_token)?;
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(&self, request: Request<v1::UpdateTenantRequest>) -> Result<Response<v1::Tenant>, Status> {
        let v1::UpdateTenantRequest { tenant, update_mask, validate_only } = request.into_inner();
        self.update(tenant, update_mask, validate_only).await
    }

    async fn delete_tenant(&self, request: Request<v1::DeleteTenantRequest>) -> Result<Response<()>, Status> {
        let v1::DeleteTenantRequest { name, etag, force, validate_only } = request.into_inner();
        self.delete(&name, Kind::Tenant, &etag, force, validate_only).await
    }
}
