//! The identity this program has towards Azure. It does not know what the tokens are for.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::time::OffsetDateTime;
use azure_identity::{
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};

use crate::config::Secret;
use crate::error::{Error, Result};

/// Where a token comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// The platform's endpoint: App Service, Functions, Container Apps, a virtual machine.
    Managed,
    /// A token file of a Kubernetes cluster that Entra trusts.
    Workload,
    /// Who is signed in to `az` or `azd` on this machine.
    #[default]
    Developer,
}

/// Which identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Where its tokens come from.
    pub kind: Kind,
    /// Client id of a user-assigned managed identity, or of a workload's; `None` for the system-assigned one.
    pub client_id: Option<String>,
}

impl Identity {
    /// The identity that the platform's variables tell: `IDENTITY_ENDPOINT` a managed one, `AZURE_FEDERATED_TOKEN_FILE` a workload's,
    /// neither a developer's. `AZURE_CLIENT_ID` chooses among the managed ones. `lookup` answers a variable's value.
    ///
    /// `azure_identity` reads the endpoint itself from the process's environment: `lookup` must be that environment for a token to come.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let kind = match (set("IDENTITY_ENDPOINT"), set("AZURE_FEDERATED_TOKEN_FILE")) {
            (Some(_), _) => Kind::Managed,
            (None, Some(_)) => Kind::Workload,
            (None, None) => Kind::Developer,
        };
        let client_id = set("AZURE_CLIENT_ID").filter(|_| kind != Kind::Developer);
        Self { kind, client_id }
    }

    /// What to do when no token comes.
    fn remedy(&self) -> &'static str {
        match (self.kind, &self.client_id) {
            (Kind::Managed, None) => "switch the app's system-assigned identity on, or name a user-assigned one in AZURE_CLIENT_ID",
            (Kind::Managed, Some(_)) => {
                "assign the user-assigned identity that AZURE_CLIENT_ID or the connection string names to the app"
            }
            (Kind::Workload, _) => "check AZURE_FEDERATED_TOKEN_FILE, AZURE_TENANT_ID and the federated credential of the workload",
            (Kind::Developer, _) => "sign in with `az login` or `azd auth login`; in Azure, switch the app's managed identity on",
        }
    }
}

/// The credential of `identity`. It keeps its tokens and renews them five minutes before they end.
///
/// # Errors
/// Unavailable, if the environment lacks what this kind of identity needs.
pub fn credential(identity: &Identity) -> Result<Arc<dyn TokenCredential>> {
    let built = match identity.kind {
        Kind::Managed => {
            let user_assigned_id = identity.client_id.clone().map(UserAssignedId::ClientId);
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() }))
                .map(|credential| credential as Arc<dyn TokenCredential>)
        }
        Kind::Workload => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            client_id: identity.client_id.clone(),
            ..Default::default()
        }))
        .map(|credential| credential as Arc<dyn TokenCredential>),
        Kind::Developer => DeveloperToolsCredential::new(None).map(|credential| credential as Arc<dyn TokenCredential>),
    };
    built.map_err(|cause| Error::unavailable(format!("there is no Azure identity here: {}", identity.remedy())).caused_by(cause))
}

/// A token and how long it is still good for.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token.
    pub secret: Secret,
    /// From now until it ends; zero if it has ended.
    pub valid: Duration,
}

/// A token for `scope` (`https://…/.default`), from `credential`, which must be that of `identity`.
///
/// # Errors
/// Unavailable, with what to do.
pub async fn token(credential: &dyn TokenCredential, identity: &Identity, scope: &str) -> Result<Token> {
    let refused = |cause: azure_core::Error| {
        let target = scope.trim_end_matches("/.default");
        let message = format!("no token for {target} came for the identity: {}", identity.remedy());
        Error::unavailable(message).caused_by(words(&cause))
    };
    let token = credential.get_token(&[scope], None).await.map_err(refused)?;
    // A token ends at a time of day and a connection's life is a duration: this is the one place that turns one into the other.
    let left = token.expires_on - OffsetDateTime::now_utc();
    Ok(Token { secret: Secret::new(token.token.secret()), valid: Duration::try_from(left).unwrap_or_default() })
}

/// What the other side said (Entra's error numbers, what `az` asks for), on one line and once: the causes below repeat it.
fn words(cause: &azure_core::Error) -> String {
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Identity {
        Identity::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_platforms_variables_tell_the_identity() {
        let endpoint = ("IDENTITY_ENDPOINT", "http://169.254.129.1/token");
        let file = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
        let client = ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555");
        assert_eq!(of(&[]), Identity { kind: Kind::Developer, client_id: None });
        assert_eq!(of(&[client]), Identity { kind: Kind::Developer, client_id: None });
        assert_eq!(of(&[endpoint]), Identity { kind: Kind::Managed, client_id: None });
        assert_eq!(of(&[endpoint, file, client]), Identity { kind: Kind::Managed, client_id: Some(client.1.into()) });
        assert_eq!(of(&[file, client]), Identity { kind: Kind::Workload, client_id: Some(client.1.into()) });
        assert_eq!(of(&[("IDENTITY_ENDPOINT", " ")]).kind, Kind::Developer);
    }

    #[test]
    fn a_token_does_not_show_in_debug() {
        let token = Token { secret: Secret::new("eyJ0"), valid: Duration::from_secs(1) };
        assert!(!format!("{token:?}").contains("eyJ0"));
    }
}
