//! The plan-transition protocol under a model checker.
//!
//! Front ends and coordinator are the shipped functions, and so are the rules that frames meet. What is the model's: frames
//! of one flow that enter at any front end, from either side; an underlay that loses, reorders and repeats them; the
//! ordered streams of exceptions; deaths, joins, aborts, restarts of agents, failed instances, idle expiry and reuse of the
//! tuple. Flows do not influence each other, so one flow whose path differs between plans stands for all.
//!
//! What the model takes for granted and does not check: an order or a report that is late or repeated is as good as one
//! that has not been given; a front end known to be lost answers nothing; frames of a flow are out of the underlay before
//! its tuple is used again; a lease is shorter than a record's idle time by two ways through the underlay.

mod check;
mod config;
mod events;
mod flow;
mod frames;
mod model;
mod protocol;
mod world;

mod canary;
mod mutants;
mod one_stage;
mod overlay;
mod stateless;
mod two_stages;
