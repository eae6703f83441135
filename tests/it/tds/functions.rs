//! What T-SQL does and SQLite does otherwise, as functions and collations of SQLite: conversions that fail, arithmetic that overflows,
//! text that compares without case and trailing blanks.

use std::cmp::Ordering;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};

use super::error::{Outcome, SqlError, strict, through_sqlite};
use super::types::{Type, day_number, instant_text, parse_instant};

/// The default collation: no case, no trailing blanks. It sorts by code point where SQL Server sorts by language.
pub(super) const ANY_CASE: &str = "TDS_CI";
/// `Latin1_General_BIN2`: exact, but as everywhere in SQL Server trailing blanks do not count.
pub(super) const BINARY: &str = "TDS_BIN2";

/// Teaches `connection` all of it.
pub(super) fn register(connection: &Connection) -> Result<()> {
    connection.create_collation(ANY_CASE, compare_any_case)?;
    connection.create_collation(BINARY, compare_binary)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let define = |name: &str, count: i32, body: fn(&Context<'_>) -> Outcome<Value>| {
        connection.create_scalar_function(name, count, flags, move |context| body(context).map_err(|error| through_sqlite(&error)))
    };
    define("tds_convert", 4, |c| convert(&value(c, 0)?, kind(c, 1)?, kind(c, 2)?, text(c, 3)?.as_deref()))?;
    define("tds_arithmetic", 4, |c| arithmetic(&text(c, 0)?.unwrap_or_default(), &value(c, 1)?, &value(c, 2)?, kind(c, 3)?))?;
    define("tds_len", 1, |c| on_text(c, |text| Value::Integer(units(text.trim_end_matches(' ')) as i64)))?;
    define("tds_text_bytes", 1, |c| on_text(c, |text| Value::Integer(2 * units(text) as i64)))?;
    define("tds_lower", 1, |c| on_text(c, |text| Value::Text(text.to_lowercase())))?;
    define("tds_upper", 1, |c| on_text(c, |text| Value::Text(text.to_uppercase())))?;
    define("tds_substring", 3, |c| substring(text(c, 0)?, integer(c, 1)?, integer(c, 2)?))?;
    define("tds_like", 4, |c| like(text(c, 0)?, text(c, 1)?, text(c, 2)?, integer(c, 3)? == Some(1)))?;
    define("tds_datediff", 3, |c| datediff(&text(c, 0)?.unwrap_or_default(), text(c, 1)?, text(c, 2)?))?;
    define("tds_rows", 2, |c| rows(integer(c, 0)?, integer(c, 1)?.unwrap_or(0)))?;
    define("tds_finite", 1, |c| match value(c, 0)? {
        Value::Real(number) if !number.is_finite() => Err(overflow(Type::Float)),
        other => Ok(other),
    })?;
    connection.create_scalar_function("tds_newid", 0, FunctionFlags::SQLITE_UTF8, |_| {
        Ok(uuid::Uuid::new_v4().to_string().to_uppercase())
    })?;
    connection.create_scalar_function("tds_now", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(instant_text(now())))
}

fn now() -> chrono::DateTime<chrono::Utc> {
    #[allow(clippy::disallowed_methods)]
    std::time::SystemTime::now().into()
}

fn value(context: &Context<'_>, place: usize) -> Outcome<Value> {
    context.get(place).map_err(inner)
}

fn text(context: &Context<'_>, place: usize) -> Outcome<Option<String>> {
    context.get(place).map_err(inner)
}

fn integer(context: &Context<'_>, place: usize) -> Outcome<Option<i64>> {
    context.get(place).map_err(inner)
}

fn kind(context: &Context<'_>, place: usize) -> Outcome<Type> {
    match context.get_raw(place) {
        ValueRef::Text(b"decimal") => Ok(Type::Decimal),
        ValueRef::Text(b"datetime2") => Ok(Type::DateTime2),
        _ => Type::parse(&text(context, place)?.unwrap_or_default()),
    }
}

fn inner(error: Error) -> SqlError {
    strict(format!("a function of the storage was called wrongly: {error}"))
}

fn on_text(context: &Context<'_>, then: impl FnOnce(&str) -> Value) -> Outcome<Value> {
    Ok(text(context, 0)?.map_or(Value::Null, |text| then(&text)))
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn compare_any_case(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_end_matches(' '), b.trim_end_matches(' '));
    a.chars().flat_map(char::to_lowercase).cmp(b.chars().flat_map(char::to_lowercase))
}

fn compare_binary(a: &str, b: &str) -> Ordering {
    a.trim_end_matches(' ').encode_utf16().cmp(b.trim_end_matches(' ').encode_utf16())
}

fn overflow(to: Type) -> SqlError {
    SqlError::new(8115, 16, format!("Arithmetic overflow error converting expression to data type {}.", to.name()))
}

