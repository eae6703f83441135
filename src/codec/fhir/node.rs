//! A place in a message: its JSON value and its path. Paths are made of our own member names, so they never carry a value.

use serde_json::Value;

use super::fault::{Findings, Issue};

static ABSENT: Value = Value::Null;

/// A JSON value and where it is. An absent member is a node too: it can be asked on, and it knows its path. It holds patient data and so has
/// no `Debug`.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The member of an object; absent if there is none or if this is no object.
    pub(super) fn get(&self, member: &'static str) -> Node<'a> {
        let path = if self.path.is_empty() { member.to_owned() } else { format!("{}.{member}", self.path) };
        Node { value: self.value.get(member).unwrap_or(&ABSENT), path }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Where this is; `$` for the whole message.
    pub(super) fn path(&self) -> &str {
        if self.path.is_empty() { "$" } else { &self.path }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// The items of an array. Absent is empty; anything else is a fault.
    pub(super) fn items(&self, findings: &mut Findings) -> Vec<Node<'a>> {
        match self.value {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, value)| Node { value, path: format!("{}[{at}]", self.path) }).collect()
            }
            _ => {
                findings.fault(self.path(), Issue::Structure, "must be an array", "Put the value into [ ].");
                Vec::new()
            }
        }
    }

    /// The items of an array, or a lone value as the only item: some serialisers unwrap arrays of one.
    pub(super) fn one_or_many(&self, findings: &mut Findings) -> Vec<Node<'a>> {
        match self.value {
            Value::Null | Value::Array(_) => self.items(findings),
            _ => vec![self.clone()],
        }
    }

    /// As [`Node::one_or_many`], for look-ups whose caller reports that nothing was found.
    pub(super) fn list(&self) -> Vec<Node<'a>> {
        self.one_or_many(&mut Findings::default())
    }

    /// A string, trimmed. Absent and blank are `None`; anything but a string is a fault.
    pub(super) fn text(&self, findings: &mut Findings) -> Option<&'a str> {
        if !matches!(self.value, Value::Null | Value::String(_)) {
            findings.fault(self.path(), Issue::Structure, "must be a string", "Put the value into quotation marks.");
        }
        self.word()
    }

    /// A string, trimmed; `None` for everything else and for a blank one.
    pub(super) fn word(&self) -> Option<&'a str> {
        self.value.as_str().map(str::trim).filter(|text| !text.is_empty())
    }
}

/// Does `holder` carry FHIR's data-absent-reason extension?
pub(super) fn says_absent(holder: &Node<'_>) -> bool {
    holder.get("extension").list().iter().any(|extension| extension.get("url").word() == Some(super::DATA_ABSENT_REASON_URL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_present_and_absent_places() {
        let message = json!({"entry": [{"resource": {"id": " 7 "}}]});
        let mut findings = Findings::default();
        let entry = &Node::root(&message).get("entry").items(&mut findings)[0];
        assert_eq!(entry.get("resource").get("id").path(), "entry[0].resource.id");
        assert_eq!(entry.get("resource").get("id").text(&mut findings), Some("7"));
        assert!(entry.get("a").get("b").is_absent());
        assert_eq!(entry.get("a").get("b").path(), "entry[0].a.b");
        assert_eq!(Node::root(&message).path(), "$");
        assert!(entry.get("resource").items(&mut findings).is_empty());
        assert_eq!(findings.close().unwrap_err()[0].path, "entry[0].resource");
    }
}
