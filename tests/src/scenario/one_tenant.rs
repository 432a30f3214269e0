//! One tenant behind a front end.

use super::Site;
use crate::{Documents, FrontEnd, Result, Testbed};

/// Tenant `acme` with its hosts and functions, declared.
pub struct OneTenant {
    /// Its hosts and functions.
    pub site: Site,
    /// What the documents went to.
    pub front_end: FrontEnd,
    /// Where all of it is.
    pub testbed: Testbed,
}

impl OneTenant {
    /// Starts a front end for functions as of [`Site::new`], and applies everything but a graph.
    ///
    /// # Errors
    /// As [`Site::new`], or if the front end does not start.
    ///
    /// # Panics
    /// If the documents are refused.
    pub fn start(functions: &[(&str, &[&str])], closed: &[u16]) -> Result<Self> {
        let testbed = Testbed::new()?;
        let site = Site::new(testbed.node(), "acme", functions, closed)?;
        let front_end = FrontEnd::start(testbed.node())?;
        let world = Self { site, front_end, testbed };
        world.front_end.apply(&world.documents());
        Ok(world)
    }

    /// The tenant, its attachments and its functions.
    #[must_use]
    pub fn documents(&self) -> Documents {
        self.site.declare(Documents::new().tenant(&self.site.tenant, 100))
    }

    /// As [`start`](Self::start), with functions `a` and `b` of two firewalls each, and both in graph `web`.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn with_two_stages(closed: &[u16]) -> Result<Self> {
        let world = Self::start(&[("a", &["a1", "a2"]), ("b", &["b1", "b2"])], closed)?;
        world.front_end.apply(&Documents::new().chain(&world.site.tenant, "web", &["a", "b"]));
        Ok(world)
    }
}
