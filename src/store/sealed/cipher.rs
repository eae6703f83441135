//! One personal text, encrypted and opened: AES-256-GCM under a data key. It does not know where the text is kept.
//!
//! The stored form is `hdai1:KEYID:BASE64`: 12 bytes of nonce, then the ciphertext with its tag of 16 bytes. The nonce is the beginning of an
//! HMAC over encounter, field and text, so that one text of one encounter always has the same form (an import that says nothing new
//! changes nothing) and two patients of one name have two. Encounter, field and key are authenticated with it: a form that was moved to another
//! place does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::domain::EncounterId;
use crate::error::{Error, Result};
use crate::store::columns::SEALED_PREFIX;

/// Bytes of a data key.
pub(super) const KEY_BYTES: usize = 32;

/// Texts are filled up to a multiple of so many bytes, with the two that hold their length: most names are of one length then.
const BLOCK_BYTES: usize = 32;

/// The parts of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    First = 1,
    Middle = 2,
    Last = 3,
}

impl Field {
    fn words(self) -> &'static str {
        match self {
            Field::First => "first name",
            Field::Middle => "middle name",
            Field::Last => "last name",
        }
    }
}

/// What a text belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// A part of the name of a patient.
    Name(EncounterId, Field),
    /// The words of the elevation of this id.
    Elevation(&'a str),
}

impl Place<'_> {
    /// What no other place has: an encounter's id is never 0.
    fn bytes(self) -> Vec<u8> {
        match self {
            Place::Name(encounter, field) => [&encounter.get().to_be_bytes()[..], &[field as u8]].concat(),
            Place::Elevation(id) => [&[0, 0, 0, 0, 4], id.as_bytes()].concat(),
        }
    }

    fn words(self) -> String {
        match self {
            Place::Name(_, field) => format!("{} of an encounter", field.words()),
            Place::Elevation(id) => format!("text of break-glass {id}"),
        }
    }
}

/// A data key, ready for use. It has no `Debug`.
pub(super) struct Cipher {
    id: String,
    prefix: String,
    encryption: LessSafeKey,
    nonces: hmac::Key,
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// A key of its own for `purpose`, which tells nothing of `key` (RFC 5869).
pub(super) fn derive(key: &[u8], purpose: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut derived = Zeroizing::new([0; KEY_BYTES]);
    let expanded = Salt::new(HKDF_SHA256, b"hdai").extract(key);
    let filled = expanded.expand(&[purpose], Bytes32).and_then(|okm| okm.fill(&mut *derived));
    filled.map_err(|_| Error::internal("no key can be derived"))?;
    Ok(derived)
}

/// Names a key without telling it, by its use.
pub(super) fn key_id(purpose: &str, key: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, &[purpose.as_bytes(), b":", key].concat());
    crate::store::rules::hex(&digest.as_ref()[..8])
}

/// A key for AES-256-GCM.
pub(super) fn aead(key: &[u8]) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| Error::internal("the key cannot be used"))
}

/// The id of the key that `stored` was encrypted with; `None` if it is plain text.
pub(super) fn key_of(stored: &str) -> Option<&str> {
    stored.strip_prefix(SEALED_PREFIX)?.split_once(':').map(|(id, _)| id)
}

