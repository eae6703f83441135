//! What lets us into a storage account: a signature, the emulator's well-known key, or an identity's tokens.

use std::fmt;
use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::hmac::hmac_sha256;
use azure_core::http::Url;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{BlobSettings, Secret};
use crate::error::{Error, Result};

/// What lets us into a storage account.
#[derive(Clone)]
pub enum Access {
    /// A shared access signature, the query of a URL.
    Signature(Secret),
    /// The account that every emulator has, with the key that Microsoft published for it.
    Emulator,
    /// An identity; over https only.
    Token(Arc<dyn TokenCredential>),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature(_) => "Signature",
            Self::Emulator => "Emulator",
            Self::Token(_) => "Token",
        })
    }
}

/// The emulator's account and its key, as Microsoft's documentation gives them to everyone ("Use the Azurite emulator").
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

impl Access {
    /// What the settings alone give: a signature, or the emulator's account. `None`: it takes an identity.
    ///
    /// # Errors
    /// Invalid, if there is no way in: without a signature, an account over http can only be the emulator's.
    pub fn of(settings: &BlobSettings) -> Result<Option<Self>> {
        if let Some(signature) = &settings.signature {
            return Ok(Some(Self::Signature(signature.clone())));
        }
        if settings.account_url.starts_with("https://") {
            return Ok(None);
        }
        if settings.account_url.rsplit('/').next() == Some(EMULATOR_ACCOUNT) {
            return Ok(Some(Self::Emulator));
        }
        Err(Error::invalid(format!(
            "the setting HDAI_BLOB_ACCOUNT_URL names an account over http that is not the emulator's {EMULATOR_ACCOUNT}: use https, or set \
             HDAI_BLOB_SAS"
        )))
    }

    /// The account's URL, with the signature if that is what lets us in, and the credential if that is.
    pub(crate) fn applied(&self, account_url: &str) -> Result<(Url, Option<Arc<dyn TokenCredential>>)> {
        // Nothing that could quote the value.
        let unusable = || Error::invalid("the setting HDAI_BLOB_ACCOUNT_URL is not the URL of a storage account");
        let mut url = Url::parse(account_url).map_err(|_| unusable())?;
        if url.query().is_some() || !url.username().is_empty() || url.password().is_some() || url.cannot_be_a_base() {
            return Err(unusable());
        }
        match self {
            Self::Signature(signature) => {
                url.set_query(Some(signature.reveal().trim().trim_start_matches('?')));
                Ok((url, None))
            }
            Self::Emulator => {
                url.set_query(Some(&emulator_signature()?));
                Ok((url, None))
            }
            Self::Token(_) if url.scheme() != "https" => {
                Err(Error::invalid("a token may only travel over https: correct HDAI_BLOB_ACCOUNT_URL, or set HDAI_BLOB_SAS"))
            }
            Self::Token(credential) => Ok((url, Some(Arc::clone(credential)))),
        }
    }

    /// What to do when the account refuses us.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Signature(_) => {
                "renew the shared access signature in HDAI_BLOB_SAS: it has ended, is of another account, or lacks a permission (it takes \
                 read, write, create and tags, and list for `hdai host`, on containers and objects)"
            }
            Self::Emulator => "compare HDAI_BLOB_ACCOUNT_URL with the emulator's account",
            Self::Token(_) => {
                "give this app's identity the role Storage Blob Data Contributor on the account (Storage Blob Data Owner to write tags \
                 too), and wait some minutes for it to count"
            }
        }
    }
}

/// An account signature for the emulator. It never ends: the key that signs it is public.
fn emulator_signature() -> Result<String> {
    const VERSION: &str = "2018-11-09";
    const PERMISSIONS: &str = "rwdlacuptf";
    const EXPIRY: &str = "2099-12-31T00:00:00Z";
    let text = format!("{EMULATOR_ACCOUNT}\n{PERMISSIONS}\nbq\nsco\n\n{EXPIRY}\n\nhttps,http\n{VERSION}\n");
    let signature =
        hmac_sha256(&text, &EMULATOR_KEY.into()).map_err(|_| Error::internal("the emulator's signature cannot be made"))?;
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (expiry, signature) = (encoded(EXPIRY), encoded(&signature));
    Ok(format!("sv={VERSION}&ss=bq&srt=sco&sp={PERMISSIONS}&se={expiry}&spr=https%2Chttp&sig={signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, signature: Option<&str>) -> BlobSettings {
        BlobSettings { account_url: url.into(), signature: signature.map(Secret::new) }
    }

    #[test]
    fn the_settings_tell_what_lets_us_in() {
        let emulator = "http://127.0.0.1:10000/devstoreaccount1";
        assert!(matches!(Access::of(&settings(emulator, None)), Ok(Some(Access::Emulator))));
        assert!(matches!(Access::of(&settings(emulator, Some("sv=1"))), Ok(Some(Access::Signature(_)))));
        assert!(matches!(Access::of(&settings("https://acct.blob.core.windows.net", None)), Ok(None)));
        assert!(Access::of(&settings("http://127.0.0.1:10000/other", None)).is_err());
    }

    #[test]
    fn a_signature_is_in_the_address_and_in_nothing_that_is_shown() {
        let access = Access::Signature(Secret::new("?sv=2018-11-09&sig=s3cret"));
        let (url, credential) = access.applied("http://127.0.0.1:1/devstoreaccount1").unwrap();
        assert_eq!(url.query(), Some("sv=2018-11-09&sig=s3cret"));
        assert!(credential.is_none() && !format!("{access:?}").contains("s3cret"));
        let message = access.applied("https://user:s3cret@acct.blob.core.windows.net").unwrap_err().to_string();
        assert!(!message.contains("s3cret"), "{message}");
    }
}
