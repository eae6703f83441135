//! The integration tests: real processes, sockets, files and databases.

mod blob_local;
mod codec_csv;
mod codec_fhir;
mod host;
mod predict;
mod store_contract;
