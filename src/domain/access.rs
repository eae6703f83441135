//! Who may do what: one table from which enforcement and documents come.

use std::fmt;

use super::elevation::Elevated;
use super::facility::FacilityId;
use super::patient::Phi;

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

    /// What a person with the role does, for those who assign it.
    pub const fn purpose(self) -> &'static str {
        match self {
            Role::SiteAdministrator => "Deploys and runs the system. Reaches no patient record.",
            Role::DatabaseAnalyst => "Cares for the database's schema and imports. Reaches no patient record over the API.",
            Role::DataScientist => "Trains and judges models. Reads no direct identifier.",
            Role::ChiefMedicalInformationOfficer => "Reads aggregates, findings and the model's quality.",
            Role::CareLineManager => "Admits and discharges patients, and reads the census.",
            Role::Auditor => "Reads the audit trail and the receipts of imports. Sees no patient value.",
        }
    }

    /// The app role's id in Microsoft Entra ID. It never changes: assignments refer to it.
    pub const fn id(self) -> &'static str {
        match self {
            Role::SiteAdministrator => "0c2c6f7e-50a7-4c0b-9f0a-3f1f4b0d8a51",
            Role::DatabaseAnalyst => "5f0b7b0a-6a0e-4b57-8a39-8f1d5a6c2e72",
            Role::DataScientist => "9a4b1c38-2f5d-4c8e-b6a1-7d0e3c9f4b13",
            Role::ChiefMedicalInformationOfficer => "c3d7e5a2-8b16-4f94-a0c5-1e6b2d7f8a34",
            Role::CareLineManager => "e81f2a6d-94c3-4d7b-8e52-5b0a7c3d6f95",
            Role::Auditor => "71b9d0c4-3e8a-4a26-9d7f-6c2e8f1b5a06",
        }
    }

    /// Whether a program may hold the role, signed in as itself (an interface engine, a training pipeline, a security monitor); the others
    /// are for people only.
    pub const fn for_programs(self) -> bool {
        matches!(self, Role::DataScientist | Role::CareLineManager | Role::Auditor)
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
    /// Read the patients of one's facilities, with their names.
    ReadPatients,
    /// Read predictions of stays, and how far they were off.
    ReadPredictions,
    /// Read encounters without direct identifiers.
    ReadRows,
    /// Look for average stays that rise or decline.
    FindAnomalies,
    /// Read what was found of them: aggregates.
    ReadAnomalies,
    /// Read the audit trail.
    ReadAudit,
    /// Write a signed checkpoint of the audit trail.
    CheckpointAudit,
    /// Change the schema of the store.
    Migrate,
    /// Change the keys that names are encrypted with.
    RotateKeys,
    /// Say which facilities a care line manager answers for.
    AssignFacilities,
    /// Reach patients beyond one's facilities or role for a short time, for a stated reason.
    BreakGlass,
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
        Action::ReadPatients,
        Action::ReadPredictions,
        Action::ReadRows,
        Action::FindAnomalies,
        Action::ReadAnomalies,
        Action::ReadAudit,
        Action::CheckpointAudit,
        Action::Migrate,
        Action::RotateKeys,
        Action::AssignFacilities,
        Action::BreakGlass,
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
            Action::ReadPatients => "read-patients",
            Action::ReadPredictions => "read-predictions",
            Action::ReadRows => "read-rows",
            Action::FindAnomalies => "find-anomalies",
            Action::ReadAnomalies => "read-anomalies",
            Action::ReadAudit => "read-audit",
            Action::CheckpointAudit => "checkpoint-audit",
            Action::Migrate => "migrate",
            Action::RotateKeys => "rotate-keys",
            Action::AssignFacilities => "assign-facilities",
            Action::BreakGlass => "break-glass",
        }
    }

    /// What it is, for the documents.
    pub const fn purpose(self) -> &'static str {
        match self {
            Action::Admit => "admit a patient",
            Action::Discharge => "discharge a patient",
            Action::Import => "bring a file of encounters into the record",
            Action::ReadImports => "read receipts and rejects of imports (never a value)",
            Action::Train => "train a model",
            Action::ReadModel => "read a model's quality",
            Action::ReadCensus => "read beds and patients by facility: counts",
            Action::ReadPatients => "read the patients of one's facilities, with names",
            Action::ReadPredictions => "read predictions of stays, and how far they were off",
            Action::ReadRows => "read encounters without direct identifiers",
            Action::FindAnomalies => "look for average stays that rise or decline",
            Action::ReadAnomalies => "read what was found of them: aggregates",
            Action::ReadAudit => "read the audit trail",
            Action::CheckpointAudit => "write a signed checkpoint of the audit trail",
            Action::Migrate => "change the schema of the record",
            Action::RotateKeys => "change the keys that names are encrypted with",
            Action::AssignFacilities => "say which facilities a care line manager answers for",
            Action::BreakGlass => "reach patients beyond one's facilities or role for a short time, for a stated reason",
        }
    }
}

