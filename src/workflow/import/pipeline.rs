//! The import's two halves: a thread that parses and validates, and the async side that feeds it bytes and takes its batches. Both
//! channels are bounded, so that memory does not grow with the file.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::{hex, too_large};
use crate::blob::Opened;
use crate::codec::content::{self, Content, Limits};
use crate::codec::csv;
use crate::domain::FacilityId;
use crate::domain::import::{LineSpan, Plan};
use crate::error::{Error, Result};
use crate::store::Batch;

/// Data rows of a batch.
const BATCH_ROWS: usize = 4_000;
/// Chunks of bytes, and batches, that wait between the halves.
const CHUNKS_WAITING: usize = 8;
const BATCHES_WAITING: usize = 2;

/// A stream of bytes.
pub(super) type Chunks = BoxStream<'static, Result<Bytes>>;

/// What of a file a stream holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch {
    /// All of it.
    File,
    /// Its header, and the rows from this line on.
    RowsFrom(u64),
}

/// What is known once the whole stretch was read.
pub(super) struct Parsed {
    /// Of the bytes that were read.
    pub(super) sha256: String,
    pub(super) extra_columns: Vec<String>,
    pub(super) lines: Option<LineSpan>,
    /// Data rows, those before the checkpoint included.
    pub(super) rows: u64,
}

/// A file being parsed.
pub(super) struct Parsing {
    batches: mpsc::Receiver<Batch>,
    reading: Reading<Parsed>,
}

/// Starts both halves after the checkpoint of `template`, which the batches are made like.
pub(super) fn start(chunks: Chunks, bytes_max: u64, stretch: Stretch, facilities: Vec<FacilityId>, template: Batch) -> Parsing {
    let (sender, batches) = mpsc::channel(BATCHES_WAITING);
    let reading = Reading::start(chunks, bytes_max, move |mut bytes| {
        let mut parsed = match stretch {
            Stretch::File => content::unpacked(&mut bytes, Limits { bytes_max }, |content, text| match content {
                Content::Csv => rows(csv::Reader::new(text, &facilities)?, template, &sender),
                Content::FhirNdjson | Content::FhirJson | Content::Hl7v2 => clinical(content),
            })?,
            Stretch::RowsFrom(line) => rows(csv::Reader::further_down(&mut bytes, line, &facilities)?, template, &sender)?,
        };
        parsed.sha256 = bytes.finish()?;
        Ok(parsed)
    });
    Parsing { batches, reading }
}

/// Reads a CSV file once and says where it can be cut, in at most `parts_max` parts.
pub(super) async fn split(chunks: Chunks, bytes_max: u64, part_bytes: u64, parts_max: usize) -> Result<Plan> {
    let reading = Reading::start(chunks, bytes_max, move |mut bytes| {
        let csv::Split { header, parts, lines, extra_columns } = csv::split(&mut bytes, part_bytes, parts_max)?;
        Ok(Plan { sha256: bytes.finish()?, extra_columns, lines, header, parts })
    });
    reading.end().await
}

/// The first bytes of a file, and the file with them.
pub(super) async fn peek(mut content: Opened) -> Result<(Bytes, Opened)> {
    let mut head = BytesMut::new();
    while head.len() < content::HEAD_BYTES {
        let Some(chunk) = content.chunks.try_next().await? else { break };
        head.extend_from_slice(&chunk);
    }
    let head = head.freeze();
    content.chunks = stream::iter([Ok(head.clone())]).chain(content.chunks).boxed();
    Ok((head.slice(..head.len().min(content::HEAD_BYTES)), content))
}

impl Parsing {
    /// The next batch, in file order.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// How it ended, after the last batch.
    pub(super) async fn end(self) -> Result<Parsed> {
        self.reading.end().await
    }
}

/// Bytes on their way into work that blocks. Dropped, it stops at the next chunk.
struct Reading<T> {
    feeder: JoinSet<()>,
    worker: JoinHandle<Result<T>>,
    stream_error: StreamError,
}

/// The stream's own error, which must win over the worker's "unexpected end".
type StreamError = Arc<Mutex<Option<Error>>>;

impl<T: Send + 'static> Reading<T> {
    fn start(chunks: Chunks, bytes_max: u64, work: impl FnOnce(Bytestream) -> Result<T> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let stream_error = StreamError::default();
        let mut feeder = JoinSet::new();
        feeder.spawn(feed(chunks, bytes_max, sender, Arc::clone(&stream_error)));
        let bytes = Bytestream { chunks: receiver, current: Bytes::new(), digest: Sha256::new() };
        Self { feeder, worker: tokio::task::spawn_blocking(move || work(bytes)), stream_error }
    }

    async fn end(mut self) -> Result<T> {
        let done = (&mut self.worker).await.map_err(|_| Error::internal("the parser stopped"))?;
        while let Some(fed) = self.feeder.join_next().await {
            fed.map_err(|_| Error::internal("the reader stopped"))?;
        }
        match self.stream_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => done,
        }
    }
}

async fn feed(mut chunks: Chunks, bytes_max: u64, sender: mpsc::Sender<io::Result<Bytes>>, stream_error: StreamError) {
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

/// Sends the rows behind the checkpoint.
fn rows(mut reader: csv::Reader<impl Read>, template: Batch, sender: &mpsc::Sender<Batch>) -> Result<Parsed> {
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
    let extra_columns = reader.extra_columns().to_vec();
    Ok(Parsed { sha256: String::new(), extra_columns, lines: reader.lines(), rows: after })
}

/// Files of messages and resources are known for what they are, and not read yet.
fn clinical(content: Content) -> Result<Parsed> {
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
