//! The end of a command: rules, numbers of views, what the rollouts want, revisions.

use super::Draft;
use crate::command::{Action, Change, Operation, Refusal, Rejected};
use crate::memo::RequestMemo;
use crate::resource::ResourcePath;
use crate::rollout::{Lineage, Turn};
use crate::state::{Applied, DesiredState, REQUESTS_REMEMBERED, check};
use chain_graph::Image;
use chain_graph::map::changes;
use chain_graph::model::{Desired, ObjectKey, Versions};
use chain_graph::plan::ActiveViews;
use chain_graph::rollout::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use xdp_layout::GraphId;

impl Draft<'_> {
    /// Checks the result, builds its image, lets rollouts follow, and writes revisions.
    pub(crate) fn finish(mut self) -> Result<Applied, Rejected> {
        self.propose();
        let is_declared = self.done.values().any(|action| *action != Action::Unchanged);
        let is_new = is_declared || self.turns.values().any(Turn::has_target);
        let mut rejected = Rejected { refusals: std::mem::take(&mut self.refusals), violations: Vec::new() };
        if is_new && let Err(broken) = self.check() {
            rejected.violations = broken.violations;
        }
        if !rejected.refusals.is_empty() || !rejected.violations.is_empty() {
            return Err(rejected);
        }
        if is_new {
            self.build()?;
        }
        self.settle(Some(self.now))?;
        let is_visible = self.close()?;
        let remember = !self.command.request_id.is_empty();
        if !is_declared && !is_visible && !remember {
            let state = DesiredState { lineages: self.next.lineages.clone(), ..self.old.clone() };
            return Ok(Applied { changes: self.changes(), state, changed: false });
        }
        self.next.revision = self.old.revision + 1;
        self.revise();
        let changes = self.changes();
        if remember {
            self.remember(&changes);
        }
        Ok(Applied { changes, state: self.next, changed: true })
    }

    /// Declares versions so that all views that are installed stay so, and targets are tried.
    fn propose(&mut self) {
        for (path, action) in &self.done {
            let ResourcePath::Graph(key) = path else { continue };
            if let Some(lineage) = self.old.lineages.get(key).filter(|_| *action == Action::Updated) {
                let turn = Turn::new(lineage);
                match turn.refuse_running() {
                    Ok(()) => {
                        self.turns.insert(key.clone(), turn);
                    }
                    Err(refusal) => self.refusals.push(refusal),
                }
            }
        }
        for (key, turn) in &self.turns {
            let put = self.done.get(&ResourcePath::Graph(key.clone())) == Some(&Action::Updated);
            if let Some(stable) = self.next.desired.graphs.get(key).filter(|_| put || turn.has_target()) {
                let versions = turn.trial(stable);
                Arc::make_mut(&mut self.next.desired).put_versions(key.clone(), versions);
            }
        }
    }

    fn check(&mut self) -> Result<(), Rejected> {
        self.next.checked = check(Some(&self.next.checked), &self.next.desired, self.next.setting.capacity)?;
        self.next.desired = Arc::clone(self.next.checked.desired());
        Ok(())
    }

    fn build(&mut self) -> Result<(), Rejected> {
        let image = Image::build(Some(&self.next.image), &self.next.checked, self.next.setting.cluster);
        self.next.image = Arc::new(image.map_err(Refusal::Build)?);
        Ok(())
    }

    /// Lets rollouts follow the image, and the image the rollouts, until both say the same. `made` is when versions are made
    /// that nobody knows yet.
    pub(crate) fn settle(&mut self, made: Option<Timestamp>) -> Result<(), Rejected> {
        let graphs = changes(&self.old.desired.graphs, &self.next.desired.graphs);
        for gone in graphs.iter().filter(|change| change.after.is_none()) {
            self.next.lineages.remove(gone.key);
        }
        loop {
            self.follow(made);
            self.see()?;
            if !self.arrange() {
                return Ok(());
            }
            self.check()?;
            self.build()?;
        }
    }

    /// Begins a turn of every graph whose views are not those before the command, and a lineage of every new graph.
    fn follow(&mut self, made: Option<Timestamp>) {
        let (before, image) = (Arc::clone(self.old.image.plan()), Arc::clone(&self.next.image));
        if Arc::ptr_eq(&before, image.plan()) {
            return;
        }
        let graphs = changes(&before.content().graphs, &image.plan().content().graphs);
        for (id, active) in graphs.iter().filter_map(|change| Some((*change.key, change.after?))) {
            let Some(key) = key_of(&image, id, active) else { continue };
            match (self.next.lineages.get(&key), self.next.desired.graphs.get(&key)) {
                (Some(lineage), Some(_)) => {
                    self.turns.entry(key).or_insert_with(|| Turn::new(lineage));
                }
                (None, Some(graph)) => {
                    let lineage = Lineage::new(key.clone(), active.stable, graph, made);
                    self.next.lineages.insert(key, Arc::new(lineage));
                }
                (_, None) => {}
            }
        }
    }

    fn see(&mut self) -> Result<(), Refusal> {
        for (key, turn) in &mut self.turns {
            let stable = self.next.desired.graphs.get(key);
            if let Some((stable, active)) = stable.zip(active(&self.next.image, &self.next.desired, key)) {
                turn.see(active, stable, self.now)?;
            }
        }
        Ok(())
    }

    /// Declares what the rollouts need; whether that is something else than was built.
    fn arrange(&mut self) -> bool {
        let mut is_other = false;
        let nothing = Versions::default();
        for (key, turn) in &self.turns {
            let desired = &self.next.desired;
            let active = active(&self.next.image, desired, key);
            let Some((stable, versions)) = active.and_then(|active| turn.arrange(active)) else { continue };
            let known = desired.versions.get(key).map_or(&nothing, |known| known);
            if desired.graphs.get(key) != Some(&stable) || *known != versions {
                let desired = Arc::make_mut(&mut self.next.desired);
                desired.graphs.insert(key.clone(), stable);
                desired.put_versions(key.clone(), versions);
                is_other = true;
            }
        }
        is_other
    }

    /// Ends all turns; whether anybody can see that there were any.
    pub(crate) fn close(&mut self) -> Result<bool, Rejected> {
        let mut is_visible = false;
        let generation = self.next.image.plan().generation();
        for (key, turn) in std::mem::take(&mut self.turns) {
            let Some(active) = active(&self.next.image, &self.next.desired, &key) else { continue };
            match turn.close(active, generation, self.now) {
                Ok(closed) => {
                    is_visible |= closed.is_visible;
                    self.next.lineages.insert(key.clone(), closed.lineage);
                    if closed.is_visible
                        && let Some(action) = self.done.get_mut(&ResourcePath::Graph(key))
                    {
                        *action = Action::Updated;
                    }
                }
                Err(refusal) => self.refusals.push(refusal),
            }
        }
        let refusals = std::mem::take(&mut self.refusals);
        if refusals.is_empty() { Ok(is_visible) } else { Err(Rejected { refusals, violations: Vec::new() }) }
    }

    /// Notes the revision of what was changed. A rollout by itself changes no resource; a promotion does.
    fn revise(&mut self) {
        for (path, action) in &self.done {
            let is_same = match path {
                ResourcePath::Graph(key) => self.old.desired.graphs.get(key) == self.next.desired.graphs.get(key),
                _ => false,
            };
            match action {
                Action::Created | Action::Updated if !is_same => {
                    self.next.revisions.insert(path.clone(), self.next.revision);
                }
                Action::Deleted => {
                    self.next.revisions.remove(path);
                }
                Action::Created | Action::Updated | Action::Unchanged => {}
            }
        }
    }

    fn remember(&mut self, changes: &[Change]) {
        self.next.requests.push_back(Arc::new(RequestMemo {
            id: self.command.request_id.clone(),
            revision: self.next.revision,
            fingerprint: RequestMemo::fingerprint_of(self.command),
            changes: changes.iter().map(|change| (change.path.clone(), change.action)).collect(),
        }));
        while self.next.requests.len() > REQUESTS_REMEMBERED {
            self.next.requests.pop_front();
        }
    }

    /// Changes in the order of the operations, then those of further resources.
    fn changes(&self) -> Vec<Change> {
        let listed: Vec<ResourcePath> = self.command.operations.iter().map(Operation::path).collect();
        let known: BTreeSet<&ResourcePath> = listed.iter().collect();
        let further = self.done.keys().filter(|path| !known.contains(path));
        listed
            .iter()
            .chain(further)
            .filter_map(|path| {
                let action = *self.done.get(path)?;
                Some(Change { path: path.clone(), action, before: self.old.get(path), after: self.next.get(path) })
            })
            .collect()
    }
}

/// The views of a graph in an image.
fn active<'i>(image: &'i Image, desired: &Desired, key: &ObjectKey) -> Option<&'i ActiveViews> {
    image.plan().content().graphs.get(&desired.graphs.get(key)?.id).map(|active| &**active)
}

/// The name of a graph in an image.
fn key_of(image: &Image, id: GraphId, active: &ActiveViews) -> Option<ObjectKey> {
    let tenant = image.tenants().get(&active.tenant)?;
    Some(ObjectKey::new(tenant.name(), &tenant.graphs().get(&id)?.name))
}
