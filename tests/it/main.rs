//! The integration tests: real processes, sockets, files and databases.

mod api;
mod blob_local;
mod canary;
mod codec_csv;
mod codec_fhir;
mod events;
mod generated;
mod handler;
mod host;
mod house;
#[cfg(target_os = "linux")]
mod interrupt;
mod main_job;
mod predict;
mod store_contract;
mod support;
