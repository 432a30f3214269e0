//! Attachments.

use super::Api;
use crate::v1;
use crate::v1::attachment_service_server::AttachmentService;
use state_sync::Kind;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl AttachmentService for Api {
    async fn create_attachment(
        &self,
        request: Request<v1::CreateAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        let v1::CreateAttachmentRequest { parent, attachment_id, attachment, validate_only, request_id } =
            request.into_inner();
        self.create(&parent, &attachment_id, attachment, validate_only, request_id).await
    }

    async fn get_attachment(
        &self,
        request: Request<v1::GetAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        self.get(&request.into_inner().name)
    }

    async fn list_attachments(
        &self,
        request: Request<v1::ListAttachmentsRequest>,
    ) -> Result<Response<v1::ListAttachmentsResponse>, Status> {
        let v1::ListAttachmentsRequest { parent, page_size, page_token } = request.into_inner();
        let (attachments, next_page_token) = self.list(&parent, page_size, &page_token)?;
        Ok(Response::new(v1::ListAttachmentsResponse { attachments, next_page_token }))
    }

    async fn update_attachment(
        &self,
        request: Request<v1::UpdateAttachmentRequest>,
    ) -> Result<Response<v1::Attachment>, Status> {
        let v1::UpdateAttachmentRequest { attachment, update_mask, validate_only } = request.into_inner();
        self.update(attachment, update_mask, validate_only).await
    }

    async fn delete_attachment(&self, request: Request<v1::DeleteAttachmentRequest>) -> Result<Response<()>, Status> {
        let v1::DeleteAttachmentRequest { name, etag, validate_only } = request.into_inner();
        self.delete(&name, Kind::Attachment, &etag, false, validate_only).await
    }
}
