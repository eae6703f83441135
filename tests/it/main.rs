//! The integration tests: real processes, sockets, files and databases.

mod api;
mod blob_local;
mod canary;
mod codec_csv;
mod codec_fhir;
mod experiment;
mod generated;
mod host;
mod house;
mod main_job;
mod predict;
mod store_contract;
mod support;
