//! Health Data AI: hospital encounters in, length-of-stay predictions out.
//!
//! The map of the house, innermost room first. `ARCHITECTURE.md` says which room may know which, and `tests/it/house.rs` holds it.

pub mod error;
pub mod schema;

pub mod domain;

pub mod codec;
pub mod predict;
pub mod synthetic;

pub mod config;
pub mod telemetry;

pub mod azure;
pub mod blob;
pub mod store;
pub mod topic;

pub mod workflow;

pub mod server;
pub mod sign_in;

pub mod host;
pub mod http;

pub mod cli;
