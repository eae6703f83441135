//! Who may sign in, and whether the tenant's keys come.

use super::Finding;
use crate::config::{Config, Development};
use crate::sign_in::{Published, Timing};

const PART: &str = "sign-in";
pub(super) const REMEDY: &str =
    "let the app reach login.microsoftonline.com (or HDAI_ENTRA_AUTHORITY), and check HDAI_ENTRA_TENANT_ID";

pub(super) async fn look(config: &Config) -> Finding {
    let settings = &config.sign_in;
    let front = if settings.platform { "; App Service authentication stands in front" } else { "" };
    if let Some(entra) = &settings.entra {
        let counted = match Published::at(&entra.keys_url, Timing::default()) {
            Ok(published) => published.count().await,
            Err(error) => Err(error),
        };
        return match counted {
            Ok(keys) => Finding::ok(PART, format!("tokens of Microsoft Entra ID, by {keys} keys that the tenant publishes{front}")),
            Err(error) => Finding::failed(PART, error.to_string(), REMEDY),
        };
    }
    match (settings.platform, settings.development) {
        (true, _) => {
            Finding::ok(PART, "by App Service authentication alone; HDAI_ENTRA_TENANT_ID would have tokens validated here too")
        }
        (false, Development::Allowed) => Finding::ok(PART, "by tokens of `hdai token`, on this machine only"),
        (false, Development::Refused(setting)) => Finding::warning(
            PART,
            format!("nobody can: {setting} ends the development issuer, and nothing else is configured"),
            "set HDAI_ENTRA_TENANT_ID and HDAI_ENTRA_AUDIENCES (docs/identity.md)",
        ),
    }
}
