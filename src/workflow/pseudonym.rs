//! What stands for an encounter where nobody may be named, and cursors that tell their holder nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::import::hex;
use super::receipt::KEY_BYTES_MIN;
use crate::domain::EncounterId;
use crate::error::{Error, Result};

/// Longest cursor that is read, in characters.
const CURSOR_CHARS_MAX: usize = 200;

/// The key of pseudonyms and cursors. Each use has a key of its own, derived from it. It has no `Debug`.
pub struct PseudonymKey {
    names: hmac::Key,
    foretold: hmac::Key,
    order: hmac::Key,
    cursors: LessSafeKey,
}

impl PseudonymKey {
    /// Reads a key of at least [`KEY_BYTES_MIN`] bytes, in base64.
    ///
    /// # Errors
    /// Invalid, if it is no base64 or too short; the key is not shown.
    pub fn from_base64(text: &str) -> Result<Self> {
        let key = STANDARD.decode(text.trim()).ok().filter(|key| key.len() >= KEY_BYTES_MIN);
        let key =
            key.ok_or_else(|| Error::invalid(format!("the pseudonyms' key must be at least {KEY_BYTES_MIN} bytes in base64")))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let derived = |purpose: &[u8]| hmac::sign(&key, purpose);
        let mac = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, derived(purpose).as_ref());
        let cursors = UnboundKey::new(&AES_256_GCM, derived(b"hdai, cursors").as_ref());
        Ok(Self {
            names: mac(b"hdai, pseudonyms"),
            foretold: mac(b"hdai, pseudonyms of predictions"),
            order: mac(b"hdai, order"),
            cursors: LessSafeKey::new(cursors.map_err(|_| Error::internal("the key cannot be used"))?),
        })
    }

    /// What stands for the encounter: HMAC-SHA-256 of its id, the first 128 bits, in hex. The same each time under one key; without the key
    /// nobody finds the id, though there are few ids.
    pub fn pseudonym(&self, id: EncounterId) -> String {
        hex(&hmac::sign(&self.names, &id.get().to_be_bytes()).as_ref()[..16])
    }

    /// What stands for the encounter where predictions are listed: another pseudonym, so that the list does not say which of the
    /// encounters that name nobody are the newest.
    pub(super) fn foretold(&self, id: EncounterId) -> String {
        hex(&hmac::sign(&self.foretold, &id.get().to_be_bytes()).as_ref()[..16])
    }

    /// A mark by which `bytes` are known again, and which says nothing of them.
    pub(super) fn mark(&self, bytes: &[u8]) -> [u8; 8] {
        let mut mark = [0; 8];
        mark.iter_mut().zip(hmac::sign(&self.order, bytes).as_ref()).for_each(|(to, from)| *to = *from);
        mark
    }

    /// A place for `number` in an order that says nothing of it.
    pub(super) fn place(&self, number: i32) -> u64 {
        let mac = hmac::sign(&self.order, &number.to_be_bytes());
        mac.as_ref().iter().take(8).fold(0, |place, byte| place << 8 | u64::from(*byte))
    }

    /// A cursor of `route` that holds `position`, encrypted.
    pub(super) fn seal(&self, route: &'static str, position: &[u8]) -> Result<String> {
        let failed = || Error::internal("a cursor cannot be made");
        let mut nonce = [0_u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| Error::unavailable("the system gives no random bytes"))?;
        let mut sealed = position.to_vec();
        let encryption = Nonce::assume_unique_for_key(nonce);
        self.cursors.seal_in_place_append_tag(encryption, Aad::from(route), &mut sealed).map_err(|_| failed())?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// What [`PseudonymKey::seal`] was given for this route; `None` if the cursor was altered, is another route's or under another key.
    pub(super) fn open(&self, route: &'static str, cursor: &str) -> Option<Vec<u8>> {
        if cursor.len() > CURSOR_CHARS_MAX {
            return None;
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        if sealed.len() < NONCE_LEN {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(sealed.drain(..NONCE_LEN).as_slice()).ok()?;
        let position = self.cursors.open_in_place(nonce, Aad::from(route), &mut sealed).ok()?;
        Some(position.to_vec())
    }
}

/// What a caller is told whose cursor does not open.
pub(super) fn bad_cursor() -> Error {
    Error::invalid("the query parameter cursor must be what this route answered before, unaltered; leave it out to begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PseudonymKey {
        PseudonymKey::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    fn id(number: i64) -> EncounterId {
        EncounterId::new(number).unwrap()
    }

    #[test]
    fn an_encounter_has_one_pseudonym_under_a_key_and_another_under_another() {
        assert_eq!(key(1).pseudonym(id(7)), key(1).pseudonym(id(7)));
        assert_ne!(key(1).pseudonym(id(7)), key(1).pseudonym(id(8)));
        assert_ne!(key(1).pseudonym(id(7)), key(2).pseudonym(id(7)));
        assert!(key(1).pseudonym(id(7)).bytes().all(|byte| byte.is_ascii_hexdigit()));
        for bad in ["", "no base64", "QUJD"] {
            assert!(PseudonymKey::from_base64(bad).is_err());
        }
    }

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let cursor = key(1).seal("rows", b"position").unwrap();
        assert_eq!(key(1).open("rows", &cursor).as_deref(), Some(&b"position"[..]));
        assert_ne!(cursor, key(1).seal("rows", b"position").unwrap(), "two cursors of one place cannot be told to be such");
        assert_eq!(key(1).open("patients", &cursor), None);
        assert_eq!(key(2).open("rows", &cursor), None);
        for at in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            // The last character holds bits that count for nothing.
            let altered = String::from_utf8(altered).unwrap();
            assert!(at + 1 == cursor.len() || key(1).open("rows", &altered).is_none(), "character {at}");
        }
        for junk in ["", "A", "4711", "é", &"A".repeat(CURSOR_CHARS_MAX + 4)] {
            assert_eq!(key(1).open("rows", junk), None);
        }
    }
}
