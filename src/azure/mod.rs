//! What every Azure seam shares: who we are to Azure, and the Key Vault. It does not know what is stored or sent.

pub mod identity;
pub mod keys;
pub mod vault;
