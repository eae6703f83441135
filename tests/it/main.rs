//! The integration tests: real processes, sockets, files and databases.

// A test fails by a panic; clippy's own exception covers the test functions and not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod audit;
mod audit_kept;
mod azure_identity;
mod azurite;
mod blob_azure;
mod blob_contract;
mod blob_local;
mod canary;
mod codec_csv;
mod codec_fhir;
mod doctor;
mod events;
mod experiment;
mod faults;
mod fuzz;
mod generated;
mod handler;
mod host;
mod host_account;
mod house;
#[cfg(target_os = "linux")]
mod interrupt;
mod key_rotation;
mod main_job;
mod migrate_data;
mod packed;
mod parity;
mod phi;
mod predict;
mod reach;
mod receipt;
mod replay;
mod sealed;
mod sql_tools;
mod store_contract;
mod support;
mod switches;
mod tds;
mod tds_server;
mod topic;
mod torn_columns;
mod vault;
mod vault_keys;
