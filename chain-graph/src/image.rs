//! wip
use crate::cidr::Cidr;
use crate::model::Attachment;
/// Prefixes an attachment takes: all addresses of both families if it names none.
pub(crate) fn taken_prefixes(attachment: &Attachment) -> Vec<Cidr> {
    if attachment.prefixes.is_empty() {
        vec![Cidr::V4, Cidr::ALL]
    } else {
        attachment.prefixes.iter().map(|&net| net.into()).collect()
    }
}
