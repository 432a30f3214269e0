//! The views of a graph, and the numbers they are given.

use super::BuildError;
use crate::model::{ResourceName, Tenant};
use crate::plan::{ActiveViews, ViewRef};
use crate::view::{View, ViewContent};
use std::collections::BTreeMap;
use std::sync::Arc;
use xdp_layout::{GraphId, ViewId};

/// A graph and its installed views.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GraphImage {
    /// Its name.
    pub name: ResourceName,
    /// Which views new flows take, and which drain.
    pub active: Arc<ActiveViews>,
    /// All of them, by number.
    pub views: BTreeMap<ViewId, Arc<View>>,
}

/// Finds or makes the views of a graph's versions. Content decides: what is installed keeps its number, other content gets
/// one that was never used.
pub(super) struct Numbering<'a> {
    tenant: &'a Tenant,
    graph: GraphId,
    /// The plan's views of the graph.
    known: Option<&'a ActiveViews>,
    image: Option<&'a GraphImage>,
    last_view: Option<ViewId>,
    views: BTreeMap<ViewId, Arc<View>>,
}

impl<'a> Numbering<'a> {
    /// `image` is what is left of the views in `known`, if it is left; `last_view` the tenant's highest number so far.
    pub(super) fn new(
        tenant: &'a Tenant,
        graph: GraphId,
        known: Option<&'a ActiveViews>,
        image: Option<&'a GraphImage>,
        last_view: Option<ViewId>,
    ) -> Self {
        Self { tenant, graph, known, image, last_view, views: BTreeMap::new() }
    }

    /// The view of a content that is installed already, or was given a number here.
    pub(super) fn installed(&mut self, content: &Arc<ViewContent>) -> Option<ViewRef> {
        if let Some(view) = self.views.values().find(|view| view.digest() == content.digest()) {
            return Some(ViewRef { id: view.id(), parent: view.parent(), digest: view.digest() });
        }
        let known = *self.known?.installed().find(|view| view.digest == content.digest())?;
        let kept = self.image.and_then(|image| image.views.get(&known.id)).cloned();
        self.views.insert(known.id, kept.unwrap_or_else(|| self.view(known, content)));
        Some(known)
    }

    /// The view of a content. If it needs a number, `parent` is the view it was made from.
    pub(super) fn number(&mut self, content: &Arc<ViewContent>, parent: Option<ViewId>) -> Result<ViewRef, BuildError> {
        if let Some(installed) = self.installed(content) {
            return Ok(installed);
        }
        let id = ViewId::new(self.last_view.map_or(1, |last| last.get() + 1));
        let id = id.ok_or_else(|| BuildError::ViewsExhausted { tenant: self.tenant.name.clone() })?;
        self.last_view = Some(id);
        let named = ViewRef { id, parent, digest: content.digest() };
        self.views.insert(id, self.view(named, content));
        Ok(named)
    }

    fn view(&self, named: ViewRef, content: &Arc<ViewContent>) -> Arc<View> {
        Arc::new(View::new(self.tenant.id, self.graph, named.id, named.parent, Arc::clone(content)))
    }

    /// The views, and the highest number given.
    pub(super) fn finish(self) -> (BTreeMap<ViewId, Arc<View>>, Option<ViewId>) {
        (self.views, self.last_view)
    }
}
