//! Containers of an Azure storage account, or of the emulator. It keeps nothing but the connection, holds two ranges of a blob in memory
//! at most, and tells no one a blob's name, a signature or a token.

mod fault;
mod ranges;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::{ClientOptions, Etag, ExponentialRetryOptions, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_storage_blob::models::{
    BlobClientGetPropertiesOptions, BlobClientGetPropertiesResultHeaders, BlobClientGetTagsOptions, BlobClientSetTagsOptions,
    BlobClientUploadOptions, BlobTags,
};
use azure_storage_blob::{BlobClient, BlobServiceClient, BlobServiceClientOptions};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use self::fault::Fault;
use super::{Blobs, Entry, Listing, Opened, check_names, check_range, check_size};
use crate::azure::identity::{self, Identity};
use crate::config::BlobSettings;
use crate::error::{Error, Result};

pub use crate::azure::access::Access;

/// How patient a client is. [`Limits::default`] is what production uses.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Length of a range, in bytes; two are in memory at most.
    pub range_bytes: u64,
    /// Longest time for one request with its retries and its body.
    pub request: Duration,
    /// How often a range is asked for whose body broke off.
    pub attempts: u32,
    /// How often a request is repeated that was throttled, met a fault of the service or found no connection.
    pub retries: u32,
    /// The pause before the first repetition; it doubles, with jitter.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            range_bytes: 4 * 1024 * 1024,
            request: Duration::from_secs(90),
            attempts: 3,
            retries: 5,
            pause: Duration::from_millis(200),
        }
    }
}

/// Containers of a storage account.
pub struct AzureBlobs {
    account: BlobServiceClient,
    limits: Limits,
    /// What to do when the account refuses us.
    refused: &'static str,
}

impl fmt::Debug for AzureBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's address carries the signature.
        f.write_str("AzureBlobs")
    }
}

impl AzureBlobs {
    /// The account of `settings`, entered with its signature if there is one, with the emulator's well-known account if it is that, and
    /// with a token of `identity` otherwise. Nothing is connected yet.
    ///
    /// # Errors
    /// Invalid, if the settings name no account; unavailable, if there is no identity here.
    pub fn open(settings: &BlobSettings, identity: &Identity) -> Result<Self> {
        let access = match Access::of(settings)? {
            Some(access) => access,
            None => Access::Token(identity::credential(identity)?),
        };
        Self::with(&settings.account_url, &access, Limits::default(), None)
    }

    /// The account at `url` with these limits, over `transport` if the default HTTP client will not do.
    ///
    /// # Errors
    /// Invalid, if `url` is not one that this access works with.
    pub fn with(url: &str, access: &Access, limits: Limits, transport: Option<Transport>) -> Result<Self> {
        let (url, credential) = access.applied(url)?;
        let retry = RetryOptions::exponential(ExponentialRetryOptions {
            initial_delay: limits.pause.try_into().unwrap_or_default(),
            max_retries: limits.retries,
            max_total_elapsed: (limits.request / 2).try_into().unwrap_or_default(),
            ..Default::default()
        });
        let client_options = ClientOptions { retry, transport, ..Default::default() };
        let options = BlobServiceClientOptions { client_options, ..Default::default() };
        let account = BlobServiceClient::new(url, credential, Some(options))
            .map_err(|_| Error::invalid("the setting HDAI_BLOB_ACCOUNT_URL is not the URL of a storage account"))?;
        Ok(Self { account, limits, refused: access.remedy() })
    }

    fn blob(&self, container: &str, name: &str) -> Result<Place> {
        check_names(container, name)?;
        let client = self.account.blob_client(container, name);
        Ok(Place { client, limits: self.limits.clone(), container: container.to_owned(), refused: self.refused })
    }

    /// # Errors
    /// Unavailable. That another made it first is none.
    async fn make(&self, container: &str) -> Result<()> {
        let client = self.account.blob_container_client(container);
        let made = fault::in_time(self.limits.request, client.create(None)).await;
        match made.map_err(|error| fault::of(error, container, self.refused)) {
            Ok(_) | Err(Fault::ContainerExists) => Ok(()),
            Err(fault) => Err(fault.into_error("made", container)),
        }
    }
}

#[async_trait]
impl Blobs for AzureBlobs {
    async fn open(&self, container: &str, name: &str) -> Result<Option<Opened>> {
        let place = self.blob(container, name)?;
        match place.properties(None).await {
            Ok(seen) => Ok(Some(ranges::opened(place, seen))),
            Err(Fault::NoBlob) => Ok(None),
            Err(fault) => Err(fault.into_error("read", container)),
        }
    }

    async fn find(&self, container: &str, name: &str) -> Result<Option<Entry>> {
        match self.blob(container, name)?.properties(None).await {
            Ok(Seen { etag, length_bytes, written }) => {
                Ok(Some(Entry { name: name.to_owned(), etag: bare(&etag), length_bytes, written }))
            }
            Err(Fault::NoBlob) => Ok(None),
            Err(fault) => Err(fault.into_error("read", container)),
        }
    }

