//! Requests, read off the wire: batches, procedure calls, transaction requests.

use rusqlite::types::Value;

use super::error::{Outcome, strict};
use super::packet;
use super::scalar::Variables;
use super::statement::parse_parameters;
use super::types::{Reader, WireType, utf16};

/// What a client asks for.
pub(super) enum Request {
    Batch(String),
    /// `sp_executesql`.
    Execute {
        sql: String,
        parameters: Variables,
    },
    /// Another procedure, with named parameters.
    Procedure {
        name: String,
        arguments: Vec<(String, Value)>,
    },
    Begin,
    Commit,
    RollBack,
    Bulk(Vec<u8>),
}

impl Request {
    pub(super) fn parse(kind: u8, bytes: &[u8]) -> Outcome<Self> {
        if kind == packet::BULK {
            return Ok(Self::Bulk(bytes.to_vec()));
        }
        let mut from = Reader::new(bytes);
        let headers = from.number(4)? as usize;
        from.take(headers.checked_sub(4).ok_or_else(|| strict("ALL_HEADERS"))?)?;
        match kind {
            packet::BATCH => Ok(Self::Batch(utf16(&bytes[headers..])?)),
            packet::CALL => Self::call(&mut from),
            packet::TRANSACTION => {
                let what = from.number(2)?;
                match (what, from.u8()?) {
                    // An isolation level: the server's own, or READ COMMITTED.
                    (5, 0 | 2) => Ok(Self::Begin),
                    (7, 0) => Ok(Self::Commit),
                    (8, 0) => Ok(Self::RollBack),
                    (what, detail) => Err(strict(format!("the transaction request {what} (with {detail})"))),
                }
            }
            other => Err(strict(format!("a message of type {other:#04x}"))),
        }
    }

    fn call(from: &mut Reader<'_>) -> Outcome<Self> {
        let name = match from.number(2)? {
            0xffff if from.number(2)? == 10 => "sp_executesql".to_owned(),
            0xffff => return Err(strict("a procedure by number other than sp_executesql")),
            units => from.text(units as usize)?,
        };
        if from.number(2)? != 0 {
            return Err(strict("options of a procedure call"));
        }
        let mut arguments = Vec::new();
        while !from.is_empty() {
            let units = usize::from(from.u8()?);
            let name = from.text(units)?.to_ascii_lowercase();
            if from.u8()? != 0 {
                return Err(strict("an OUTPUT or DEFAULT parameter"));
            }
            let kind = WireType::read(from)?;
            arguments.push((name, kind, kind.read_value(from)?));
        }
        if !name.eq_ignore_ascii_case("sp_executesql") {
            let arguments = arguments.into_iter().map(|(name, _, value)| (name, value)).collect();
            return Ok(Self::Procedure { name, arguments });
        }
        let mut arguments = arguments.into_iter();
        let mut text = || match arguments.next() {
            Some((_, _, Value::Text(text))) => Ok(text),
            _ => Err(strict("sp_executesql without its texts")),
        };
        let (sql, declared) = (text()?, parse_parameters(&text()?)?);
        let mut parameters = Variables::new();
        for (declared, given) in declared.iter().map(Some).chain(std::iter::repeat(None)).zip(arguments.by_ref().map(Some)) {
            match (declared, given) {
                (Some((name, kind)), Some((own, wire, value))) if name.eq_ignore_ascii_case(&own) => {
                    if kind.family() != wire.kind.family() {
                        return Err(strict(format!("the parameter {name} is declared as another type than it is sent")));
                    }
                    parameters.insert(name.to_ascii_lowercase(), (*kind, value));
                }
                _ => return Err(strict("the parameters are not those that are declared")),
            }
        }
        if parameters.len() != declared.len() {
            return Err(strict("fewer parameters than are declared"));
        }
        Ok(Self::Execute { sql, parameters })
    }

    /// Its text, for faults and for the list of statements.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Batch(sql) | Self::Execute { sql, .. } => sql,
            Self::Procedure { name, .. } => name,
            Self::Begin => super::control::BEGIN,
            Self::Commit => super::control::COMMIT,
            Self::RollBack => super::control::ROLLBACK,
            Self::Bulk(_) => super::control::BULK_ROWS,
        }
    }

    /// Is it answered as a procedure is?
    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Execute { .. } | Self::Procedure { .. })
    }
}
