//! Bytes to text to JSON. The blueprint's sample messages are UTF-16 with a byte order mark; what its demo client sends is UTF-8.

use std::borrow::Cow;

use serde_json::Value;

use super::fault::{Fault, Issue};
use crate::error::{Error, Result};

/// Largest body that is read, in bytes. An admission of a busy ward is a few hundred kilobytes as a Bundle.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

const UTF8_BOM: &[u8] = &[0xEF, 0xBB, 0xBF];
const UTF16_LE_BOM: &[u8] = &[0xFF, 0xFE];
const UTF16_BE_BOM: &[u8] = &[0xFE, 0xFF];

/// The text of a body: UTF-8 with or without a byte order mark, UTF-16 of either order with one, or UTF-16 without one where the NUL
/// bytes around the first character give it away (JSON starts with an ASCII character, RFC 4627 section 3).
///
/// # Errors
/// [`crate::error::Kind::Invalid`] if the bytes are none of these. The message names no byte of the body.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>> {
    if let Some(rest) = bytes.strip_prefix(UTF8_BOM) {
        return utf8(rest);
    }
    if let Some(rest) = bytes.strip_prefix(UTF16_LE_BOM) {
        return utf16(rest, u16::from_le_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(UTF16_BE_BOM) {
        return utf16(rest, u16::from_be_bytes);
    }
    match bytes {
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| unreadable())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>> {
    let (units, []) = bytes.as_chunks::<2>() else { return Err(unreadable()) };
    char::decode_utf16(units.iter().map(|pair| unit(*pair)))
        .collect::<Result<String, _>>()
        .map(Cow::Owned)
        .map_err(|_| unreadable())
}

fn unreadable() -> Error {
    Error::invalid("the body is not text in UTF-8 or UTF-16; send it as UTF-8")
}

/// The JSON of a body. Nesting is limited to 128 levels (`serde_json`'s own limit), the body to [`BODY_BYTES_MAX`].
pub(super) fn json(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() > BODY_BYTES_MAX {
        let rule = format!("must be at most {BODY_BYTES_MAX} bytes");
        return Err(Fault::new("$", Issue::TooCostly, rule, "Send one encounter a message, without documents or images."));
    }
    let text = decode(bytes)
        .map_err(|_| Fault::new("$", Issue::Structure, "must be text in UTF-8 or UTF-16", "Send the body as UTF-8."))?;
    serde_json::from_str(&text).map_err(|error| {
        // The position only: the parser's own words may quote the body.
        let rule = match error.classify() {
            serde_json::error::Category::Eof => "must be complete JSON; it ends too early".to_owned(),
            _ => {
                format!("must be JSON of at most 128 levels; it stops being so at line {}, column {}", error.line(), error.column())
            }
        };
        Fault::new("$", Issue::Structure, rule, "Check the body with a JSON validator.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn reads_every_encoding_json_may_come_in() {
        let text = "{\"name\":\"Zoë 🏥\"}";
        let le = units(text, u16::to_le_bytes);
        let be = units(text, u16::to_be_bytes);
        for bytes in [
            text.as_bytes().to_vec(),
            [UTF8_BOM, text.as_bytes()].concat(),
            [UTF16_LE_BOM, &le].concat(),
            [UTF16_BE_BOM, &be].concat(),
            le,
            be,
        ] {
            assert_eq!(decode(&bytes).unwrap(), text);
        }
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn refuses_what_is_no_text_without_quoting_it() {
        let mut odd = [UTF16_LE_BOM, &units("{}", u16::to_le_bytes)].concat();
        odd.push(b'x');
        let lone_surrogate = [UTF16_LE_BOM, &0xD800_u16.to_le_bytes()].concat();
        for bytes in [odd, lone_surrogate, vec![b'{', 0xC3, 0x28], vec![0xFF, 0xFF]] {
            let error = decode(&bytes).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid);
            assert!(json(&bytes).is_err());
        }
    }

    #[test]
    fn nesting_and_size_are_limited() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert_eq!(json(deep.as_bytes()).unwrap_err().code, Issue::Structure);
        let large = vec![b' '; BODY_BYTES_MAX + 1];
        assert_eq!(json(&large).unwrap_err().code, Issue::TooCostly);
    }

    #[test]
    fn a_syntax_error_gives_its_position_and_nothing_else() {
        let fault = json(b"{\"family\": Canary}").unwrap_err();
        assert!(fault.rule.contains("line 1, column"), "{fault}");
        assert!(!fault.to_string().contains("Canary"));
        assert!(json(b"{\"a\":").unwrap_err().rule.contains("ends too early"));
    }
}
