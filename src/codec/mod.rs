//! Bytes to domain values, and back. Pure: no clock, no environment, no I/O beyond the reader or writer it is given.

pub mod blob_url;
pub mod cloud_event;
pub mod content;
pub mod csv;
pub mod envelope;
pub mod event_grid;
pub mod fhir;
pub mod rows;