/// A value of type `from` as `to`. `column` is the column that it is stored in; without one it is a CAST, which cuts text short.
pub(super) fn convert(value: &Value, from: Type, to: Type, column: Option<&str>) -> Outcome<Value> {
    let failed = |number| {
        let quoted = if let Value::Text(text) = value { text.as_str() } else { "" };
        SqlError::new(number, 16, format!("Conversion failed when converting the value '{quoted}' to data type {}.", to.name()))
    };
    let refused = || strict(format!("a conversion from {} to {} is not understood", from.name(), to.name()));
    Ok(match (to, value) {
        (_, Value::Null) => Value::Null,
        (Type::Bit, Value::Integer(number)) => Value::Integer(i64::from(*number != 0)),
        (Type::Bit, _) => return Err(refused()),
        (Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt, value) => {
            let number = match value {
                Value::Integer(number) => i128::from(*number),
                Value::Real(number) => number.trunc() as i128,
                Value::Text(text) if from.family() == Type::Text(None).family() => text.trim().parse().map_err(|_| failed(245))?,
                _ => return Err(refused()),
            };
            let (low, high) = to.range().ok_or_else(refused)?;
            Value::Integer(i64::try_from(number).ok().filter(|number| (low..=high).contains(number)).ok_or_else(|| overflow(to))?)
        }
        (Type::Float, Value::Integer(number)) => Value::Real(*number as f64),
        (Type::Float, Value::Real(number)) => Value::Real(*number),
        (Type::Float, Value::Text(text)) if matches!(from, Type::Text(_)) => {
            Value::Real(text.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| failed(8114))?)
        }
        (Type::Text(size), value) => as_text(value, from, size.map(usize::from), column)?,
        (Type::Date, Value::Text(text)) => {
            let usual = text.len() == 10 || matches!(from, Type::Instant | Type::DateTime2);
            Value::Text(text.get(..10).filter(|day| usual && day_number(day).is_some()).ok_or_else(|| failed(241))?.to_owned())
        }
        (Type::Instant, Value::Text(text)) => Value::Text(as_instant(text, from).ok_or_else(|| failed(241))?),
        (Type::Binary(size), Value::Blob(bytes)) => match size.map(usize::from) {
            Some(size) if bytes.len() > size && column.is_some() => return Err(truncated("(binary)", column)),
            Some(size) if bytes.len() > size => Value::Blob(bytes[..size].to_vec()),
            _ => Value::Blob(bytes.clone()),
        },
        _ => return Err(refused()),
    })
}

fn as_text(value: &Value, from: Type, size: Option<usize>, column: Option<&str>) -> Outcome<Value> {
    let long = match (value, from) {
        (Value::Text(text), Type::Instant) => format!("{} {} +00:00", &text[..10], &text[11..27]),
        (Value::Text(text), _) => text.clone(),
        (Value::Integer(number), _) => {
            let text = number.to_string();
            if size.is_some_and(|size| text.len() > size) {
                return Err(overflow(Type::Text(size.map(|size| size as u16))));
            }
            text
        }
        _ => return Err(strict(format!("a conversion from {} to text is not understood", from.name()))),
    };
    match size {
        Some(size) if units(&long) > size && column.is_some() => Err(truncated(&long, column)),
        Some(size) if units(&long) > size => {
            let units: Vec<u16> = long.encode_utf16().take(size).collect();
            Ok(Value::Text(String::from_utf16(&units).map_err(|_| strict("a CAST cuts a character in two"))?))
        }
        _ => Ok(Value::Text(long)),
    }
}

fn truncated(value: &str, column: Option<&str>) -> SqlError {
    let column = column.unwrap_or_default();
    SqlError::new(2628, 16, format!("String or binary data would be truncated in column '{column}'. Truncated value: '{value}'."))
}

fn as_instant(text: &str, from: Type) -> Option<String> {
    let stored = match from {
        Type::Date => format!("{text}T00:00:00.0Z"),
        Type::Instant | Type::DateTime2 => text.to_owned(),
        _ => {
            let clock = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?.trim_end().replacen(' ', "T", 1);
            if clock.contains('.') { format!("{clock}Z") } else { format!("{clock}.0Z") }
        }
    };
    parse_instant(&stored).map(instant_text)
}

fn arithmetic(operator: &str, a: &Value, b: &Value, to: Type) -> Outcome<Value> {
    let by_zero = || SqlError::new(8134, 16, "Divide by zero error encountered.");
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
        (Value::Integer(a), Value::Integer(b)) if to.range().is_some() => {
            let result = match operator {
                "+" => a.checked_add(*b),
                "-" => a.checked_sub(*b),
                "*" => a.checked_mul(*b),
                "/" | "%" if *b == 0 => return Err(by_zero()),
                "/" => a.checked_div(*b),
                "%" => a.checked_rem(*b),
                _ => return Err(strict(format!("the operator {operator}"))),
            };
            let (low, high) = to.range().unwrap_or((0, 0));
            result.filter(|number| (low..=high).contains(number)).map(Value::Integer).ok_or_else(|| overflow(to))
        }
        _ => {
            let (a, b) = (real(a)?, real(b)?);
            let result = match operator {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" if b == 0.0 => return Err(by_zero()),
                "/" => a / b,
                _ => return Err(strict(format!("the operator {operator} on floats"))),
            };
            if result.is_finite() { Ok(Value::Real(result)) } else { Err(overflow(Type::Float)) }
        }
    }
}

