//! The shapes a message may have, and its resources whatever the shape. It does not look inside a resource.

use serde_json::Value;

use super::fault::{Findings, Issue};
use super::node::Node;
use super::text;

/// Bundles of these types carry resources to act on.
const BUNDLE_TYPES: [&str; 4] = ["transaction", "batch", "collection", "message"];

/// The shape of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The blueprint's JSON: `{patient, encounter, observations, conditions}`.
    Blueprint,
    /// A FHIR R4 `Bundle`.
    FhirBundle,
    /// A FHIR R4 `Encounter`, other resources `contained` in it.
    FhirEncounter,
}

impl Shape {
    /// Does its sender expect FHIR answers (`OperationOutcome`)?
    pub const fn is_fhir(self) -> bool {
        matches!(self, Shape::FhirBundle | Shape::FhirEncounter)
    }

    fn of(message: &Value) -> Option<Shape> {
        match message.get("resourceType").and_then(Value::as_str) {
            Some("Bundle") => Some(Shape::FhirBundle),
            Some("Encounter") => Some(Shape::FhirEncounter),
            Some(_) => None,
            None => (message.get("patient").is_some() || message.get("encounter").is_some()).then_some(Shape::Blueprint),
        }
    }
}

/// The shape of a body, to choose the form of a refusal: anything with a `resourceType` is FHIR, everything else the blueprint's.
/// Reads the body anew, so ask it only once a body is refused.
pub fn shape_of(body: &[u8]) -> Shape {
    let Ok(message) = text::json(body) else { return Shape::Blueprint };
    let fallback = if message.get("resourceType").is_some() { Shape::FhirBundle } else { Shape::Blueprint };
    Shape::of(&message).unwrap_or(fallback)
}

/// A resource and the URL it is known by inside its Bundle.
#[derive(Clone)]
pub(super) struct Resource<'a> {
    pub(super) node: Node<'a>,
    full_url: Option<&'a str>,
}

impl Resource<'_> {
    /// Is `reference` one to this resource? `None` if that cannot be told.
    pub(super) fn is_meant_by(&self, reference: &str) -> Option<bool> {
        let id = self.node.get("id").word();
        if (id.is_none() && self.full_url.is_none()) || reference.contains('?') {
            return None;
        }
        let reference = unversioned(reference);
        let last = last_part(reference);
        Some(self.full_url == Some(reference) || id == Some(last) || self.full_url.is_some_and(|url| last_part(url) == last))
    }
}

/// A reference without its `/_history/..` tail.
fn unversioned(reference: &str) -> &str {
    reference.split("/_history/").next().unwrap_or(reference)
}

/// The id at the end of a reference: `Organization/B`, `#B`, `https://host/fhir/Organization/B/_history/2`.
pub(super) fn last_part(reference: &str) -> &str {
    let reference = unversioned(reference);
    reference.rsplit(['/', '#']).next().unwrap_or(reference)
}

/// The resources of a message by type, in message order. Types that an admission has no use for are left out.
pub(super) struct Message<'a> {
    pub(super) shape: Shape,
    /// Where the resources are, for faults about their number.
    pub(super) root: Node<'a>,
    pub(super) patients: Vec<Resource<'a>>,
    pub(super) encounters: Vec<Resource<'a>>,
    pub(super) observations: Vec<Resource<'a>>,
    pub(super) conditions: Vec<Resource<'a>>,
    pub(super) organizations: Vec<Resource<'a>>,
    /// Did the sender speak of conditions at all, be it in an empty list?
    pub(super) speaks_of_conditions: bool,
}

