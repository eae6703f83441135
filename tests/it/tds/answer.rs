//! What the server sends: tokens, put together into one message.

use rusqlite::types::Value;

use super::catalogue::Collation;
use super::error::{Outcome, SqlError};
use super::query::Output;

const MORE: u16 = 0x01;
const FAILED: u16 = 0x02;
const COUNT: u16 = 0x10;
const ATTENTION: u16 = 0x20;

/// A message to the client.
pub(super) struct Answer {
    bytes: Vec<u8>,
    /// Where the last token begins, if it is a DONE.
    last_done: Option<usize>,
    /// To a procedure call rather than a batch?
    call: bool,
    failed: bool,
}

/// A change of the session's environment.
pub(super) enum Change<'c> {
    /// The collation, which some clients wait for.
    Collation,
    Database(&'c str),
    PacketSize(usize),
    Begun(u64),
    Committed(u64),
    RolledBack(u64),
    Routing(&'c str, u16),
}

impl Answer {
    pub(super) fn new(call: bool) -> Self {
        Self { bytes: Vec::new(), last_done: None, call, failed: false }
    }

    /// Describes the columns of the rows that follow. `fixed` types where there is never a NULL, as SQL Server has it.
    pub(super) fn columns(&mut self, columns: &[Output], fixed: bool) -> Outcome<()> {
        let mut token = vec![0x81];
        token.extend((columns.len() as u16).to_le_bytes());
        for Output { column, plain, .. } in columns {
            token.extend(0_u32.to_le_bytes());
            // Nullable; of unknown updateability (0x08) if it is a table's column, an identity or computed.
            let flags = u16::from(column.nullable)
                | match (plain, column.identity) {
                    (_, true) => 0x10,
                    (true, false) => 0x08,
                    (false, false) => 0x20,
                };
            token.extend(flags.to_le_bytes());
            column.kind.write_info(fixed && !column.nullable, column.collation == Collation::Binary, &mut token)?;
            short_text(&column.name, &mut token);
        }
        self.push(&token);
        Ok(())
    }

    pub(super) fn row(&mut self, columns: &[Output], values: &[Value], fixed: bool) -> Outcome<()> {
        let mut token = vec![0xd1];
        for (Output { column, .. }, value) in columns.iter().zip(values) {
            column.kind.write(fixed && !column.nullable, value, &mut token)?;
        }
        self.push(&token);
        Ok(())
    }

    /// Ends a statement.
    pub(super) fn done(&mut self, count: Option<u64>) {
        let status = MORE | if count.is_some() { COUNT } else { 0 };
        self.push_done(if self.call { 0xff } else { 0xfd }, status, count.unwrap_or(0));
    }

    pub(super) fn error(&mut self, error: &SqlError) {
        let mut body = error.number.to_le_bytes().to_vec();
        body.extend([error.state, error.class]);
        let units: Vec<u16> = error.message.encode_utf16().take(4000).collect();
        body.extend((units.len() as u16).to_le_bytes());
        body.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        short_text("test", &mut body);
        short_text("", &mut body);
        body.extend(1_u32.to_le_bytes());
        self.push_sized(0xaa, &body);
        self.failed = true;
        self.push_done(if self.call { 0xff } else { 0xfd }, MORE | FAILED, 0);
    }

    pub(super) fn change(&mut self, change: &Change<'_>) {
        let texts = |kind: u8, new: &str, old: &str| {
            let mut body = vec![kind];
            short_text(new, &mut body);
            short_text(old, &mut body);
            body
        };
        let body = match change {
            Change::Database(name) => texts(1, name, "master"),
            // SQL_Latin1_General_CP1_CI_AS, as SQL Server writes it.
            Change::Collation => vec![7, 5, 0x09, 0x04, 0xd0, 0x00, 0x34, 0],
            Change::PacketSize(size) => texts(4, &size.to_string(), "4096"),
            Change::Begun(id) => [&[8, 8][..], &id.to_le_bytes(), &[0]].concat(),
            Change::Committed(id) => [&[9, 0, 8][..], &id.to_le_bytes()].concat(),
            Change::RolledBack(id) => [&[10, 0, 8][..], &id.to_le_bytes()].concat(),
            Change::Routing(host, port) => {
                let name: Vec<u8> = host.encode_utf16().flat_map(u16::to_le_bytes).collect();
                let mut body = vec![20];
                body.extend((5 + name.len() as u16).to_le_bytes());
                body.push(0);
                body.extend(port.to_le_bytes());
                body.extend((host.encode_utf16().count() as u16).to_le_bytes());
                body.extend(name);
                body.extend(0_u16.to_le_bytes());
                body
            }
        };
        self.push_sized(0xe3, &body);
    }

    pub(super) fn login_accepted(&mut self, token_login: bool) {
        let mut body = vec![1, 0x74, 0, 0, 4];
        short_text("hdai test server", &mut body);
        body.extend([16, 0, 0, 0]);
        self.push_sized(0xad, &body);
        if token_login {
            self.push(&[0xae, 2, 0, 0, 0, 0, 0xff]);
        }
    }

    /// The message as it goes onto the wire.
    pub(super) fn finish(mut self, status: i32) -> Vec<u8> {
        if self.call {
            let mut token = vec![0x79];
            token.extend(status.to_le_bytes());
            self.push(&token);
            self.push_done(0xfe, if self.failed { FAILED } else { 0 }, 0);
            return self.bytes;
        }
        match self.last_done {
            Some(at) => self.bytes[at + 1] &= !(MORE as u8),
            None => self.push_done(0xfd, 0, 0),
        }
        self.bytes
    }

    /// The message that acknowledges an attention.
    pub(super) fn attention() -> Vec<u8> {
        let mut answer = Self::new(false);
        answer.push_done(0xfd, ATTENTION, 0);
        answer.bytes
    }

    fn push(&mut self, token: &[u8]) {
        self.bytes.extend(token);
        self.last_done = None;
    }

    fn push_sized(&mut self, kind: u8, body: &[u8]) {
        self.push(&[&[kind][..], &(body.len() as u16).to_le_bytes(), body].concat());
    }

    fn push_done(&mut self, kind: u8, status: u16, count: u64) {
        let at = self.bytes.len();
        let mut token = vec![kind];
        token.extend(status.to_le_bytes());
        token.extend(0_u16.to_le_bytes());
        token.extend(count.to_le_bytes());
        self.push(&token);
        self.last_done = Some(at);
    }
}

fn short_text(text: &str, to: &mut Vec<u8>) {
    to.push(text.encode_utf16().count() as u8);
    to.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
}
