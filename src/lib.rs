//! Health Data AI: hospital encounters in, length-of-stay predictions out.
//!
//! The map of the house, innermost room first; a module may use those above it as `ARCHITECTURE.md` says and `tests/it/house.rs` holds.

pub mod error;
pub mod schema;

pub mod domain;

pub mod codec;
pub mod predict;
pub mod synthetic;

pub mod blob;
pub mod store;

pub mod host;
