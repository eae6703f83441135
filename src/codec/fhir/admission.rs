//! An admission out of a message.

use super::fault::{Fault, Findings};
use super::message::{Message, Shape};
use super::{condition, encounter, observation, patient, text};
use crate::domain::{Clinical, Encounter, FacilityId, Phi};
use crate::schema::Feature;

/// An admission as its message says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// The encounter, still open: an admission never carries a discharge.
    pub encounter: Encounter,
    /// What was read otherwise than it was written, or left out.
    pub warnings: Vec<Fault>,
    /// The message's shape.
    pub shape: Shape,
}

/// Reads an admission: the blueprint's four-part JSON, an R4 Bundle or an R4 Encounter with its resources contained.
///
/// # Errors
/// Every fault of the message, up to [`super::FAULTS_MAX`]; never empty, and none carries a value from the message.
pub fn admission(body: &[u8], facilities: &[FacilityId]) -> Result<Admission, Vec<Fault>> {
    let value = text::json(body).map_err(|fault| vec![fault])?;
    let mut findings = Findings::default();
    let Some(message) = Message::open(&value, &mut findings) else { return Err(findings.refuse()) };
    let patient = message.patient(&mut findings);
    let node = message.encounter(&mut findings);
    let mut clinical = Clinical::default();
    observation::read(&message, &mut findings, &mut clinical);
    condition::read(&message, &mut findings, &mut clinical);

    let named = patient.map(|patient| (patient::name(&patient, &mut findings), patient::gender(&patient, &mut findings)));
    let placed = node.map(|node| {
        message.check_subject(&node, &mut findings);
        encounter::check_status(&node, &mut findings);
        clinical.set(Feature::Readmissions, encounter::readmissions(&node, &mut findings));
        let end = node.get("period").get("end");
        if !end.is_absent() {
            let rule = "was left out: an admission is not a discharge";
            findings.warn(end.path(), super::Issue::NotSupported, rule, "Send a discharge when the patient leaves.");
        }
        let id = encounter::id(&node, &mut findings);
        let admitted = encounter::day(&node.get("period").get("start"), &mut findings);
        let facility = encounter::facility(&node, &message, facilities, &mut findings);
        Some((id?, admitted?, facility?))
    });
    let (Some((name, gender)), Some(Some((id, admitted, facility)))) = (named, placed) else { return Err(findings.refuse()) };
    let warnings = findings.close()?;
    let encounter = Encounter { id, name, gender, facility, admitted: Phi::new(admitted), clinical, discharged: Phi::new(None) };
    Ok(Admission { encounter, warnings, shape: message.shape })
}
