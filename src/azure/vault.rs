//! Secrets of a Key Vault. It does not know what they open.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;

use crate::config::Secret;
use crate::error::Result;

/// The value of the secret at `url`, `https://VAULT.vault.azure.net/secrets/NAME[/VERSION]`.
///
/// # Errors
/// Invalid, if `url` is not one; unavailable, if the vault does not answer or refuses.
pub async fn secret(credential: Arc<dyn TokenCredential>, url: &str) -> Result<Secret> {
    let _ = (credential, url);
    todo!()
}