    async fn open_range(
        &self,
        container: &str,
        name: &str,
        etag: &str,
        bytes: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let place = self.blob(container, name)?;
        match place.properties(Some(quoted(etag))).await {
            Ok(seen) => {
                check_range(&bytes, seen.length_bytes)?;
                Ok(Some(ranges::stretch(place, seen, bytes)))
            }
            Err(Fault::NoBlob | Fault::Changed) => Ok(None),
            Err(fault) => Err(fault.into_error("read", container)),
        }
    }

    async fn list(&self, container: &str, most: usize) -> Result<Listing> {
        let failed = |error| match fault::of(error, container, self.refused) {
            // Whoever lists may know what that means.
            Fault::NoContainer => Error::not_found(format!(
                "{container} cannot be listed: the storage account has no such container; create it, or correct HDAI_IMPORT_CONTAINER"
            )),
            fault => fault.into_error("listed", container),
        };
        let mut listing = Listing { entries: Vec::new(), cut: false };
        let mut found = self.account.blob_container_client(container).list_blobs(None).map_err(failed)?;
        while let Some(item) = fault::in_time(self.limits.request, found.try_next()).await.map_err(failed)? {
            // What is no whole blob yet has no entity tag.
            let (Some(name), Some(properties)) = (item.name, item.properties) else { continue };
            let Some(etag) = properties.etag else { continue };
            if listing.entries.len() == most {
                listing.cut = true;
                break;
            }
            let (length_bytes, written) = (properties.content_length.unwrap_or(0), time(properties.last_modified));
            listing.entries.push(Entry { name, etag: bare(&etag), length_bytes, written });
        }
        Ok(listing)
    }

    async fn put(&self, container: &str, name: &str, content: Bytes) -> Result<()> {
        check_size(&content)?;
        let place = self.blob(container, name)?;
        let first = place.put(name, content.clone()).await;
        let Err(Fault::NoContainer) = first else { return first.map_err(|fault| fault.into_error("written", container)) };
        self.make(container).await?;
        place.put(name, content).await.map_err(|fault| fault.into_error("written", container))
    }

    async fn tag(&self, container: &str, name: &str, etag: &str, tags: &[(&str, &str)]) -> Result<()> {
        let place = self.blob(container, name)?;
        match place.tag(etag, tags).await {
            Ok(()) | Err(Fault::NoBlob | Fault::Changed) => Ok(()),
            Err(fault) => Err(fault.into_error("tagged", container)),
        }
    }
}

/// A blob's place in an account; nothing is known yet of what lies there.
struct Place {
    client: BlobClient,
    limits: Limits,
    container: String,
    refused: &'static str,
}

/// What is known of a blob before it is read.
struct Seen {
    /// With its quotes, as a condition wants it.
    etag: Etag,
    length_bytes: u64,
    written: DateTime<Utc>,
}

/// An entity tag without its quotes.
fn bare(etag: &Etag) -> String {
    etag.to_string().trim_matches('"').to_owned()
}

fn time(time: Option<OffsetDateTime>) -> DateTime<Utc> {
    time.and_then(|time| DateTime::from_timestamp(time.unix_timestamp(), time.nanosecond())).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
}

impl Place {
    async fn call<T>(&self, request: impl Future<Output = azure_core::Result<T>>) -> Result<T, Fault> {
        let answer = fault::in_time(self.limits.request, request).await;
        answer.map_err(|error| fault::of(error, &self.container, self.refused))
    }

    async fn properties(&self, if_match: Option<Etag>) -> Result<Seen, Fault> {
        let options = BlobClientGetPropertiesOptions { if_match, ..Default::default() };
        let answer = self.call(self.client.get_properties(Some(options))).await?;
        match (answer.etag(), answer.content_length()) {
            (Ok(Some(etag)), Ok(Some(length_bytes))) => {
                Ok(Seen { etag, length_bytes, written: time(answer.last_modified().ok().flatten()) })
            }
            _ => Err(Fault::strange("its answer names no entity tag or no length")),
        }
    }

    async fn put(&self, name: &str, content: Bytes) -> Result<(), Fault> {
        let options = BlobClientUploadOptions { blob_content_type: Some(content_type(name).to_owned()), ..Default::default() };
        self.call(self.client.upload(content.into(), Some(options))).await.map(drop)
    }

    async fn tag(&self, etag: &str, tags: &[(&str, &str)]) -> Result<(), Fault> {
        let etag = quoted(etag);
        // Asked apart, because the emulator does not heed the condition on tags.
        self.properties(Some(etag.clone())).await?;
        // To set tags is to replace them all, and others tag too.
        let options = BlobClientGetTagsOptions { if_match: Some(etag.clone()), ..Default::default() };
        let old = self.call(async { self.client.get_tags(Some(options)).await?.into_model() }).await?;
        let mut all = HashMap::from(old);
        let before = all.clone();
        all.extend(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        if all == before {
            return Ok(());
        }
        let options = BlobClientSetTagsOptions { if_match: Some(etag), ..Default::default() };
        self.call(async { self.client.set_tags(BlobTags::from(all).try_into()?, Some(options)).await }).await.map(drop)
    }
}

/// An entity tag as a condition wants it.
fn quoted(etag: &str) -> Etag {
    Etag::from(format!("\"{etag}\""))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "application/json",
        Some("csv") => "text/csv; charset=utf-8",
        _ => "application/octet-stream",
    }
}