impl<'a> Message<'a> {
    /// Sorts the resources of a message. `None`, with a fault, if the message has no known shape.
    pub(super) fn open(value: &'a Value, findings: &mut Findings) -> Option<Message<'a>> {
        let root = Node::root(value);
        let Some(shape) = Shape::of(value) else {
            findings.fault(
                root.path(),
                Issue::NotSupported,
                "must be {patient, encounter, ..}, an R4 Bundle or an R4 Encounter",
                "See docs/fhir.md for the shapes that are read.",
            );
            return None;
        };
        let mut message = Message {
            shape,
            root,
            patients: Vec::new(),
            encounters: Vec::new(),
            observations: Vec::new(),
            conditions: Vec::new(),
            organizations: Vec::new(),
            speaks_of_conditions: false,
        };
        match shape {
            Shape::Blueprint => message.take_parts(findings),
            Shape::FhirBundle => message.take_bundle(findings),
            Shape::FhirEncounter => message.take_encounter(findings),
        }
        Some(message)
    }

    fn take_parts(&mut self, findings: &mut Findings) {
        let conditions = self.root.get("conditions");
        self.speaks_of_conditions = !conditions.is_absent();
        let parts = [("Patient", vec![self.root.get("patient")]), ("Encounter", vec![self.root.get("encounter")])]
            .into_iter()
            .chain([("Observation", self.root.get("observations").items(findings)), ("Condition", conditions.items(findings))]);
        for (expected, nodes) in parts {
            for node in nodes.into_iter().filter(|node| !node.is_absent()) {
                // A part's place says what it is, so the blueprint's clients may leave its type out.
                let of_type = node.get("resourceType");
                if !node.value().is_object() {
                    findings.fault(node.path(), Issue::Structure, format!("must be a {expected} resource"), "Send a JSON object.");
                } else if !of_type.is_absent() && of_type.word() != Some(expected) {
                    let rule = format!("must be {expected}");
                    findings.fault(of_type.path(), Issue::Structure, rule, "Put each resource into its own part of the message.");
                } else {
                    self.keep(expected, Resource { node, full_url: None });
                }
            }
        }
    }

    fn take_bundle(&mut self, findings: &mut Findings) {
        let of_type = self.root.get("type");
        match of_type.text(findings) {
            Some(word) if BUNDLE_TYPES.contains(&word) => {}
            Some(_) => findings.fault(
                of_type.path(),
                Issue::NotSupported,
                format!("must be {}", BUNDLE_TYPES.join(", ")),
                "Send the resources of one encounter as a transaction.",
            ),
            None => findings.fault(of_type.path(), Issue::Required, "must be there", "Set it to transaction."),
        }
        for entry in self.root.get("entry").items(findings) {
            let node = entry.get("resource");
            if node.is_absent() {
                findings.warn(
                    entry.path(),
                    Issue::NotSupported,
                    "carries no resource and was left out",
                    "Nothing, if that was meant.",
                );
                continue;
            }
            let full_url = entry.get("fullUrl").word();
            self.take_typed(node, full_url, findings);
        }
    }

    fn take_encounter(&mut self, findings: &mut Findings) {
        for node in self.root.get("contained").items(findings) {
            self.take_typed(node, None, findings);
        }
        // Placed first whatever is contained, so that the message's own encounter is meant.
        self.encounters.insert(0, Resource { node: self.root.clone(), full_url: None });
    }

    fn take_typed(&mut self, node: Node<'a>, full_url: Option<&'a str>, findings: &mut Findings) {
        match node.get("resourceType").word() {
            Some(of_type) => self.keep(of_type, Resource { node, full_url }),
            None => findings.fault(
                node.get("resourceType").path(),
                Issue::Structure,
                "must name the type of the resource",
                "Set it, for example to Observation.",
            ),
        }
    }

    fn keep(&mut self, of_type: &str, resource: Resource<'a>) {
        match of_type {
            "Patient" => self.patients.push(resource),
            "Encounter" => self.encounters.push(resource),
            "Observation" => self.observations.push(resource),
            "Condition" => {
                self.speaks_of_conditions = true;
                self.conditions.push(resource);
            }
            "Organization" => self.organizations.push(resource),
            _ => {}
        }
    }

    /// The one encounter, or a fault.
    pub(super) fn encounter(&self, findings: &mut Findings) -> Option<Node<'a>> {
        self.the_one(&self.encounters, "encounter", "Encounter", findings)
    }

    /// The one patient, or a fault.
    pub(super) fn patient(&self, findings: &mut Findings) -> Option<Node<'a>> {
        self.the_one(&self.patients, "patient", "Patient", findings)
    }

    fn the_one(&self, list: &[Resource<'a>], part: &'static str, of_type: &str, findings: &mut Findings) -> Option<Node<'a>> {
        let path = match self.shape {
            Shape::Blueprint => self.root.get(part).path().to_owned(),
            Shape::FhirBundle => self.root.get("entry").path().to_owned(),
            Shape::FhirEncounter => self.root.get("contained").path().to_owned(),
        };
        match list {
            [only] => Some(only.node.clone()),
            [] if self.shape == Shape::Blueprint && !self.root.get(part).is_absent() => None,
            [] => {
                findings.fault(&path, Issue::Required, format!("must hold one {of_type}"), "Add it to the message.");
                None
            }
            _ => {
                findings.fault(
                    &path,
                    Issue::Value,
                    format!("must hold only one {of_type}"),
                    "Send one message for each encounter.",
                );
                None
            }
        }
    }

    /// Holds that a resource is about the message's patient. The blueprint's parts belong together by their shape; the resources of a
    /// Bundle do only by reference, and another patient's values must never reach this one's record.
    pub(super) fn check_subject(&self, resource: &Node<'_>, findings: &mut Findings) {
        let (true, [patient]) = (self.shape.is_fhir(), self.patients.as_slice()) else { return };
        let reference = resource.get("subject").get("reference");
        if reference.word().and_then(|reference| patient.is_meant_by(reference)) == Some(false) {
            findings.fault(
                reference.path(),
                Issue::Value,
                "must refer to the Patient of this message",
                "Send one patient's resources in one message.",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_matched_by_url_and_by_id() {
        let message = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            {"fullUrl": "urn:uuid:0c1", "resource": {"resourceType": "Patient", "id": "7"}},
            {"resource": {"resourceType": "Patient"}},
        ]});
        let message = Message::open(&message, &mut Findings::default()).unwrap();
        let [named, nameless] = message.patients.as_slice() else { panic!("two patients") };
        for reference in ["urn:uuid:0c1", "Patient/7", "https://host/fhir/Patient/7/_history/3", "#7"] {
            assert_eq!(named.is_meant_by(reference), Some(true), "{reference}");
        }
        assert_eq!(named.is_meant_by("Patient/8"), Some(false));
        assert_eq!(named.is_meant_by("Patient?identifier=8"), None);
        assert_eq!(nameless.is_meant_by("Patient/8"), None);
        assert_eq!(last_part("Organization/B/_history/1"), "B");
    }

    #[test]
    fn a_refusal_takes_the_form_of_its_request() {
        assert_eq!(shape_of(b"{}"), Shape::Blueprint);
        assert_eq!(shape_of(b"no json"), Shape::Blueprint);
        assert_eq!(shape_of(br#"{"encounter": 1}"#), Shape::Blueprint);
        assert_eq!(shape_of(br#"{"resourceType": "Bundle"}"#), Shape::FhirBundle);
        assert_eq!(shape_of(br#"{"resourceType": "Encounter"}"#), Shape::FhirEncounter);
        assert!(shape_of(br#"{"resourceType": "Claim"}"#).is_fhir());
    }
}
