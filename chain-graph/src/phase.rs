//! How several front ends go from one plan to the next and no flow sees both.
//!
//! ```text
//!               Propose          all report       all report        all report Flush
//! coordinator   ------> Prepare ----------> Hold ----------> Flush ------------------> Stable(next)
//!                          \__________________\__________________\___ Abort _________> Stable(plan), number burnt
//! ```
//!
//! [`Coordinator`] decides, [`Member`] follows at each front end, [`forward`] is what a frame meets in each phase. All are
//! pure; the tests run these very functions under a model checker.
//!
//! - A flow's record is kept by its **owner** alone, the host of the first live instance of its path. Front ends at which
//!   frames enter keep none: they go by exceptions, else by the plan.
//! - An **exception** is a record whose path is not what the plan tells; its owner tells every member of it.
//! - A flow is **at risk** in a change if the two plans tell different paths for it.
//! - Orders are level-triggered: the last one says all. A lower number is refused; an equal one that says something else is
//!   an alarm. They carry no term of the consensus: a decision is committed before anybody is told, so that whoever tells
//!   it, and however late, it is the same.
//! - A set of one member goes from Prepare to the next plan: there is nobody who could answer otherwise. Driven in one go,
//!   that is one write into the data path. So the control plane runs them with its one front end: orders and reports are
//!   calls, [`MemberCommand::Install`] and [`MemberCommand::Enter`] the operations of the data path.
//!
//! The pattern is the intermediate state of F1's online schema change (Rae et al., VLDB 2013, section 3): no two members
//! are ever in states that answer one question differently.
//!
//! # Not promised
//!
//! - Flows one of whose instances, or its host, died; a flow whose owner has seen no frame for the idle time is over.
//! - Flows forwarded without a record at budget: within a plan they stay, a change may move them forward, never back.
//! - Frames to an instance that is down, until a front end hears of that: its host drops them. That no second instance
//!   sees the flow needs the host, if it lives, to hear before anybody else does; this module does not order that.
//! - A first frame that is under way from before Hold until its owner is in Flush, of a flow at risk: it is refused.
//! - Frames under way for longer than a whole change.
//! - Paths of several stages, unless hosts of later stages ask the owner as [`forward::hop`] says, and its word ends before
//!   the record can.

mod coordinator;
pub mod forward;
mod member;
mod place;

pub use coordinator::{Coordinator, CoordinatorCommand, CoordinatorEvent, CoordinatorRejection, CoordinatorStep};
pub use member::{Member, MemberCommand, MemberEvent, MemberRejection, MemberState, MemberStep};
pub use place::{At, Order, Phase, Place};
