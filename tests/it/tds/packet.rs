//! Messages, cut into packets.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const BATCH: u8 = 1;
pub(super) const CALL: u8 = 3;
const ANSWER: u8 = 4;
pub(super) const ATTENTION: u8 = 6;
pub(super) const BULK: u8 = 7;
pub(super) const TRANSACTION: u8 = 14;
pub(super) const LOGIN: u8 = 16;
pub(super) const PRELOGIN: u8 = 18;

const HEADER: usize = 8;
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A message of a client.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) bytes: Vec<u8>,
}

/// Reads a whole message. Its packets must be as large as was agreed.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin), size: usize) -> io::Result<Message> {
    let mut bytes = Vec::new();
    loop {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let [kind, status, high, low, ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let last = status & 1 == 1;
        if length < HEADER || length > size || !last && length != size {
            return Err(io::Error::other(format!("a packet of {length} bytes where {size} were agreed")));
        }
        if status & !1 != 0 {
            return Err(io::Error::other(format!("a packet of status {status:#04x}")));
        }
        let at = bytes.len();
        bytes.resize(at + length - HEADER, 0);
        from.read_exact(&mut bytes[at..]).await?;
        if last {
            return Ok(Message { kind, bytes });
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("a message beyond all measure"));
        }
    }
}

/// Sends a message as packets of `size` bytes.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), size: usize, session: u64, bytes: &[u8]) -> io::Result<()> {
    send_as(to, ANSWER, size, session, bytes).await
}

async fn send_as(to: &mut (impl AsyncWrite + Unpin), kind: u8, size: usize, session: u64, bytes: &[u8]) -> io::Result<()> {
    let count = bytes.chunks(size - HEADER).len();
    for (place, chunk) in bytes.chunks(size - HEADER).enumerate() {
        let length = ((chunk.len() + HEADER) as u16).to_be_bytes();
        let session = (session as u16).to_be_bytes();
        let number = (place + 1) as u8;
        to.write_all(&[kind, u8::from(place + 1 == count), length[0], length[1], session[0], session[1], number, 0]).await?;
        to.write_all(chunk).await?;
    }
    to.flush().await
}
