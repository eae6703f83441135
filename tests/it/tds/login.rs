//! PRELOGIN and LOGIN7.

use super::error::{Outcome, strict};
use super::types::{Reader, utf16};

/// The answer to PRELOGIN: our version, and that everything is encrypted.
pub(super) fn prelogin_answer(request: &[u8]) -> Vec<u8> {
    let token_login = has_option(request, 6);
    let mut options: Vec<(u8, Vec<u8>)> =
        vec![(0, vec![16, 0, 0, 0, 0, 0]), (1, vec![3]), (2, vec![0]), (3, Vec::new()), (4, vec![0])];
    if token_login {
        options.push((6, vec![1]));
    }
    let mut at = options.len() * 5 + 1;
    let (mut head, mut data) = (Vec::new(), Vec::new());
    for (option, value) in options {
        head.push(option);
        head.extend((at as u16).to_be_bytes());
        head.extend((value.len() as u16).to_be_bytes());
        at += value.len();
        data.extend(value);
    }
    head.push(0xff);
    head.extend(data);
    head
}

fn has_option(request: &[u8], wanted: u8) -> bool {
    request.chunks(5).take_while(|option| option[0] != 0xff).any(|option| option[0] == wanted)
}

/// What a client says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) packet_size: usize,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
    /// The access token, if it logs in with one.
    pub(super) token: Option<String>,
}

const FEDERATED: u8 = 2;

pub(super) fn parse(bytes: &[u8]) -> Outcome<Login> {
    let at = |place: usize, width: usize| -> Outcome<u64> {
        Reader::new(bytes.get(place..).ok_or_else(|| strict("LOGIN7 ends too soon"))?).number(width)
    };
    if at(0, 4)? != bytes.len() as u64 || at(4, 4)? != 0x7400_0004 {
        return Err(strict("LOGIN7 of another length or TDS version than 7.4"));
    }
    let raw = |place: usize| -> Outcome<&[u8]> {
        let (from, units) = (at(place, 2)? as usize, at(place + 2, 2)? as usize);
        bytes.get(from..from + units * 2).ok_or_else(|| strict("LOGIN7 points outside of itself"))
    };
    let text = |place: usize| utf16(raw(place)?);
    let password: Vec<u8> = raw(44)?.iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    let has_extension = at(27, 1)? & 0x10 != 0;
    let token = if has_extension { Some(federated(bytes, at(56, 2)? as usize)?) } else { None };
    Ok(Login {
        packet_size: (at(8, 4)? as usize).clamp(512, 32_767),
        user: text(40)?,
        password: utf16(&password)?,
        database: text(68)?,
        token,
    })
}

/// The security token of the federated authentication extension, to which LOGIN7 points at `pointer`.
fn federated(bytes: &[u8], pointer: usize) -> Outcome<String> {
    let far = || strict("LOGIN7 points outside of itself");
    let offset = Reader::new(bytes.get(pointer..).ok_or_else(far)?).number(4)? as usize;
    let mut features = Reader::new(bytes.get(offset..).ok_or_else(far)?);
    let feature = features.u8()?;
    if feature != FEDERATED {
        return Err(strict(format!("the feature extension {feature}")));
    }
    let length = features.number(4)? as usize;
    let mut data = Reader::new(features.take(length)?);
    if data.u8()? >> 1 != 1 {
        return Err(strict("federated authentication other than with a security token"));
    }
    let size = data.number(4)? as usize;
    let token = utf16(data.take(size)?)?;
    if !data.is_empty() || features.u8()? != 0xff {
        return Err(strict("something after the security token"));
    }
    Ok(token)
}