impl Cipher {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Result<Self> {
        let id = key_id("hdai-data-key", key);
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, &*derive(key, b"names, nonce")?);
        let encryption = aead(&*derive(key, b"names, encryption")?)?;
        Ok(Self { prefix: format!("{SEALED_PREFIX}{id}:"), id, encryption, nonces })
    }

    /// Follows from the key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What every form under this key begins with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What belongs to the text and is not in it.
    fn beside(&self, place: Place<'_>) -> Vec<u8> {
        [SEALED_PREFIX.as_bytes(), self.id.as_bytes(), &place.bytes()].concat()
    }

    /// The stored form of `text`.
    pub(super) fn seal(&self, place: Place<'_>, text: &str) -> Result<String> {
        let failed = || Error::internal(format!("the {} cannot be encrypted", place.words()));
        let beside = self.beside(place);
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(&beside);
        context.update(text.as_bytes());
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&context.sign().as_ref()[..NONCE_LEN]);

        let length = u16::try_from(text.len()).map_err(|_| failed())?;
        let mut inner = Vec::with_capacity((2 + text.len()).next_multiple_of(BLOCK_BYTES));
        inner.extend(length.to_be_bytes());
        inner.extend(text.as_bytes());
        inner.resize(inner.len().next_multiple_of(BLOCK_BYTES), 0);
        let tag = self.encryption.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(beside), &mut inner);
        let tag = tag.map_err(|_| failed())?;

        let mut form = String::with_capacity(self.prefix.len() + (NONCE_LEN + inner.len() + tag.as_ref().len()).div_ceil(3) * 4);
        form.push_str(&self.prefix);
        STANDARD_NO_PAD.encode_string([nonce.as_slice(), &inner, tag.as_ref()].concat(), &mut form);
        Ok(form)
    }

    /// The text of `stored`, a form under this key.
    ///
    /// # Errors
    /// Internal, naming the place, if it was altered or belongs elsewhere.
    pub(super) fn open(&self, place: Place<'_>, stored: &str) -> Result<String> {
        let altered = || {
            Error::internal(format!(
                "the stored {} does not open with the data key {}: it was altered, or it is another row's; restore it from a backup",
                place.words(),
                self.id
            ))
        };
        let form = stored.strip_prefix(&self.prefix).ok_or_else(altered)?;
        let mut bytes = STANDARD_NO_PAD.decode(form).map_err(|_| altered())?;
        let (nonce, inner) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(altered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| altered())?;
        let opened = self.encryption.open_in_place(nonce, Aad::from(self.beside(place)), inner).map_err(|_| altered())?;
        let (length, text) = opened.split_first_chunk::<2>().ok_or_else(altered)?;
        let text = text.get(..usize::from(u16::from_be_bytes(*length))).ok_or_else(altered)?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| altered())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::patient::name_fits;
    use crate::store::columns::NAME_STORED_CHARS_MAX;

    fn cipher(byte: u8) -> Cipher {
        Cipher::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn eid(id: i64) -> EncounterId {
        EncounterId::new(id).unwrap()
    }

    #[test]
    fn the_same_text_has_one_form_at_one_place_and_another_at_every_other() {
        let forms = |cipher: &Cipher| {
            let places = [(1, Field::First), (1, Field::Middle), (1, Field::Last), (2, Field::First)];
            places.map(|(id, field)| cipher.seal(Place::Name(eid(id), field), "Ada").unwrap())
        };
        assert_eq!(forms(&cipher(1)), forms(&cipher(1)));
        let all: HashSet<String> = forms(&cipher(1)).into_iter().chain(forms(&cipher(2))).collect();
        assert_eq!(all.len(), 8);
        let form = |text| cipher(1).seal(Place::Name(eid(1), Field::First), text).unwrap();
        assert_ne!(form("Ada"), form("ada"));
    }

    /// The format is kept in databases for ever: this form was written by the first version.
    #[test]
    fn a_form_of_the_first_version_still_opens() {
        const FORM: &str =
            "hdai1:67f11ca9f7496028:IlgxS5Y8A1pQVDHVrEjBiu0ex0qbwINy+ZkeKVs+IVr3Aqh0DRn/Ztj5FZdK/oGerh/id8BQFvwwxCY7";
        assert_eq!(cipher(7).seal(Place::Name(eid(41), Field::Last), "Łukasiewicz").unwrap(), FORM);
        assert_eq!(cipher(7).open(Place::Name(eid(41), Field::Last), FORM).unwrap(), "Łukasiewicz");
    }

    #[test]
    fn names_of_up_to_thirty_bytes_are_of_one_length() {
        let length = |text: &str| cipher(1).seal(Place::Name(eid(1), Field::First), text).unwrap().len();
        assert_eq!(length("A"), length(&"a".repeat(30)));
        assert!(length(&"a".repeat(31)) > length("A"));
    }

    #[test]
    fn what_was_altered_moved_or_cut_does_not_open_and_is_named_without_its_text() {
        let (cipher, form) = (cipher(1), cipher(1).seal(Place::Name(eid(9), Field::Last), "Canaryname").unwrap());
        let body = cipher.prefix().len();
        let mut wrong: Vec<String> = (body..form.len()).map(|cut| form[..cut].to_owned()).collect();
        for place in body..form.len() {
            let other = if form.as_bytes()[place] == b'A' { "B" } else { "A" };
            wrong.push(format!("{}{other}{}", &form[..place], &form[place + 1..]));
        }
        wrong.extend([form.clone() + "A", form.clone() + "=", form.replace("hdai1", "hdai2")]);
        for text in wrong {
            let error = cipher.open(Place::Name(eid(9), Field::Last), &text).unwrap_err().to_string();
            assert!(error.contains("last name of an encounter") && !error.contains("Canary"), "{error}");
        }
        assert!(cipher.open(Place::Name(eid(8), Field::Last), &form).is_err());
        assert!(cipher.open(Place::Name(eid(9), Field::First), &form).is_err());
        assert!(cipher.open(Place::Elevation("9"), &form).is_err());
        let words = cipher.seal(Place::Elevation("a1"), "Canarywords").unwrap();
        assert_eq!(cipher.open(Place::Elevation("a1"), &words).unwrap(), "Canarywords");
        assert!(cipher.open(Place::Elevation("a2"), &words).is_err());
        let renamed = form.replace(cipher.id(), self::cipher(2).id());
        assert!(self::cipher(2).open(Place::Name(eid(9), Field::Last), &renamed).is_err());
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>(), id in 1..i64::from(i32::MAX), byte in any::<u8>()) {
            let cipher = cipher(byte);
            let form = cipher.seal(Place::Name(eid(id), Field::Middle), &text).unwrap();
            prop_assert_eq!(cipher.open(Place::Name(eid(id), Field::Middle), &form).unwrap(), text.clone());
            prop_assert!(form.is_ascii() && key_of(&form) == Some(cipher.id()) && form.starts_with(cipher.prefix()));
            prop_assert!(!name_fits(&text) || form.len() <= NAME_STORED_CHARS_MAX);
        }

        #[test]
        fn the_longest_names_fit_their_columns(text in "[a\u{800}\u{ffff}\u{10ffff}]{0,50}") {
            let form = cipher(1).seal(Place::Name(eid(1), Field::First), &text).unwrap();
            prop_assert!(!name_fits(&text) || form.len() <= NAME_STORED_CHARS_MAX);
        }

        #[test]
        fn no_text_that_is_there_is_a_form_by_chance(text in any::<String>()) {
            let form = format!("{}{text}", cipher(1).prefix());
            prop_assert!(cipher(1).open(Place::Name(eid(1), Field::First), &form).is_err());
        }
    }
}
