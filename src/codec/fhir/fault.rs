//! What is wrong with a message: where, which rule, what to do. It never knows a value of the message.

use std::fmt;

/// Most faults, and most warnings, that one message is answered with; a closing line says that there were more.
pub const FAULTS_MAX: usize = 100;

/// What kind of fault, as FHIR's `issue-type` (<https://hl7.org/fhir/R4/valueset-issue-type.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Issue {
    /// Something is not where or what it should be: bad JSON, a wrong type.
    Structure,
    /// Something needed is not there.
    Required,
    /// A value breaks a rule.
    Value,
    /// A code is not one of those that are understood.
    CodeInvalid,
    /// The message is well formed and asks for what is not offered.
    NotSupported,
    /// Too many characters.
    TooLong,
    /// Too much of something.
    TooCostly,
    /// The same thing was said twice.
    Duplicate,
    /// A rule of the hospital.
    BusinessRule,
    /// The thing named does not exist.
    NotFound,
    /// The thing named is in a state that excludes the request.
    Conflict,
    /// Nobody proved who they are.
    Login,
    /// The caller may not do this.
    Forbidden,
    /// The same request may succeed later.
    Transient,
    /// A fault of ours.
    Exception,
    /// Good to know.
    Informational,
}

impl Issue {
    /// The code in FHIR.
    pub const fn code(self) -> &'static str {
        match self {
            Issue::Structure => "structure",
            Issue::Required => "required",
            Issue::Value => "value",
            Issue::CodeInvalid => "code-invalid",
            Issue::NotSupported => "not-supported",
            Issue::TooLong => "too-long",
            Issue::TooCostly => "too-costly",
            Issue::Duplicate => "duplicate",
            Issue::BusinessRule => "business-rule",
            Issue::NotFound => "not-found",
            Issue::Conflict => "conflict",
            Issue::Login => "login",
            Issue::Forbidden => "forbidden",
            Issue::Transient => "transient",
            Issue::Exception => "exception",
            Issue::Informational => "informational",
        }
    }
}

/// A fault or a warning. Its words name members and rules, never a value from the message, so it may be logged and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, from the root of the message: `encounter.period.start`, `entry[3].resource.code.coding[0].code`; `$` is the whole body.
    pub path: String,
    /// The rule that is broken, for example `must name a full day, YYYY-MM-DD`.
    pub rule: String,
    /// What to do.
    pub remedy: &'static str,
    /// What kind of fault.
    pub code: Issue,
}

impl Fault {
    /// A fault at `path`. Neither `path` nor `rule` may hold a value from the message.
    pub fn new(path: impl Into<String>, code: Issue, rule: impl Into<String>, remedy: &'static str) -> Self {
        Self { path: path.into(), rule: rule.into(), remedy, code }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.path, self.rule, self.remedy)
    }
}

/// Faults and warnings as they are found. Bounded: the first [`FAULTS_MAX`] of each are kept.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Findings {
    pub(super) fn fault(&mut self, path: &str, code: Issue, rule: impl Into<String>, remedy: &'static str) {
        push(&mut self.faults, Fault::new(path, code, rule, remedy));
    }

    pub(super) fn warn(&mut self, path: &str, code: Issue, rule: impl Into<String>, remedy: &'static str) {
        push(&mut self.warnings, Fault::new(path, code, rule, remedy));
    }

    /// The warnings, or every fault if there is one.
    pub(super) fn close(self) -> Result<Vec<Fault>, Vec<Fault>> {
        if self.faults.is_empty() { Ok(self.warnings) } else { Err(self.faults) }
    }

    /// Every fault, for a message that could not be read; never empty.
    pub(super) fn refuse(mut self) -> Vec<Fault> {
        if self.faults.is_empty() {
            self.fault(
                "$",
                Issue::Structure,
                "must be a message that can be read",
                "See docs/fhir.md for the shapes that are read.",
            );
        }
        self.faults
    }
}

fn push(list: &mut Vec<Fault>, fault: Fault) {
    match list.len().cmp(&FAULTS_MAX) {
        std::cmp::Ordering::Less => list.push(fault),
        std::cmp::Ordering::Equal => list.push(Fault::new(
            "$",
            Issue::TooCostly,
            format!("more than {FAULTS_MAX} were found; the rest is not listed"),
            "Put right what is listed and send the message again.",
        )),
        std::cmp::Ordering::Greater => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_say_so() {
        let mut findings = Findings::default();
        for _ in 0..1000 {
            findings.fault("encounter", Issue::Value, "rule", "remedy");
        }
        let faults = findings.close().unwrap_err();
        assert_eq!(faults.len(), FAULTS_MAX + 1);
        assert_eq!(faults[FAULTS_MAX].code, Issue::TooCostly);
    }

    #[test]
    fn a_refusal_is_never_empty() {
        assert_eq!(Findings::default().refuse().len(), 1);
    }
}
