//! SMART on FHIR scopes, as far as this API can honour them: they narrow what the caller's roles allow, and never widen it.
//!
//! Source: SMART App Launch 2.2, "Scopes and Launch Context". Microsoft Entra ID allows no `/` in a scope's name and no `*`, so
//! `user.all.rs` and `user-Encounter.c` are read like `user/*.rs` and `user/Encounter.c`.

use super::access::Action;

/// Whose token the scopes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A person, through an app that asks in the person's name: `user/` scopes count.
    Person,
    /// A program, signed in as itself: `system/` scopes count.
    Program,
}

impl Holder {
    const fn context(self) -> &'static str {
        match self {
            Holder::Person => "user",
            Holder::Program => "system",
        }
    }
}

/// The FHIR resources and the permissions (one of `cruds`) that an action asks for, all of them; empty for what no scope covers. What is
/// read of patients is found by searches, one encounter as well as a list, so `s` stands for both.
pub const fn asks(action: Action) -> &'static [(&'static str, char)] {
    match action {
        Action::Admit => &[("Encounter", 'c')],
        Action::Discharge => &[("Encounter", 'u')],
        Action::ReadCensus => &[("Encounter", 's')],
        Action::ReadPatients => {
            &[("Patient", 's'), ("Encounter", 's'), ("Observation", 's'), ("Condition", 's'), ("RiskAssessment", 's')]
        }
        Action::ReadPredictions => &[("RiskAssessment", 's')],
        Action::ReadRows => &[("Observation", 's')],
        Action::AssignFacilities => &[("PractitionerRole", 'u')],
        Action::ReadAnomalies => &[("MeasureReport", 's')],
        Action::ReadModel => &[("Library", 'r')],
        Action::ReadImports => &[("Task", 's')],
        Action::ReadAudit => &[("AuditEvent", 's')],
        Action::Import
        | Action::Train
        | Action::FindAnomalies
        | Action::CheckpointAudit
        | Action::Migrate
        | Action::RotateKeys
        | Action::BreakGlass => &[],
    }
}

/// The scopes of a person's token that `action` asks for; empty for what no scope covers.
pub fn asked(action: Action) -> Vec<String> {
    asks(action).iter().map(|(resource, permission)| format!("user/{resource}.{permission}")).collect()
}

/// The actions that a token's scopes leave; `None` if no SMART scope is among them, and the roles alone decide.
///
/// A `patient/` scope speaks of one patient whom a launch has chosen. Nothing here knows that patient, so such a scope leaves nothing; nor
/// does one of the other holder's context, one with a search (`?`), or one that cannot be read.
pub fn within<'a>(scopes: impl Iterator<Item = &'a str>, holder: Holder) -> Option<Vec<Action>> {
    let smart: Vec<&str> = scopes.filter(|scope| is_smart(scope)).collect();
    if smart.is_empty() {
        return None;
    }
    let allows = |action: &Action| {
        let covered =
            |(resource, permission): &(&str, char)| smart.iter().any(|scope| covers(scope, holder, resource, *permission));
        !asks(*action).is_empty() && asks(*action).iter().all(covered)
    };
    Some(Action::ALL.iter().copied().filter(allows).collect())
}

/// A scope of SMART's own, readable or not. An app that asked for a launch context alone asked for no data.
pub fn is_smart(scope: &str) -> bool {
    let context = ["user", "system", "patient"].into_iter().any(|context| rest_of(scope, context).is_some());
    context || scope == "fhirUser" || scope == "launch" || rest_of(scope, "launch").is_some()
}

fn rest_of<'a>(scope: &'a str, context: &str) -> Option<&'a str> {
    scope.strip_prefix(context)?.strip_prefix(['/', '.', '-'])
}

fn covers(scope: &str, holder: Holder, resource: &str, permission: char) -> bool {
    let Some((of, permissions)) = rest_of(scope, holder.context()).and_then(|rest| rest.rsplit_once('.')) else { return false };
    (of == resource || of == "*" || of == "all") && expanded(permissions).contains(permission)
}

/// The permissions in the letters of SMART 2; empty if they cannot be read.
fn expanded(permissions: &str) -> &str {
    match permissions {
        "read" => "rs",
        "write" => "cud",
        "*" => "cruds",
        letters => {
            let mut order = "cruds".chars();
            if letters.chars().all(|letter| order.any(|next| next == letter)) { letters } else { "" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    fn person(scopes: &str) -> Option<Vec<Action>> {
        within(scopes.split(' '), Holder::Person)
    }

    #[test]
    fn a_scope_leaves_what_its_resource_and_letters_say() {
        let reads = vec![ReadImports, ReadModel, ReadCensus, ReadPatients, ReadPredictions, ReadRows, ReadAnomalies, ReadAudit];
        for all in ["user/*.rs", "user.all.rs", "user-*.read", "user/*.rs openid profile"] {
            assert_eq!(person(all), Some(reads.clone()), "{all}");
        }
        assert_eq!(person("user/Encounter.c"), Some(vec![Admit]));
        assert_eq!(person("user/Encounter.cus user/Library.r"), Some(vec![Admit, Discharge, ReadModel, ReadCensus]));
        assert_eq!(person("user/Encounter.write"), Some(vec![Admit, Discharge]));
        assert_eq!(person("user/*.cruds"), person("user/*.*"));
        // A patient is shown with encounter, values, conditions and prediction: each of them must be asked for.
        assert_eq!(person("user/Patient.rs"), Some(vec![]));
        let most = "user/Patient.s user/Encounter.s user/Observation.s user/Condition.s";
        assert_eq!(person(most), Some(vec![ReadCensus, ReadRows]));
        let all = person(&format!("{most} user/RiskAssessment.s"));
        assert_eq!(all, Some(vec![ReadCensus, ReadPatients, ReadPredictions, ReadRows]));
    }

    #[test]
    fn without_a_smart_scope_the_roles_decide() {
        for scopes in ["", "user_impersonation", "access_as_user openid", "User.Read", "userinfo"] {
            assert_eq!(person(scopes), None, "{scopes}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_leaves_nothing() {
        for scopes in [
            "patient/*.rs",
            "patient/Encounter.c launch/patient",
            "system/*.cruds",
            "launch fhirUser",
            "user/Encounter.cx",
            "user/Encounter.sc",
            "user/Encounter.",
            "user/Encounter",
            "user/",
            "user/Encounter.rs?status=finished",
            "user/encounter.c",
            "user/Patient.c",
        ] {
            assert_eq!(person(scopes), Some(vec![]), "{scopes}");
        }
        assert_eq!(within(["user/*.cruds"].into_iter(), Holder::Program), Some(vec![]));
        assert_eq!(within(["system/AuditEvent.rs"].into_iter(), Holder::Program), Some(vec![ReadAudit]));
    }

    #[test]
    fn no_scope_covers_what_only_the_platform_or_the_command_line_does() {
        let all = person("user/*.cruds").unwrap();
        for action in Action::ALL {
            assert_eq!(all.contains(action), !asks(*action).is_empty());
        }
    }
}
