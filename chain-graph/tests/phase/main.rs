//! The plan-transition protocol under a model checker.
//!
//! Front ends and coordinator are the shipped functions. What is the model's: frames of one flow that enter at any front
//! end in either direction, an underlay that loses and reorders them, the ordered streams of exceptions, deaths, joins,
//! aborts, restarts of agents, idle expiry and reuse of the tuple. Flows do not influence each other, so that one flow
//! whose path differs between plans stands for all.

mod check;
mod config;
mod flow;
mod frames;
mod holds;
mod model;
mod mutants;
mod protocol;
mod world;
