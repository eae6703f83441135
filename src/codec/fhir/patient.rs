//! What a `Patient` resource says: name and gender.

use super::fault::{Findings, Issue};
use super::node::Node;
use crate::domain::patient::{NAME_CHARS_MAX, name_fits};
use crate::domain::{Gender, PersonName};

/// The patient's name: the official one, otherwise the usual one, otherwise the first that is not an old one. The first given name
/// stays the first even if it is blank; the further ones are joined by a blank.
pub(super) fn name(patient: &Node<'_>, findings: &mut Findings) -> PersonName {
    let names = patient.get("name");
    let rank = |name: &Node<'_>| match name.get("use").word() {
        Some("official") => 0,
        Some("usual") => 1,
        Some("old" | "maiden") => 3,
        _ => 2,
    };
    let chosen = names.one_or_many(findings).into_iter().min_by_key(rank);
    let (mut first, mut middle, mut last) = (String::new(), String::new(), String::new());
    if let Some(name) = &chosen {
        let mut given = parts(&name.get("given"), findings).into_iter();
        first = given.next().unwrap_or_default();
        middle = given.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        last = parts(&name.get("family"), findings).join(" ");
        check(&name.get("given"), &first, findings);
        check(&name.get("given"), &middle, findings);
        check(&name.get("family"), &last, findings);
    }
    if first.is_empty() && middle.is_empty() && last.is_empty() {
        let rule = "has no given or family name; the encounter is kept without a name";
        findings.warn(names.path(), Issue::Required, rule, "Send name[].given and name[].family.");
    }
    PersonName::new(first, middle, last)
}

/// The texts of a name's part; one that is `null` (FHIR's place holder for an extension) is blank.
fn parts(node: &Node<'_>, findings: &mut Findings) -> Vec<String> {
    node.one_or_many(findings).iter().map(|part| part.text(findings).unwrap_or_default().to_owned()).collect()
}

fn check(node: &Node<'_>, part: &str, findings: &mut Findings) {
    if !name_fits(part) {
        let rule = format!("must be at most {NAME_CHARS_MAX} characters; further given names count together");
        findings.fault(node.path(), Issue::TooLong, rule, "Shorten the name.");
    }
    if part.chars().any(char::is_control) {
        findings.fault(node.path(), Issue::Value, "must not hold control characters", "Remove line breaks and tabs from the name.");
    }
}

/// The patient's administrative gender; absent is `Unknown`.
pub(super) fn gender(patient: &Node<'_>, findings: &mut Findings) -> Gender {
    let gender = patient.get("gender");
    Gender::parse(gender.text(findings).unwrap_or_default()).unwrap_or_else(|| {
        findings.fault(
            gender.path(),
            Issue::CodeInvalid,
            "must be female, male, other or unknown",
            "Use a code of FHIR's administrative-gender.",
        );
        Gender::Unknown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn named(value: Value) -> (String, String, String, Result<Vec<super::super::Fault>, Vec<super::super::Fault>>) {
        let mut findings = Findings::default();
        let name = name(&Node::root(&json!({"name": value})), &mut findings);
        let part = |part: &crate::domain::Phi<String>| part.reveal().clone();
        (part(&name.first), part(&name.middle), part(&name.last), findings.close())
    }

    #[test]
    fn one_or_many_given_names_are_read_and_the_official_name_wins() {
        for (value, expected) in [
            (json!([{"family": "Lee", "given": ["Ann"]}]), ("Ann", "", "Lee")),
            (json!([{"family": " Lee ", "given": ["Ann", "Bea", "", "Cy"]}]), ("Ann", "Bea Cy", "Lee")),
            (json!([{"family": "Lee", "given": [null, "Bea"]}]), ("", "Bea", "Lee")),
            (json!({"family": ["van", "Lee"], "given": "Ann"}), ("Ann", "", "van Lee")),
            (json!([{"use": "maiden", "family": "Old"}, {"family": "New"}]), ("", "", "New")),
            (
                json!([{"use": "nickname", "given": ["Annie"]}, {"use": "official", "family": "Lee", "given": ["Ann"]}]),
                ("Ann", "", "Lee"),
            ),
        ] {
            let (first, middle, last, found) = named(value);
            assert_eq!((first.as_str(), middle.as_str(), last.as_str()), expected);
            assert_eq!(found.unwrap(), []);
        }
    }

    #[test]
    fn an_absent_name_is_a_warning() {
        for value in [json!(null), json!([]), json!([{"text": "only this"}])] {
            let (.., found) = named(value);
            assert_eq!(found.unwrap()[0].path, "name");
        }
    }

    #[test]
    fn a_name_that_is_too_long_or_holds_control_characters_is_a_fault() {
        let just_fits = "é".repeat(NAME_CHARS_MAX);
        assert!(named(json!([{"family": just_fits}])).3.is_ok());
        for value in [
            json!([{"family": "x".repeat(NAME_CHARS_MAX + 1)}]),
            json!([{"family": "\u{1f600}".repeat(NAME_CHARS_MAX / 2 + 1)}]),
            json!([{"given": ["a", "b".repeat(30), "c".repeat(30)]}]),
            json!([{"family": "a\u{0}b"}]),
            json!([{"given": ["a\nb"]}]),
            json!([{"given": [7]}]),
        ] {
            assert!(named(value.clone()).3.is_err(), "{value}");
        }
    }

    #[test]
    fn a_gender_is_a_known_word_or_unknown() {
        let read = |value: Value| {
            let mut findings = Findings::default();
            let gender = gender(&Node::root(&json!({"gender": value})), &mut findings);
            findings.close().map(|_| gender)
        };
        assert_eq!(read(json!("female")), Ok(Gender::Female));
        assert_eq!(read(json!("M")), Ok(Gender::Male));
        assert_eq!(read(json!(null)), Ok(Gender::Unknown));
        assert_eq!(read(json!("f-canary")).unwrap_err()[0].code, Issue::CodeInvalid);
        assert_eq!(read(json!(1)).unwrap_err()[0].code, Issue::Structure);
    }
}