fn real(value: &Value) -> Outcome<f64> {
    match value {
        Value::Integer(number) => Ok(*number as f64),
        Value::Real(number) => Ok(*number),
        _ => Err(strict("arithmetic on what is no number")),
    }
}

fn substring(text: Option<String>, start: Option<i64>, length: Option<i64>) -> Outcome<Value> {
    let (Some(text), Some(start), Some(length)) = (text, start, length) else { return Ok(Value::Null) };
    if length < 0 {
        return Err(SqlError::new(537, 16, "Invalid length parameter passed to the LEFT or SUBSTRING function."));
    }
    let end = start.saturating_add(length).max(1) - 1;
    let start = start.max(1) - 1;
    let units: Vec<u16> = text.encode_utf16().skip(start as usize).take((end - start).max(0) as usize).collect();
    Ok(Value::Text(String::from_utf16(&units).map_err(|_| strict("SUBSTRING cuts a character in two"))?))
}

fn datediff(unit: &str, from: Option<String>, to: Option<String>) -> Outcome<Value> {
    let (Some(from), Some(to)) = (from, to) else { return Ok(Value::Null) };
    let instant = |text: &str| {
        let text = if text.len() == 10 { format!("{text}T00:00:00.0Z") } else { text.to_owned() };
        parse_instant(&text).ok_or_else(|| strict("DATEDIFF of what is no time"))
    };
    // SQL Server counts the boundaries that are crossed, not the time that passes.
    let seconds = |text: &str| Ok::<_, SqlError>(instant(text)?.timestamp());
    let difference = match unit {
        "day" => {
            let day = |text: &str| day_number(text).map(i64::from).ok_or_else(|| strict("DATEDIFF of what is no day"));
            day(&to)? - day(&from)?
        }
        "hour" => seconds(&to)?.div_euclid(3600) - seconds(&from)?.div_euclid(3600),
        "minute" => seconds(&to)?.div_euclid(60) - seconds(&from)?.div_euclid(60),
        "second" => seconds(&to)? - seconds(&from)?,
        "millisecond" => instant(&to)?.timestamp_millis() - instant(&from)?.timestamp_millis(),
        _ => return Err(strict(format!("DATEDIFF in {unit}"))),
    };
    match i32::try_from(difference) {
        Ok(difference) => Ok(Value::Integer(difference.into())),
        Err(_) => Err(SqlError::new(535, 16, "The datediff function resulted in an overflow.")),
    }
}

/// The count of OFFSET (at least 0) or FETCH (at least 1).
fn rows(count: Option<i64>, least: i64) -> Outcome<Value> {
    match count {
        Some(count) if count >= least => Ok(Value::Integer(count)),
        _ if least == 0 => Err(SqlError::new(10_742, 15, "The offset specified in a OFFSET clause may not be negative.")),
        _ => Err(SqlError::new(10_744, 15, "The number of rows provided for a FETCH clause must be greater then zero.")),
    }
}

/// `LIKE` with `%`, `_`, `[abc]`, `[^a-z]`.
fn like(text: Option<String>, pattern: Option<String>, escape: Option<String>, exact: bool) -> Outcome<Value> {
    let (Some(text), Some(pattern)) = (text, pattern) else { return Ok(Value::Null) };
    let fold = |text: String| if exact { text } else { text.to_lowercase() };
    let (text, pattern): (Vec<char>, Vec<char>) = (fold(text).chars().collect(), fold(pattern).chars().collect());
    let escape = escape.and_then(|text| fold(text).chars().next());
    let trimmed = text.iter().rposition(|c| *c != ' ').map_or(0, |last| last + 1);
    Ok(Value::Integer(i64::from(matches(&text, &pattern, escape) || matches(&text[..trimmed], &pattern, escape))))
}

fn matches(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    if Some(*first) == escape {
        return matches!((rest.split_first(), text.split_first()), (Some((wanted, rest)), Some((found, text))) if wanted == found && matches(text, rest, escape));
    }
    match first {
        '%' => (0..=text.len()).any(|from| matches(&text[from..], rest, escape)),
        '_' => !text.is_empty() && matches(&text[1..], rest, escape),
        '[' if let Some(end) = rest.iter().position(|c| *c == ']') => {
            let (set, rest) = (&rest[..end], &rest[end + 1..]);
            let (negated, set) = if set.first() == Some(&'^') { (true, &set[1..]) } else { (false, set) };
            text.first().is_some_and(|found| in_set(*found, set) != negated) && matches(&text[1..], rest, escape)
        }
        wanted => text.first() == Some(wanted) && matches(&text[1..], rest, escape),
    }
}

fn in_set(found: char, set: &[char]) -> bool {
    match set {
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&found) || in_set(found, rest),
        [one, rest @ ..] => *one == found || in_set(found, rest),
        [] => false,
    }
}
