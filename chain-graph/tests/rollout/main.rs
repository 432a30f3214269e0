//! The rollout engine: values, specifications, scripted rollouts, every state with every event, random walks, drains.

mod abort;
mod bounds;
mod drain;
mod harness;
mod random;
mod script;
mod table;
mod values;
mod walk;
