//! What every Azure seam shares: who we are to Azure, what lets us into a storage account, its poison queues, and the Key
//! Vault. It does not know what is stored or sent.

pub mod access;
pub mod cached_secret;
pub mod identity;
pub mod keys;
mod place;
pub mod queues;
pub mod vault;
