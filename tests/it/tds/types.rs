//! The types that this server knows: their names in T-SQL, their form in SQLite, their form on the wire.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use rusqlite::types::Value;

use super::error::{Outcome, SqlError, strict};

/// A T-SQL type. `Null`, `Decimal` and `DateTime2` exist inside expressions only: a column of a result must be CAST out of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    /// Length in UTF-16 units; none is `max`.
    Text(Option<u16>),
    Date,
    Instant,
    Binary(Option<u16>),
    Null,
    Decimal,
    DateTime2,
    Variant,
}

/// What can be compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Number,
    Text,
    Date,
    Instant,
    Binary,
    Null,
    Variant,
}

impl Type {
    /// Reads a type's name as T-SQL writes it.
    pub(super) fn parse(name: &str) -> Outcome<Self> {
        let name = name.to_ascii_lowercase().replace(' ', "");
        let (base, size) = match name.strip_suffix(')').and_then(|name| name.split_once('(')) {
            Some((base, size)) => (base, Some(size)),
            None => (name.as_str(), None),
        };
        let limit = |most: u16| -> Outcome<Option<u16>> {
            match size {
                Some("max") => Ok(None),
                Some(size) => match size.parse::<u16>() {
                    Ok(size) if (1..=most).contains(&size) => Ok(Some(size)),
                    _ => Err(SqlError::new(131, 15, format!("The size given to the type '{name}' exceeds the maximum allowed."))),
                },
                None => Err(strict(format!("the type {name} needs a length"))),
            }
        };
        Ok(match (base, size) {
            ("bit", None) => Self::Bit,
            ("tinyint", None) => Self::TinyInt,
            ("smallint", None) => Self::SmallInt,
            ("int" | "integer", None) => Self::Int,
            ("bigint", None) => Self::BigInt,
            ("float", None | Some("53")) => Self::Float,
            ("nvarchar", _) => Self::Text(limit(4000)?),
            ("varbinary", _) => Self::Binary(limit(8000)?),
            ("date", None) => Self::Date,
            ("datetimeoffset", None | Some("7")) => Self::Instant,
            _ => return Err(strict(format!("the type {name} is not understood"))),
        })
    }

    /// Its name as [`Type::parse`] reads it.
    pub(super) fn name(self) -> String {
        let sized = |base: &str, size: Option<u16>| size.map_or(format!("{base}(max)"), |size| format!("{base}({size})"));
        match self {
            Self::Bit => "bit".into(),
            Self::TinyInt => "tinyint".into(),
            Self::SmallInt => "smallint".into(),
            Self::Int => "int".into(),
            Self::BigInt => "bigint".into(),
            Self::Float => "float".into(),
            Self::Text(size) => sized("nvarchar", size),
            Self::Date => "date".into(),
            Self::Instant => "datetimeoffset".into(),
            Self::Binary(size) => sized("varbinary", size),
            Self::Null => "NULL".into(),
            Self::Decimal => "decimal".into(),
            Self::DateTime2 => "datetime2".into(),
            Self::Variant => "sql_variant".into(),
        }
    }