/// The one table: may a role do this?
pub const fn may(role: Role, action: Action) -> bool {
    use Action as A;
    match role {
        Role::SiteAdministrator => matches!(action, A::ReadImports | A::Migrate | A::RotateKeys | A::AssignFacilities),
        Role::DatabaseAnalyst => matches!(action, A::ReadImports | A::Migrate),
        Role::DataScientist => {
            matches!(action, A::Train | A::ReadModel | A::ReadRows | A::ReadImports | A::FindAnomalies | A::ReadAnomalies)
        }
        Role::ChiefMedicalInformationOfficer => {
            matches!(action, A::ReadModel | A::ReadCensus | A::ReadPredictions | A::ReadAnomalies | A::BreakGlass)
        }
        Role::CareLineManager => matches!(
            action,
            A::Admit | A::Discharge | A::ReadPatients | A::ReadCensus | A::ReadModel | A::ReadAnomalies | A::BreakGlass
        ),
        Role::Auditor => matches!(action, A::ReadAudit | A::CheckpointAudit | A::ReadImports),
    }
}

/// What an elevation (break-glass) adds to a role for its time. The facilities that it opens besides are [`Reach`]'s.
pub const fn may_elevated(role: Role, action: Action) -> bool {
    matches!((role, action), (Role::ChiefMedicalInformationOfficer, Action::ReadPatients))
}

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The Functions host delivered an event over loopback.
    Platform,
    /// Microsoft Entra ID, by the platform's authentication.
    Entra,
    /// A token of Microsoft Entra ID that was validated here.
    Token,
    /// A token of the development issuer on this machine.
    Local,
    /// The operating system's account, on the command line.
    CommandLine,
}

impl Proof {
    /// All of them.
    pub const ALL: [Proof; 5] = [Proof::Platform, Proof::Entra, Proof::Token, Proof::Local, Proof::CommandLine];

    /// The proof's name in the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Proof::Platform => "platform",
            Proof::Entra => "entra",
            Proof::Token => "entra-token",
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
    /// What the person is called, where the proof says so: for those who review, never for a log.
    pub name: Option<Phi<String>>,
    /// The Entra tenant that vouches for the id, where one does.
    pub tenant: Option<String>,
    /// The roles that the proof carries.
    pub roles: Vec<Role>,
    /// What the token's scopes leave of the roles' actions; `None` where no scope narrows them (see [`super::scopes`]).
    pub within: Option<Vec<Action>>,
    /// How the caller proved who they are.
    pub proof: Proof,
    /// Is it a program, signed in as itself?
    pub program: bool,
    /// The elevation that the caller has, if one runs.
    pub elevated: Option<Elevated>,
    /// The request or invocation this belongs to.
    pub correlation: String,
    /// The network address that the call came from; empty where nobody trustworthy says, or there was no network.
    pub origin: String,
}

