//! Who may do what: one table from which enforcement and documents come.

use std::fmt;

/// The blueprint's six personas, as Microsoft Entra app roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Deploys and runs the system; reaches no patient record.
    SiteAdministrator,
    /// Cares for the database; reaches no patient record.
    DatabaseAnalyst,
    /// Trains and judges models.
    DataScientist,
    /// Reads aggregates and predictions.
    ChiefMedicalInformationOfficer,
    /// Admits and discharges patients.
    CareLineManager,
    /// Reads the audit trail; sees no patient value.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [
        Role::SiteAdministrator,
        Role::DatabaseAnalyst,
        Role::DataScientist,
        Role::ChiefMedicalInformationOfficer,
        Role::CareLineManager,
        Role::Auditor,
    ];

    /// The app role's value.
    pub const fn name(self) -> &'static str {
        match self {
            Role::SiteAdministrator => "SiteAdministrator",
            Role::DatabaseAnalyst => "DatabaseAnalyst",
            Role::DataScientist => "DataScientist",
            Role::ChiefMedicalInformationOfficer => "ChiefMedicalInformationOfficer",
            Role::CareLineManager => "CareLineManager",
            Role::Auditor => "Auditor",
        }
    }

    /// The role whose value is exactly `name`; an unknown role grants nothing.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What a caller asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Admit a patient.
    Admit,
    /// Discharge a patient.
    Discharge,
    /// Bring a file of encounters into the record.
    Import,
    /// Read the import ledger and rejects (never a value).
    ReadImports,
    /// Train a model.
    Train,
    /// Read a model's metrics.
    ReadModel,
    /// Read the census: counts by facility.
    ReadCensus,
    /// Look for average stays that rise or decline.
    FindAnomalies,
    /// Read what was found of them: aggregates.
    ReadAnomalies,
    /// Read the audit trail.
    ReadAudit,
    /// Change the schema of the store.
    Migrate,
    /// Change the keys that names are encrypted with.
    RotateKeys,
}

impl Action {
    /// All of them.
    pub const ALL: &[Action] = &[
        Action::Admit,
        Action::Discharge,
        Action::Import,
        Action::ReadImports,
        Action::Train,
        Action::ReadModel,
        Action::ReadCensus,
        Action::FindAnomalies,
        Action::ReadAnomalies,
        Action::ReadAudit,
        Action::Migrate,
        Action::RotateKeys,
    ];

    /// The action's name in the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Admit => "admit",
            Action::Discharge => "discharge",
            Action::Import => "import",
            Action::ReadImports => "read-imports",
            Action::Train => "train",
            Action::ReadModel => "read-model",
            Action::ReadCensus => "read-census",
            Action::FindAnomalies => "find-anomalies",
            Action::ReadAnomalies => "read-anomalies",
            Action::ReadAudit => "read-audit",
            Action::Migrate => "migrate",
            Action::RotateKeys => "rotate-keys",
        }
    }
}

/// The one table: may a role do this?
pub const fn may(role: Role, action: Action) -> bool {
    use Action as A;
    match role {
        Role::SiteAdministrator => matches!(action, A::ReadImports | A::Migrate | A::RotateKeys),
        Role::DatabaseAnalyst => matches!(action, A::ReadImports | A::Migrate),
        Role::DataScientist => matches!(action, A::Train | A::ReadModel | A::ReadImports | A::FindAnomalies | A::ReadAnomalies),
        Role::ChiefMedicalInformationOfficer => matches!(action, A::ReadModel | A::ReadCensus | A::ReadAnomalies),
        Role::CareLineManager => matches!(action, A::Admit | A::Discharge | A::ReadCensus | A::ReadModel | A::ReadAnomalies),
        Role::Auditor => matches!(action, A::ReadAudit | A::ReadImports),
    }
}

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The Functions host delivered an event over loopback.
    Platform,
    /// Microsoft Entra ID, by the platform's authentication.
    Entra,
    /// The local host injected a developer's identity.
    Local,
    /// The operating system's account, on the command line.
    CommandLine,
}

impl Proof {
    /// The proof's name in the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Proof::Platform => "platform",
            Proof::Entra => "entra",
            Proof::Local => "local",
            Proof::CommandLine => "command-line",
        }
    }
}

/// Who asks. Every workflow verb takes one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Entra object id, or a function's name for the platform itself.
    pub id: String,
    /// The roles that the proof carries.
    pub roles: Vec<Role>,
    /// How the caller proved who they are.
    pub proof: Proof,
    /// The request or invocation this belongs to.
    pub correlation: String,
}

impl Caller {
    /// The platform acting for a trigger: it imports, trains and looks for anomalies, and nothing else.
    pub fn platform(function: &str, correlation: impl Into<String>) -> Self {
        Self { id: function.to_owned(), roles: Vec::new(), proof: Proof::Platform, correlation: correlation.into() }
    }

    /// Whoever runs the command line on the machine that holds the data: local policy is the file system's.
    pub fn command_line(correlation: impl Into<String>) -> Self {
        Self { id: "command-line".into(), roles: Role::ALL.to_vec(), proof: Proof::CommandLine, correlation: correlation.into() }
    }

    /// May this caller do `action`?
    pub fn may(&self, action: Action) -> bool {
        match self.proof {
            Proof::Platform => matches!(action, Action::Import | Action::Train | Action::FindAnomalies),
            Proof::CommandLine => true,
            Proof::Entra | Proof::Local => self.roles.iter().any(|role| may(*role, action)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_care_line_manager_admits_and_discharges() {
        for role in Role::ALL {
            for action in [Action::Admit, Action::Discharge] {
                assert_eq!(may(role, action), role == Role::CareLineManager, "{role} {action:?}");
            }
        }
    }

    #[test]
    fn whoever_answers_for_care_or_for_the_model_reads_anomalies() {
        let readers: Vec<Role> = Role::ALL.into_iter().filter(|role| may(*role, Action::ReadAnomalies)).collect();
        assert_eq!(readers, [Role::DataScientist, Role::ChiefMedicalInformationOfficer, Role::CareLineManager]);
        let platform = Caller::platform("timer", "c");
        assert!(platform.may(Action::FindAnomalies) && !platform.may(Action::ReadAnomalies));
    }

    #[test]
    fn a_role_is_known_only_by_its_exact_name() {
        assert_eq!(Role::parse("Auditor"), Some(Role::Auditor));
        for unknown in ["auditor", "CareLineManager ", "Chris_CareLineManager", ""] {
            assert_eq!(Role::parse(unknown), None);
        }
    }

    #[test]
    fn a_caller_without_roles_may_do_nothing() {
        let caller = Caller { id: "x".into(), roles: vec![], proof: Proof::Entra, correlation: String::new() };
        assert!(Action::ALL.iter().all(|action| !caller.may(*action)));
    }
}
