//! The import's two halves: a thread that parses and validates, and the async side that feeds it bytes and takes its batches. Both
//! channels are bounded, so that memory does not grow with the file.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{hex, too_large};
use crate::blob::Opened;
use crate::codec::content::{self, Content, Limits};
use crate::codec::csv;
use crate::domain::FacilityId;
use crate::domain::import::Import;
use crate::error::{Error, Result};
use crate::store::Batch;

/// Data rows of a batch.
const BATCH_ROWS: usize = 4_000;
/// Chunks of bytes, and batches, that wait between the halves.
const CHUNKS_WAITING: usize = 8;
const BATCHES_WAITING: usize = 2;

/// What is known once the whole file was read.
pub(super) struct Parsed {
    pub(super) sha256: String,
    pub(super) extra_columns: Vec<String>,
}

/// A file being parsed.
pub(super) struct Parsing {
    batches: mpsc::Receiver<Batch>,
    feeder: JoinHandle<()>,
    parser: JoinHandle<Result<Parsed>>,
    stream_error: StreamError,
}

/// The stream's own error, which must win over the parser's "unexpected end".
type StreamError = Arc<Mutex<Option<Error>>>;

/// Starts both halves after the entry's checkpoint.
pub(super) fn start(content: Opened, bytes_max: u64, facilities: Vec<FacilityId>, entry: &Import) -> Parsing {
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let (batch_sender, batches) = mpsc::channel(BATCHES_WAITING);
    let stream_error = StreamError::default();
    let feeder = tokio::spawn(feed(content, bytes_max, chunk_sender, Arc::clone(&stream_error)));
    let template = Batch {
        import: entry.id.clone(),
        attempt: entry.attempt,
        after: entry.checkpoint,
        encounters: Vec::new(),
        lines: Vec::new(),
        rejects: Vec::new(),
        rejected_rows: 0,
    };
    let bytes = Bytestream { chunks, current: Bytes::new(), digest: Sha256::new() };
    let parser = tokio::task::spawn_blocking(move || parse(bytes, Limits { bytes_max }, &facilities, template, &batch_sender));
    Parsing { batches, feeder, parser, stream_error }
}

impl Parsing {
    /// The next batch, in file order.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// How it ended, after the last batch.
    pub(super) async fn end(self) -> Result<Parsed> {
        let parsed = self.parser.await.map_err(|_| Error::internal("the parser stopped"))?;
        self.feeder.await.map_err(|_| Error::internal("the reader stopped"))?;
        match self.stream_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => parsed,
        }
    }
}

async fn feed(content: Opened, bytes_max: u64, sender: mpsc::Sender<io::Result<Bytes>>, stream_error: StreamError) {
    let mut chunks = content.chunks;
    let mut fed: u64 = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.and_then(|chunk| {
            fed += chunk.len() as u64;
            if fed > bytes_max { Err(too_large(bytes_max)) } else { Ok(chunk) }
        });
        let message = match chunk {
            Ok(chunk) => Ok(chunk),
            Err(error) => {
                *stream_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(io::Error::other("the file's stream failed"))
            }
        };
        let failed = message.is_err();
        // The parser is gone when the import was superseded or the file cannot be read.
        if sender.send(message).await.is_err() || failed {
            return;
        }
    }
}

fn parse(
    mut bytes: Bytestream,
    limits: Limits,
    facilities: &[FacilityId],
    template: Batch,
    sender: &mpsc::Sender<Batch>,
) -> Result<Parsed> {
    let extra_columns = content::unpacked(&mut bytes, limits, |content, text| match content {
        Content::Csv => rows(text, facilities, template, sender),
        Content::FhirNdjson | Content::FhirJson | Content::Hl7v2 => clinical(content),
    })?;
    Ok(Parsed { sha256: bytes.finish()?, extra_columns })
}

/// Sends the rows behind the checkpoint; answers the columns that the schema does not know.
fn rows(text: &mut dyn Read, facilities: &[FacilityId], template: Batch, sender: &mpsc::Sender<Batch>) -> Result<Vec<String>> {
    let mut reader = csv::Reader::new(text, facilities)?;
    let mut after = template.after;
    let skipped = reader.skip(after)?;
    if skipped < after {
        return Err(Error::internal("the file is shorter than its checkpoint"));
    }
    while let Some(rows) = reader.read_batch(BATCH_ROWS)? {
        let batch = Batch {
            after,
            encounters: rows.encounters,
            lines: rows.lines,
            rejects: rows.rejects,
            rejected_rows: rows.rejected_rows,
            ..template.clone()
        };
        after += rows.rows;
        if sender.blocking_send(batch).is_err() {
            return Err(Error::conflict("the import was given up"));
        }
    }
    Ok(reader.extra_columns().to_vec())
}

/// Files of messages and resources are known for what they are, and not read yet.
fn clinical(content: Content) -> Result<Vec<String>> {
    let what = match content {
        Content::FhirNdjson => "FHIR resources, one a line",
        Content::FhirJson => "a FHIR resource",
        _ => "HL7 v2 messages",
    };
    Err(Error::invalid(format!("the file holds {what}: bulk import reads CSV; send admissions to PatientAdmissionFunc")))
}

/// The file as the parser reads it; counts the digest on the way.
struct Bytestream {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    digest: Sha256,
}

impl Bytestream {
    /// Reads what the parser left and gives the digest of the whole file.
    fn finish(mut self) -> Result<String> {
        io::copy(&mut self, &mut io::sink())
            .map_err(|cause| Error::unavailable("the file's end cannot be read").caused_by(cause))?;
        Ok(hex(&self.digest.finalize()))
    }
}

impl Read for Bytestream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => {
                    self.current = chunk?;
                    self.digest.update(&self.current);
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