impl Caller {
    /// The platform acting for a trigger: it imports, trains, looks for anomalies and vouches for the audit trail, and nothing else.
    pub fn platform(function: &str, correlation: impl Into<String>) -> Self {
        Self::of(function, Vec::new(), Proof::Platform, correlation)
    }

    /// Whoever runs the command line on the machine that holds the data: local policy is the file system's.
    pub fn command_line(correlation: impl Into<String>) -> Self {
        Self::of("command-line", Role::ALL.to_vec(), Proof::CommandLine, correlation)
    }

    /// A caller of no tenant whose roles no scope narrows.
    pub fn of(id: impl Into<String>, roles: Vec<Role>, proof: Proof, correlation: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            tenant: None,
            roles,
            within: None,
            proof,
            program: false,
            elevated: None,
            correlation: correlation.into(),
            origin: String::new(),
        }
    }

    /// Is it whoever runs the command line?
    pub fn is_command_line(&self) -> bool {
        self.proof == Proof::CommandLine
    }

    /// Does one of the caller's roles allow `action`, whatever the scopes say?
    pub fn has_role_for(&self, action: Action) -> bool {
        self.roles.iter().any(|role| may(*role, action))
    }

    /// May this caller do `action`?
    pub fn may(&self, action: Action) -> bool {
        match self.proof {
            Proof::Platform => matches!(action, Action::Import | Action::Train | Action::FindAnomalies | Action::CheckpointAudit),
            Proof::CommandLine => true,
            // A program is nobody whom one could ask why.
            Proof::Entra | Proof::Token | Proof::Local if action == Action::BreakGlass && self.program => false,
            Proof::Entra | Proof::Token | Proof::Local => {
                let allowed = self.has_role_for(action) || self.lifted_to(action).is_some();
                allowed && self.within.as_ref().is_none_or(|actions| actions.contains(&action))
            }
        }
    }

    /// The elevation, if it and none of the roles alone allows `action`.
    pub fn lifted_to(&self, action: Action) -> Option<&Elevated> {
        let lifted = !self.has_role_for(action) && self.roles.iter().any(|role| may_elevated(*role, action));
        self.elevated.as_ref().filter(|_| lifted)
    }

    /// The elevation without which the caller could not do `action` to patients of `facility`; `None` stands for those of all.
    pub fn needs_elevation(&self, action: Action, facility: Option<FacilityId>) -> Option<&Elevated> {
        let of_patients = matches!(action, Action::Admit | Action::Discharge | Action::ReadPatients);
        self.elevated.as_ref().filter(|elevated| {
            let beyond = match facility {
                Some(facility) => !elevated.own.holds(facility),
                None => elevated.own != Reach::All,
            };
            self.lifted_to(action).is_some() || (of_patients && beyond)
        })
    }
}

/// Whose patients a caller reaches, by facility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Those of every facility.
    All,
    /// Those of these, in order; perhaps none.
    Only(Vec<FacilityId>),
}

impl Reach {
    /// Is `facility` within it?
    pub fn holds(&self, facility: FacilityId) -> bool {
        match self {
            Reach::All => true,
            Reach::Only(facilities) => facilities.contains(&facility),
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
        for proof in [Proof::Entra, Proof::Token, Proof::Local] {
            let caller = Caller::of("x", vec![], proof, "");
            assert!(Action::ALL.iter().all(|action| !caller.may(*action)));
        }
    }

    #[test]
    fn scopes_narrow_roles_and_never_widen_them() {
        let mut caller = Caller::of("x", vec![Role::CareLineManager], Proof::Token, "");
        caller.within = Some(vec![Action::Admit, Action::ReadAudit]);
        let may: Vec<Action> = Action::ALL.iter().copied().filter(|action| caller.may(*action)).collect();
        assert_eq!(may, [Action::Admit]);
    }

    #[test]
    fn the_ids_of_the_app_roles_are_six_different_guids() {
        let ids: std::collections::BTreeSet<&str> = Role::ALL.into_iter().map(Role::id).collect();
        assert_eq!(ids.len(), 6);
        assert!(ids.iter().all(|id| id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12])));
    }
}
