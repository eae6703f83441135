//! A discharge out of a message.

use std::fmt;

use chrono::NaiveDate;

use super::fault::{Fault, Findings};
use super::message::{Message, Shape};
use super::{encounter, text};
use crate::domain::EncounterId;

/// A discharge as its message says it.
#[derive(Clone, PartialEq)]
pub struct Discharge {
    /// Which encounter.
    pub id: EncounterId,
    /// The day, in the facility's own time zone.
    pub on: NaiveDate,
    /// What was read otherwise than it was written, or left out.
    pub warnings: Vec<Fault>,
    /// The message's shape.
    pub shape: Shape,
}

impl fmt::Debug for Discharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discharge").field("id", &self.id).field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Reads a discharge: `{patient?, encounter}`, a bare R4 Encounter, or a Bundle with one Encounter. Only the encounter's id and the end of
/// its period count. The start is not compared: the blueprint's discharges carry one that has nothing to do with the admission, and the
/// record knows better.
///
/// # Errors
/// Every fault of the message, up to [`super::FAULTS_MAX`]; never empty, and none carries a value from the message.
pub fn discharge(body: &[u8]) -> Result<Discharge, Vec<Fault>> {
    let value = text::json(body).map_err(|fault| vec![fault])?;
    let mut findings = Findings::default();
    let Some(message) = Message::open(&value, &mut findings) else { return Err(findings.refuse()) };
    let read = message.encounter(&mut findings).map(|node| {
        encounter::check_status(&node, &mut findings);
        let id = encounter::id(&node, &mut findings);
        let on = encounter::day(&node.get("period").get("end"), &mut findings);
        Some((id?, on?))
    });
    let Some(Some((id, on))) = read else { return Err(findings.refuse()) };
    let warnings = findings.close()?;
    Ok(Discharge { id, on, warnings, shape: message.shape })
}