    /// The SQLite column type. Never `INTEGER`: SQLite would make a primary key of that type number itself.
    pub(super) fn storage(self) -> &'static str {
        match self {
            Self::Float => "REAL",
            Self::Text(_) | Self::Date | Self::Instant => "TEXT",
            Self::Binary(_) => "BLOB",
            _ => "INT",
        }
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::Text(_) => Family::Text,
            Self::Date => Family::Date,
            Self::Instant | Self::DateTime2 => Family::Instant,
            Self::Binary(_) => Family::Binary,
            Self::Null => Family::Null,
            Self::Variant => Family::Variant,
            _ => Family::Number,
        }
    }

    /// Smallest and largest whole number, if it holds whole numbers.
    pub(super) fn range(self) -> Option<(i64, i64)> {
        match self {
            Self::Bit => Some((0, 1)),
            Self::TinyInt => Some((0, 255)),
            Self::SmallInt => Some((i16::MIN.into(), i16::MAX.into())),
            Self::Int => Some((i32::MIN.into(), i32::MAX.into())),
            Self::BigInt => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }

    /// Writes TYPE_INFO of a result's column. SQL Server uses the types of fixed length where there is never a NULL.
    pub(super) fn write_info(self, fixed: bool, binary_order: bool, to: &mut Vec<u8>) -> Outcome<()> {
        let length = |size: Option<u16>, unit: u16| size.map_or(0xffff, |size| size * unit).to_le_bytes();
        match (self, fixed) {
            (Self::Bit, true) => to.push(0x32),
            (Self::TinyInt, true) => to.push(0x30),
            (Self::SmallInt, true) => to.push(0x34),
            (Self::Int, true) => to.push(0x38),
            (Self::BigInt, true) => to.push(0x7f),
            (Self::Float, true) => to.push(0x3e),
            (Self::Bit, false) => to.extend([0x68, 1]),
            (Self::TinyInt, false) => to.extend([0x26, 1]),
            (Self::SmallInt, false) => to.extend([0x26, 2]),
            (Self::Int, false) => to.extend([0x26, 4]),
            (Self::BigInt, false) => to.extend([0x26, 8]),
            (Self::Float, false) => to.extend([0x6d, 8]),
            (Self::Date, _) => to.push(0x28),
            (Self::Instant, _) => to.extend([0x2b, 7]),
            (Self::Binary(size), _) => {
                to.push(0xa5);
                to.extend(length(size, 1));
            }
            (Self::Text(size), _) => {
                to.push(0xe7);
                to.extend(length(size, 2));
                let flags: u32 = if binary_order { 0x0200_0409 } else { 0x00d0_0409 };
                to.extend(flags.to_le_bytes());
                to.push(if binary_order { 0 } else { 52 });
            }
            (other, _) => return Err(strict(format!("untyped expression ({}) in a result: CAST it", other.name()))),
        }
        Ok(())
    }

    /// Writes a value of a ROW.
    pub(super) fn write(self, fixed: bool, value: &Value, to: &mut Vec<u8>) -> Outcome<()> {
        let wrong = || strict(format!("the storage holds something that is no {}", self.name()));
        match (self, value) {
            (Self::Text(None) | Self::Binary(None), Value::Null) => to.extend([0xff; 8]),
            (Self::Text(_) | Self::Binary(_), Value::Null) => to.extend([0xff; 2]),
            (_, Value::Null) if !fixed => to.push(0),
            (_, Value::Integer(number)) => {
                let (low, high) = self.range().ok_or_else(wrong)?;
                if !(low..=high).contains(number) {
                    return Err(SqlError::new(8115, 16, format!("Arithmetic overflow error converting to {}.", self.name())));
                }
                let width = match self {
                    Self::Bit | Self::TinyInt => 1,
                    Self::SmallInt => 2,
                    Self::Int => 4,
                    _ => 8,
                };
                if !fixed {
                    to.push(width as u8);
                }
                to.extend(&number.to_le_bytes()[..width]);
            }
            (Self::Float, Value::Real(number)) => {
                if !fixed {
                    to.push(8);
                }
                to.extend(number.to_le_bytes());
            }
            (Self::Text(size), Value::Text(text)) => {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                write_sized(size.map(|size| usize::from(size) * 2), &bytes, to)?;
            }
            (Self::Binary(size), Value::Blob(bytes)) => write_sized(size.map(usize::from), bytes, to)?,
            (Self::Date, Value::Text(text)) => {
                to.push(3);
                to.extend(&day_number(text).ok_or_else(wrong)?.to_le_bytes()[..3]);
            }
            (Self::Instant, Value::Text(text)) => {
                let at = parse_instant(text).ok_or_else(wrong)?;
                let ticks = u64::from(at.num_seconds_from_midnight()) * 10_000_000 + u64::from(at.nanosecond() / 100);
                to.push(10);
                to.extend(&ticks.to_le_bytes()[..5]);
                to.extend(&((at.date_naive().num_days_from_ce() - 1) as u32).to_le_bytes()[..3]);
                to.extend(0_i16.to_le_bytes());
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

fn write_sized(most: Option<usize>, bytes: &[u8], to: &mut Vec<u8>) -> Outcome<()> {
    match most {
        Some(most) if bytes.len() > most => return Err(strict("a value is longer than its column's type")),
        Some(_) => to.extend((bytes.len() as u16).to_le_bytes()),
        None => {
            to.extend((bytes.len() as u64).to_le_bytes());
            // Chunks of an odd size, so that a client that takes the first chunk for the whole is found out.
            for chunk in bytes.chunks(4001) {
                to.extend((chunk.len() as u32).to_le_bytes());
                to.extend(chunk);
            }
            to.extend(0_u32.to_le_bytes());
            return Ok(());
        }
    }
    to.extend(bytes);
    Ok(())
}

/// Bytes that a client sent, read from the front.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Outcome<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| strict("a message ends too soon"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Outcome<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `width` bytes.
    pub(super) fn number(&mut self, width: usize) -> Outcome<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    pub(super) fn text(&mut self, units: usize) -> Outcome<String> {
        utf16(self.take(units * 2)?)
    }

    /// A value whose length is told in chunks (PLP); none is NULL.
    fn chunks(&mut self) -> Outcome<Option<Vec<u8>>> {
        let total = self.number(8)?;
        if total == u64::MAX {
            return Ok(None);
        }
        let mut whole = Vec::new();
        loop {
            match self.number(4)? {
                0 => break,
                size => whole.extend(self.take(size as usize)?),
            }
        }
        if total != u64::MAX - 1 && total != whole.len() as u64 {
            return Err(strict("a chunked value is not as long as it says"));
        }
        Ok(Some(whole))
    }
}

/// UTF-16 text off the wire.
pub(super) fn utf16(bytes: &[u8]) -> Outcome<String> {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&units).map_err(|_| strict("text is not UTF-16"))
}

/// TYPE_INFO of a parameter or of a bulk column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WireType {
    pub(super) kind: Type,
    /// Values come without a length.
    fixed: Option<usize>,
}

impl WireType {
    pub(super) fn read(from: &mut Reader<'_>) -> Outcome<Self> {
        let code = from.u8()?;
        let fixed = |kind, width| Ok(Self { kind, fixed: Some(width) });
        let kind = match code {
            0x1f => return Err(strict("Data type 0x1F is unknown (a NULL parameter without a type; the open server refuses it)")),
            0x30 => return fixed(Type::TinyInt, 1),
            0x32 => return fixed(Type::Bit, 1),
            0x34 => return fixed(Type::SmallInt, 2),
            0x38 => return fixed(Type::Int, 4),
            0x3e => return fixed(Type::Float, 8),
            0x7f => return fixed(Type::BigInt, 8),
            0x26 => match from.u8()? {
                1 => Type::TinyInt,
                2 => Type::SmallInt,
                4 => Type::Int,
                8 => Type::BigInt,
                width => return Err(strict(format!("INTN of {width} bytes"))),
            },
            0x68 if from.u8()? == 1 => Type::Bit,
            0x6d if from.u8()? == 8 => Type::Float,
            0x28 => Type::Date,
            0x2b if from.u8()? == 7 => Type::Instant,
            0xe7 => {
                let size = from.number(2)? as u16;
                from.take(5)?;
                Type::Text((size != 0xffff).then_some(size / 2))
            }
            0xa5 => {
                let size = from.number(2)? as u16;
                Type::Binary((size != 0xffff).then_some(size))
            }
            _ => return Err(strict(format!("data type {code:#04x} (or its size or scale) is not understood"))),
        };
        Ok(Self { kind, fixed: None })
    }

    pub(super) fn read_value(self, from: &mut Reader<'_>) -> Outcome<Value> {
        match self.kind {
            Type::Text(size) => {
                let bytes = Self::read_sized(size.is_none(), from)?;
                Ok(match bytes {
                    Some(bytes) => Value::Text(utf16(&bytes)?),
                    None => Value::Null,
                })
            }
            Type::Binary(size) => Ok(Self::read_sized(size.is_none(), from)?.map_or(Value::Null, Value::Blob)),
            kind => {
                let width = match self.fixed {
                    Some(width) => width,
                    None => usize::from(from.u8()?),
                };
                if width == 0 { Ok(Value::Null) } else { read_short(kind, from.take(width)?) }
            }
        }
    }

    fn read_sized(chunked: bool, from: &mut Reader<'_>) -> Outcome<Option<Vec<u8>>> {
        if chunked {
            return from.chunks();
        }
        match from.number(2)? {
            0xffff => Ok(None),
            size => Ok(Some(from.take(size as usize)?.to_vec())),
        }
    }
}

fn read_short(kind: Type, bytes: &[u8]) -> Outcome<Value> {
    let wrong = || strict(format!("a value is no {}", kind.name()));
    let mut from = Reader::new(bytes);
    let value = match (kind, bytes.len()) {
        (Type::Bit | Type::TinyInt, 1) => Value::Integer(from.number(1)? as i64),
        (Type::SmallInt, 2) => Value::Integer((from.number(2)? as i16).into()),
        (Type::Int, 4) => Value::Integer((from.number(4)? as i32).into()),
        (Type::BigInt, 8) => Value::Integer(from.number(8)? as i64),
        (Type::Float, 8) => Value::Real(f64::from_bits(from.number(8)?)),
        (Type::Date, 3) => Value::Text(day_text(from.number(3)?).ok_or_else(wrong)?),
        (Type::Instant, 10) => {
            let ticks = from.number(5)?;
            let day = day(from.number(3)?).ok_or_else(wrong)?;
            if from.number(2)? != 0 {
                return Err(strict("a datetimeoffset that is not UTC: this server keeps no offsets"));
            }
            let nanos = i64::try_from(ticks * 100).map_err(|_| wrong())?;
            let at =
                day.and_hms_opt(0, 0, 0).and_then(|at| at.checked_add_signed(TimeDelta::nanoseconds(nanos))).ok_or_else(wrong)?;
            Value::Text(instant_text(at.and_utc()))
        }
        _ => return Err(wrong()),
    };
    if let Value::Real(number) = value
        && !number.is_finite()
    {
        return Err(SqlError::new(8023, 16, "The supplied value is not a valid instance of data type float."));
    }
    Ok(value)
}

fn day(number: u64) -> Option<NaiveDate> {
    let day = NaiveDate::from_ymd_opt(1, 1, 1)?.checked_add_days(Days::new(number))?;
    (day.year() <= 9999).then_some(day)
}

fn day_text(number: u64) -> Option<String> {
    day(number).map(|day| day.format("%Y-%m-%d").to_string())
}

/// Days since 0001-01-01 of a day, or of the day of an instant, as stored.
pub(super) fn day_number(text: &str) -> Option<u32> {
    let day = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
    u32::try_from(day.num_days_from_ce() - 1).ok()
}

/// An instant as it is stored: fixed width, so that texts compare as instants do.
pub(super) fn instant_text(at: DateTime<Utc>) -> String {
    format!("{}.{:07}Z", at.format("%Y-%m-%dT%H:%M:%S"), at.nanosecond() / 100)
}

/// Reads a stored instant.
pub(super) fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    Some(NaiveDateTime::parse_from_str(text.strip_suffix('Z')?, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc())
}
