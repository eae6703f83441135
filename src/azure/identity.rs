//! The identity this program has towards Azure. It does not know what the tokens are for.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;

use crate::error::Result;

/// Which identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Client id of a user-assigned managed identity; `None` for the system-assigned one.
    pub client_id: Option<String>,
}

/// The credential.
///
/// # Errors
/// Unavailable.
pub fn credential(identity: &Identity) -> Result<Arc<dyn TokenCredential>> {
    let _ = identity;
    todo!()
}
